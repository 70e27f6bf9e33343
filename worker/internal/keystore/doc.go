// Package keystore is every state change of a key, as Lua scripts on Redis.
//
// # Who holds the truth
//
// The ledger does: a record for each key, which says whether it waits, was recalled, is dead or cancelled. Lists of waiting
// keys only order the work: a place in them counts only while its version is the ledger's. The record of a slot says which keys
// are bound. One script makes one transition, so nothing is ever half done; and every script is either idempotent (admit, wake)
// or fenced by slot, generation, run and batch (attach, settle, permit, takeover), so that a script that runs twice, or
// late, changes nothing.
//
// # States of a slot
//
//	idle     no task is owed
//	due      woken at generation g; the task dispatch:<app>:<slot>:<g> is owed or on its way
//	running  a run has attached
//	held     a batch is bound and waits out a backoff; the queue's retry of the task will run it
//
// A slot goes idle only in a claim that found nothing ready, or more slots at work than there are to be. Every reply names all
// due slots, so that whoever gets a reply enqueues their tasks (the task's id makes that harmless where they exist), and the
// next moment at which somebody must look again. Hence a wake-up that was lost in a crash is found by the next script that
// anybody runs.
//
// # What happens on each failure
//
//	a worker dies          its task is run again by another, which attaches and finds the bound batch
//	a reply is lost        the client sends the script again: fenced, and answered as the first time
//	a worker was paused    its run is no longer the slot's: refused, and nothing is changed
//	an outbox not drained  the dead letters stay in it until somebody drains it, however often
//	Redis forgets writes   a run that it has forgotten is fenced off, its keys are called again; see docs/reliability.md
//	a worker's clock jumps nothing: the scripts go by Redis's clock
//	Redis's goes back      keys of a day that is yet to come are found; permits and lingers are late by as much
package keystore
