package keystore

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

// each runs a test on a key store of its own on both kinds of Redis.
func each(t *testing.T, f func(t *testing.T, b *bundle)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) { f(t, setup(t, rdb)) })
}

// start admits n urgent keys (they do not linger) and attaches to the first slot that is due for them.
func (b *bundle) start(t tb, from, n int) (flow.DueSlot, *flow.Batch) {
	t.Helper()
	_, r := b.admit(t, Admission{Keys: testKeys(from, n)})
	return b.attachFirst(t, r)
}

func (b *bundle) attachFirst(t tb, r *Reply) (flow.DueSlot, *flow.Batch) {
	t.Helper()
	if len(r.Due) == 0 {
		t.Fatalf("no slot is due: %+v", *r)
	}
	got := b.attach(t, r.Due[0], 0)
	if got.Status != StatusBatch {
		t.Fatalf("attach: %+v", *got)
	}
	return r.Due[0], got.Batch
}

func (b *bundle) wake(t tb) *Reply {
	t.Helper()
	r, err := b.Wake(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bundle) takeover(t tb, d flow.DueSlot, run int64) *Reply {
	t.Helper()
	r, err := b.Takeover(context.Background(), flow.SlotRun{Slot: d.Slot, Generation: d.Generation, Run: run})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bundle) lookup(t tb, keys ...string) []KeyRecord {
	t.Helper()
	recs, err := b.Lookup(context.Background(), robot, keys)
	if err != nil || len(recs) != len(keys) {
		t.Fatalf("lookup of %d keys: %d records, %v", len(keys), len(recs), err)
	}
	return recs
}

// letters drains the outbox.
func (b *bundle) letters(t tb) []Letter {
	t.Helper()
	letters, err := b.Outbox(context.Background(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(letters))
	for i, l := range letters {
		ids[i] = l.ID
	}
	if err := b.Delivered(context.Background(), ids); err != nil {
		t.Fatal(err)
	}
	return letters
}

func names(b *flow.Batch) []string {
	out := make([]string, len(b.Keys))
	for i, k := range b.Keys {
		out[i] = k.Key
	}
	return out
}

func recalled(n int) flow.Settlement {
	return flow.Settlement{Outcomes: all(n, flow.Outcome{Fate: flow.FateRecalled}), Counted: true, Next: flow.NextClaim, RequestID: "req", Answered: true}
}

func keep(n, cut int, next flow.Next) flow.Settlement {
	return flow.Settlement{Outcomes: all(n, flow.Outcome{Fate: flow.FateKeep}), Counted: true, Next: next, Cut: cut, Tries: 1, Note: "noted"}
}

// unchanged fails where a step changed anything in Redis.
func (b *bundle) unchanged(t *testing.T, what string, f func() *Reply) *Reply {
	t.Helper()
	before := b.dump(t)
	r := f()
	after := b.dump(t)
	for n, v := range before {
		if after[n] != v {
			t.Errorf("%s changed %q from %q to %q", what, n, v, after[n])
		}
	}
	if len(after) != len(before) {
		t.Errorf("%s: %d names before, %d after", what, len(before), len(after))
	}
	return r
}

// dump gives all values of the app as text.
func (b *bundle) dump(t *testing.T) map[string]string {
	t.Helper()
	c := b.takeRecount(t)
	out := map[string]string{}
	for n, v := range c.strs {
		out[n] = fmt.Sprint(v)
	}
	for n, v := range c.lists {
		out[n] = fmt.Sprint(v)
	}
	for n, v := range c.zsets {
		out[n] = fmt.Sprint(v)
	}
	return out
}

func TestFencing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, first := b.start(t, 0, 60)
		owner := flow.SlotRun{Slot: d.Slot, Generation: d.Generation, Run: first.Run}
		settle := func(at flow.SlotRun, batch int64) func() *Reply {
			return func() *Reply {
				r, err := b.Settle(context.Background(), at, batch, recalled(20))
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
		}
		with := func(change func(*flow.SlotRun)) flow.SlotRun {
			at := owner
			change(&at)
			return at
		}
		older := with(func(at *flow.SlotRun) { at.Generation-- })
		newer := with(func(at *flow.SlotRun) { at.Generation++ })
		otherRun := with(func(at *flow.SlotRun) { at.Run-- })
		idle := with(func(at *flow.SlotRun) { at.Slot = 7 })
		for _, c := range []struct {
			name string
			do   func() *Reply
			want Status
		}{
			{"settle of an older generation", settle(older, first.ID), StatusStale},
			{"settle of a newer generation", settle(newer, first.ID), StatusStale},
			{"settle of another run", settle(otherRun, first.ID), StatusRefused},
			{"settle of an idle slot", settle(idle, first.ID), StatusStale},
			{"settle of another batch", settle(owner, first.ID+1), StatusBatch},
			{"attach of an older generation", func() *Reply { return b.attach(t, flow.DueSlot{Slot: d.Slot, Generation: d.Generation - 1}, 9) }, StatusStale},
			{"attach of a newer generation", func() *Reply { return b.attach(t, flow.DueSlot{Slot: d.Slot, Generation: d.Generation + 1}, 9) }, StatusStale},
			{"attach of an idle slot", func() *Reply { return b.attach(t, flow.DueSlot{Slot: 7}, 9) }, StatusStale},
			{"takeover of an older generation", func() *Reply {
				return b.takeover(t, flow.DueSlot{Slot: d.Slot, Generation: d.Generation - 1}, first.Run)
			}, StatusStale},
			{"takeover of another run", func() *Reply { return b.takeover(t, d, first.Run+1) }, StatusRefused},
		} {
			if r := b.unchanged(t, c.name, c.do); r.Status != c.want || len(r.Due) != 2 {
				t.Errorf("%s: %s, due %v", c.name, r.Status, r.Due)
			} else if r.Batch != nil && r.Batch.ID != first.ID {
				t.Errorf("%s: batch %d", c.name, r.Batch.ID)
			}
		}
		for name, at := range map[string]flow.SlotRun{"generation": older, "run": otherRun, "slot": idle} {
			if _, ok, err := b.Permit(context.Background(), at, first.ID, 1); ok || err != nil {
				t.Errorf("a permit for another %s: %v %v", name, ok, err)
			}
		}
		if _, ok, err := b.Permit(context.Background(), owner, first.ID+1, 1); ok || err != nil {
			t.Errorf("a permit for another batch: %v %v", ok, err)
		}
		if _, ok, err := b.Permit(context.Background(), owner, first.ID, 1); !ok || err != nil {
			t.Errorf("a permit for the owner: %v %v", ok, err)
		}
		b.check(t)
	})
}

func TestAttachGivesTheBoundBatchToTheNextRun(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, first := b.start(t, 0, 20)
		second := b.attach(t, d, 1).Batch // the first worker died: the queue gave the task to another
		if second == nil || second.Run != first.Run+1 || second.ID == first.ID || fmt.Sprint(names(second)) != fmt.Sprint(names(first)) {
			t.Fatalf("the second run has %+v, the first had %+v", second, first)
		}
		if r := b.unchanged(t, "an old delivery", func() *Reply { return b.attach(t, d, 0) }); r.Status != StatusRefused {
			t.Errorf("an old delivery attached: %s", r.Status)
		}
		if r := b.unchanged(t, "a late result", func() *Reply { return b.settle(t, d, first, recalled(20)) }); r.Status != StatusRefused {
			t.Errorf("a late result was taken: %s", r.Status)
		}
		if r := b.settle(t, d, second, recalled(20)); r.Status != StatusIdle {
			t.Errorf("the second run's result: %s", r.Status)
		}
		if r := b.unchanged(t, "the result again", func() *Reply { return b.settle(t, d, second, recalled(20)) }); r.Status != StatusStale {
			t.Errorf("the result again: %s", r.Status)
		}
		if got := b.check(t).inState(flow.Recalled); len(got) != 20 {
			t.Errorf("%d are recalled", len(got))
		}
		for _, rec := range b.lookup(t, names(second)...) {
			if rec.Attempts != 1 || rec.RequestID != "req" {
				t.Errorf("%+v", rec)
			}
		}
	})
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 20)
		r := b.takeover(t, d, batch.Run)
		next := flow.DueSlot{Slot: d.Slot, Generation: d.Generation + 1}
		if r.Status != StatusDue || len(r.Due) != 1 || r.Due[0] != next {
			t.Fatalf("takeover: %+v", *r)
		}
		if again := b.unchanged(t, "takeover again", func() *Reply { return b.takeover(t, d, batch.Run) }); again.Status != StatusStale {
			t.Errorf("takeover again: %s", again.Status)
		}
		if late := b.unchanged(t, "a late result", func() *Reply { return b.settle(t, d, batch, recalled(20)) }); late.Status != StatusStale {
			t.Errorf("a late result: %s", late.Status)
		}
		got := b.attach(t, next, 0)
		if got.Status != StatusBatch || fmt.Sprint(names(got.Batch)) != fmt.Sprint(names(batch)) || got.Batch.Run <= batch.Run {
			t.Fatalf("after the takeover: %+v", *got)
		}
		b.check(t)
	})
}

func TestSettleModes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		o    flow.Settlement
		want Status
		next flow.DueSlot // of the slot, after
	}{
		{"keep and call", keep(20, 10, flow.NextCall), StatusBatch, flow.DueSlot{Slot: 1, Generation: 1}},
		{"keep and claim is keep and call", keep(20, 10, flow.NextClaim), StatusBatch, flow.DueSlot{Slot: 1, Generation: 1}},
		{"keep and hold out", keep(20, 20, flow.NextHeld), StatusHeld, flow.DueSlot{Slot: 1, Generation: 1}},
		{"keep and yield", keep(20, 5, flow.NextYield), StatusDue, flow.DueSlot{Slot: 1, Generation: 2}},
		{"keep nothing and yield", flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateRecalled}), Next: flow.NextYield}, StatusDue, flow.DueSlot{Slot: 1, Generation: 2}},
		{"keep nothing and hold out is claim", flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateRecalled}), Next: flow.NextHeld}, StatusIdle, flow.DueSlot{}},
		{"keep nothing and call is claim", flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateRecalled}), Next: flow.NextCall}, StatusIdle, flow.DueSlot{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, b *bundle) {
				d, batch := b.start(t, 0, 20)
				if d.Slot != 1 || d.Generation != 1 {
					t.Fatalf("the first slot is %+v", d)
				}
				r := b.settle(t, d, batch, c.o)
				if r.Status != c.want {
					t.Fatalf("%s: %+v", r.Status, *r)
				}
				raw := b.check(t)
				again := b.settle(t, d, batch, c.o) // its reply was lost
				want := c.want
				if want == StatusDue || want == StatusIdle {
					want = StatusStale // the slot is not this run's any more
				}
				if again.Status != want {
					t.Errorf("again: %s, want %s", again.Status, want)
				}
				if c.o.Outcomes[0].Fate != flow.FateKeep {
					return
				}
				if c.want != StatusBatch {
					r = b.attach(t, c.next, 1)
				}
				if got := r.Batch; got.Cut != c.o.Cut || got.Tries != 1 || got.Note != "noted" || len(got.Keys) != 20 {
					t.Errorf("the kept batch: %+v", got)
				}
				for i, k := range r.Batch.Keys {
					if k.Attempts != 1 || k.Key != batch.Keys[i].Key {
						t.Errorf("kept key %d: %+v", i, k)
					}
				}
				if rec := b.lookup(t, batch.Keys[0].Key)[0]; rec.State != flow.Bound || rec.Attempts != 1 {
					t.Errorf("a bound key is looked up as %+v", rec)
				}
				if n := len(raw.inState(flow.Bound)); n != 20 {
					t.Errorf("%d are bound", n)
				}
			})
		})
	}
}

func TestAttemptsCountOnlyWhatWasCalled(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 20)
		r := b.settle(t, d, batch, keep(20, 8, flow.NextCall))
		o := flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateWait}), Counted: true, Next: flow.NextYield}
		o.Outcomes[0].Ambiguous = true
		b.settle(t, d, r.Batch, o)
		recs := b.lookup(t, testKeys(0, 20)...)
		for i, rec := range recs {
			want := 1
			if i < 8 {
				want = 2
			}
			if rec.Attempts != want || rec.Ambiguous != (i == 0) || rec.State != flow.Waiting {
				t.Errorf("key %d: %+v", i, rec)
			}
		}
		b.check(t)
	})
}

func TestSlotsAreBoundedAndUsedAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots, b.params.SlotsCap = 2, 3
		_, r := b.admit(t, Admission{Keys: testKeys(0, 200)})
		if len(r.Due) != 2 {
			t.Fatalf("due: %v", r.Due)
		}
		// Those that wait out a backoff make room for others, up to the cap.
		held := 0
		for {
			got := b.attach(t, r.Due[0], 0)
			if got.Status != StatusBatch {
				t.Fatalf("attach: %+v", *got)
			}
			d := r.Due[0]
			if r = b.settle(t, d, got.Batch, keep(20, 20, flow.NextHeld)); r.Status != StatusHeld {
				t.Fatalf("settle: %+v", *r)
			}
			held++
			b.check(t)
			if len(r.Due) == 0 {
				break
			}
		}
		if st := b.status(t); held != 3 || st.Slots != 3 || st.Held != 3 {
			t.Fatalf("%d batches are held; %d slots, %d held", held, st.Slots, st.Held)
		}
		// An operator gives the app fewer slots: the others end when they are through.
		b.params.Slots = 1
		for slot := 1; slot <= 3; slot++ {
			r := b.attach(t, flow.DueSlot{Slot: slot, Generation: 1}, 1)
			if r.Status != StatusBatch {
				t.Fatalf("attach of slot %d: %+v", slot, *r)
			}
		}
		busy, err := b.BusySlots(context.Background())
		if err != nil || len(busy) != 3 {
			t.Fatal(busy, err)
		}
		for slot := 1; slot <= 2; slot++ {
			at := flow.DueSlot{Slot: slot, Generation: 1}
			s := b.check(t).slots[slot]
			r := b.settle(t, at, &flow.Batch{ID: s.batch, Run: s.run}, recalled(20))
			if r.Status != StatusIdle {
				t.Errorf("slot %d goes on with %d slots too many: %s", slot, 3-slot, r.Status)
			}
		}
		s := b.check(t).slots[3]
		if r := b.settle(t, flow.DueSlot{Slot: 3, Generation: 1}, &flow.Batch{ID: s.batch, Run: s.run}, recalled(20)); r.Status != StatusBatch {
			t.Errorf("the last slot: %s", r.Status)
		}
		b.params.Slots = 2
		if r := b.wake(t); len(r.Due) != 1 || r.Due[0] != (flow.DueSlot{Slot: 1, Generation: 2}) {
			t.Errorf("a slot that is used again: %v", r.Due)
		}
		b.check(t)
	})
}

// A call that hangs must not hold up keys that another slot could take.
func TestABusySlotHoldsUpNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, _ := b.start(t, 0, 20)
		_, r := b.admit(t, Admission{Keys: testKeys(100, 1), Class: flow.Urgent})
		if len(r.Due) != 1 || r.Due[0].Slot == d.Slot {
			t.Fatalf("an urgent key waits for a slot that calls already: due %v", r.Due)
		}
		_, again := b.admit(t, Admission{Keys: testKeys(101, 1), Class: flow.Urgent})
		if len(again.Due) != 1 {
			t.Errorf("one slot is enough for two keys: due %v", again.Due)
		}
		b.check(t)
	})
}

func TestScriptsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		flush := func() {
			if err := b.rdb.ScriptFlush(ctx).Err(); err != nil {
				t.Fatal(err)
			}
		}
		_, r := b.admit(t, Admission{Keys: testKeys(0, 40)})
		flush()
		got := b.attach(t, r.Due[0], 0)
		flush()
		got = b.settle(t, r.Due[0], got.Batch, recalled(20))
		flush()
		if _, ok, err := b.Permit(ctx, flow.SlotRun{Slot: r.Due[0].Slot, Generation: r.Due[0].Generation, Run: got.Batch.Run}, got.Batch.ID, 1); !ok || err != nil {
			t.Errorf("permit: %v %v", ok, err)
		}
		flush()
		if rec := b.lookup(t, testKey(0))[0]; rec.State != flow.Recalled {
			t.Errorf("lookup: %+v", rec)
		}
		flush()
		if _, _, err := b.Cancel(ctx, "none"); err != nil {
			t.Error(err)
		}
		flush()
		if _, _, err := b.Release(ctx, ""); err != nil {
			t.Error(err)
		}
		flush()
		b.takeover(t, r.Due[0], got.Batch.Run)
		flush()
		b.advance(time.Second)
		b.wake(t)
		b.check(t)
	})
}

// A call that hangs, or whose worker is dead, keeps its keys and its slot, but not others from going on.
func TestStuckCallsDoNotKeepOthersWaiting(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots, b.params.SlotsCap = 2, 5
		stalled := func(want bool) {
			t.Helper()
			if got, err := b.Stalled(context.Background()); err != nil || got != want {
				t.Errorf("stalled: %v, %v", got, err)
			}
		}
		stalled(false)
		_, r := b.admit(t, Admission{Keys: testKeys(0, 200)})
		if len(r.Due) != 2 {
			t.Fatalf("due: %v", r.Due)
		}
		one, two := r.Due[0], r.Due[1]
		b.attach(t, one, 0)
		held := b.attach(t, two, 0).Batch
		b.advance(5*time.Second - time.Millisecond)
		stalled(false)
		if r = b.wake(t); len(r.Due) != 0 {
			t.Fatalf("calls of less than 5 s do count: %v", r.Due)
		}
		b.params.Stuck = 4 * time.Second
		stalled(true)
		b.params.Stuck = 0
		b.advance(time.Millisecond)
		stalled(true)
		if r = b.wake(t); len(r.Due) != 2 {
			t.Fatalf("two in the place of those that hang: %v", r.Due)
		}
		three := b.attach(t, r.Due[0], 0)
		if three.Status != StatusBatch {
			t.Fatalf("%+v", *three)
		}
		if again := b.settle(t, r.Due[0], three.Batch, recalled(20)); again.Status != StatusBatch {
			t.Errorf("%+v", *again)
		}
		b.check(t)
		// The one that hung comes back after all: two are at work besides it, so it ends.
		b.attach(t, r.Due[1], 0)
		if back := b.settle(t, two, held, recalled(20)); back.Status != StatusIdle {
			t.Errorf("%+v", *back)
		}
		b.advance(time.Minute)
		if r = b.wake(t); len(r.Due) != 2 { // three hang: the cap of five leaves two
			t.Errorf("due: %v", r.Due)
		}
		b.check(t)
		// A worker that knows of fewer slots than the dead one had gets those that it knows of.
		for _, d := range r.Due {
			b.attach(t, d, 0)
		}
		b.advance(time.Minute)
		b.params.Slots, b.params.SlotsCap = 1, 2
		if r = b.wake(t); len(r.Due) != 1 {
			t.Errorf("due: %v", r.Due)
		}
		b.check(t)
	})
	each(t, func(t *testing.T, b *bundle) {
		b.params.Stuck = time.Second
		_, r := b.admit(t, Admission{Keys: testKeys(0, 20)})
		b.attach(t, r.Due[0], 0)
		b.advance(2 * time.Second)
		if got, err := b.Stalled(context.Background()); err != nil || got {
			t.Errorf("nobody waits, and it is stalled: %v, %v", got, err)
		}
		b.admit(t, Admission{Keys: testKeys(20, 1), Class: 0})
		if r = b.wake(t); len(r.Due) == 0 {
			t.Error("a call of a second keeps others waiting")
		}
	})
}

// A worker whose clock is wrong takes the tasks of others for forgotten and has the queue give them out again, while they are in a call.
func TestCallUnderWayIsLeftToItsRun(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Lease = 30 * time.Second
		d, batch := b.start(t, 0, 20)
		if r := b.attach(t, d, 0); r.Status != StatusBatch || r.Batch.Run == batch.Run {
			t.Fatalf("the same delivery, whose reply was lost: %+v", *r)
		} else {
			batch = r.Batch
		}
		for _, after := range []time.Duration{0, 30*time.Second - time.Millisecond} {
			b.advance(after)
			if r := b.attach(t, d, 1); r.Status != StatusRefused {
				t.Fatalf("%v after the permit: %+v", after, *r)
			}
		}
		restore := *b.clock
		if r := b.settle(t, d, batch, flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateKeep}), Next: flow.NextHeld, Cut: 20}); r.Status != StatusHeld {
			t.Fatalf("%+v", *r)
		}
		if r := b.attach(t, d, 1); r.Status != StatusBatch {
			t.Errorf("a batch that waits for its next try: %+v", *r)
		}
		*b.clock = restore.Add(30 * time.Second)
		if r := b.attach(t, d, 2); r.Status != StatusBatch {
			t.Errorf("after the lease: %+v", *r)
		}
		b.check(t)
	})
}

// Redis may come back without its last writes, while a worker is still in a call that it has forgotten. What that call came to must not
// be taken for the outcome of another, which has the same number in the same slot. (miniredis cannot be set back.)
func TestForgottenRunSettlesNothing(t *testing.T) {
	t.Parallel()
	b := newBundle(redistest.Real(t))
	_, r := b.admit(t, Admission{Keys: testKeys(0, 20), Class: flow.Bulk})
	restore := b.remember(t)
	d, forgotten := b.attachFirst(t, r)
	restore()
	b.advance(time.Millisecond)
	b.admit(t, Admission{Keys: testKeys(100, 20), Class: flow.Urgent})
	again := b.attach(t, d, 0).Batch
	if again == nil || again.ID != forgotten.ID || again.Keys[0].Key == forgotten.Keys[0].Key {
		t.Fatalf("the test needs another batch of the same number: %+v, %+v", forgotten, again)
	}
	if late := b.settle(t, d, forgotten, recalled(20)); late.Status != StatusRefused {
		t.Errorf("%+v", *late)
	}
	if rec := b.lookup(t, again.Keys[0].Key)[0]; rec.State != flow.Bound {
		t.Errorf("%+v", rec)
	}
	b.check(t)
}

// remember gives a function that puts back what is in the database now.
func (b *bundle) remember(t tb) func() {
	t.Helper()
	ctx := context.Background()
	names, err := b.rdb.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	dumps := map[string]string{}
	ttls := map[string]time.Duration{}
	for _, n := range names {
		if dumps[n], err = b.rdb.Dump(ctx, n).Result(); err != nil {
			t.Fatal(err)
		}
		ttls[n] = max(0, b.rdb.PTTL(ctx, n).Val())
	}
	return func() {
		t.Helper()
		if err := b.rdb.FlushDB(ctx).Err(); err != nil { // the database is this test's own
			t.Fatal(err)
		}
		for n, dump := range dumps {
			if err := b.rdb.Restore(ctx, n, ttls[n], dump).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Whether others succeed while a batch fails is told by calls that began after its failure, not by those that were merely answered
// after it.
func TestLastOKIsWhenTheCallBegan(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 60)
		if !batch.LastOK.IsZero() {
			t.Errorf("nothing was recalled yet: %v", batch.LastOK)
		}
		for range 2 {
			began := *b.clock
			b.advance(time.Second)
			r := b.settle(t, d, batch, recalled(20))
			if r.Status != StatusBatch || !r.Batch.LastOK.Equal(began) {
				t.Fatalf("%+v; the last good call began at %v", *r, began)
			}
			batch = r.Batch
		}
	})
}

// TestParkedKeysAndCompany: kept keys come first, parked ones behind them, and keys that waited in front of both, of which the next call
// has no more than there is room for; sent twice, it is once.
func TestParkedKeysAndCompany(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fill, fresh int }{{0, 0}, {3, 3}, {15, 15}, {20, 15}} {
		each(t, func(t *testing.T, b *bundle) {
			slot, batch := b.start(t, 0, 60)
			was := names(batch)
			o := recalled(20)
			o.Outcomes[0] = flow.Outcome{Fate: flow.FateDead, Code: "c", Message: "m", Request: "earlier"}
			for i, f := range map[int]flow.Fate{2: flow.FatePark, 5: flow.FateKeep, 7: flow.FatePark, 9: flow.FateKeep, 11: flow.FateKeep} {
				o.Outcomes[i].Fate = f
			}
			o.Next, o.Cut, o.Fill, o.Note = flow.NextCall, 3, c.fill, "noted"
			r := b.settle(t, slot, batch, o)
			b.unchanged(t, "a second settlement", func() *Reply { return b.settle(t, slot, batch, o) })
			b.check(t)
			if r.Batch == nil || len(r.Batch.Keys) != c.fresh+5 || r.Batch.Cut != c.fresh+3 || r.Batch.Note != "noted" {
				t.Fatalf("fill %d: %+v", c.fill, r.Batch)
			}
			if got := names(r.Batch)[c.fresh:]; !slices.Equal(got, []string{was[5], was[9], was[11], was[2], was[7]}) {
				t.Errorf("fill %d: the bound keys are %v of %v", c.fill, got, was)
			}
			if l := b.letters(t); len(l) != 1 || l[0].RequestID != "earlier" {
				t.Errorf("letters %+v", l)
			}
			_ = b.finish(t)
		})
	}
}
