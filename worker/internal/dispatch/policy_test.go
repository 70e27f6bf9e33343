package dispatch

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	bases := []time.Duration{time.Nanosecond, 20 * time.Millisecond, time.Second, 17 * time.Second, time.Minute, 24 * time.Hour, math.MaxInt64}
	for _, base := range bases {
		for _, most := range []time.Duration{base, time.Minute, 24 * time.Hour, math.MaxInt64} {
			if most < base {
				continue
			}
			low, high := testPolicy(), testPolicy()
			low.BackoffBase, low.BackoffMax, low.Random = base, most, func() float64 { return 0 }
			high.BackoffBase, high.BackoffMax, high.Random = base, most, func() float64 { return math.Nextafter(1, 0) }
			before := time.Duration(0)
			for failures := 1; failures <= 300; failures++ {
				l, h := low.backoff(failures), high.backoff(failures)
				if l < 0 || h < l || h > most || l < before {
					t.Fatalf("base %v, most %v: after %d failures %v to %v, before %v at the least", base, most, failures, l, h, before)
				}
				before = l
			}
			if before != most/2 {
				t.Errorf("base %v, most %v: never more than %v at the least", base, most, before)
			}
		}
	}
	p := testPolicy()
	p.Random = func() float64 { return 0 }
	for failures, want := range map[int]time.Duration{1: 500 * time.Millisecond, 2: time.Second, 3: 2 * time.Second, 6: 16 * time.Second, 7: 30 * time.Second, 255: 30 * time.Second,
		0: 500 * time.Millisecond, -1: 500 * time.Millisecond} {
		if got := p.backoff(failures); got != want {
			t.Errorf("after %d failures %v, want %v", failures, got, want)
		}
	}
}

func TestBackoffIsSpread(t *testing.T) {
	t.Parallel()
	p := testPolicy()
	p.Random = nil
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := p.backoff(3)
		if d < 2*time.Second || d > 4*time.Second {
			t.Fatalf("%v is not within 2 s and 4 s", d)
		}
		seen[d.Round(100*time.Millisecond)] = true
	}
	if len(seen) < 15 {
		t.Errorf("only %d different tenths of a second among 1,000", len(seen))
	}
}

func TestPolicyValidate(t *testing.T) {
	t.Parallel()
	if err := testPolicy().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		spoil func(*Policy)
		says  string
	}{
		{func(p *Policy) { p.MaxAttempts = 0 }, "attempts must be 1 to 200: 0"},
		{func(p *Policy) { p.MaxAttempts = 201 }, "attempts must be 1 to 200: 201"},
		{func(p *Policy) { p.UnknownAttempts = 0 }, "unknown answers must be 1 to 10: 0"},
		{func(p *Policy) { p.UnknownAttempts = 11 }, "unknown answers must be 1 to 10: 11"},
		{func(p *Policy) { p.SplitAfter = 0 }, "1 failure at the least: 0"},
		{func(p *Policy) { p.BackoffBase = 0 }, "backoff must be positive"},
		{func(p *Policy) { p.BackoffMax = p.BackoffBase - 1 }, "at most its maximum"},
		{func(p *Policy) { p.Probe = time.Second - 1 }, "first probe"},
	} {
		p := testPolicy()
		c.spoil(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q is not in %v", c.says, err)
		}
	}
}

func TestSlotsFollowLatency(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		latency time.Duration // 0: no call yet
		rate    float64
		limit   int
		want    int
	}{
		{0, 0, 64, 2}, {0, 20, 64, 2}, {0, 0.01, 64, 2}, {0, 20, 1, 1}, {100 * time.Millisecond, 20, 64, 5}, {time.Second, 20, 64, 32}, {time.Millisecond, 200, 64, 6},
		{time.Hour, 1e9, 64, 64}, {time.Microsecond, 20, 64, 2}, {time.Second, 20, 1, 1}, {time.Second, 0, 1, 1},
	} {
		var l Latency
		if c.latency > 0 {
			l.Observe(c.latency)
		}
		if got := l.Slots(c.rate, c.limit); got != c.want {
			t.Errorf("latency %v, rate %v, limit %d: %d slots, want %d", c.latency, c.rate, c.limit, got, c.want)
		}
	}
	var l Latency
	if l.Average() != 0 {
		t.Error("an average before the first call")
	}
	for range 100 {
		l.Observe(time.Second)
	}
	l.Observe(2 * time.Second)
	if got := l.Average().Round(time.Millisecond); got != 1100*time.Millisecond {
		t.Errorf("average %v, want 1.1 s", got)
	}
}
