// Package dispatch makes the calls: one run of a dispatch task attaches to its slot and then, in a loop, waits for the
// permit of the batch it holds, calls, judges the answer, and settles and claims in one step.
//
// # What becomes of a batch
//
// decide.go is pure: from the batch and the verdicts of the answer it makes a settlement, the fate of each key and what the
// slot does next. The search for a bad key among others (search.go, pursue.go) remembers groups of bound keys, each with a bad one in it,
// and calls next what tells most, filled up with keys that wait; what is in a group and not called stays bound, parked. What the keys
// of an incident that have expired tell of others is in front.go. A batch that fails with what may pass waits in its slot with backoff, and is
// split only where the app has successes meanwhile: in an outage no call is spent on looking for a culprit. (Only after three times the
// attempts that a key has is a batch split without such evidence, since there may be no other batch.)
//
// # What is remembered
//
// All that the keys' fates hang on is in the key store. This process knows what it has seen of robots (robots.go: whether one exists;
// lore.go: how many of its keys are bad), of incidents (lore.go: the front), how long calls take (latency.go, unanswered.go), and what
// its log has said (tell.go, trouble.go). Losing that costs a few calls, or a line.
//
// # What happens on each failure
//
//	the service hangs         its calls are tried again with backoff, and while none is answered they ask for no more slots
//	Redis does not answer     a settle is tried again until it is written or the run's time is over; then the task runs again,
//	                          finds its batch bound and calls again
//	the worker is told to end the call in flight is finished and settled, no batch is begun, the slot yields
//	the run was fenced off    its settle is refused: nothing is changed, the task comes back later and finds itself stale
package dispatch
