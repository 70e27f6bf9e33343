package upstream

import (
	"strconv"
	"strings"
	"time"
)

// Scope is whom a verdict is about, and so what is done.
type Scope int

const (
	// Done: the key is recalled.
	Done Scope = iota + 1
	// KeyDead: this key can never be recalled.
	KeyDead
	// BatchKey: a code that is about one key, said of a call with several: at least one of them is bad. Find it: Error.Keys, or
	// by halves.
	BatchKey
	// RobotDead: no key of the call's target (the robot, or its conversation) can be recalled. Confirm by a second call before believing it.
	RobotDead
	// AppHold: no call of this app can succeed until somebody mends something (permission, address list, credentials, base
	// URL). Keys stay waiting.
	AppHold
	// TokenStale: renew the token and call again, without counting an attempt; the same after a fresh token means AppHold.
	TokenStale
	// BudgetHold: the month's calls are spent. Keys stay waiting.
	BudgetHold
	// Throttled: too fast. Rest as the verdict says; no attempt is counted.
	Throttled
	// Transient: trouble that may pass. Try again with backoff; attempts are counted unless the verdict is Blameless.
	Transient
	// Unknown: nothing in the table. As transient, with few attempts, then dead with the raw text.
	Unknown
)

var scopeNames = [...]string{
	Done: "done", KeyDead: "key_dead", BatchKey: "batch_key", RobotDead: "robot_dead", AppHold: "app_hold", TokenStale: "token_stale",
	BudgetHold: "budget_hold", Throttled: "throttled", Transient: "transient", Unknown: "unknown",
}

// Scopes lists all scopes, for metrics that must exist before the first verdict.
func Scopes() []Scope {
	return []Scope{Done, KeyDead, BatchKey, RobotDead, AppHold, TokenStale, BudgetHold, Throttled, Transient, Unknown}
}

// String is a lower-case name, fit for a metric label.
func (s Scope) String() string {
	if s < Done || int(s) >= len(scopeNames) {
		return "scope(" + strconv.Itoa(int(s)) + ")"
	}
	return scopeNames[s]
}

// BlamesNoKey is true where a failed call says something of the app or the service, and nothing of its keys or their robot.
func (s Scope) BlamesNoKey() bool {
	switch s {
	case Throttled, AppHold, BudgetHold, TokenStale, Transient:
		return true
	}
	return false
}

// Throttle is the kind of limit that was met.
type Throttle int

const (
	// ThrottleNone: the verdict is not Throttled.
	ThrottleNone Throttle = iota
	// ThrottleSecond: calls per second. The penalty is one second (documented).
	ThrottleSecond
	// ThrottleMinute: calls per minute.
	ThrottleMinute
	// ThrottleIP: our address is refused, for all APIs. It lasts five minutes (documented).
	ThrottleIP
	// ThrottleBusy: "too frequent", without a word about which limit.
	ThrottleBusy
)

var throttleNames = [...]string{ThrottleNone: "none", ThrottleSecond: "second", ThrottleMinute: "minute", ThrottleIP: "ip", ThrottleBusy: "busy"}

// String is a lower-case name, fit for a metric label.
func (t Throttle) String() string {
	if t < ThrottleNone || int(t) >= len(throttleNames) {
		return "throttle(" + strconv.Itoa(int(t)) + ")"
	}
	return throttleNames[t]
}

// rest is how long each limit lasts, where the answer has no Retry-After.
func (t Throttle) rest() time.Duration {
	switch t {
	case ThrottleSecond, ThrottleBusy:
		return time.Second
	case ThrottleMinute:
		return time.Minute
	case ThrottleIP:
		return 5 * time.Minute
	}
	return 0
}

// Verdict is what an answer means, for a call or for one key.
type Verdict struct {
	Scope Scope
	// Code is the canonical code, empty only for Done: the documented spelling of a known one, one of this package's own
	// Code constants, "http." and the status, else the raw one as it came.
	Code string
	// Message is the service's text: one line, at most MaxMessageRunes runes.
	Message string
	// Known is true where Code is from a closed list; only then is it fit for a metric label.
	Known bool
	// Hint says what a person can do about it; often empty.
	Hint string
	// Throttle is the kind of limit, ThrottleNone unless the scope is Throttled.
	Throttle Throttle
	// Rest is how long to rest at least: before the next call of the app (Throttled), before the next attempt (any other scope). 0
	// leaves it to the caller. It is Retry-After where the answer had one.
	Rest time.Duration
	// Ambiguous: the message may have been recalled all the same, so a later failure does not prove that it still stands.
	Ambiguous bool
	// Blameless: the keys have no part in it, no attempt should be counted (throttles, holds, no connection, our own shutdown).
	Blameless bool
	// RobotSuspect: a wrong robotCode would explain it as well. Where one key after the other dies of it and none is
	// recalled, it is the robot.
	RobotSuspect bool
}

// Signal is all that Judge looks at. Error.Signal fills it from an error.
type Signal struct {
	// Op is the call; an error of OpToken never speaks of keys or robots.
	Op Operation
	// Class is the class of the call's error; empty counts as ClassService.
	Class Class
	// Status, Code and Message are the HTTP status and the service's words of a call that failed as a whole.
	Status  int
	Code    string
	Message string
	// RequiredScopes are the permissions that the service asks for; they go into the hint.
	RequiredScopes []string
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

// Judge maps a signal to its verdict. It is pure: all that is known about codes is in the table of codes.go, about statuses in
// byStatus. It decides on codes, not on prose: the message of a call is kept and never read. (A reason in failedResult is read
// as prose, since nobody knows whether it is a code.)
func Judge(s Signal) Verdict {
	if s.PerKey {
		return judgeKey(s)
	}
	v := judgeCall(s)
	v.Message = oneLine(s.Message, MaxMessageRunes)
	v.Ambiguous = v.Ambiguous || s.Lost
	if s.Op == OpToken {
		if scope := tokenScope(v.Scope); scope != v.Scope {
			v.Scope, v.Hint = scope, hintCredentials // what is said of keys and robots makes no sense here
		}
	}
	switch v.Scope {
	case Throttled:
		v.Blameless, v.Rest = true, v.Throttle.rest()
	case AppHold, BudgetHold, TokenStale:
		v.Blameless = true
	}
	if s.Class == ClassNotSent || s.Class == ClassCanceled {
		v.Blameless = true
	}
	if s.RetryAfter > 0 {
		v.Rest = s.RetryAfter
	}
	if len(s.RequiredScopes) > 0 && v.Hint == hintPermission {
		v.Hint = "give the app the permission " + strings.Join(s.RequiredScopes, ", ") + " in the developer console"
	}
	return v
}

// JudgeReason judges one entry of failedResult.
func JudgeReason(reason string) Verdict {
	return Judge(Signal{Op: OpRecall, PerKey: true, Failed: true, Reason: reason})
}

// judgeKey judges one key of a call that was answered. Its scope is never wider than the key: what is wrong with a robot or an app shows as
// the error of the next call, and one odd reason must not hold an app whose other 19 keys were just recalled. (Where all keys of a call were told the same, it has:
// Answer.AsError.)
func judgeKey(s Signal) Verdict {
	switch {
	case s.Recalled && s.Failed:
		v := byFolded[fold(CodeContradictory)].verdict(keyReason)
		v.Message = oneLine("the answer has the key as recalled and as failed: "+s.Reason, MaxMessageRunes)
		return v
	case s.Recalled:
		return Verdict{Scope: Done, Known: true}
	case !s.Failed:
		v := byFolded[fold(CodeUnmentioned)].verdict(keyReason)
		v.Message = "the answer does not mention the key"
		return v
	}
	v := Verdict{Scope: Unknown, Code: CodeUnknownReason, Known: true}
	if r := findRule(s.Reason); r != nil {
		v = r.verdict(keyReason)
	} else if _, ok := family(s.Reason); ok {
		v = Verdict{Scope: Transient, Code: oneLine(s.Reason, maxCodeRunes)}
	} else if looksLikeCode(s.Reason) {
		v = Verdict{Scope: Unknown, Code: s.Reason}
	}
	v.Message = oneLine(s.Reason, MaxMessageRunes)
	return v
}

// judgeCall judges a call that failed as a whole: by its code where it has one that is known, else by what else is known.
func judgeCall(s Signal) Verdict {
	scope := wholeCall
	if s.Keys <= 1 {
		scope = singleKey
	}
	own := func(code string) Verdict { return byFolded[fold(code)].verdict(scope) }
	switch s.Class {
	case ClassCanceled:
		return own(CodeCanceled)
	case ClassNotSent:
		return own(CodeNotSent)
	case ClassRedirect:
		return own(CodeRedirect)
	}
	if s.Banned {
		return own(CodeIPRefused)
	}
	if s.Code != "" {
		if r := findRule(s.Code); r != nil {
			return r.verdict(scope)
		}
		v, ok := family(s.Code)
		if !ok {
			v = byStatus(s, own)
			if v.Code == CodeUnreadable || v.Scope == AppHold {
				// A code that nobody has heard of, with a status that blames nobody: it may be about a key.
				v = Verdict{Scope: Unknown}
			}
			if v.Scope == Unknown && len(s.RequiredScopes) > 0 {
				v = Verdict{Scope: AppHold, Hint: hintPermission} // whatever it is called, a permission is missing
			}
		}
		v.Code, v.Known = oneLine(s.Code, maxCodeRunes), false
		if v.Code == "" {
			v.Code = CodeUnknownReason
		}
		return v
	}
	return byStatus(s, own)
}

// byStatus judges an answer without a code, and what is no answer at all. An HTML page never comes from the service
// itself, and the refusal of an address is one (field), so with a status that says nothing else it is taken for that.
func byStatus(s Signal, own func(code string) Verdict) Verdict {
	v := Verdict{Scope: Unknown, Code: "http." + strconv.Itoa(s.Status), Known: s.Status >= 100 && s.Status <= 599}
	switch status := s.Status; {
	case status >= 300 && status < 400:
		return own(CodeRedirect)
	case status == 401:
		v.Scope, v.Hint = TokenStale, hintStale
	case status == 404, status == 405, status == 407, status == 410:
		v.Scope, v.Hint = AppHold, hintBaseURL
	case status == 429:
		v.Scope, v.Throttle = Throttled, ThrottleBusy
		if s.HTML {
			return own(CodePage)
		}
	case status == 408, status == 425, status >= 500:
		v.Scope = Transient
	case s.Class == ClassTimeout:
		return own(CodeTimeout)
	case s.Class == ClassCut:
		return own(CodeCut)
	case s.Class == ClassTooLarge:
		return own(CodeTooLarge)
	case s.HTML:
		return own(CodePage)
	case status == 402, status == 403:
		v.Scope, v.Hint = AppHold, hintPermission
	case s.Class == ClassUnreadable, status >= 200 && status < 300:
		return own(CodeUnreadable)
	}
	return v
}

// family judges codes of the gateway's kind that are not in the table. All share one prefix, so the order matters: throttles first,
// then the month's calls, then permissions (documented).
func family(code string) (Verdict, bool) {
	folded := fold(code[:min(len(code), maxProse)])
	if !strings.HasPrefix(folded, "forbidden") {
		return Verdict{}, false
	}
	switch {
	case strings.Contains(folded, "qps"):
		return Verdict{Scope: Throttled, Throttle: ThrottleSecond}, true
	case strings.Contains(folded, "qpm"):
		return Verdict{Scope: Throttled, Throttle: ThrottleMinute}, true
	case strings.Contains(folded, "apicountlimit"):
		return Verdict{Scope: BudgetHold, Hint: hintBudget}, true
	}
	return Verdict{Scope: AppHold, Hint: hintPermission}, true
}

// tokenScope is what a verdict means for a token call, which has no keys and no robot: whoever cannot get a token cannot call.
func tokenScope(s Scope) Scope {
	switch s {
	case KeyDead, BatchKey, RobotDead, TokenStale, Unknown:
		return AppHold
	}
	return s
}

// occasion is where a code was said.
type occasion int

const (
	wholeCall occasion = iota // as the error of a call with several keys
	singleKey                 // as the error of a call with one key
	keyReason                 // as the reason of one key
)

func (r *rule) verdict(said occasion) Verdict {
	v := Verdict{Scope: r.call, Code: r.code, Known: true, Hint: r.hint, Throttle: r.throttle, Ambiguous: r.ambiguous, RobotSuspect: r.robotSuspect}
	switch said {
	case singleKey:
		v.Scope = r.one
	case keyReason:
		v.Scope = r.key
	}
	if v.Scope != Throttled {
		v.Throttle = ThrottleNone
	}
	return v
}

// saysTimeout is true for a code by which the service says that it does not know itself what became of the call.
func saysTimeout(code string) bool {
	r := findRule(code)
	return r != nil && r.ambiguous
}

// looksLikeCode is true for what can stand as a code in a dead letter: letters, dots, hyphens and underscores, not too long.
func looksLikeCode(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
