package upstream

import (
	"time"
)

// Scope is whom a verdict is about, and so what is done.
type Scope int

const (
	// Done: the key is recalled.
	Done Scope = iota + 1
	// KeyDead: this key can never be recalled.
	KeyDead
	// BatchKey: a code that is about one key, said of a call with several: at least one of them is bad, find it.
	BatchKey
	// RobotDead: no key of this robot can be recalled. Confirm by a second call before believing it.
	RobotDead
	// AppHold: no call of this app can succeed until somebody mends something (permission, address list, credentials, base URL).
	AppHold
	// TokenStale: renew the token and call again; the same after a fresh token means AppHold.
	TokenStale
	// BudgetHold: the month's calls are spent.
	BudgetHold
	// Throttled: too fast. Rest as the verdict says; no attempt is counted.
	Throttled
	// Transient: trouble that may pass. Try again with backoff.
	Transient
	// Unknown: nothing in the table. As transient, with few attempts.
	Unknown
)

// Throttle is the kind of limit that was met.
type Throttle int

const (
	// ThrottleNone: the verdict is not Throttled.
	ThrottleNone Throttle = iota
	// ThrottleSecond: calls per second. The penalty is one second (documented).
	ThrottleSecond
	// ThrottleMinute: calls per minute.
	ThrottleMinute
	// ThrottleIP: our address is refused. It lasts five minutes (documented).
	ThrottleIP
	// ThrottleBusy: "too frequent", without a word about which limit.
	ThrottleBusy
)

// Verdict is what an answer means, for a call or for one key.
type Verdict struct {
	Scope Scope
	// Code is the canonical code, never empty unless Done: the documented spelling of a known one, one of this package's own
	// Code constants, else the raw one.
	Code string
	// Message is the service's text, capped and without control characters.
	Message string
	// Known is true where Code is in the table; only then is it fit for a metric label.
	Known bool
	// Throttle is the kind of limit, for Throttled.
	Throttle Throttle
	// Rest is how long to rest at least before the next call (Throttled) or attempt (Transient); 0 leaves it to the caller.
	Rest time.Duration
	// Ambiguous: the message may have been recalled all the same.
	Ambiguous bool
	// Blameless: the keys have no part in it, no attempt should be counted (throttles, no connection, our own shutdown).
	Blameless bool
	// RobotSuspect: a KeyDead or BatchKey that a wrong robotCode would explain as well. Where one key after the other dies of it
	// and none is recalled, it is the robot.
	RobotSuspect bool
}

// Signal is all that Judge looks at.
type Signal struct {
	// Op is the call; an error of OpToken never speaks of keys or robots.
	Op Operation
	// Class is the class of the call's error; empty counts as ClassService.
	Class Class
	// Status, Code and Message are the HTTP status and the service's words of a call that failed as a whole.
	Status  int
	Code    string
	Message string
	// Keys is how many keys the call carried.
	Keys int

	// PerKey: the call was answered, and this is about one of its keys. Recalled: it is in successResult. Failed: it is in
	// failedResult, with Reason. Neither: the answer does not mention it. Both: the answer contradicts itself.
	PerKey   bool
	Recalled bool
	Failed   bool
	Reason   string

	// Lost, Banned, HTML and RetryAfter are those of Error.
	Lost       bool
	Banned     bool
	HTML       bool
	RetryAfter time.Duration
}

// Judge maps a signal to its verdict. It is pure: all there is to know about codes and statuses is here and in codes.go.
func Judge(s Signal) Verdict { return Verdict{Scope: Unknown} }

// JudgeReason judges one entry of failedResult.
func JudgeReason(reason string) Verdict {
	return Judge(Signal{PerKey: true, Failed: true, Reason: reason})
}
