// Package plan foretells what recalling a file of keys would take: calls, time, money, and the keys it comes too late for.
// It is arithmetic on a keyfile.Summary and calls nothing.
package plan

import (
	"slices"
	"sort"
	"time"

	"dingrecall/cmd/internal/keyfile"
)

// KeysPerCall is how many keys the service takes in one call (official documentation).
const KeysPerCall = 20

// App is what the plan needs to know of an app.
type App struct {
	Name         string
	Rate         float64 // calls a second; 0: not limited
	MonthlyCalls int     // what the app may call in a month; 0: not known
	Assumed      bool    // MonthlyCalls is the standard edition's, since nobody said
}

// Input is what a plan is made from.
type Input struct {
	Summary keyfile.Summary
	// AppOf says which app a robot belongs to; false means that none is configured for it.
	AppOf  func(robotCode string) (App, bool)
	Now    time.Time
	Window time.Duration // how long after sending a key can be recalled; 0: 24 hours
	Margin time.Duration // how much earlier its calls end
}

// Plan is the foretelling. Keys are distinct keys. The moments of sending are known to keyfile.BucketSize, rounded to the
// earlier side, so that the plan may call a key late that just comes through, but not the other way.
type Plan struct {
	Rows       int `json:"rows"`
	Keys       int `json:"keys"`
	Duplicates int `json:"duplicates"`
	Skipped    int `json:"skipped"` // rows left out because an earlier report has them as recalled
	BadLines   int `json:"badLines"`
	Robots     int `json:"robots"`
	// Conversations is how many groups and private chats the keys are of; one-to-one messages have none.
	Conversations int `json:"conversations,omitempty"`
	Calls         int `json:"calls"` // that will be made: full ones, in time

	Closed        int       `json:"windowClosed"`      // keys whose window is closed already: no call is spent on them
	TooLate       int       `json:"windowTooLate"`     // keys whose window closes before their turn comes
	WithoutSentAt int       `json:"withoutSentAt"`     // keys taken as sent now, for want of better knowledge
	NoApp         int       `json:"withoutApp"`        // keys of robots that no app is configured for
	Apps          []AppPlan `json:"apps"`              // by name
	Seconds       float64   `json:"seconds"`           // until the last app is done; apps work side by side
	Deadline      time.Time `json:"deadline,omitzero"` // of the first key whose window is still open, margin included; zero: there is none

	NoAppRobots      int      `json:"robotsWithoutApp"`
	RobotsWithoutApp []string `json:"robotsWithoutAppNames,omitempty"` // the first 10 of them

	now time.Time
}

// AppPlan is one app's part of a Plan.
type AppPlan struct {
	App           string  `json:"app"`
	Robots        int     `json:"robots"`
	Conversations int     `json:"conversations,omitempty"` // as in Plan
	Keys          int     `json:"keys"`
	Calls         int     `json:"calls"`
	Rate          float64 `json:"callsPerSecond"` // 0: not limited
	Seconds       float64 `json:"seconds"`
	Closed        int     `json:"windowClosed"`
	TooLate       int     `json:"windowTooLate"`
	MonthlyCalls  int     `json:"monthlyCalls,omitempty"` // 0: not known
	Assumed       bool    `json:"monthlyCallsAssumed,omitempty"`
	// BudgetPercent is Calls of MonthlyCalls, in percent; what was called earlier in the month is not known here.
	BudgetPercent float64 `json:"budgetPercent,omitempty"`
	// OverBudget is how many of Calls the month's budget does not cover, even if none of it was spent yet.
	OverBudget int `json:"callsOverBudget,omitempty"`
}

// group is the keys of one target that share a deadline.
type group struct {
	target   keyfile.Target
	deadline time.Time
	keys     int
}

// Make makes the plan.
func Make(in Input) Plan {
	if in.Window == 0 {
		in.Window = 24 * time.Hour
	}
	s := in.Summary
	p := Plan{
		Rows: s.Rows, Keys: s.Distinct, Duplicates: s.Duplicates, Skipped: s.Skipped, BadLines: s.BadLines,
		Robots: len(s.Robots()), Conversations: s.Conversations(), WithoutSentAt: s.WithoutSentAt, Apps: []AppPlan{}, now: in.Now,
	}
	apps := make(map[App][]keyfile.Target)
	var orphans []string
	for target, ts := range s.Targets {
		app, ok := in.AppOf(target.RobotCode)
		if !ok {
			orphans = append(orphans, target.RobotCode)
			p.NoApp += ts.Keys
			continue
		}
		apps[app] = append(apps[app], target)
	}
	sort.Strings(orphans)
	orphans = slices.Compact(orphans)
	p.NoAppRobots = len(orphans)
	p.RobotsWithoutApp = orphans[:min(len(orphans), 10)]
	for app, targets := range apps {
		p.add(simulate(app, targets, in))
	}
	sort.Slice(p.Apps, func(i, j int) bool { return p.Apps[i].App < p.Apps[j].App })
	return p
}

func (p *Plan) add(a AppPlan, earliest time.Time) {
	p.Apps = append(p.Apps, a)
	p.Calls += a.Calls
	p.Closed += a.Closed
	p.TooLate += a.TooLate
	p.Seconds = max(p.Seconds, a.Seconds)
	if !earliest.IsZero() && (p.Deadline.IsZero() || earliest.Before(p.Deadline)) {
		p.Deadline = earliest
	}
}

// simulate plays an app's calls through, earliest deadline first over all its targets: at the app's rate, full as far as a
// target has keys, and none for a key whose window is closed. Repeated calls are not foreseen: it is the best case. It also returns the first deadline still ahead.
func simulate(app App, targets []keyfile.Target, in Input) (AppPlan, time.Time) {
	own := keyfile.Summary{Targets: make(map[keyfile.Target]*keyfile.TargetSummary)}
	for _, t := range targets {
		own.Targets[t] = in.Summary.Targets[t]
	}
	a := AppPlan{App: app.Name, Robots: len(own.Robots()), Conversations: own.Conversations(), Rate: app.Rate, MonthlyCalls: app.MonthlyCalls, Assumed: app.Assumed}
	var earliest time.Time
	spare := make(map[keyfile.Target]int) // seats left in the target's last call
	for _, g := range groups(own, in) {
		a.Keys += g.keys
		if !g.deadline.After(in.Now) {
			a.Closed += g.keys
			continue
		}
		if earliest.IsZero() {
			earliest = g.deadline
		}
		seated := min(g.keys, spare[g.target])
		rest := g.keys - seated
		calls := min((rest+KeysPerCall-1)/KeysPerCall, callsBefore(g.deadline, app.Rate, in.Now)-a.Calls)
		calls = max(calls, 0)
		inTime := min(rest, calls*KeysPerCall)
		spare[g.target] += -seated + calls*KeysPerCall - inTime
		a.Calls += calls
		a.TooLate += rest - inTime
	}
	if app.Rate > 0 {
		a.Seconds = float64(a.Calls) / app.Rate
	}
	if app.MonthlyCalls > 0 {
		a.BudgetPercent = 100 * float64(a.Calls) / float64(app.MonthlyCalls)
		a.OverBudget = max(0, a.Calls-app.MonthlyCalls)
	}
	return a, earliest
}

// callsBefore is how many calls the rate allows until a deadline.
func callsBefore(deadline time.Time, rate float64, now time.Time) int {
	const enough = 1 << 50 // not the greatest int, so that sums of it do not overflow
	if rate <= 0 {
		return enough
	}
	return int(min(deadline.Sub(now).Seconds()*rate, enough))
}

// groups returns the keys of an app's targets in the order their turns come.
func groups(own keyfile.Summary, in Input) []group {
	var all []group
	for target, rs := range own.Targets {
		for sent, n := range rs.Sent {
			all = append(all, group{target, time.Unix(sent, 0).Add(in.Window - in.Margin), n})
		}
		if rs.WithoutSentAt > 0 {
			all = append(all, group{target, in.Now.Add(in.Window - in.Margin), rs.WithoutSentAt})
		}
	}
	sort.Slice(all, func(i, j int) bool {
		if !all[i].deadline.Equal(all[j].deadline) {
			return all[i].deadline.Before(all[j].deadline)
		}
		return all[i].target.String() < all[j].target.String()
	})
	return all
}
