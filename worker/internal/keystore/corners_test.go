package keystore

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
)

// Corners of the scripts that no other test came to: each of these was written when a mutant survived (see docs/mutations.md).

// TestEveryScriptLooksForKeysWhoseLaterHasCome: also one that finds itself stale or refused wakes a slot for them, and says so.
func TestEveryScriptLooksForKeysWhoseLaterHasCome(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	settle := func(generation, run, batch int64, next flow.Next) func(*testing.T, *bundle, flow.DueSlot, *flow.Batch) *Reply {
		return func(t *testing.T, b *bundle, d flow.DueSlot, of *flow.Batch) *Reply {
			r, err := b.Settle(ctx, flow.SlotRun{Slot: d.Slot, Generation: d.Generation + generation, Run: of.Run + run}, of.ID+batch, keep(20, 20, next))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	attach := func(generation int64, retry int) func(*testing.T, *bundle, flow.DueSlot, *flow.Batch) *Reply {
		return func(t *testing.T, b *bundle, d flow.DueSlot, _ *flow.Batch) *Reply {
			d.Generation += generation
			return b.attach(t, d, retry)
		}
	}
	takeover := func(generation, run int64) func(*testing.T, *bundle, flow.DueSlot, *flow.Batch) *Reply {
		return func(t *testing.T, b *bundle, d flow.DueSlot, of *flow.Batch) *Reply {
			d.Generation += generation
			return b.takeover(t, d, of.Run+run)
		}
	}
	cancel := func(incident string) func(*testing.T, *bundle, flow.DueSlot, *flow.Batch) *Reply {
		return func(t *testing.T, b *bundle, _ flow.DueSlot, _ *flow.Batch) *Reply {
			_, r, err := b.Cancel(ctx, incident)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	for _, c := range []struct {
		name string
		do   func(*testing.T, *bundle, flow.DueSlot, *flow.Batch) *Reply
		want Status
	}{
		{"attach, stale", attach(1, 1), StatusStale},
		{"attach, refused", attach(0, 0), StatusRefused},
		{"attach", attach(0, 2), StatusBatch},
		{"settle, stale", settle(1, 0, 0, flow.NextHeld), StatusStale},
		{"settle, refused", settle(0, 1, 0, flow.NextHeld), StatusRefused},
		{"settle, another batch", settle(0, 0, 1, flow.NextHeld), StatusBatch},
		{"settle, held", settle(0, 0, 0, flow.NextHeld), StatusHeld},
		{"settle, call", settle(0, 0, 0, flow.NextCall), StatusBatch},
		{"settle, yield", settle(0, 0, 0, flow.NextYield), StatusDue},
		{"takeover, stale", takeover(1, 0), StatusStale},
		{"takeover, refused", takeover(0, 1), StatusRefused},
		{"takeover", takeover(0, 0), StatusDue},
		{"cancel, unknown", cancel("unheard of"), StatusIdle},
		{"cancel", cancel("flood"), StatusOK},
		{"wake", func(t *testing.T, b *bundle, _ flow.DueSlot, _ *flow.Batch) *Reply { return b.wake(t) }, StatusOK},
		{"admit", func(t *testing.T, b *bundle, _ flow.DueSlot, _ *flow.Batch) *Reply {
			_, r := b.admit(t, Admission{Keys: testKeys(1, 1)}) // which is known
			return r
		}, StatusOK},
		{"release", func(t *testing.T, b *bundle, _ flow.DueSlot, _ *flow.Batch) *Reply {
			_, r, err := b.Release(ctx, "")
			if err != nil {
				t.Fatal(err)
			}
			return r
		}, StatusIdle},
		{"verify", func(t *testing.T, b *bundle, _ flow.DueSlot, _ *flow.Batch) *Reply {
			r, _, err := b.verify(ctx, flow.Target{RobotCode: robot}, "req", nil)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}, StatusOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, b *bundle) {
				d, batch := b.start(t, 0, 20)
				o := recalled(20)
				o.Outcomes[0] = flow.Outcome{Fate: flow.FateLater, Delay: time.Second}
				if r := b.settle(t, d, batch, o); r.Status != StatusIdle {
					t.Fatalf("%+v", *r)
				}
				_, r := b.admit(t, Admission{RobotCode: "ding-b", Keys: testKeys(100, 20), Incident: "flood"})
				d = r.Due[0]
				batch = b.attach(t, d, 1).Batch
				b.advance(time.Second)
				r = c.do(t, b, d, batch)
				if r.Status != c.want {
					t.Fatalf("%+v", *r)
				}
				// A slot that became due itself is woken enough.
				if !slices.ContainsFunc(r.Due, func(x flow.DueSlot) bool { return x.Slot != d.Slot || r.Status == StatusDue }) {
					t.Errorf("nobody is woken: %v", r.Due)
				}
				if st := b.status(t); st.Later != 0 {
					t.Errorf("%d keys wait for later", st.Later)
				}
				b.check(t)
			})
		})
	}
}

// TestCancelWaitsForNoLinger: keys that linger end at once, those of other incidents linger on.
func TestCancelWaitsForNoLinger(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		for i, code := range []string{"ding-a", "ding-b", "ding-c"} {
			b.admit(t, Admission{RobotCode: code, Keys: testKeys(10*i, 3), Class: flow.Default, Incident: "storm"})
		}
		b.advance(100 * time.Millisecond)
		b.admit(t, Admission{RobotCode: "ding-d", Keys: testKeys(100, 3), Class: flow.Default, Incident: "flood"})
		over := b.clock.Add(time.Second)
		_, r, err := b.Cancel(context.Background(), "storm")
		if err != nil || len(r.Due) != 3 {
			t.Fatalf("%+v, %v", *r, err)
		}
		if r = b.attach(t, r.Due[0], 0); r.Status != StatusIdle || !r.Next.Equal(over) {
			t.Errorf("%s, next %v", r.Status, r.Next)
		}
		if got := b.status(t).Total; got.Cancelled != 9 || got.Waiting != 3 {
			t.Errorf("%+v", got)
		}
		b.check(t)
	})
}

// TestLookupOfAKeyThatCameAgain: of a key that was accepted again, days after it was recalled, there is one record, the latest.
func TestLookupOfAKeyThatCameAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 1)
		b.settle(t, d, batch, recalled(1))
		b.advance(4 * 24 * time.Hour)
		if n, _ := b.admit(t, Admission{Keys: testKeys(0, 1)}); n.Accepted != 1 {
			t.Fatalf("%+v", n)
		}
		for _, target := range []string{"", robot} {
			recs, err := b.Lookup(context.Background(), target, testKeys(0, 1))
			if err != nil || len(recs) != 1 || recs[0].State != flow.Waiting {
				t.Errorf("under %q: %+v, %v", target, recs, err)
			}
		}
	})
}

func TestAPermitTellsItsMoment(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		d, batch := b.start(t, 0, 20)
		at := flow.SlotRun{Slot: d.Slot, Generation: d.Generation, Run: batch.Run}
		if p, ok, err := b.Permit(ctx, at, batch.ID, 1); !ok || err != nil || !p.From.Equal(p.Given) {
			t.Errorf("without a rate: in %v, %v, %v", p.From.Sub(p.Given), ok, err)
		}
		r, err := b.step(ctx, "permit", permitScript, d.Slot, d.Generation, batch.Run, batch.ID, 70_000, 1)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.ints(1); err != nil || n[0] != 70_000 {
			t.Errorf("for a reply that takes 70 ms: %v, %v", n, err)
		}
		if r, err = b.step(ctx, "spend", spendScript, 0, 70_000); err != nil {
			t.Fatal(err)
		}
		if n, err := r.ints(1); err != nil || n[0] != 70_000 {
			t.Errorf("without a batch, for a reply that takes 70 ms: %v, %v", n, err)
		}
		b.params.Interval = 50 * time.Millisecond
		for i := range 3 {
			if p, ok, err := b.Permit(ctx, at, batch.ID, 1); !ok || err != nil || p.From.Sub(p.Given) != time.Duration(i)*b.params.Interval {
				t.Errorf("permit %d: in %v, %v, %v", i, p.From.Sub(p.Given), ok, err)
			}
		}
	})
}

// TestWhatAnAttachGoesOnWith: the part of a batch that was to be called, or all of it where none of that part is left.
func TestWhatAnAttachGoesOnWith(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		sent := make([]time.Time, 20)
		sent[0] = b.clock.Add(10*time.Second - b.params.Life)
		_, r := b.admit(t, Admission{Keys: testKeys(0, 20), SentAts: sent})
		d, batch := b.attachFirst(t, r)
		b.settle(t, d, batch, keep(20, 1, flow.NextHeld))
		if r = b.attach(t, d, 1); r.Status != StatusBatch || r.Batch.Cut != 1 || len(r.Batch.Keys) != 20 {
			t.Errorf("%+v, %+v", *r, r.Batch)
		}
		b.advance(11 * time.Second)
		if r = b.attach(t, d, 2); r.Status != StatusBatch || r.Batch.Cut != 19 || len(r.Batch.Keys) != 19 {
			t.Errorf("%+v, %+v", *r, r.Batch)
		}
		b.check(t)
	})
}

// TestASlotTooManyEndsThoughItWasStuck: the batch of a dead worker that has died meanwhile is no call that hangs.
func TestASlotTooManyEndsThoughItWasStuck(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 2
		b.admit(t, Admission{Keys: testKeys(0, 20), SentAt: b.clock.Add(6*time.Second - b.params.Life)})
		_, r := b.admit(t, Admission{Keys: testKeys(20, 80)})
		one, two := r.Due[0], r.Due[1]
		b.attach(t, one, 0)
		batch := b.attach(t, two, 0).Batch
		b.advance(7 * time.Second)
		b.params.Slots = 1
		b.settle(t, two, batch, recalled(20))
		if r = b.attach(t, one, 1); r.Status != StatusIdle {
			t.Errorf("%+v", *r)
		}
		b.check(t)
	})
}

// TestUrgentKeysCostTheOthersNoTurn: a call that urgent keys fill leaves the robot's others where they stand among those of other robots.
func TestUrgentKeysCostTheOthersNoTurn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		for i, a := range []Admission{{RobotCode: "ding-a", Class: flow.Bulk}, {RobotCode: "ding-b", Class: flow.Bulk}, {RobotCode: "ding-a"}} {
			a.Keys = testKeys(100*i, 20)
			b.admit(t, a)
			b.advance(time.Millisecond)
		}
		var got []string
		for _, batch := range b.claimAll(t) {
			got = append(got, batch.RobotCode)
		}
		if want := []string{"ding-a", "ding-a", "ding-b"}; !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
	})
}

// TestAHoldIsNoReasonToLook where nothing waits for its end.
func TestAHoldIsNoReasonToLook(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		for i, delay := range []time.Duration{0, 10 * time.Minute} {
			d, batch := b.start(t, 100*i, 20)
			o := recalled(20)
			o.Answered, o.Hold = false, &flow.Hold{Reason: flow.Reason{Code: "IpNotInWhiteList", Message: "m"}, Probe: time.Minute}
			want := time.Time{}
			if delay > 0 {
				o.Outcomes[0] = flow.Outcome{Fate: flow.FateLater, Delay: delay}
				want = b.clock.Add(delay)
			}
			if r := b.settle(t, d, batch, o); r.Status != StatusIdle || !r.Next.Equal(want) && !(r.Next.IsZero() && want.IsZero()) {
				t.Errorf("%+v, next in %v", *r, r.Next.Sub(*b.clock))
			}
			if ok, _, err := b.Release(context.Background(), ""); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
	})
}

// TestABatchThatIsHeldTakesNoCompany: the keys that would join it can go with another slot meanwhile.
func TestABatchThatIsHeldTakesNoCompany(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 25)
		o := keep(20, 10, flow.NextHeld)
		for i := range 10 {
			o.Outcomes[i] = flow.Outcome{Fate: flow.FateRecalled}
		}
		o.Fill = 5
		if r := b.settle(t, d, batch, o); r.Status != StatusHeld {
			t.Fatalf("%+v", *r)
		}
		if got := b.status(t).Total; got.Bound != 10 || got.Waiting != 5 {
			t.Errorf("%+v", got)
		}
		b.check(t)
	})
}

// TestAProbeTakesNoCompany: it is there to see whether a call goes, and the fewer keys are in it the better.
func TestAProbeTakesNoCompany(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 45)
		b.settle(t, d, batch, deniedFor(20, time.Minute))
		b.advance(time.Minute)
		d, probe := b.next(t)
		o := keep(20, 10, flow.NextCall)
		for i := range 10 {
			o.Outcomes[i] = flow.Outcome{Fate: flow.FateLater, Delay: time.Hour}
		}
		o.Fill = 10
		if r := b.settle(t, d, probe, o); r.Status != StatusBatch || len(r.Batch.Keys) != 10 {
			t.Errorf("%+v, %+v", *r, r.Batch)
		}
		b.check(t)
	})
}

// TestNoCallInALongRest: a batch that was to be called again waits it out without its slot.
func TestNoCallInALongRest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 20)
		o := keep(20, 20, flow.NextCall)
		o.Rest = 10 * time.Second
		if r := b.settle(t, d, batch, o); r.Status != StatusHeld || r.Rest < 9*time.Second || r.Rest > 10*time.Second {
			t.Errorf("%+v", *r)
		}
		b.check(t)
	})
}

// TestASuccessOfTheSameRobotProvesNothing: that the app may call for another robot is what would.
func TestASuccessOfTheSameRobotProvesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		_, r := b.admit(t, Admission{Keys: testKeys(0, 60)})
		one, two := r.Due[0], r.Due[1]
		first := b.attach(t, one, 0).Batch
		b.advance(10 * time.Millisecond)
		b.settle(t, two, b.attach(t, two, 0).Batch, recalled(20))
		b.settle(t, one, first, deniedFor(20, time.Minute))
		if st := b.status(t); st.Hold == nil {
			t.Errorf("only the robot is held: %+v", st.Robots)
		}
		b.check(t)
	})
}

func TestReleaseOfARobotThatIsNotHeld(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.admit(t, Admission{Keys: testKeys(0, 1)})
		if was, _, err := b.Release(context.Background(), robot); was || err != nil {
			t.Errorf("%v, %v", was, err)
		}
	})
}

// TestAnAmbiguousKeyKeepsItsClass: also for the reserve.
func TestAnAmbiguousKeyKeepsItsClass(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(3, 2)
		d, batch := b.start(t, 0, 1)
		o := keep(1, 1, flow.NextHeld)
		o.Outcomes[0].Ambiguous, o.Metered = true, 1
		b.settle(t, d, batch, o)
		if r := b.attach(t, d, 1); r.Status != StatusBatch || r.Batch.Tries != 1 {
			t.Errorf("%+v, %+v", *r, r.Batch)
		}
	})
}

func TestASpentBudgetSaysSinceWhen(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(1, 0)
		since := *b.clock
		d, batch := b.start(t, 0, 100)
		b.advance(time.Minute)
		b.settle(t, d, batch, paid(20))
		b.advance(time.Minute)
		if h := b.status(t).Hold; h == nil || !h.Since.Equal(since) {
			t.Errorf("%+v", h)
		}
	})
}

// TestAReleaseGoesByItsOwnBudget, where it has one, and not by what some worker has told.
func TestAReleaseGoesByItsOwnBudget(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.budgeted(1, 0)
		if err := b.Tell(context.Background(), Settings{Rate: 20, Slots: 4}); err != nil {
			t.Fatal(err)
		}
		d, batch := b.start(t, 0, 100)
		b.settle(t, d, batch, paid(20))
		b.nobodyCalls(t)
		if was, r, err := b.Release(context.Background(), ""); !was || err != nil || len(r.Due) == 0 {
			t.Errorf("%v, %+v, %v", was, *r, err)
		}
	})
}

// TestKeysThatAreInNoList: where a counter says that keys wait, and none does, a claim puts the counter right and comes to an end.
func TestKeysThatAreInNoList(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		d, batch := b.start(t, 0, 1)
		b.settle(t, d, batch, recalled(1))
		pipe := b.rdb.Pipeline()
		pipe.HSet(ctx, name(b.app, "n"), "0:1", 3)
		pipe.HSet(ctx, name(b.app, "meta"), "waiting", 3)
		pipe.ZAdd(ctx, name(b.app, "ready", 0), redis.Z{Score: float64(b.clock.UnixMilli()), Member: "1"})
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		r := b.wake(t)
		if len(r.Due) != 1 {
			t.Fatalf("%+v", *r)
		}
		if r = b.attach(t, r.Due[0], 0); r.Status != StatusIdle {
			t.Errorf("%+v", *r)
		}
		b.check(t)
	})
}

// TestComingBackTakesThreeMinutesAtMost, however long the rest.
func TestComingBackTakesThreeMinutesAtMost(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Interval = 50 * time.Millisecond
		d, batch := b.start(t, 0, 20)
		b.settle(t, d, batch, throttledFor(20, 2*time.Minute))
		for _, c := range []struct {
			after, least, most float64 // s, share
		}{{0, 0.5, 0.5}, {90, 0.73, 0.74}, {180, 0.97, 0.971}} {
			at := b.clock.Add(2*time.Minute + time.Duration(c.after)*time.Second)
			own := New(b.rdb, b.app, func() Params { return *b.params }, func() time.Time { return at })
			if st, err := own.Status(context.Background()); err != nil || st.Share < c.least || st.Share > c.most {
				t.Errorf("%v s after the rest the share is %v, %v", c.after, st.Share, err)
			}
		}
	})
}

// TestTheClockIsRedisOwn outside of tests.
func TestTheClockIsRedisOwn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		own := New(b.rdb, b.app, func() Params { return *b.params }, nil)
		before, err := b.rdb.Time(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		r, err := own.Wake(ctx)
		if err != nil {
			t.Fatal(err)
		}
		after, err := b.rdb.Time(ctx).Result()
		if err != nil || r.Now.Before(before) || r.Now.After(after) {
			t.Errorf("it is %v between %v and %v, %v", r.Now, before, after, err)
		}
	})
}
