package keystore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

// The law of the budget: whatever workers do, in whatever order, and whoever dies or comes late, the service counts no more calls in a
// month than the limit, and no more of keys that are not urgent than the limit less the reserve. What is counted is what
// the service counts, and at most the calls under way and those of workers that died more.

// budgetService counts what the service counts.
type budgetService struct {
	total, others int // of this month
}

// budgetRun is a worker with a permit.
type budgetRun struct {
	slot  flow.DueSlot
	batch *flow.Batch
	made  int // calls, each of which the service counts
}

type budgetWorld struct {
	*bundle
	service budgetService
	runs    []*budgetRun
	lost    int // calls that were counted for workers that died before they made them
	spent   int // how often the limit kept somebody from calling
	turns   int
}

func TestBudgetLaw(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		spent, turns, lost := 0, 0, 0
		rapid.Check(t, func(rt *rapid.T) {
			w := budgetCase(rt, rdb)
			spent += w.spent
			turns += w.turns
			lost += w.lost
		})
		if spent == 0 || turns == 0 || lost == 0 {
			t.Errorf("%d times the calls were spent, %d months turned, %d workers died: something was never tried", spent, turns, lost)
		}
	})
}

func budgetCase(t *rapid.T, rdb *redis.Client) *budgetWorld {
	if err := rdb.FlushDB(context.Background()).Err(); err != nil { // the database is this test's own
		t.Fatal(err)
	}
	w := &budgetWorld{bundle: newBundle(rdb)}
	calls := rapid.IntRange(1, 12).Draw(t, "calls")
	w.budgeted(calls, rapid.IntRange(0, calls).Draw(t, "reserve"))
	w.params.Slots = rapid.IntRange(1, 4).Draw(t, "slots")
	*w.clock = turn().Add(-time.Minute)
	for i := range 3 {
		class := flow.Class(i)
		w.admit(t, Admission{RobotCode: fmt.Sprint("r", i), Keys: testKeys(1000*i, 300), Class: class})
	}
	for range 60 {
		switch rapid.SampledFrom([]string{"attach", "call", "call", "call", "settle", "settle", "throttled", "give up", "die", "tick", "turn"}).Draw(t, "op") {
		case "attach":
			w.attachDue(t)
		case "call":
			w.call(t)
		case "settle":
			w.settleRun(t, flow.NextClaim)
		case "throttled":
			w.settleRun(t, flow.NextCall)
		case "give up":
			w.giveUpRun(t)
		case "die":
			w.die(t)
		case "tick":
			w.advance(time.Second)
		case "turn":
			if w.turns == 0 && rapid.IntRange(0, 5).Draw(t, "turn now") == 0 {
				w.month(t)
			}
		}
		w.judge(t)
	}
	return w
}

func (w *budgetWorld) judge(t *rapid.T) {
	limit := w.params.Budget.Calls
	if w.service.total > limit {
		t.Fatalf("the service counts %d calls of %d", w.service.total, limit)
	}
	if w.service.others > limit-w.params.Budget.Reserve {
		t.Fatalf("the service counts %d calls for keys that are not urgent, and %d of %d are kept for those that are", w.service.others, w.params.Budget.Reserve, limit)
	}
	used := w.used(t)
	if used < w.service.total {
		t.Fatalf("%d calls are counted, the service counts %d", used, w.service.total)
	}
	if most := w.service.total + w.lost + len(w.runs); used > most {
		t.Fatalf("%d calls are counted, the service counts %d; %d runs are under way, %d workers died before they called", used, w.service.total, len(w.runs), w.lost)
	}
}

// take goes on with a run, or forgets it, by what a script said.
func (w *budgetWorld) take(t *rapid.T, slot flow.DueSlot, r *Reply) {
	if r.Status == StatusBatch {
		w.runs = append(w.runs, &budgetRun{slot: slot, batch: r.Batch})
	} else if r.Status == StatusIdle && w.status(t).Total.Waiting > 0 {
		w.spent++
	}
}

func (w *budgetWorld) attachDue(t *rapid.T) {
	due := w.wake(t).Due
	if len(due) == 0 {
		return
	}
	slot := rapid.SampledFrom(due).Draw(t, "slot")
	w.take(t, slot, w.attach(t, slot, 0))
}

func (w *budgetWorld) run(t *rapid.T) *budgetRun {
	if len(w.runs) == 0 {
		return nil
	}
	return rapid.SampledFrom(w.runs).Draw(t, "run")
}

func (w *budgetWorld) forget(run *budgetRun) {
	for i, r := range w.runs {
		if r == run {
			w.runs = append(w.runs[:i:i], w.runs[i+1:]...)
			return
		}
	}
}

func (r *budgetRun) at() flow.SlotRun {
	return flow.SlotRun{Slot: r.slot.Slot, Generation: r.slot.Generation, Run: r.batch.Run}
}

// call makes a call that the service counts: the first of a batch with the permit it came with, a second with another.
func (w *budgetWorld) call(t *rapid.T) {
	run := w.run(t)
	if run == nil || run.made == 2 {
		return
	}
	if run.made == 1 {
		if _, ok, err := w.Permit(context.Background(), run.at(), run.batch.ID, 2); err != nil {
			t.Fatal(err)
		} else if !ok {
			w.spent++
			return
		}
	} else if rapid.Bool().Draw(t, "missed") {
		if _, ok, err := w.Permit(context.Background(), run.at(), run.batch.ID, 1); err != nil {
			t.Fatal(err)
		} else if !ok {
			if w.status(t).Rest.IsZero() { // nobody waits for the end of a long rest with a slot
				t.Fatal("a permit that was missed is not given again")
			}
			return
		}
	}
	run.made++
	w.service.total++
	if run.batch.Keys[0].Class != flow.Urgent {
		w.service.others++
	}
}

func (w *budgetWorld) settleRun(t *rapid.T, next flow.Next) {
	run := w.run(t)
	if run == nil {
		return
	}
	n := len(run.batch.Keys)
	s := throttled(n)
	if next == flow.NextClaim {
		s = recalled(n)
	}
	s.Metered = run.made
	w.forget(run)
	w.take(t, run.slot, w.settle(t, run.slot, run.batch, s))
}

func (w *budgetWorld) giveUpRun(t *rapid.T) {
	run := w.run(t)
	if run == nil {
		return
	}
	if _, err := w.GiveUp(context.Background(), run.at(), run.made); err != nil {
		t.Fatal(err)
	}
	w.forget(run)
}

// die: a worker dies, and another takes its task. What it had a permit for stays counted.
func (w *budgetWorld) die(t *rapid.T) {
	run := w.run(t)
	if run == nil {
		return
	}
	w.forget(run)
	if run.made == 0 {
		w.lost++
	}
	w.take(t, run.slot, w.attach(t, run.slot, 1000*w.lost+1+int(run.batch.ID)))
}

// month lets the month turn, once all that is under way has been settled: the clock of a call that is in between decides where it
// counts, and nobody knows the service's.
func (w *budgetWorld) month(t *rapid.T) {
	for len(w.runs) > 0 {
		run := w.runs[0]
		if _, err := w.GiveUp(context.Background(), run.at(), run.made); err != nil {
			t.Fatal(err)
		}
		w.forget(run)
	}
	*w.clock = turn().Add(time.Second)
	w.service, w.lost = budgetService{}, 0
	w.turns++
}
