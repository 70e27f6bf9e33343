package simulator

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// MaxKeys is how many keys a call may carry (official).
const MaxKeys = 20

// Failure says what one bad key does to its call. Official documents list error codes for bad keys and a failedResult, and do not say
// which of the two a bad key among good ones gets: unknown.
type Failure string

// The ways to fail.
const (
	FailSingle Failure = "single" // the bad key appears in failedResult, the others are recalled
	FailWhole  Failure = "whole"  // the first bad key's code is the error of the whole call, and nothing is recalled
	FailRandom Failure = "random" // each call does one or the other, by the seed
)

// Reasons says how failedResult puts it. Seen in samples: "system error" and "SYSTEM_ERROR"; all else is unknown.
type Reasons string

// The ways to put it.
const (
	ReasonCode  Reasons = "code"  // the documented code
	ReasonProse Reasons = "prose" // Chinese prose, without the code
	ReasonMixed Reasons = "mixed" // by the seed: the code, the code in capitals and underscores, or prose
	ReasonVague Reasons = "vague" // "system error", whatever it was
)

// Already says what becomes of a key that was recalled before: unknown.
type Already string

// The fates of a key recalled before.
const (
	AlreadySuccess   Already = "success"   // it is in successResult again
	AlreadyNotRevoke Already = "notRevoke" // notRevoke.all.messages
	AlreadyInvalid   Already = "invalid"   // invalid.processQueryKey
)

// OldTokens says what becomes of an app's older token where asking again gives a new one: unknown.
type OldTokens string

// The fates of an older token.
const (
	OldTokensLive OldTokens = "live" // until it expires
	OldTokensDie  OldTokens = "die"  // at once
)

// Again says what asking again gives: unknown for the unified endpoint. (Official for the others: the same token for an internal app, a
// new one for a third-party app.)
type Again string

// What asking again gives.
const (
	AgainSame Again = "same" // the same token, renewed
	AgainNew  Again = "new"
)

// Config is how the simulator behaves. The zero value is a service without limits or latency that knows every robot, every credential
// and every key.
type Config struct {
	// Seed decides everything random. The same seed and the same sequence of calls give the same answers.
	Seed uint64 `json:"seed" yaml:"seed"`

	// Apps are the credentials that get a token: appKey (or suiteKey, or client_id) to secret. Empty: any, if neither is empty.
	Apps map[string]string `json:"-" yaml:"apps"`
	// CorpIDs are the organisations known to the two token endpoints that name one. Empty: any.
	CorpIDs []string `json:"corpIds" yaml:"corpIds"`
	// SuiteTicket is what corpAccessToken accepts as suiteTicket. Empty: any.
	SuiteTicket string `json:"-" yaml:"suiteTicket"`
	// TokenLifetime is how long a token lives; answers tell it in whole seconds. Default 2 h (official).
	TokenLifetime time.Duration `json:"tokenLifetime" yaml:"tokenLifetime"`
	// OldTokens is what becomes of an older token where asking again gives a new one. Default live.
	OldTokens OldTokens `json:"oldTokens" yaml:"oldTokens"`
	// UnifiedAgain is what asking again gives at the unified endpoint. Default same.
	UnifiedAgain Again `json:"unifiedAgain" yaml:"unifiedAgain"`
	// AnyToken accepts every token that is not empty, as of one app called "any", for clients that have no credentials.
	AnyToken bool `json:"anyToken" yaml:"anyToken"`

	// Robots are the robots that exist. Empty: all, except UnknownRobots.
	Robots []string `json:"robots" yaml:"robots"`
	// UnknownRobots do not exist, whatever Robots says.
	UnknownRobots []string `json:"unknownRobots" yaml:"unknownRobots"`
	// RegisteredOnly makes every key that was not registered an unknown one.
	RegisteredOnly bool `json:"registeredOnly" yaml:"registeredOnly"`
	// Window is how long after sentAt a key can be recalled. Default 24 h (official; whether the end itself is inside is unknown: here not).
	Window time.Duration `json:"window" yaml:"window"`

	// Failure, Reasons and NameKey are how bad keys show. Defaults: single, code, no.
	Failure Failure `json:"failure" yaml:"failure"`
	Reasons Reasons `json:"reasons" yaml:"reasons"`
	// NameKey puts the bad key into the message of a call that failed as a whole.
	NameKey bool `json:"nameKey" yaml:"nameKey"`
	// AlreadyRecalled is what becomes of a key recalled before. Default success. The others need to remember keys.
	AlreadyRecalled Already `json:"alreadyRecalled" yaml:"alreadyRecalled"`
	// NotRevokeRecallsRest makes a whole call that fails with notRevoke.all.messages recall its good keys all the same, and NotRevokeLists
	// adds both lists to its body. Unknown; default no.
	NotRevokeRecallsRest bool `json:"notRevokeRecallsRest" yaml:"notRevokeRecallsRest"`
	NotRevokeLists       bool `json:"notRevokeLists" yaml:"notRevokeLists"`
	// FlakyRate is the share of calls in which a Flaky key fails. Default 0.5.
	FlakyRate float64 `json:"flakyRate" yaml:"flakyRate"`

	// Latency and Jitter: an answer takes Latency and up to Jitter more, by the seed. What the gateway refuses is refused at once. Default 0.
	Latency time.Duration `json:"latency" yaml:"latency"`
	Jitter  time.Duration `json:"jitter" yaml:"jitter"`

	// Rate is how many calls an app may make to one API in any second; 0, the default: any number. (Official for the standard edition: 20.)
	Rate int `json:"rate" yaml:"rate"`
	// Penalty is how long an app that passed its Rate is refused. Calls refused do not prolong it (unknown). Default 1 s (official).
	Penalty time.Duration `json:"penalty" yaml:"penalty"`
	// MonthlyCalls is how many calls the organisation has in a calendar month of UTC+8 (the zone is unknown); 0, the default: any number.
	MonthlyCalls int64 `json:"monthlyCalls" yaml:"monthlyCalls"`

	// Faults go wrong on purpose. SetFaults replaces them while running.
	Faults []FaultRule `json:"faults" yaml:"faults"`
	// HugeBytes is the size of the answer of the fault huge. Default 64 MiB.
	HugeBytes int64 `json:"hugeBytes" yaml:"hugeBytes"`
	// SlowFor is how long the answer of the fault slow trickles. Default 30 s.
	SlowFor time.Duration `json:"slowFor" yaml:"slowFor"`

	// ForgetKeys keeps no memory of single keys: 11 to 22 bytes a key are saved, and then distinct and repeated keys are not counted,
	// and a key recalled before is not known as such. Keys in two calls at once are found all the same.
	ForgetKeys bool `json:"forgetKeys" yaml:"forgetKeys"`

	// Lookup, if set, is asked about every key first. It must be safe for concurrent use.
	Lookup func(robotCode, key string) (KeyInfo, bool) `json:"-" yaml:"-"`
	// OnRecall, if set, is told of every recall when it is over, before its answer is written: for tests that look at single calls. It
	// must be safe for concurrent use, and holds up the answer.
	OnRecall func(RecallSeen) `json:"-" yaml:"-"`
	// Now is the clock of tokens, windows and limits. Default time.Now.
	Now func() time.Time `json:"-" yaml:"-"`
	// Sleep waits for d or until ctx ends, whichever is first. Default: a timer.
	Sleep func(ctx context.Context, d time.Duration) `json:"-" yaml:"-"`
}

// KeyInfo is what the simulator knows of a registered key.
type KeyInfo struct {
	Robot  string    // the robot that sent it; empty: whoever asks
	SentAt time.Time // zero: just now
	Kind   Kind      // its fate
	// Chat is ChatGroup or ChatPrivate, and Conversation the openConversationId, for a message that was sent there. Empty: one-to-one.
	Chat, Conversation string
}

// RecallSeen is one recall as the simulator saw it.
type RecallSeen struct {
	At      time.Time // when it came
	Robot   string    // as asked, like Keys; both are empty if the body could not be read
	Keys    []string  // not to be changed
	Outcome string    // as in Stats.Outcomes
	Fault   Fault     // what went wrong on purpose, or ""
	// Chat is ChatGroup or ChatPrivate by the endpoint that was called, "" for one-to-one; Conversation is as asked.
	Chat, Conversation string
}

// WithDefaults returns a copy in which everything left out is filled in.
func (c Config) WithDefaults() Config {
	setDefault(&c.TokenLifetime, 2*time.Hour)
	setDefault(&c.OldTokens, OldTokensLive)
	setDefault(&c.UnifiedAgain, AgainSame)
	setDefault(&c.Window, 24*time.Hour)
	setDefault(&c.Failure, FailSingle)
	setDefault(&c.Reasons, ReasonCode)
	setDefault(&c.AlreadyRecalled, AlreadySuccess)
	setDefault(&c.FlakyRate, 0.5)
	setDefault(&c.Penalty, time.Second)
	setDefault(&c.HugeBytes, 64<<20)
	setDefault(&c.SlowFor, 30*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	return c
}

// Validate reports every problem of a Config that has its defaults, joined into one error.
func (c Config) Validate() error {
	var problems []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	oneOf(bad, "failure", c.Failure, FailSingle, FailWhole, FailRandom)
	oneOf(bad, "reasons", c.Reasons, ReasonCode, ReasonProse, ReasonMixed, ReasonVague)
	oneOf(bad, "alreadyRecalled", c.AlreadyRecalled, AlreadySuccess, AlreadyNotRevoke, AlreadyInvalid)
	oneOf(bad, "oldTokens", c.OldTokens, OldTokensLive, OldTokensDie)
	oneOf(bad, "unifiedAgain", c.UnifiedAgain, AgainSame, AgainNew)
	bad(c.AlreadyRecalled != AlreadySuccess && c.ForgetKeys, "alreadyRecalled: %q needs a memory of keys: leave out forgetKeys", c.AlreadyRecalled)
	bad(c.TokenLifetime < time.Second, "tokenLifetime: %v is less than a second", c.TokenLifetime)
	bad(c.Window < 0, "window: %v is negative", c.Window)
	bad(!(c.FlakyRate >= 0 && c.FlakyRate <= 1), "flakyRate: %v is not between 0 and 1", c.FlakyRate)
	bad(c.Latency < 0, "latency: %v is negative", c.Latency)
	bad(c.Jitter < 0, "jitter: %v is negative", c.Jitter)
	bad(c.Rate < 0, "rate: %d is negative; 0 means no limit", c.Rate)
	bad(c.Penalty < 0, "penalty: %v is negative", c.Penalty)
	bad(c.MonthlyCalls < 0, "monthlyCalls: %d is negative; 0 means no limit", c.MonthlyCalls)
	bad(c.HugeBytes < 0, "hugeBytes: %d is negative", c.HugeBytes)
	bad(c.SlowFor < 0, "slowFor: %v is negative", c.SlowFor)
	for name, secret := range c.Apps {
		bad(name == "" || secret == "", "apps: an app key or its secret is empty")
	}
	for i, rule := range c.Faults {
		if err := rule.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("faults[%d]: %w", i, err))
		}
	}
	return errors.Join(problems...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func oneOf[T ~string](bad func(bool, string, ...any), path string, value T, allowed ...T) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	bad(true, "%s: %q is none of %q", path, value, allowed)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
