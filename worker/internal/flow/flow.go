// Package flow holds the nouns that travel between the stages of the worker: keys that are bound to a batch, what is to
// become of each, and the moments at which somebody has to look again. It imports nothing of ours, so that stages can
// share words without knowing each other.
package flow

import "time"

// MaxBatch is the number of keys that the service takes in one call (official documentation).
const MaxBatch = 20

// State is where a key is. Every accepted key is in exactly one.
type State int

// The states of a key.
const (
	Unknown   State = 0 // never accepted, or older than the ledger's retention
	Waiting   State = 1 // in a waiting list, or waiting for later
	Recalled  State = 2
	Dead      State = 3
	Cancelled State = 4
	Bound     State = 5 // in a batch of a slot, perhaps in a call right now
)

// String gives the word that status, reports and the API use.
func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case Recalled:
		return "recalled"
	case Dead:
		return "dead"
	case Cancelled:
		return "cancelled"
	case Bound:
		return "bound"
	default:
		return "unknown"
	}
}

// Class is how urgent a key is. Smaller goes first.
type Class int

// The classes, in the order in which they are claimed.
const (
	Urgent  Class = 0
	Default Class = 1
	Bulk    Class = 2
)

// String gives the word of the class.
func (c Class) String() string {
	switch c {
	case Urgent:
		return "urgent"
	case Bulk:
		return "bulk"
	default:
		return "default"
	}
}

// BoundKey is a key in a batch, with what the ledger knew of it when it was bound.
type BoundKey struct {
	Key       string
	Class     Class
	Attempts  int       // calls that carried it and counted, up to 255
	Deadline  time.Time // the end of its window less the margin
	Ambiguous bool      // an earlier call's answer was lost: it may have been recalled already
	Incident  int       // a number for its incident; 0 = none
	Solo      bool      // it failed in a call of its own, so it is called alone
}

// Batch is what a slot holds: 1 to MaxBatch keys of one target, of which the first Cut are in the next call. The others
// are parked: they stay bound while the bad key among them is looked for.
type Batch struct {
	ID           int64 // changes with every settle: the fence
	Run          int64 // the run of the slot that may settle it
	RobotCode    string
	Conversation // where the messages went, unless one-to-one
	Cut          int
	Tries        int    // how often this very set was tried in vain
	Note         string // what dispatch wants to remember between two tries; opaque to the key store
	Keys         []BoundKey
	Wait         time.Duration // from the moment of the script until the call's permit
	LastOK       time.Time     // when the call began that was the app's last to recall a key; zero if none did
}

// Called gives the keys that the next call carries.
func (b *Batch) Called() []string {
	keys := make([]string, b.Cut)
	for i := range keys {
		keys[i] = b.Keys[i].Key
	}
	return keys
}

// Target gives what the keys of the batch share.
func (b *Batch) Target() Target { return Target{RobotCode: b.RobotCode, Conversation: b.Conversation} }

// Fate is what is to become of a bound key.
type Fate byte

// The fates of a bound key.
const (
	FateRecalled Fate = 'r'
	FateDead     Fate = 'd' // with Code and Message
	FateWait     Fate = 'w' // waits again, in front of its like
	FateLater    Fate = 'l' // waits again after Delay
	FateSolo     Fate = 's' // the same, and then is called alone
	FateKeep     Fate = 'k' // stays bound
	FatePark     Fate = 'p' // the same, behind all that are kept
)

// Outcome is the fate of one bound key with what it needs.
type Outcome struct {
	Fate    Fate
	Code    string        // of FateDead
	Message string        // of FateDead
	Request string        // of FateDead: the id of the call that it dies of; empty = the call that is settled
	Unasked bool          // of FateDead: it dies of what was said of others; not written down
	Delay   time.Duration // of FateLater and FateSolo
	// Ambiguous: a call's answer was lost or contradicts itself, so the message may have been recalled already.
	Ambiguous bool
}

// Next is what the slot does after a settle.
type Next string

// What a slot does next. Where no key stays bound, NextCall and NextHeld mean NextClaim.
const (
	NextClaim Next = "claim" // the next batch, or idle
	NextCall  Next = "call"  // the kept keys, at the next permit
	NextHeld  Next = "held"  // the kept keys, when the queue retries the task
	NextYield Next = "yield" // due again at the next generation, kept keys still bound
)

// Settlement is the outcome of one call, for every key of its batch, and what follows for the slot, the robot and the app.
type Settlement struct {
	Outcomes  []Outcome
	Counted   bool // the call counts as an attempt of the keys that it carried
	Metered   int  // calls of the batch by this run that the service counts for the month
	RequestID string
	Next      Next
	Cut       int // of the kept keys, the next call's
	Fill      int // with NextCall: how many waiting keys of the robot are to join it, in front of the kept, where there is room
	Tries     int
	Note      string
	Rest      time.Duration // > 0: throttled; nobody of the app calls for so long, and then at half the rate
	Hold      *Hold         // puts the app, or the robot, at rest
	Answered  bool          // the app may call, as the answer shows: ends a hold that the call was the probe of
	DeadRobot *Reason       // all waiting keys of the batch's target die of it
}

// Reason is why a key died or an app is held.
type Reason struct{ Code, Message string }

// Hold says why an app is at rest and when the first probe goes.
type Hold struct {
	Reason
	Probe time.Duration
	// PerhapsRobot: it may be the robot that is refused and not the app. The key store knows which, where the app succeeds with others.
	PerhapsRobot bool
}

// SlotRun names one run of a slot.
type SlotRun struct {
	Slot       int
	Generation int64
	Run        int64
}

// DueSlot is a slot whose dispatch task is owed.
type DueSlot struct {
	Slot       int
	Generation int64
}

// Later is what a handler returns when its task is to run again: after Delay, and with blame (the retry count goes up) only
// where a call failed. The queue's knobs are set by it in one place.
type Later struct {
	Delay time.Duration
	Blame bool
	Err   error
}

// Error says why.
func (l *Later) Error() string { return l.Err.Error() }

// Unwrap gives the cause.
func (l *Later) Unwrap() error { return l.Err }
