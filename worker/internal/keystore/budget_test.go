package keystore

import (
	"context"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

// shanghai is the zone of these tests: UTC+8 all year.
var shanghai = time.FixedZone("Asia/Shanghai", 8*3600)

// turn is when this month began. The month before it is that of these tests: Redis expires by the real clock.
func turn() time.Time {
	from, _ := flow.Month(time.Now(), shanghai)
	return from
}

// turnAfter is when the month ends that turn begins.
func turnAfter() time.Time {
	_, turns := flow.Month(time.Now(), shanghai)
	return turns
}

// budgeted gives a bundle whose clock stands in the middle of a month of so many calls.
func (b *bundle) budgeted(calls, reserve int) *bundle {
	*b.clock = turn().Add(-10 * 24 * time.Hour)
	b.params.LedgerTTL = 100 * 24 * time.Hour
	b.params.Budget = Budget{Zone: shanghai, Calls: calls, Reserve: reserve}
	if err := b.Tell(context.Background(), Settings{Rate: 20, Slots: 4, Calls: calls, Reserve: reserve}); err != nil {
		panic(err)
	}
	return b
}

func (b *bundle) used(t tb) int {
	t.Helper()
	st := b.status(t)
	if st.Budget == nil {
		t.Fatal("no calls are counted")
	}
	return st.Budget.Used
}

func paid(n int) flow.Settlement {
	s := recalled(n)
	s.Metered = 1
	return s
}

// throttled is a call that the month does not count; its batch goes on.
func throttled(n int) flow.Settlement {
	return flow.Settlement{Outcomes: all(n, flow.Outcome{Fate: flow.FateKeep}), Next: flow.NextCall, Cut: n, Rest: time.Second}
}

// dueSlot gives a slot that a reply says is due.
func (b *bundle) dueSlot(t tb, r *Reply, slot int) flow.DueSlot {
	t.Helper()
	for _, d := range r.Due {
		if d.Slot == slot {
			return d
		}
	}
	t.Fatalf("slot %d is not due: %v", slot, r.Due)
	return flow.DueSlot{}
}

// nobodyCalls runs the tasks that were owed before, and sees that no new one is.
func (b *bundle) nobodyCalls(t tb) {
	t.Helper()
	for _, d := range b.wake(t).Due {
		if r := b.attach(t, d, 0); r.Status != StatusIdle {
			t.Fatalf("slot %d: %s", d.Slot, r.Status)
		}
	}
	if r := b.wake(t); len(r.Due) != 0 {
		t.Fatalf("woken: %v", r.Due)
	}
}

func TestBudgetEndsAndTheMonthTurns(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(2, 0)
		turns := turn()
		*b.clock = turns.Add(-time.Hour)
		d, batch := b.start(t, 0, 100)
		r := b.settle(t, d, batch, paid(20))
		if r.Status != StatusBatch || b.used(t) != 2 {
			t.Fatalf("%s, %d used", r.Status, b.used(t))
		}
		if r = b.settle(t, d, r.Batch, paid(20)); r.Status != StatusIdle || !r.Next.Equal(turns) {
			t.Fatalf("after the last call: %+v", *r)
		}
		st := b.status(t)
		if st.Hold == nil || st.Hold.Code != CodeBudgetSpent || !st.Hold.NextProbe.Equal(turns) || !st.Hold.Since.Equal(*b.clock) || st.Total.Waiting != 60 {
			t.Fatalf("%+v, %+v", st.Hold, st.Total)
		}
		b.advance(time.Hour - time.Millisecond)
		b.nobodyCalls(t)
		b.advance(time.Millisecond)
		if st = b.status(t); st.Hold != nil || st.Budget.Used != 0 {
			t.Errorf("at the turn, before any script: %+v, %+v", st.Hold, st.Budget)
		}
		if r = b.wake(t); len(r.Due) == 0 {
			t.Fatal("nobody is woken when the month turns")
		}
		d = r.Due[0]
		if r = b.attach(t, d, 0); r.Status != StatusBatch || b.used(t) != 1 {
			t.Errorf("in the new month: %s, %d used", r.Status, b.used(t))
		}
		if st = b.status(t); !st.Budget.Turns.Equal(turnAfter()) || !st.Budget.Spent.IsZero() {
			t.Errorf("%+v", st.Budget)
		}
		b.check(t)
	})
}

func TestReserveIsForUrgentKeys(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(3, 2)
		_, r := b.admit(t, Admission{Keys: testKeys(0, 100), Class: flow.Bulk})
		d, batch := b.attachFirst(t, r)
		r = b.settle(t, d, batch, paid(20))
		if h := b.status(t).Hold; r.Status != StatusIdle || r.Next.IsZero() || h.Code != CodeBudgetReserved || !h.Since.Equal(*b.clock) {
			t.Fatalf("after the last call that is not urgent: %+v, %+v", *r, b.status(t).Hold)
		}
		b.nobodyCalls(t)
		_, r = b.admit(t, Admission{Keys: testKeys(1000, 30), Class: flow.Urgent})
		if len(r.Due) == 0 || b.status(t).Hold != nil {
			t.Fatalf("urgent keys: %+v, %+v", *r, b.status(t).Hold)
		}
		d = r.Due[0]
		if r = b.attach(t, d, 0); r.Status != StatusBatch || len(r.Batch.Keys) != 20 || r.Batch.Keys[19].Class != flow.Urgent {
			t.Fatalf("%+v", *r)
		}
		// The last urgent call is filled up with others: it costs no more.
		if r = b.settle(t, d, r.Batch, paid(20)); r.Status != StatusBatch || len(r.Batch.Keys) != 20 || r.Batch.Keys[10].Class == flow.Urgent {
			t.Fatalf("%+v", *r)
		}
		b.settle(t, d, r.Batch, paid(20))
		b.admit(t, Admission{Keys: testKeys(2000, 30), Class: flow.Urgent})
		b.nobodyCalls(t)
		if st := b.status(t); st.Hold.Code != CodeBudgetSpent || st.Budget.Used != 3 {
			t.Errorf("beyond the limit: %+v, %+v", st.Hold, st.Budget)
		}
		b.check(t)
	})
}

// TestWhatIsCounted: a call counts from its permit on, and no longer when it was not made or the service does not count it.
func TestWhatIsCounted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(0, 0) // there is no limit yet, and calls are counted all the same
		want := func(what string, n int) {
			t.Helper()
			if got := b.used(t); got != n {
				t.Fatalf("%s: %d calls are counted, want %d", what, got, n)
			}
		}
		d, batch := b.start(t, 0, 400)
		want("a permit", 1)
		at := flow.SlotRun{Slot: d.Slot, Generation: d.Generation, Run: batch.Run}
		for range 3 {
			if _, ok, err := b.Permit(context.Background(), at, batch.ID, 1); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		want("permits that were missed", 1)
		for range 2 { // its reply was lost, and it is sent again
			if _, ok, err := b.Permit(context.Background(), at, batch.ID, 2); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		want("a second call of the batch", 2)
		s := paid(20)
		s.Metered = 2
		r := b.settle(t, d, batch, s)
		want("both were made, and the next permit", 3)
		b.unchanged(t, "a settlement that is sent again", func() *Reply { return b.settle(t, d, batch, s) })
		r = b.settle(t, d, r.Batch, throttled(20))
		want("a throttled call, and its next permit", 3)
		hold := keep(20, 20, flow.NextHeld)
		r2 := b.settle(t, d, r.Batch, hold) // it never arrived
		want("a call that never arrived, and no permit", 2)
		if r2.Status != StatusHeld {
			t.Fatalf("%+v", *r2)
		}
		b.attach(t, d, 1)
		want("taken up again", 3)
		r = b.attach(t, d, 2)
		want("its worker died, perhaps in the call", 4)
		at.Run = r.Batch.Run
		r, err := b.GiveUp(context.Background(), at, 0)
		if err != nil {
			t.Fatal(err)
		}
		want("given up before the call", 3)
		d = b.dueSlot(t, r, d.Slot)
		r = b.attach(t, d, 0)
		want("and taken up", 4)
		b.takeover(t, d, r.Batch.Run)
		want("taken from a worker that is gone", 4)
		b.check(t)
	})
}

// TestRestOfABatchAtTheLimit: what stays bound, or was left bound, is not called once the calls are spent.
func TestRestOfABatchAtTheLimit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(2, 0)
		d, batch := b.start(t, 0, 60)
		_, r := b.admit(t, Admission{Keys: testKeys(900, 1)})
		other := r.Due[0]
		two := b.attach(t, other, 0).Batch
		half := keep(20, 10, flow.NextCall)
		half.Metered = 1
		if r = b.settle(t, d, batch, half); r.Status != StatusIdle {
			t.Errorf("the half of a batch: %+v", *r)
		}
		at := flow.SlotRun{Slot: other.Slot, Generation: other.Generation, Run: two.Run}
		if _, ok, err := b.Permit(context.Background(), at, two.ID, 2); ok || err != nil {
			t.Errorf("a second call: %v, %v", ok, err)
		}
		if r = b.attach(t, other, 1); r.Status != StatusIdle {
			t.Errorf("a batch that was left: %+v", *r)
		}
		if st := b.status(t); st.Total.Waiting != 61 || st.Budget.Used != 2 {
			t.Errorf("%+v, %+v", st.Total, st.Budget)
		}
		b.check(t)
	})
}

// TestCompanyAndTheReserve: keys join a call for as long as the month's calls are there for their class; and what is kept for urgent keys
// is for no search among others.
func TestCompanyAndTheReserve(t *testing.T) {
	t.Parallel()
	const reserve = 5
	for name, c := range map[string]struct {
		left            int // calls before the reserve, the first one included
		bound           flow.Class
		urgent, others  int // that wait when the call fails
		fresh           int // that join the next one
		status          Status
		used, stillWait int
	}{
		"all may":                   {left: 3, bound: flow.Urgent, urgent: 5, others: 30, fresh: 15, status: StatusBatch, used: 2, stillWait: 20},
		"urgent ones may":           {left: 1, bound: flow.Urgent, urgent: 5, others: 30, fresh: 5, status: StatusBatch, used: 2, stillWait: 30},
		"none waits that may":       {left: 1, bound: flow.Urgent, others: 30, status: StatusBatch, used: 2, stillWait: 30},
		"a search among others":     {left: 1, bound: flow.Bulk, others: 30, status: StatusIdle, used: 1, stillWait: 35},
		"urgent ones take it along": {left: 1, bound: flow.Bulk, urgent: 5, others: 30, fresh: 5, status: StatusBatch, used: 2, stillWait: 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, b *bundle) {
				b.budgeted(c.left+reserve, reserve)
				b.params.Slots, b.params.SlotsCap = 1, 1
				b.admit(t, Admission{Keys: testKeys(0, 20), Class: c.bound})
				slot, batch := b.next(t)
				if c.urgent > 0 {
					b.admit(t, Admission{Keys: testKeys(100, c.urgent), Class: flow.Urgent})
				}
				b.admit(t, Admission{Keys: testKeys(200, c.others), Class: flow.Bulk})
				o := paid(20)
				for i := range 5 {
					o.Outcomes[i].Fate = flow.FateKeep
				}
				o.Next, o.Cut, o.Fill = flow.NextCall, 2, 18
				r := b.settle(t, slot, batch, o)
				if r.Status != c.status {
					t.Fatalf("%s", r.Status)
				}
				if r.Status == StatusBatch && (len(r.Batch.Keys) != c.fresh+5 || r.Batch.Cut != c.fresh+2) {
					t.Errorf("%d keys, %d of them called", len(r.Batch.Keys), r.Batch.Cut)
				}
				if st := b.status(t); st.Budget.Used != c.used || st.Total.Waiting != int64(c.stillWait) {
					t.Errorf("%d calls used, %d keys wait", st.Budget.Used, st.Total.Waiting)
				}
				b.check(t)
			})
		})
	}
}

func TestReleaseLiftsTheLimitUntilTheMonthTurns(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(1, 0)
		d, batch := b.start(t, 0, 100)
		b.settle(t, d, batch, paid(20))
		b.nobodyCalls(t)
		budget := b.params.Budget
		b.params.Budget = Budget{} // as whoever releases has it
		released, r, err := b.Release(context.Background(), "")
		b.params.Budget = budget
		if err != nil || !released || len(r.Due) == 0 || b.status(t).Hold != nil {
			t.Fatalf("%+v, %v, %+v", *r, err, b.status(t).Hold)
		}
		d = r.Due[0]
		r = b.attach(t, d, 0)
		for range 3 {
			if r.Status != StatusBatch {
				t.Fatalf("after the release: %+v", *r)
			}
			r = b.settle(t, d, r.Batch, paid(20))
		}
		if st := b.status(t); st.Budget.Used != 5 && st.Budget.Used != 4 || !st.Budget.Lifted {
			t.Errorf("%+v", st.Budget)
		}
		*b.clock = turn().Add(time.Hour)
		_, r = b.admit(t, Admission{Keys: testKeys(500, 100)})
		d = r.Due[0]
		r = b.attach(t, d, 0)
		for r.Status == StatusDue {
			d = r.Due[0]
			r = b.attach(t, d, 0)
		}
		if r.Status != StatusBatch {
			t.Fatalf("%+v", *r)
		}
		if r = b.settle(t, d, r.Batch, paid(20)); r.Status != StatusIdle || b.status(t).Hold == nil {
			t.Errorf("the limit of the next month: %s, %+v", r.Status, b.status(t).Budget)
		}
		b.check(t)
	})
}

// TestAReleaseOfAnotherHoldLiftsNothing: the budget has calls left, so an operator who releases a hold does not mean it.
func TestAReleaseOfAnotherHoldLiftsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(5, 0)
		d, batch := b.start(t, 0, 40)
		b.settle(t, d, batch, heldFor(20, time.Hour))
		if _, _, err := b.Release(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
		if st := b.status(t); st.Budget.Lifted {
			t.Errorf("%+v", st.Budget)
		}
	})
}

// TestALimitThatChanges: it holds from the next script on, in both directions.
func TestALimitThatChanges(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(0, 0)
		d, batch := b.start(t, 0, 100)
		r := b.settle(t, d, batch, paid(20))
		b.params.Budget.Calls = 2
		if r = b.settle(t, d, r.Batch, paid(20)); r.Status != StatusIdle {
			t.Errorf("a limit that came to be known: %+v", *r)
		}
		b.params.Budget.Calls = 3
		if r = b.wake(t); len(r.Due) == 0 {
			t.Errorf("a limit that was raised: %+v", *r)
		}
	})
}

// TestMonthsOfWorkers: workers whose clocks or zones are wrong begin no month, or at least not twice.
func TestMonthsOfWorkers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(100, 0)
		d, batch := b.start(t, 0, 400)
		b.settle(t, d, batch, paid(20)) // 2 are counted
		arg := func(zone *time.Location, at time.Time) string { return Budget{Zone: zone, Calls: 100}.arg(at) }
		run := func(budget string) {
			t.Helper()
			args := b.scriptArgs()
			args[9] = budget
			if err := wakeScript.Run(context.Background(), b.rdb, []string{name(b.app, "meta")}, args...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		for name, off := range map[string]time.Duration{"a month ahead": 31 * 24 * time.Hour, "a month behind": -31 * 24 * time.Hour, "years behind": -50000 * time.Hour} {
			if run(arg(shanghai, b.clock.Add(off))); b.used(t) != 2 {
				t.Errorf("a clock that is %s began a month", name)
			}
		}
		utc, kiritimati := time.UTC, time.FixedZone("Pacific/Kiritimati", 14*3600)
		// The month turns in Kiritimati first: the first worker to say so begins the month, and no other does again.
		for i, step := range []struct {
			at   time.Time
			want int
		}{
			{turn().Add(-6*time.Hour - time.Second), 2},
			{turn().Add(-4 * time.Hour), 0},
			{turn().Add(time.Hour), 1},
			{turn().Add(9 * time.Hour), 2},
		} {
			*b.clock = step.at
			b.admit(t, Admission{Keys: testKeys(1000+1000*i, 20)})
			for range 3 {
				for _, zone := range []*time.Location{kiritimati, shanghai, utc} {
					run(arg(zone, step.at))
				}
			}
			if got := b.used(t); got != step.want {
				t.Errorf("at %v %d are counted, want %d", step.at, got, step.want)
			}
			if err := b.rdb.HIncrBy(context.Background(), name(b.app, "meta"), "used", 1).Err(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestPermitOfTheNextMonth: a permit is given ahead of its moment, and counts in the month of that.
func TestPermitOfTheNextMonth(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(2, 0)
		b.params.Interval = 10 * time.Second
		*b.clock = turn().Add(-5 * time.Second)
		_, r := b.admit(t, Admission{Keys: testKeys(0, 200)})
		one, two := r.Due[0], r.Due[1]
		first, second := b.attach(t, one, 0).Batch, b.attach(t, two, 0).Batch
		if first.Wait != 0 || second.Wait != 10*time.Second || b.used(t) != 1 {
			t.Fatalf("permits in %v and %v, %d are counted", first.Wait, second.Wait, b.used(t))
		}
		third := b.settle(t, one, first, throttled(20)) // of the old month: takes nothing off the new one
		if third.Status != StatusBatch || b.used(t) != 2 {
			t.Fatalf("%+v, %d are counted", *third, b.used(t))
		}
		b.advance(30 * time.Second)
		if r = b.settle(t, two, second, paid(20)); r.Status != StatusIdle || b.used(t) != 2 {
			t.Errorf("%s, %d are counted", r.Status, b.used(t))
		}
		if got := b.status(t).Budget.Turns; !got.Equal(turnAfter()) {
			t.Errorf("the month turns at %v", got)
		}
	})
}

// A call without a batch counts as well, and leaves what is kept for urgent keys alone.
func TestCallsWithoutABatchAreCounted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(3, 1)
		for i, wantHeld := range []bool{false, false, true, true} {
			_, held, err := b.Spend(context.Background(), 0)
			if err != nil || held != wantHeld || b.used(t) != min(i+1, 2) {
				t.Errorf("call %d: held %v, %v, %d counted", i+1, held, err, b.used(t))
			}
		}
		b.check(t)
	})
}

// A call without a batch that was throttled is taken off with the next one: the service does not count it.
func TestThrottledCallsWithoutABatchAreNotCounted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(2, 0)
		for i, rest := range []time.Duration{0, time.Second, time.Second, 0} {
			if _, held, err := b.Spend(context.Background(), rest); err != nil || held || b.used(t) != 1+i/3 {
				t.Errorf("call %d: held %v, %v, %d counted", i+1, held, err, b.used(t))
			}
		}
		b.check(t)
	})
}
