package worker

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/forecast"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

// TestTheBudgetIsSaid: when it keeps keys waiting, once, and when it no longer does. Urgent keys that come and go are no news.
func TestTheBudgetIsSaid(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		y := newYard(t, rdb)
		a := y.p.apps["main"]
		a.MonthlyCalls, a.Reserve = 10, 4
		logged, logs := observer.New(zap.InfoLevel)
		y.p.log = zap.New(logged)
		used := func(n int) {
			t.Helper()
			if err := rdb.HSet(context.Background(), keystore.Prefix("main")+"meta", "used", n).Err(); err != nil {
				t.Fatal(err)
			}
		}
		const over = "the month's calls keep no key waiting any more"
		said := func(want ...string) {
			t.Helper()
			y.reconcile()
			y.reconcile()
			var got []string
			for _, e := range logs.TakeAll() {
				if code, ok := e.ContextMap()["code"].(string); ok {
					got = append(got, code)
				} else if e.Message == over {
					got = append(got, over)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("said %q, not %q", got, want)
			}
		}
		admit := func(class flow.Class, keys ...string) {
			t.Helper()
			if _, _, err := a.store.Admit(context.Background(), keystore.Admission{RobotCode: "r", Keys: keys, Class: class}); err != nil {
				t.Fatal(err)
			}
		}
		admit(flow.Bulk, "one", "two")
		said()
		used(6)
		said(keystore.CodeBudgetReserved)
		admit(flow.Urgent, "three") // so the app is not on hold
		said()
		used(10)
		said(keystore.CodeBudgetSpent)
		if _, _, err := a.store.Release(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
		said(over)
	})
}

func TestSaidOf(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_800_000_000_000)
	long, short := now.Add(-time.Hour), now.Add(-time.Second)
	for _, c := range []struct {
		name   string
		said   keystore.Said
		missed int
		want   bool
		keys   int // that stand as said
	}{
		{"nothing was said, nothing is missed", keystore.Said{}, 0, false, 0},
		{"it becomes true", keystore.Said{}, 1, true, 1},
		{"it is as it was", keystore.Said{Keys: 100, At: long}, 100, false, 100},
		{"it grew a little", keystore.Said{Keys: 100, At: long}, 150, false, 100},
		{"it grew by more than half", keystore.Said{Keys: 100, At: long}, 151, true, 151},
		{"it grew by much, a moment ago something was said", keystore.Said{Keys: 100, At: short}, 1000, false, 100},
		{"it shrank a little", keystore.Said{Keys: 100, At: long}, 50, false, 100},
		{"it shrank to less than half", keystore.Said{Keys: 100, At: long}, 49, false, 49},
		{"it shrank, a moment ago something was said", keystore.Said{Keys: 100, At: short}, 1, false, 100},
		{"it is one", keystore.Said{Keys: 1, At: long}, 1, false, 1},
		{"it is over", keystore.Said{Keys: 100, At: long}, 0, true, 0},
		{"one was left, and it is over", keystore.Said{Keys: 1, At: long}, 0, true, 0},
		{"it is over, a moment ago something was said", keystore.Said{Keys: 100, At: short}, 0, false, 100},
		{"it was said that it is over", keystore.Said{At: long}, 0, false, 0},
		{"it is true again", keystore.Said{At: long}, 5, true, 5},
	} {
		c.said.Budget = "code"
		next, say := saidOf(c.said, c.missed, now)
		want := keystore.Said{Keys: c.keys, At: c.said.At, Budget: "code"}
		if c.want {
			want.At = now
		}
		if say != c.want || next != want {
			t.Errorf("%s: %v, %+v, want %v, %+v", c.name, say, next, c.want, want)
		}
	}
}

// TestWhatIsSaidFollowsAFall: keys that will miss their windows are news again after most of those were saved, or gone, that were said before.
func TestWhatIsSaidFollowsAFall(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_800_000_000_000)
	var said keystore.Said
	var told []int
	for _, missed := range []int{1000, 1000, 700, 400, 10, 10, 12, 900, 900, 1000, 100, 0, 0, 3} {
		var say bool
		if said, say = saidOf(said, missed, now); say {
			told = append(told, missed)
		}
		now = now.Add(outlookGap)
	}
	if want := []int{1000, 900, 0, 3}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

func TestForecastInput(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 2, 0, 0, time.UTC)
	turns := now.Add(7 * 24 * time.Hour)
	st := AppStatus{At: now, Share: 1, Settings: &keystore.Settings{Rate: 20, Slots: 8, Latency: time.Second, Calls: 50, Reserve: 10},
		Budget: &BudgetStatus{Used: 45, Calls: 50, Reserve: 10, Turns: turns}}
	in := forecastInput(st, []keystore.WaitingKeys{
		{Class: flow.Bulk, Target: "r", Incident: "i", Keys: 3, From: now.Add(3 * time.Minute)},
		{Class: flow.Urgent, Target: "r", Keys: 4, From: now.Add(-2 * time.Minute)},
		{Target: "r", Keys: 5},
	})
	if in.Rate != 20 || !in.Start.IsZero() || in.Budget.Left != 5 || in.Budget.Reserve != 5 || in.Budget.Next != 50 || in.Budget.Keep != 10 || !in.Budget.Turns.Equal(turns) {
		t.Errorf("%+v, %+v", in, in.Budget)
	}
	if p := in.Piles[0]; p.Class != 2 || p.Robot != "r" || p.Incident != "i" || p.Keys != 3 || !p.Deadline.Equal(now.Add(3*time.Minute)) {
		t.Errorf("%+v", p)
	}
	if got := in.Piles[1].Deadline.Sub(now); got != 90*time.Second { // between now and the end of the five minutes
		t.Errorf("windows that close now are taken to close in %v", got)
	}
	if p := in.Piles[2]; !p.NotBefore.After(now) || !p.Deadline.Equal(now.Add(24*time.Hour)) {
		t.Errorf("%+v", p)
	}
	st.Share, st.Budget.Lifted = 0.5, true
	st.Hold = &keystore.HoldStatus{Reason: flow.Reason{Code: "IpNotInWhiteList"}, NextProbe: now.Add(time.Minute)}
	if in = forecastInput(st, nil); in.Rate != 10 || in.Budget != nil || !in.Start.Equal(now.Add(time.Minute)) {
		t.Errorf("throttled, lifted and held: %+v", in)
	}
	st.Hold.Code = keystore.CodeBudgetSpent
	if in = forecastInput(st, nil); !in.Start.IsZero() {
		t.Errorf("the budget's own hold is the budget: %+v", in)
	}
}

// TestForecastInputOfTheServicesMonth: before the turn, probes are made for a turn in another zone, which nobody should count on.
func TestForecastInputOfTheServicesMonth(t *testing.T) {
	t.Parallel()
	turns := time.Date(2026, 11, 30, 16, 0, 0, 0, time.UTC)
	const spent = "Forbidden.AccessDenied.ApiCountLimitForOrg"
	for _, c := range []struct {
		name, code  string
		probe, want time.Duration // from the turn
		counted     bool
	}{
		{"the first probe for another zone", spent, time.Minute - 26*time.Hour, 0, true},
		{"the last one", spent, time.Minute - 2*time.Hour, 0, true},
		{"the probe after the turn", spent, time.Minute, time.Minute, true},
		{"after the turn before", spent, time.Hour - 30*24*time.Hour, time.Hour - 30*24*time.Hour, true},
		{"another hold", "Forbidden.AccessDenied.IpNotInWhiteList", -time.Hour, -time.Hour, true},
		{"no calls are counted", spent, -time.Hour, -time.Hour, false},
	} {
		st := AppStatus{At: turns.Add(c.probe - time.Minute), Settings: &keystore.Settings{},
			Hold: &keystore.HoldStatus{Reason: flow.Reason{Code: c.code}, NextProbe: turns.Add(c.probe)}}
		if c.counted {
			st.Budget = &BudgetStatus{Turns: turns}
		}
		if got := forecastInput(st, nil).Start.Sub(turns); got != c.want {
			t.Errorf("%s: it starts %v after the turn, want %v", c.name, got, c.want)
		}
	}
}

// TestForecastOfHeldRobots: their keys are not called before the next probe, and others are.
func TestForecastOfHeldRobots(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 2, 0, 0, time.UTC)
	group := flow.Target{RobotCode: "r", Conversation: flow.Conversation{Chat: flow.ChatGroup, OpenConversationID: "c"}}
	hold := func(target flow.Target, in time.Duration) keystore.RobotHold {
		return keystore.RobotHold{Target: target, HoldStatus: keystore.HoldStatus{NextProbe: now.Add(in)}}
	}
	st := AppStatus{At: now, Share: 1, Settings: &keystore.Settings{Rate: 20, Slots: 8, Latency: time.Second},
		Robots: []keystore.RobotHold{hold(flow.Target{RobotCode: "held"}, 20*time.Minute), hold(group, time.Hour), hold(flow.Target{RobotCode: "due"}, -time.Second)}}
	in := forecastInput(st, []keystore.WaitingKeys{
		{Target: "held", Incident: "late", Keys: 7, From: now.Add(10 * time.Minute)},
		{Target: "held", Incident: "in time", Keys: 11, From: now.Add(time.Hour)},
		{Target: group.Name(), Incident: "of a group", Keys: 13, From: now.Add(30 * time.Minute)},
		{Target: "r", Incident: "of the same robot", Keys: 17, From: now.Add(10 * time.Minute)},
		{Target: "due", Incident: "tried now", Keys: 19, From: now.Add(10 * time.Minute)},
		{Target: "held", Incident: "for later", Keys: 23},
	})
	if p := in.Piles[5]; !p.NotBefore.Equal(now.Add(20 * time.Minute)) {
		t.Errorf("keys of a held robot that wait for later come at %v", p.NotBefore)
	}
	f := forecast.Make(in)
	missed := map[string]int{}
	for _, i := range f.Incidents {
		missed[i.Incident] = i.Missed
	}
	if want := map[string]int{"late": 7, "of a group": 13, "in time": 0, "of the same robot": 0, "tried now": 0, "for later": 0}; !maps.Equal(missed, want) {
		t.Errorf("missed: %v, want %v", missed, want)
	}
	if !f.FirstMiss.Equal(now.Add(10 * time.Minute)) {
		t.Errorf("the first window closes at %v", f.FirstMiss)
	}
	if got := outlookHint(st, &f); !strings.Contains(got, "robot") {
		t.Errorf("the hint is %q", got)
	}
	st.Robots = st.Robots[2:]
	if got := outlookHint(st, &f); strings.Contains(got, "robot") {
		t.Errorf("no robot stands in the way, and the hint is %q", got)
	}
}
