// Package dispatch makes the calls: one run of a dispatch task attaches to its slot and then, in a loop, waits for the
// permit of the batch it holds, calls, judges the answer, and settles and claims in one step.
//
// # What becomes of a batch
//
// decide.go is pure: from the batch and the verdicts of the answer it makes a settlement, the fate of each key and what the
// slot does next. A batch that failed for a bad key among others is halved in its slot: the first half is called, the second
// stays bound, parked. When the first half succeeds the bad key is among the parked, which are halved in turn; when it fails
// the parked are given back. A batch that fails with what may pass waits in its slot with backoff, and is split only where
// the app has successes meanwhile: in an outage no call is spent on looking for a culprit. (Only after three times the attempts
// that a key has is a batch split without such evidence, since there may be no other batch.)
//
// # What happens on each failure
//
//	Redis does not answer     a settle is tried again until it is written or the run's time is over; then the task runs again,
//	                          finds its batch bound and calls again
//	the worker is told to end the call in flight is finished and settled, no batch is begun, the slot yields
//	the run was fenced off    its settle is refused: nothing is changed, the task comes back later and finds itself stale
package dispatch
