package keystore

import (
	"container/heap"
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

// throttledFor is the settlement of a call that was throttled.
func throttledFor(n int, rest time.Duration) flow.Settlement {
	o := keep(n, n, flow.NextCall)
	o.Rest, o.Counted = rest, false
	return o
}

func near(got, want float64) bool { return math.Abs(got-want) < 0.001 }

func TestThrottle(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Interval = 100 * time.Millisecond
		_, r := b.admit(t, Admission{Keys: testKeys(0, 100)})
		due := r.Due
		first, second := b.attach(t, due[0], 0).Batch, b.attach(t, due[1], 0).Batch
		share := func(want float64, when string) {
			t.Helper()
			if got := b.status(t).Share; !near(got, want) {
				t.Errorf("%s: the share is %v, not %v", when, got, want)
			}
		}
		r = b.settle(t, due[0], first, throttledFor(20, 2*time.Second))
		share(0.5, "throttled")
		if r.Batch.Wait != 2*time.Second || !b.status(t).Rest.Equal(b.clock.Add(2*time.Second)) {
			t.Errorf("the next call is in %v, rest until %v", r.Batch.Wait, b.status(t).Rest)
		}
		// The answer to a call that had its permit before: the rate is halved once.
		b.advance(1500 * time.Millisecond)
		again := b.settle(t, due[1], second, throttledFor(20, time.Second))
		share(0.5, "the same event")
		if again.Batch.Wait != time.Second {
			t.Errorf("the next call is in %v: the rest was to be longer", again.Batch.Wait)
		}
		if again.Batch.Keys[0].Attempts != 0 {
			t.Errorf("an attempt was counted: %+v", again.Batch.Keys[0])
		}
		// It comes back to a little below where it was, in three times the rest, stays about there and climbs slowly at first.
		b.advance(time.Second)
		for _, c := range []struct {
			after time.Duration
			share float64
		}{{0, 0.5}, {3 * time.Second, 0.735}, {6 * time.Second, 0.97}, {66 * time.Second, 0.97 * (1 + 0.03/8)}, {126 * time.Second, 0.97 * 1.03}, {1000 * time.Second, 1}} {
			began := *b.clock
			b.advance(c.after)
			share(c.share, c.after.String())
			one := b.settle(t, due[0], r.Batch, keep(20, 20, flow.NextCall))
			r = b.settle(t, due[0], one.Batch, keep(20, 20, flow.NextCall))
			if c.after > 3*time.Second {
				if got, want := r.Batch.Wait-one.Batch.Wait, time.Duration(float64(100*time.Millisecond)/c.share); (got - want).Abs() > 10*time.Microsecond {
					t.Errorf("after %v calls are %v apart, not %v", c.after, got, want)
				}
			}
			*b.clock = began
		}
		b.check(t)
	})
}

// The limit is lower than was thought: the rate comes back to well below where it was this time.
func TestThrottledBeforeTheRateHasComeBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Interval = 10 * time.Millisecond
		d, batch := b.start(t, 0, 20)
		batch = b.settle(t, d, batch, throttledFor(20, time.Second)).Batch
		b.advance(time.Second + 1500*time.Millisecond) // 0.735 of the rate
		batch = b.settle(t, d, batch, keep(20, 20, flow.NextCall)).Batch
		b.settle(t, d, batch, throttledFor(20, time.Second))
		if got := b.status(t).Share; !near(got, 0.735/2) {
			t.Errorf("after the second throttle: %v", got)
		}
		b.advance(4 * time.Second)
		if got := b.status(t).Share; !near(got, 0.9*0.735) {
			t.Errorf("when it has come back: %v", got)
		}
	})
}

// Where even the first call after a rest is refused, the rest was too short, and the rate says nothing.
func TestRestsGrowWhereTheFirstCallIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		asked time.Duration
		rests []time.Duration // seconds
	}{
		{"a second", time.Second, []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}},
		{"a minute", time.Minute, []time.Duration{60, 120, 240, 300, 300}},
		{"longer than rests grow", 20 * time.Minute, []time.Duration{1200, 1200}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, b *bundle) {
				b.params.Interval = 50 * time.Millisecond
				d, batch := b.start(t, 0, 20)
				retry := 0
				// A long rest is waited out without a run: the task comes back.
				rest := func(r *Reply) (*flow.Batch, time.Duration) {
					if r.Status == StatusBatch {
						b.advance(r.Batch.Wait)
						return r.Batch, r.Batch.Wait
					}
					if r.Status != StatusHeld || r.Rest <= 5*time.Second {
						t.Fatalf("%s, %v", r.Status, r.Rest)
					}
					b.advance(r.Rest)
					retry++
					return b.attach(t, d, retry).Batch, r.Rest
				}
				for i, want := range c.rests {
					var got time.Duration
					if batch, got = rest(b.settle(t, d, batch, throttledFor(20, c.asked))); got != want*time.Second {
						t.Fatalf("refusal %d: a rest of %v, and %v was to be", i+1, got, want*time.Second)
					}
				}
				if got := b.status(t).Share; !near(got, 0.5) {
					t.Errorf("share: %v", got)
				}
				// A call that passes makes the next refusal one of the rate again.
				batch = b.settle(t, d, batch, keep(20, 20, flow.NextCall)).Batch
				b.advance(batch.Wait)
				_, got := rest(b.settle(t, d, batch, throttledFor(20, c.asked)))
				if share := b.status(t).Share; share > 0.3 || got != c.asked {
					t.Errorf("share %v, a rest of %v", share, got)
				}
				b.check(t)
			})
		})
	}
}

// While the app has a long rest before it nobody takes a batch, and what is bound is waited out without a run.
func TestALongRestHoldsNoSlot(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Interval = 50 * time.Millisecond
		_, r := b.admit(t, Admission{Keys: testKeys(0, 120)})
		d1, d2, d3, d4 := r.Due[0], r.Due[1], r.Due[2], r.Due[3]
		one, two, three := b.attach(t, d1, 0).Batch, b.attach(t, d2, 0).Batch, b.attach(t, d3, 0).Batch
		o := throttledFor(20, time.Minute)
		o.Next = flow.NextHeld
		over := b.clock.Add(time.Minute)
		r = b.settle(t, d1, one, o)
		if r.Status != StatusHeld || r.Rest != time.Minute || !r.Next.Equal(over.Add(-time.Second)) {
			t.Fatalf("%+v", *r)
		}
		// A call that was under way ends well, a batch waits for its permit, a task is owed: none gets a new batch or permit.
		if r = b.settle(t, d2, two, recalled(20)); r.Status != StatusIdle {
			t.Errorf("after a call that passed: %s", r.Status)
		}
		at := flow.SlotRun{Slot: d3.Slot, Generation: d3.Generation, Run: three.Run}
		if _, ok, err := b.Permit(context.Background(), at, three.ID, 1); err != nil || ok {
			t.Errorf("a permit during the rest: %v, %v", ok, err)
		}
		if r = b.attach(t, d4, 0); r.Status != StatusIdle {
			t.Errorf("a task that was owed: %s", r.Status)
		}
		b.advance(30 * time.Second)
		if r = b.attach(t, d3, 1); r.Status != StatusHeld || r.Rest != 30*time.Second {
			t.Errorf("a run that is taken up too early: %s, %v", r.Status, r.Rest)
		}
		if r = b.wake(t); len(r.Due) != 0 || !r.Next.Equal(over.Add(-time.Second)) {
			t.Errorf("a wake during the rest: %+v", *r)
		}
		b.check(t)
		*b.clock = over
		if r = b.wake(t); len(r.Due) == 0 {
			t.Error("nobody goes on after the rest")
		}
		for _, d := range []flow.DueSlot{d1, d3} {
			if r = b.attach(t, d, 2); r.Status != StatusBatch {
				t.Errorf("after the rest: %s", r.Status)
			}
		}
		b.check(t)
	})
}

func TestShareHasAFloor(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Interval = 10 * time.Millisecond
		d, batch := b.start(t, 0, 20)
		for range 20 {
			batch = b.settle(t, d, batch, throttledFor(20, time.Second)).Batch
			b.advance(time.Second)
			batch = b.settle(t, d, batch, keep(20, 20, flow.NextCall)).Batch
		}
		if got := b.status(t).Share; !near(got, 0.05) {
			t.Errorf("share: %v", got)
		}
	})
}

func TestThrottleWithoutARate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 20)
		if r := b.settle(t, d, batch, throttledFor(20, 3*time.Second)); r.Batch.Wait != 3*time.Second {
			t.Errorf("the rest is not kept: %v", r.Batch.Wait)
		}
	})
}

func TestPaceThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1", "1 2 3 4 5 6", "a b c d e f g"} {
		if _, err := readPace(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// strictMeter counts as the simulator's does: in no second, wherever it begins, are more calls let through than are allowed; one too many
// costs a second.
type strictMeter struct {
	allowed int
	passed  []time.Duration
	until   time.Duration
}

func (m *strictMeter) take(t time.Duration) bool {
	if t < m.until {
		return false
	}
	if n := len(m.passed); n >= m.allowed && m.passed[n-m.allowed] > t-time.Second {
		m.until = t + time.Second
		return false
	}
	m.passed = append(m.passed, t)
	return true
}

// moment is a call that is made, or answered, at some time.
type moment struct {
	at     time.Duration
	slot   int
	answer bool
	passed bool
}

type agenda []moment

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at < a[j].at }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(moment)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

// limited runs calls of some slots on a clock of its own, against a service that allows less than is configured. It tells how many
// calls passed and were refused between two moments.
func (b *bundle) limited(t *testing.T, meter *strictMeter, slots int, from, to time.Duration) (passed, refused int) {
	t.Helper()
	began := *b.clock
	b.params.Slots, b.params.SlotsCap = slots, slots
	b.params.Linger = 0
	_, r := b.admit(t, Admission{Keys: testKeys(0, 20*slots)})
	batches := make([]*flow.Batch, slots)
	var todo agenda
	call := func(slot int, batch *flow.Batch) {
		batches[slot] = batch
		heap.Push(&todo, moment{at: b.clock.Sub(began) + batch.Wait, slot: slot})
	}
	due := r.Due
	for i := range due {
		call(i, b.attach(t, due[i], 0).Batch)
	}
	for len(todo) > 0 {
		m := heap.Pop(&todo).(moment)
		if m.at > to {
			break
		}
		if !m.answer {
			m.answer, m.passed = true, meter.take(m.at)
			if m.at >= from && m.passed {
				passed++
			} else if m.at >= from {
				refused++
			}
			m.at += 3 * time.Millisecond
			if m.passed {
				m.at += 27 * time.Millisecond
			}
			heap.Push(&todo, m)
			continue
		}
		*b.clock = began.Add(m.at.Truncate(time.Millisecond))
		o := keep(20, 20, flow.NextCall)
		o.Answered = true
		if !m.passed {
			o = throttledFor(20, time.Second)
		}
		call(m.slot, b.settle(t, due[m.slot], batches[m.slot], o).Batch)
	}
	return passed, refused
}

// Calls settle within a tenth of what the service allows, and hardly any are refused.
func TestRateSettlesAtWhatTheServiceAllows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ rate, allowed, slots int }{{10, 2, 2}, {20, 5, 2}, {20, 19, 3}, {40, 14, 4}} {
		t.Run(fmt.Sprintf("%d of %d", c.allowed, c.rate), func(t *testing.T) {
			t.Parallel()
			b := setup(t, redistest.Real(t))
			b.params.Interval = time.Duration(1.02 * float64(time.Second) / float64(c.rate))
			const from, to = 120 * time.Second, 240 * time.Second
			passed, refused := b.limited(t, &strictMeter{allowed: c.allowed}, c.slots, from, to)
			used := float64(passed) / (to - from).Seconds() / float64(c.allowed)
			share := float64(refused) / float64(passed+refused)
			t.Logf("%d of %d calls/s: %.3f of what is allowed, %.2f %% refused", c.allowed, c.rate, used, 100*share)
			if used < 0.9 || used > 1 || share > 0.02 {
				t.Errorf("%.3f of what is allowed, %.2f %% refused", used, 100*share)
			}
		})
	}
}

// A service that allows more again is found out.
func TestRaisedAllowanceIsFound(t *testing.T) {
	t.Parallel()
	b := setup(t, redistest.Real(t))
	b.params.Interval = 51 * time.Millisecond
	b.params.Slots = 2
	meter := &strictMeter{allowed: 5}
	b.limited(t, meter, 2, 0, 120*time.Second)
	began := *b.clock
	for {
		b.advance(time.Second)
		if b.status(t).Share >= 0.5 {
			break
		}
		if b.clock.Sub(began) > 3*time.Minute {
			t.Fatalf("3 minutes after the last refusal the share is %v", b.status(t).Share)
		}
	}
}
