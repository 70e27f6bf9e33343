// Package worker is the program: it takes submissions from the queue into the key store, recalls their keys in batches, and
// keeps the dead letters.
//
// # The promise
//
// Any number of keys from any number of producers: as many of them recalled, before their windows close, with as few calls, as
// can be done; and afterwards an answer to what became of each one.
//
// # The flow
//
//	producer --tasks.Client--> queues recall-urgent | recall | recall-bulk
//	                                     |
//	   intake     decode, check, admit into the key store, wake free slots, and only then acknowledge
//	                                     |
//	   dispatch   one task for each busy slot of an app; in a loop: wait for the permit, call, judge, settle and claim
//	                                     |
//	           recalled | waiting again | dead --> outbox --> queue recall-dead (run early: replay)
//
// asynq starts the handlers, retries them, and gives the tasks of a dead worker to a living one. The key store
// (internal/keystore) holds what a queue has no shape for: the waiting keys in the order of their deadlines, what became of each,
// and the slots. pipeline.go connects the stages; queue.go is all that knows asynq's knobs.
//
// # The invariants
//
//  1. Conservation. Every accepted key is at every moment in exactly one state: waiting, bound, recalled, dead or cancelled.
//  2. A call carries 1 to 20 distinct keys of one target: a robot, and where messages went to a chat one conversation.
//  3. A key is never in two calls in flight. A worker that was paused beyond its lease may still be in a call when another makes
//     it again; its late result changes nothing.
//  4. No call carries a key whose window has closed. Of the keys of a robot and class, those go first whose windows close first
//     (to within five minutes).
//  5. The rate of an app holds over all workers together.
//  6. In bulk every call is full, and a call that cannot succeed is not made.
//  7. A dead key has a code, a message, the request id where there was one, and the attempts made.
//
// # What happens on each failure
//
//	a producer dies half-way     what it enqueued is taken in; the same call again adds the rest
//	an acknowledgement is lost   the task runs again: keys that are known are left alone, a slot's task finds itself stale
//	a worker dies                its lease ends, another worker runs its tasks; the batches then in flight are called again
//	a worker is told to end      calls in flight are finished and settled, slots are handed on, no attempt is lost
//	Redis is away                outcomes of calls are tried to be written for 20 s; handlers come back without blame
//	an answer is lost            its keys are tried again; what then dies says that it may be recalled (see Verifier)
//	a wake-up is lost            each reply of the key store names all due slots; alarms and the reconcile look anyway
//	an operator deletes a task   the reconcile enqueues the task of every slot that is not idle
//	an operator archives tasks   the reconcile does what they are for and removes them
//	the service is down          batches wait with backoff in their slots, all other keys wait untouched; nothing is split
//	the app may not call         the app is held: its keys wait, and single probes find out when that is over
package worker
