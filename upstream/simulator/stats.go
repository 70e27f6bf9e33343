package simulator

import (
	"maps"
	"sync"
	"time"
)

// Stats is what the simulator has seen since it began or was reset. A call is one to batchRecall, unless another is named, and is counted
// when it arrives; its outcome when it is over. Keys are counted in calls whose body could be read and had
// no more than allowed, also where the call then failed.
type Stats struct {
	Calls     int64            `json:"calls"`
	Outcomes  map[string]int64 `json:"outcomes"`  // "ok", "partial", "allFailed", "noAnswer", else the error code or the fault
	Faults    map[string]int64 `json:"faults"`    // how often each fault struck, in calls of any API
	Throttled int64            `json:"throttled"` // calls answered with a Qps or Qpm code
	Metered   int64            `json:"metered"`   // calls of this month that count against the monthly limit, readStatus included

	TokenCalls        int64            `json:"tokenCalls"`
	TokenCallsBy      map[string]int64 `json:"tokenCallsBy"`  // by endpoint: "accessToken", "corpAccessToken", "unified"
	TokensRefused     int64            `json:"tokensRefused"` // token calls that gave none
	ReadStatusCalls   int64            `json:"readStatusCalls"`
	NotFound          int64            `json:"notFound"`          // calls to no known path, or with a wrong method
	RedirectsFollowed int64            `json:"redirectsFollowed"` // calls to where the fault redirect points

	KeysAsked          int64            `json:"keysAsked"`          // distinct within their call
	KeysDistinct       int64            `json:"keysDistinct"`       // 0 if keys are forgotten, like the next three
	KeysAskedAgain     int64            `json:"keysAskedAgain"`     // for whatever reason
	KeysAskedAfterTold int64            `json:"keysAskedAfterTold"` // though the client had been told their fate for ever
	KeysAskedRecalled  int64            `json:"keysAskedRecalled"`  // though recalled, told or not
	KeysRecalled       int64            `json:"keysRecalled"`       // each counted once, unless keys are forgotten
	KeysFailed         map[string]int64 `json:"keysFailed"`         // by code: in failedResult, or the cause of a whole call's failure
	KeysRepeated       int64            `json:"keysRepeated"`       // more than once in one call

	// Overlaps are keys that were in two calls at one moment. A call that its client gave up is told apart: the client could not know that the
	// service was still at it.
	Overlaps          int64 `json:"overlaps"`
	OverlapsAbandoned int64 `json:"overlapsAbandoned"`

	BatchSizes    [MaxKeys + 1]int64 `json:"batchSizes"` // calls by their number of keys; [0] has none
	Oversized     int64              `json:"oversized"`  // calls with more keys than allowed
	MaxKeysInCall int                `json:"maxKeysInCall"`

	MaxConcurrent     int                 `json:"maxConcurrent"`     // calls at one moment
	MaxCallsPerSecond int                 `json:"maxCallsPerSecond"` // the most that any one app made in any second, throttled ones included
	CallsByRobot      map[string]int64    `json:"callsByRobot"`      // the first 10,000 robots; the rest under "(others)"
	Apps              map[string]AppStats `json:"apps"`

	FirstCall time.Time `json:"firstCall"` // zero before it
	LastCall  time.Time `json:"lastCall"`
}

// AppStats is the part of one app in the calls to batchRecall that had a good token.
type AppStats struct {
	Calls             int64 `json:"calls"`
	Throttled         int64 `json:"throttled"` // by the rate limit, not by faults
	MaxCallsPerSecond int   `json:"maxCallsPerSecond"`
}

const (
	maxRobotsCounted = 10_000
	otherRobots      = "(others)"
)

// tally collects Stats. One lock is enough: it is held for well under a microsecond a call.
type tally struct {
	mu        sync.Mutex // guards all below
	s         Stats      // without what the meters and the quota know
	running   int        // calls under way
	epoch     int        // rises with each reset
	forgetful bool
}

func newTally(forgetful bool) *tally {
	t := &tally{forgetful: forgetful}
	t.s = emptyStats()
	return t
}

func emptyStats() Stats {
	return Stats{Outcomes: map[string]int64{}, Faults: map[string]int64{}, KeysFailed: map[string]int64{}, CallsByRobot: map[string]int64{}, TokenCallsBy: map[string]int64{}, Apps: map[string]AppStats{}}
}

// add changes the counters under the lock.
func (t *tally) add(change func(*Stats)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.s)
}

// arrive counts a recall when it comes in.
func (t *tally) arrive(c *call, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.epoch = t.epoch
	t.s.Calls++
	if t.s.FirstCall.IsZero() {
		t.s.FirstCall = now
	}
	t.s.LastCall = now
	t.running++
	t.s.MaxConcurrent = max(t.s.MaxConcurrent, t.running)
}

// keys counts what a recall asks for.
func (t *tally) keys(c *call, repeated int, a asking) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(c.req.ProcessQueryKeys)
	if n <= MaxKeys {
		t.s.BatchSizes[n]++
	} else {
		t.s.Oversized++
	}
	t.s.MaxKeysInCall = max(t.s.MaxKeysInCall, n)
	robot := c.req.RobotCode
	if _, known := t.s.CallsByRobot[robot]; !known && len(t.s.CallsByRobot) >= maxRobotsCounted {
		robot = otherRobots
	}
	t.s.CallsByRobot[robot]++
	asked := int64(len(c.hashes))
	t.s.KeysAsked += asked
	t.s.KeysRepeated += int64(repeated)
	t.s.Overlaps += a.overlaps
	if !t.forgetful {
		t.s.KeysDistinct += a.fresh
		t.s.KeysAskedAgain += asked - a.fresh
		t.s.KeysAskedAfterTold += a.afterAnswer
		t.s.KeysAskedRecalled += a.afterRecall
	}
}

// leave counts a recall when it is over. abandoned is how many overlaps of its keys are not the client's fault after all.
func (t *tally) leave(c *call, outcome string, throttled bool, recalled int64, abandoned int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if c.epoch != t.epoch {
		return // the counters it belongs to are gone
	}
	t.s.Outcomes[outcome]++
	if throttled {
		t.s.Throttled++
	}
	t.s.KeysRecalled += recalled
	for _, code := range c.failed {
		t.s.KeysFailed[code]++
	}
	t.s.Overlaps -= abandoned
	t.s.OverlapsAbandoned += abandoned
}

func (t *tally) read() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.s
	s.Outcomes, s.Faults, s.KeysFailed, s.CallsByRobot = maps.Clone(s.Outcomes), maps.Clone(s.Faults), maps.Clone(s.KeysFailed), maps.Clone(s.CallsByRobot)
	s.TokenCallsBy, s.Apps = maps.Clone(s.TokenCallsBy), map[string]AppStats{}
	return s
}

func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s = emptyStats()
	t.s.MaxConcurrent = t.running
	t.epoch++
}
