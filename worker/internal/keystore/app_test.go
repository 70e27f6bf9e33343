package keystore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

func heldFor(n int, probe time.Duration) flow.Settlement {
	return flow.Settlement{Outcomes: all(n, flow.Outcome{Fate: flow.FateWait}), Next: flow.NextClaim,
		Hold: &flow.Hold{Reason: flow.Reason{Code: "IpNotInWhiteList", Message: "words"}, Probe: probe}}
}

func TestHold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		_, r := b.admit(t, Admission{Keys: testKeys(0, 100)})
		if len(r.Due) != 4 {
			t.Fatalf("due: %v", r.Due)
		}
		d1, d2, d3 := r.Due[0], r.Due[1], r.Due[2]
		one, two, three := b.attach(t, d1, 0).Batch, b.attach(t, d2, 0).Batch, b.attach(t, d3, 0).Batch
		began := *b.clock
		r = b.settle(t, d1, one, heldFor(20, time.Minute))
		if r.Status != StatusIdle || !r.Next.Equal(began.Add(time.Minute)) {
			t.Fatalf("held: %+v", *r)
		}
		b.advance(time.Second)
		if r = b.settle(t, d2, two, heldFor(20, time.Minute)); r.Status != StatusIdle || !r.Next.Equal(began.Add(time.Minute)) {
			t.Errorf("a call that was under way changed the hold: %+v", *r)
		}
		// A task that is owed already, a run that is taken up again, a wake: nobody claims.
		if r = b.attach(t, d3, 1); r.Status != StatusIdle {
			t.Errorf("a run that is taken up again: %s", r.Status)
		}
		for _, d := range b.wake(t).Due {
			if r = b.attach(t, d, 0); r.Status != StatusIdle {
				t.Errorf("a task that was owed: %s", r.Status)
			}
		}
		if r = b.unchanged(t, "the late result of a run that was taken up again", func() *Reply { return b.settle(t, d3, three, recalled(20)) }); r.Status != StatusStale {
			t.Errorf("late: %s", r.Status)
		}
		st := b.status(t)
		if st.Hold == nil || st.Hold.Code != "IpNotInWhiteList" || st.Hold.Message != "words" || !st.Hold.Since.Equal(began) || !st.Hold.NextProbe.Equal(began.Add(time.Minute)) {
			t.Fatalf("hold: %+v", st.Hold)
		}
		if st.Total.Waiting != 100 || st.Slots != 0 {
			t.Errorf("%+v", st)
		}
		b.check(t)
		b.probes(t)
	})
}

// probes goes on with an app that is held, has its next probe in a minute or less, and 100 keys that wait.
func (b *bundle) probes(t *testing.T) {
	t.Helper()
	var d flow.DueSlot
	// One probe at a time; each that fails doubles the time until the next, up to half an hour.
	for _, every := range []time.Duration{2, 4, 8, 16, 30, 30} {
		*b.clock = b.status(t).Hold.NextProbe
		r := b.wake(t)
		if len(r.Due) != 1 {
			t.Fatalf("probes that are due: %v", r.Due)
		}
		d = r.Due[0]
		r = b.attach(t, d, 0)
		if r.Status != StatusBatch {
			t.Fatalf("probe: %+v", *r)
		}
		if more := b.wake(t); len(more.Due) != 0 {
			t.Errorf("a second probe: %v", more.Due)
		}
		if r = b.settle(t, d, r.Batch, heldFor(20, time.Minute)); r.Status != StatusIdle {
			t.Errorf("after a probe: %s", r.Status)
		}
		if got := b.status(t).Hold.NextProbe.Sub(*b.clock); got != every*time.Minute {
			t.Errorf("the next probe is in %v, and is to be in %d minutes", got, every)
		}
		b.check(t)
	}
	// The worker of a probe dies: its batch waits with the others for the next probe.
	*b.clock = b.status(t).Hold.NextProbe
	d = b.wake(t).Due[0]
	if r := b.attach(t, d, 0); r.Status != StatusBatch {
		t.Fatalf("probe: %+v", *r)
	}
	if r := b.attach(t, d, 1); r.Status != StatusIdle || b.status(t).Total.Waiting != 100 {
		t.Errorf("after the death of a probe's worker: %s, %+v", r.Status, b.status(t).Total)
	}
	// A probe that is answered ends the hold, and all slots go on.
	*b.clock = b.status(t).Hold.NextProbe
	d = b.wake(t).Due[0]
	r := b.attach(t, d, 0)
	if r = b.settle(t, d, r.Batch, recalled(20)); r.Status != StatusBatch || len(r.Due) != 3 {
		t.Errorf("after a good probe: %+v", *r)
	}
	if st := b.status(t); st.Hold != nil {
		t.Errorf("still held: %+v", st.Hold)
	}
	b.check(t)
}

// A batch that waits out a backoff is the probe, where its time comes when a probe may go.
func TestABatchThatIsTakenUpAgainIsAProbe(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		_, r := b.admit(t, Admission{Keys: testKeys(0, 80)})
		d1, d2 := r.Due[0], r.Due[1]
		one, two := b.attach(t, d1, 0).Batch, b.attach(t, d2, 0).Batch
		b.settle(t, d1, one, keep(20, 20, flow.NextHeld))
		b.settle(t, d2, two, heldFor(20, time.Minute))
		b.advance(time.Minute)
		r = b.attach(t, d1, 1)
		if r.Status != StatusBatch || !b.status(t).Hold.NextProbe.Equal(b.clock.Add(time.Minute)) {
			t.Fatalf("%+v, %+v", *r, b.status(t).Hold)
		}
		for _, d := range b.wake(t).Due {
			if got := b.attach(t, d, 0); got.Status != StatusIdle {
				t.Errorf("a second probe: %+v", *got)
			}
		}
		b.settle(t, d1, r.Batch, heldFor(20, time.Minute))
		if got := b.status(t).Hold.NextProbe.Sub(*b.clock); got != 2*time.Minute {
			t.Errorf("after a probe that failed the next is in %v", got)
		}
		b.check(t)
	})
}

func TestReleaseByAnOperator(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 40)
		b.settle(t, d, batch, heldFor(20, 24*time.Hour))
		was, r, err := b.Release(context.Background(), "")
		if err != nil || !was || len(r.Due) != 2 || b.status(t).Hold != nil {
			t.Fatalf("%+v %v", *r, err)
		}
		if was, _, err = b.Release(context.Background(), ""); was || err != nil {
			t.Errorf("released again: %v, %v", was, err)
		}
		b.check(t)
	})
}

// A budget that is spent holds the app for up to a month.
func TestLongHold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		const month = 20 * 24 * time.Hour
		probe := func() (flow.DueSlot, *flow.Batch) {
			*b.clock = b.status(t).Hold.NextProbe
			b.admit(t, Admission{Keys: testKeys(int(b.clock.Unix()%1e6)*100, 20)})
			d := b.wake(t).Due[0]
			r := b.attach(t, d, 0)
			for ; r.Status == StatusDue; r = b.attach(t, d, 0) {
				d = r.Due[0]
			}
			if r.Status != StatusBatch {
				t.Fatalf("probe: %+v", *r)
			}
			return d, r.Batch
		}
		d, batch := b.start(t, 0, 20)
		b.settle(t, d, batch, heldFor(20, time.Minute))
		d, batch = probe()
		b.settle(t, d, batch, heldFor(20, month)) // the answer to a probe says for how long
		if got := b.status(t).Hold.NextProbe.Sub(*b.clock); got != month {
			t.Errorf("the next probe is in %v", got)
		}
		b.advance(25 * time.Hour)
		b.wake(t) // windows close meanwhile
		if got := b.status(t).Total; got.Dead != 40 {
			t.Errorf("windows that closed: %+v", got)
		}
		d, _ = probe()
		b.attach(t, d, 1) // its worker died: the next one goes as soon as any
		if got := b.status(t).Hold.NextProbe.Sub(*b.clock); got != b.params.ProbeMax {
			t.Errorf("after a probe that was lost, the next is in %v", got)
		}
		b.check(t)
	})
}

func TestSweepWhileHeld(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Letter = 200
		d, batch := b.start(t, 0, 20)
		b.admit(t, Admission{Keys: testKeys(100, 1500), Class: flow.Bulk})
		b.settle(t, d, batch, heldFor(20, 100*24*time.Hour))
		b.advance(25 * time.Hour)
		rounds := 0
		for r := b.wake(t); b.status(t).Total.Dead < 1520; r = b.wake(t) {
			if rounds++; rounds > 3 || r.Next.After(*b.clock) {
				t.Fatalf("after %d sweeps %d are dead, next look in %v", rounds, b.status(t).Total.Dead, r.Next.Sub(*b.clock))
			}
		}
		if st := b.status(t); st.Hold == nil || st.Total.Waiting != 0 {
			t.Errorf("%+v", st)
		}
		b.check(t)
	})
}

func TestPermitsKeepTheRate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Interval = 50 * time.Millisecond
		b.params.Slots = 4
		_, r := b.admit(t, Admission{Keys: testKeys(0, 400)})
		began := *b.clock
		var moments []time.Duration
		take := func(r *Reply) { moments = append(moments, b.clock.Sub(began)+r.Batch.Wait) }
		due := r.Due
		batches := map[int]*flow.Batch{}
		for _, d := range due {
			r = b.attach(t, d, 0)
			take(r)
			batches[d.Slot] = r.Batch
		}
		for range 3 {
			for _, d := range due {
				r = b.settle(t, d, batches[d.Slot], recalled(20))
				take(r)
				batches[d.Slot] = r.Batch
			}
			b.advance(7 * time.Millisecond)
		}
		// A permit of its own for whoever missed one, or goes on with kept keys, or takes a batch up.
		d := due[0]
		wait, ok, err := b.permitIn(d, batches[d.Slot])
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		moments = append(moments, b.clock.Sub(began)+wait)
		r = b.settle(t, d, batches[d.Slot], keep(20, 10, flow.NextCall))
		take(r)
		r = b.attach(t, d, 1)
		take(r)
		for i, at := range moments {
			if want := time.Duration(i) * 50 * time.Millisecond; at != want {
				t.Errorf("permit %d is for %v, not %v: %v", i, at, want, moments)
			}
		}
		// After a pause there is no burst.
		b.advance(time.Hour)
		first := b.settle(t, d, r.Batch, recalled(20))
		second := b.settle(t, d, first.Batch, recalled(20))
		if first.Batch.Wait != 0 || second.Batch.Wait != 50*time.Millisecond {
			t.Errorf("after a pause: %v and %v", first.Batch.Wait, second.Batch.Wait)
		}
	})
}

// permitIn takes another permit and tells how far away it is by the test's clock.
func (b *bundle) permitIn(d flow.DueSlot, batch *flow.Batch) (time.Duration, bool, error) {
	_, ok, err := b.Permit(context.Background(), flow.SlotRun{Slot: d.Slot, Generation: d.Generation, Run: batch.Run}, batch.ID, 1)
	if err != nil || !ok {
		return 0, ok, err
	}
	us, err := b.rdb.HGet(context.Background(), name(b.app, "slot", d.Slot), "at").Int64()
	return time.UnixMicro(us).Sub(*b.clock), true, err
}

func TestDeadRobot(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots, b.params.Letter = 1, 200
		d, batch := b.start(t, 0, 70)
		b.admit(t, Admission{Keys: testKeys(100, 3), Class: flow.Bulk}) // lingering
		b.admit(t, Admission{RobotCode: "ding-other", Keys: testKeys(0, 30)})
		o := flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateDead, Code: "invalidParameter.robotCode", Message: "no such"}), Counted: true,
			RequestID: "req-9", Next: flow.NextClaim, DeadRobot: &flow.Reason{Code: "invalidParameter.robotCode", Message: "no such"}}
		r := b.settle(t, d, batch, o)
		if r.Status != StatusBatch || r.Batch.RobotCode != "ding-other" {
			t.Fatalf("%+v", *r)
		}
		b.settle(t, d, r.Batch, recalled(20))
		b.claimAll(t)
		for _, g := range b.status(t).Groups {
			want := Counts{Accepted: 73, Dead: 73}
			if g.RobotCode == "ding-other" {
				want = Counts{Accepted: 30, Recalled: 20, Bound: 10}
			}
			if g.Counts != want {
				t.Errorf("%s: %+v", g.RobotCode, g.Counts)
			}
		}
		n := 0
		for _, l := range b.letters(t) {
			n += len(l.Keys)
			if l.RobotCode != robot || l.Reason != *o.DeadRobot || l.RequestID != "req-9" {
				t.Errorf("%+v", l)
			}
		}
		if n != 73 {
			t.Errorf("%d keys have letters", n)
		}
		b.check(t)
	})
}

// The robot is mended: what comes afterwards is called, replayed keys as well as new ones.
func TestDeadRobotThatWasMended(t *testing.T) {
	t.Parallel()
	for how, sweep := range map[string]func(t *testing.T, b *bundle){
		"its last keys were claimed": func(t *testing.T, b *bundle) { b.claimAll(t) },
		"its last keys were swept": func(t *testing.T, b *bundle) {
			b.advance(25 * time.Hour)
			b.wake(t)
		},
	} {
		for _, waiting := range []int{0, 30} {
			t.Run(fmt.Sprintf("%s, %d", how, waiting), func(t *testing.T) {
				t.Parallel()
				each(t, func(t *testing.T, b *bundle) {
					b.params.Slots = 1
					d, batch := b.start(t, 0, 20)
					if waiting > 0 {
						b.admit(t, Admission{Keys: testKeys(100, waiting)})
					}
					b.settle(t, d, batch, flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateDead, Code: "c", Message: "m"}), Next: flow.NextYield,
						DeadRobot: &flow.Reason{Code: "c", Message: "m"}})
					sweep(t, b)
					b.claimAll(t)
					if got := b.status(t).Total; got.Dead != int64(20+waiting) {
						t.Fatalf("%+v", got)
					}
					b.admit(t, Admission{Keys: testKeys(500, 20)})
					if got := b.claimAll(t); len(keysOf(got)) != 20 {
						t.Errorf("after it was mended %d keys were called: %+v", len(keysOf(got)), b.status(t).Total)
					}
					b.check(t)
				})
			})
		}
	}
}
