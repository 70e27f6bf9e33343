package simulator

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestRateAndPenalty(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Rate: 3})
	steps := []struct {
		after time.Duration
		ok    bool
	}{
		{0, true},
		{200 * time.Millisecond, true},
		{200 * time.Millisecond, true},
		{599 * time.Millisecond, false},                 // the fourth within a second; refused until 1.999 s
		{time.Millisecond, false},                       // now the first has left the second, but the penalty runs
		{998 * time.Millisecond, false},                 // 1.998 s; and refused calls do not prolong it
		{time.Millisecond, true},                        // 1.999 s
		{0, true}, {0, true}, {time.Millisecond, false}, // again three, and one too many
		{time.Second, true},
	}
	for i, step := range steps {
		b.clock.Add(step.after)
		got := b.recall(b.key(Good))
		if ok := got.code() == ""; ok != step.ok || !ok && (got.status != 403 || got.code() != codeQpsApp) {
			t.Errorf("step %d: got %d %s, want ok %v", i, got.status, got.body, step.ok)
		}
	}
	st := b.sim.Stats()
	want := AppStats{Calls: 11, Throttled: 4, MaxCallsPerSecond: 5}
	if st.Apps["dingapp"] != want || st.Throttled != 4 || st.Metered != 7 || st.KeysRecalled != 7 || st.MaxCallsPerSecond != 5 {
		t.Errorf("stats %+v", st)
	}
}

func TestRateIsPerApp(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Rate: 1})
	b.recall(b.key(Good))
	first := b.token
	b.token = regexpToken(b.post("/v1.0/oauth2/accessToken", `{"appKey":"second","appSecret":"x"}`).body)
	if got := b.recall(b.key(Good)); got.status != 200 {
		t.Errorf("the second app was refused: %s", got.body)
	}
	b.token = first
	if got := b.recall(b.key(Good)); got.code() != codeQpsApp {
		t.Errorf("the first app was let through: %s", got.body)
	}
}

// TestMeterLaw checks random arrivals against the definition, counted by brute force.
func TestMeterLaw(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	refusals := 0
	for range 50 {
		rate, penalty := 1+rnd.IntN(8), time.Duration(rnd.IntN(1500))*time.Millisecond
		var m meter
		var passed, all []time.Duration
		var now, until time.Duration
		most := 0
		for range 300 {
			now += time.Duration(rnd.IntN(2000/rate)) * time.Millisecond / 2
			all = append(all, now)
			most = max(most, within(all, now))
			want := now >= until && within(passed, now) < rate
			if now >= until && !want {
				until = now + penalty
			}
			clock := func() time.Duration { return now }
			m.arrive(clock)
			if got := m.take(clock, rate, penalty); got != want {
				t.Fatalf("rate %d, penalty %v, at %v: got %v, want %v", rate, penalty, now, got, want)
			}
			if want {
				passed = append(passed, now)
			} else {
				refusals++
			}
		}
		if got := m.read(); got.MaxCallsPerSecond != most || got.Calls != 300 {
			t.Fatalf("read %+v, want at most %d", got, most)
		}
	}
	if refusals < 100 {
		t.Errorf("only %d refusals: the test shows little", refusals)
	}
}

// within counts the times in the second that ends at now.
func within(times []time.Duration, now time.Duration) int {
	n := 0
	for _, t := range times {
		if t > now-time.Second {
			n++
		}
	}
	return n
}

func TestMeterForgetsOldArrivals(t *testing.T) {
	t.Parallel()
	var m meter
	var now time.Duration
	for range 100_000 {
		now += 10 * time.Millisecond
		m.arrive(func() time.Duration { return now })
	}
	if got := m.read(); got.MaxCallsPerSecond != 100 || got.Calls != 100_000 {
		t.Errorf("read %+v", got)
	}
	if cap(m.arrivals) > 10_000 {
		t.Errorf("room for %d arrivals is kept", cap(m.arrivals))
	}
}

// TestFaultsDoNotHideTheRate: calls that a fault refuses are calls all the same.
func TestFaultsDoNotHideTheRate(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Rate: 2, Faults: []FaultRule{{Fault: FaultQPS, To: 3}}})
	for range 5 {
		b.recall(b.key(Good))
	}
	if st := b.sim.Stats(); st.MaxCallsPerSecond != 5 || st.Throttled != 3 || st.KeysRecalled != 2 || st.Apps["dingapp"].Throttled != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestMonth(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{MonthlyCalls: 2, Rate: 2})
	codes := func(n int) (out []string) {
		for range n {
			out = append(out, b.recall(b.key(Good)).code())
		}
		return out
	}
	if got := codes(3); got[0] != "" || got[1] != "" || got[2] != codeQpsApp {
		t.Fatalf("got %q", got)
	}
	b.clock.Add(2 * time.Second)
	if got := codes(1); got[0] != codeCount {
		t.Errorf("the third call of the month got %q", got)
	}
	b.clock.now = time.Date(2026, 11, 30, 15, 59, 59, 0, time.UTC)
	b.token = b.newToken()
	if got := codes(1); got[0] != codeCount {
		t.Errorf("in the last second of the month: %q", got)
	}
	b.clock.Add(time.Second) // midnight at UTC+8
	if got := codes(1); got[0] != "" {
		t.Errorf("in the new month: %q", got)
	}
	if got := b.sim.Stats().Metered; got != 1 {
		t.Errorf("metered %d", got)
	}
}
