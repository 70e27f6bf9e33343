package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

// The law: whatever producers, workers, operators and the clock do, in whatever order, and whoever crashes or comes late,
// every accepted key is in exactly one state, moves only as it may, and ends. Random operations are compared after each step
// with the model of law_model_test.go and with a recount of the raw data.

// lawWorlds is how many independent series of cases are run on each back end, in parallel. With the race detector a case takes
// about a second on miniredis, which runs Lua in Go, and a fifth of one on the real thing. A longer search:
//
//	go test -run TestConservation/redis-server/0 ./worker/internal/keystore -rapid.checks 3000
var lawWorlds = map[string]int{"miniredis": 1, "redis-server": 8}

func TestConservation(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var all lawTally // of all series: a single one may well do without an operation that is rare
	series := 0
	t.Cleanup(func() {
		t.Logf("%+v", all)
		if err := all.vacuous(); err != nil && !t.Failed() && series >= lawWorlds["redis-server"] {
			t.Error(err)
		}
	})
	for _, back := range redistest.Backends() {
		for i := range lawWorlds[back.Name] {
			t.Run(fmt.Sprintf("%s/%d", back.Name, i), func(t *testing.T) {
				t.Parallel()
				rdb := back.Open(t)
				var total lawTally
				rapid.Check(t, func(rt *rapid.T) { total.add(lawCase(rt, rdb)) })
				mu.Lock()
				defer mu.Unlock()
				all.add(total)
				series++
			})
		}
	}
}

// lawTally counts what a series of cases has seen, so that it cannot pass without having tried anything.
type lawTally struct {
	Steps, Accepted, Raised, Revived, Batches, Stale, Refused, Repeated, Crashes, Late, Recalled, Dead, Cancelled, Closed, Deferred, Verified, Certain int
	Unseen, SentAgain, Undelivered, Together                                                                                                           int
}

func (t *lawTally) add(o lawTally) {
	t.Steps += o.Steps
	t.Accepted += o.Accepted
	t.Raised += o.Raised
	t.Revived += o.Revived
	t.Batches += o.Batches
	t.Stale += o.Stale
	t.Refused += o.Refused
	t.Repeated += o.Repeated
	t.Crashes += o.Crashes
	t.Late += o.Late
	t.Recalled += o.Recalled
	t.Dead += o.Dead
	t.Cancelled += o.Cancelled
	t.Closed += o.Closed
	t.Deferred += o.Deferred
	t.Verified += o.Verified
	t.Certain += o.Certain
	t.Unseen += o.Unseen
	t.SentAgain += o.SentAgain
	t.Undelivered += o.Undelivered
	t.Together += o.Together
}

// Certain is left out: some five in a run are so few that one in a hundred has none; the tests of verify have theirs.
func (t *lawTally) vacuous() error {
	if slices.Contains([]int{t.Steps, t.Accepted, t.Raised, t.Revived, t.Batches, t.Stale, t.Refused, t.Repeated, t.Crashes, t.Late,
		t.Recalled, t.Dead, t.Cancelled, t.Closed, t.Deferred, t.Verified, t.Unseen, t.SentAgain, t.Undelivered, t.Together}, 0) {
		return fmt.Errorf("something was never tried: %+v", *t)
	}
	return nil
}

// lawTask is a task of the queue: one for each slot and generation, with the count of its retries.
type lawTask struct {
	flow.DueSlot
	retry int
}

// lawRun is a worker that holds a batch. A paused one has lost its lease: its task is another's, its result comes late.
type lawRun struct {
	task   *lawTask
	batch  *flow.Batch
	paused bool
}

// lawWorld is one case: the key store, a queue like asynq's, workers, and the model.
type lawWorld struct {
	*bundle
	t     *rapid.T
	tasks []*lawTask
	runs  []*lawRun
	model *lawModel
	began time.Time
	last  func() // sends the last settlement again, as a client does that had no reply
	calm  bool   // replies arrive, and nobody dies
	lawTally
}

func lawCase(t *rapid.T, rdb *redis.Client) lawTally {
	if err := rdb.FlushDB(context.Background()).Err(); err != nil { // the database is this test's own
		t.Fatal(err)
	}
	w := &lawWorld{bundle: newBundle(rdb), t: t, model: newLawModel()}
	w.params.Slots, w.params.SlotsCap, w.params.Letter = rapid.IntRange(1, 3).Draw(t, "slots"), 5, 7
	w.params.Interval = rapid.SampledFrom([]time.Duration{0, 50 * time.Millisecond}).Draw(t, "interval")
	midnight := w.clock.Truncate(24 * time.Hour)
	*w.clock = midnight.Add(24*time.Hour - rapid.SampledFrom([]time.Duration{12 * time.Hour, 2 * time.Second}).Draw(t, "until midnight"))
	w.began = *w.clock
	w.model.begin(w.takeRecount(t))
	t.Repeat(map[string]func(*rapid.T){
		"admit": w.admitSome, "admit more": w.admitSome, "replay": w.replay, "attach": w.run, "attach more": w.run, "settle": w.settleRun,
		"settle more": w.settleRun, "late": w.settleLate, "settle again": w.settleAgain, "crash": w.crash, "pause": w.pause, "takeover": w.takeoverRun,
		"permit": w.permitRun, "clock": w.tick, "wake": w.wakeUp, "cancel": w.cancel, "release": w.releaseHold, "reconcile": w.reconcile,
		"settle together": w.settleTogether, "settle more together": w.settleTogether, "old delivery": w.oldDelivery, "slots": w.resize, "verify": w.verifySome,
	})
	w.t = t
	w.quiesce()
	return w.lawTally
}

// step makes one call of the key store and checks everything after it. Now and then the reply is lost: then the client sends the script
// again and has the reply to that, or the process dies before it sees any, and the result is nil.
func (w *lawWorld) step(t *rapid.T, e lawEvent, f func(ctx context.Context) (*Reply, error)) *Reply {
	r := w.once(t, e, f)
	if !w.calm {
		switch rapid.IntRange(0, 15).Draw(t, "reply") {
		case 0:
			w.Unseen++
			return nil
		case 1:
			w.SentAgain++
			r = w.once(t, e, f)
		}
	}
	for _, d := range r.Due {
		w.enqueue(d)
	}
	return r
}

// once makes one call of the key store and checks everything after it.
func (w *lawWorld) once(t *rapid.T, e lawEvent, f func(ctx context.Context) (*Reply, error)) *Reply {
	w.Steps++
	r, err := f(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := w.check(t)
	e.reply = r
	e.now = w.clock.UnixMilli()
	c.checkReply(r)
	w.model.follow(c, e, &w.lawTally)
	if len(c.errs) > 0 {
		t.Fatalf("after %+v, reply %+v:\n%s", e, *r, strings.Join(c.errs, "\n"))
	}
	return r
}

// enqueue puts a task into the queue, unless it is there already.
func (w *lawWorld) enqueue(d flow.DueSlot) {
	if !slices.ContainsFunc(w.tasks, func(x *lawTask) bool { return x.DueSlot == d }) {
		w.tasks = append(w.tasks, &lawTask{DueSlot: d})
	}
}

func (w *lawWorld) done(x *lawTask) {
	w.tasks = slices.DeleteFunc(w.tasks, func(y *lawTask) bool { return x == y })
}

func (w *lawWorld) admission(t *rapid.T) Admission {
	a := Admission{RobotCode: rapid.SampledFrom([]string{"ding-a", "ding-b", "ding-c"}).Draw(t, "robot"),
		Class:    flow.Class(rapid.IntRange(0, 2).Draw(t, "class")),
		Incident: rapid.SampledFrom([]string{"", "storm", "flood"}).Draw(t, "incident")}
	n := rapid.SampledFrom([]int{1, 3, 19, 20, 45}).Draw(t, "keys")
	for i := range n {
		a.Keys = append(a.Keys, lawKeys[(rapid.IntRange(0, len(lawKeys)-1).Draw(t, "key")+i)%len(lawKeys)])
	}
	ages := []time.Duration{0, 0, 0, time.Hour, 23*time.Hour + 57*time.Minute + 50*time.Second, 25 * time.Hour}
	if rapid.Bool().Draw(t, "each its own time") {
		for range a.Keys {
			a.SentAts = append(a.SentAts, w.clock.Add(-rapid.SampledFrom(ages).Draw(t, "age")))
		}
	} else if age := rapid.SampledFrom(ages).Draw(t, "age"); age > 0 {
		a.SentAt = w.clock.Add(-age)
	}
	return a
}

func (w *lawWorld) admitSome(t *rapid.T) { w.admitAndCheck(t, w.admission(t)) }

func (w *lawWorld) admitAndCheck(t *rapid.T, a Admission) {
	w.step(t, lawEvent{kind: "admit", admission: &a}, func(ctx context.Context) (*Reply, error) {
		want := w.model.expect(a, w.clock.UnixMilli(), w.params.Life)
		got, r, err := w.Admit(ctx, a)
		if err == nil && got != want {
			t.Fatalf("admission of %+v: %+v, and the model says %+v", a, got, want)
		}
		w.Accepted += got.Accepted
		w.Raised += got.Raised
		w.Revived += got.Revived
		return r, err
	})
}

// replay drains the outbox, or replays a letter that was drained, perhaps not for the first time.
func (w *lawWorld) replay(t *rapid.T) {
	letters, err := w.Outbox(context.Background(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(letters) > 0 {
		ids := w.model.deliver(letters)
		switch rapid.IntRange(0, 5).Draw(t, "delivered") {
		case 0: // whoever drains dies when the queue has the letters, and the outbox still has them, too
			w.Undelivered++
			ids = nil
		case 1: // or some of them
			w.Undelivered++
			ids = ids[:rapid.IntRange(0, len(ids)-1).Draw(t, "removed")]
		}
		if err := w.Delivered(context.Background(), ids); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.model.letters) == 0 {
		return
	}
	l := w.model.letters[rapid.IntRange(0, len(w.model.letters)-1).Draw(t, "letter")]
	w.admitAndCheck(t, Admission{RobotCode: l.RobotCode, Keys: l.Keys, SentAts: l.SentAts, Class: l.Class, Incident: l.Incident, Force: true, Fence: l.Batch})
}

func pick[T any](t *rapid.T, from []T, what string) (T, bool) {
	if len(from) == 0 {
		var none T
		return none, false
	}
	return from[rapid.IntRange(0, len(from)-1).Draw(t, what)], true
}

// run gives a task of the queue that nobody works on to a worker.
func (w *lawWorld) run(t *rapid.T) {
	var free []*lawTask
	for _, x := range w.tasks {
		if !slices.ContainsFunc(w.runs, func(r *lawRun) bool { return r.task == x && !r.paused }) {
			free = append(free, x)
		}
	}
	if x, ok := pick(t, free, "task"); ok {
		w.attachTask(t, x)
	}
}

func (w *lawWorld) attachTask(t *rapid.T, x *lawTask) {
	r := w.step(t, lawEvent{kind: "attach", at: flow.SlotRun{Slot: x.Slot, Generation: x.Generation}, retry: x.retry},
		func(ctx context.Context) (*Reply, error) { return w.Attach(ctx, x.Slot, x.Generation, x.retry) })
	w.after(x, nil, r)
}

// after does what a handler does with a reply.
func (w *lawWorld) after(x *lawTask, run *lawRun, r *Reply) {
	if r == nil { // it died, and the queue finds that its lease ran out
		w.runs = slices.DeleteFunc(w.runs, func(y *lawRun) bool { return y == run })
		if run == nil || !run.paused {
			x.retry++
		}
		return
	}
	if r.Status == StatusBatch {
		w.Batches++
		if run == nil {
			run = &lawRun{task: x}
			w.runs = append(w.runs, run)
		}
		run.batch = r.Batch
		return
	}
	w.runs = slices.DeleteFunc(w.runs, func(y *lawRun) bool { return y == run })
	if run != nil && run.paused {
		return // its lease is lost: the queue takes no word of it
	}
	switch r.Status {
	case StatusHeld, StatusRefused:
		x.retry++
	default:
		w.done(x)
	}
}

// oldDelivery is an attach of a task that was given to another worker since: with the retry count of then.
func (w *lawWorld) oldDelivery(t *rapid.T) {
	x, ok := pick(t, w.tasks, "task")
	if !ok {
		return
	}
	retry, gen := max(0, x.retry-1), x.Generation-int64(rapid.IntRange(0, 1).Draw(t, "generations behind"))
	if retry == x.retry && gen == x.Generation {
		return
	}
	r := w.step(t, lawEvent{kind: "attach", at: flow.SlotRun{Slot: x.Slot, Generation: gen}, retry: retry},
		func(ctx context.Context) (*Reply, error) { return w.Attach(ctx, x.Slot, gen, retry) })
	if r == nil || r.Status != StatusBatch {
		return
	}
	// The slot has not seen a later one yet: this delivery has it, and is paused at once.
	w.runs = append(w.runs, &lawRun{task: x, batch: r.Batch, paused: true})
}

func (w *lawWorld) settleRun(t *rapid.T) {
	run, ok := pick(t, w.runs, "run")
	if !ok {
		return
	}
	if run.paused {
		w.Late++
	}
	w.settleBatch(t, run, lawSettlement(t, run.batch))
}

// settleTogether is what a process does whose calls end at the same time. Some of the runs may have lost their slots.
func (w *lawWorld) settleTogether(t *rapid.T) {
	var runs []*lawRun
	for _, r := range w.runs {
		if !slices.ContainsFunc(runs, func(o *lawRun) bool { return o.task.Slot == r.task.Slot }) && rapid.Bool().Draw(t, "with") {
			runs = append(runs, r)
		}
	}
	if len(runs) < 2 {
		return
	}
	e := lawEvent{kind: "settle"}
	var together []*settlement
	for _, r := range runs {
		o := lawSettlement(t, r.batch)
		part := lawEvent{kind: "settle", at: flow.SlotRun{Slot: r.task.Slot, Generation: r.task.Generation, Run: r.batch.Run}, batch: r.batch, settlement: &o, now: w.clock.UnixMilli()}
		e.together = append(e.together, part)
		together = append(together, &settlement{args: settleArgs(part.at, part.batch.ID, o)})
	}
	w.Together += len(runs)
	seen := w.step(t, e, func(ctx context.Context) (*Reply, error) {
		err := w.settleAll(ctx, together)
		for i, s := range together {
			if err = errors.Join(err, s.err); err == nil {
				e.together[i].reply = s.reply
			}
		}
		return together[0].reply, err
	})
	for i, r := range runs {
		if seen == nil {
			together[i].reply = nil
		}
		w.after(r.task, r, together[i].reply)
	}
}

// settleLate brings the result of a worker that was paused.
func (w *lawWorld) settleLate(t *rapid.T) {
	if i := slices.IndexFunc(w.runs, func(r *lawRun) bool { return r.paused }); i >= 0 {
		w.Late++
		w.settleBatch(t, w.runs[i], lawSettlement(t, w.runs[i].batch))
	}
}

func (w *lawWorld) settleBatch(t *rapid.T, run *lawRun, o flow.Settlement) {
	e := lawEvent{kind: "settle", at: flow.SlotRun{Slot: run.task.Slot, Generation: run.task.Generation, Run: run.batch.Run}, batch: run.batch, settlement: &o}
	send := func(ctx context.Context) (*Reply, error) { return w.Settle(ctx, e.at, e.batch.ID, o) }
	r := w.step(t, e, send)
	w.last = func() {
		w.Repeated++
		again := w.once(w.t, e, send)
		if run.batch != nil && !run.paused && slices.Contains(w.runs, run) && again.Status == StatusBatch && again.Batch.ID != run.batch.ID {
			w.t.Fatalf("sent again, the settlement of batch %d is answered with %d, and was with %d", e.batch.ID, again.Batch.ID, run.batch.ID)
		}
	}
	w.after(run.task, run, r)
}

// settleAgain is what a client does whose reply was lost, at once or after others were there.
func (w *lawWorld) settleAgain(t *rapid.T) {
	if w.last != nil {
		w.t = t
		w.last()
	}
}

func (w *lawWorld) crash(t *rapid.T) {
	run, ok := pick(t, w.runs, "run")
	if !ok {
		return
	}
	w.Crashes++
	w.runs = slices.DeleteFunc(w.runs, func(y *lawRun) bool { return y == run })
	if !run.paused {
		run.task.retry++ // the queue finds that its lease ran out
	}
}

// pause stops a worker until its task was given to another.
func (w *lawWorld) pause(t *rapid.T) {
	if run, ok := pick(t, w.runs, "run"); ok && !run.paused {
		run.paused = true
		run.task.retry++
	}
}

func (w *lawWorld) takeoverRun(t *rapid.T) {
	run, ok := pick(t, w.runs, "run")
	if !ok {
		return
	}
	at := flow.SlotRun{Slot: run.task.Slot, Generation: run.task.Generation, Run: run.batch.Run}
	r := w.step(t, lawEvent{kind: "takeover", at: at}, func(ctx context.Context) (*Reply, error) { return w.Takeover(ctx, at) })
	w.after(run.task, run, r)
}

func (w *lawWorld) permitRun(t *rapid.T) {
	run, ok := pick(t, w.runs, "run")
	if !ok {
		return
	}
	at := flow.SlotRun{Slot: run.task.Slot, Generation: run.task.Generation, Run: run.batch.Run}
	_, ok, err := w.Permit(context.Background(), at, run.batch.ID, 1)
	if owns := w.model.owns(at, run.batch.ID); err != nil || ok && !owns || !ok && owns && !w.atRest(t) {
		t.Fatalf("permit for batch %d of %+v: %v %v", run.batch.ID, at, ok, err)
	}
}

// atRest says whether the app or a robot is held, or the app rests: then a batch may be refused another permit.
func (w *lawWorld) atRest(t *rapid.T) bool {
	st, err := w.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return st.Hold != nil || len(st.Robots) > 0 || !st.Rest.IsZero()
}

func (w *lawWorld) tick(t *rapid.T) {
	if w.clock.Sub(w.began) > 34*time.Hour {
		return // a key is looked for in the ledgers of three days
	}
	w.advance(rapid.SampledFrom([]time.Duration{time.Millisecond, 300 * time.Millisecond, time.Second, time.Second, 3 * time.Second,
		time.Minute, 5 * time.Minute, time.Hour, 13 * time.Hour}).Draw(t, "time"))
}

func (w *lawWorld) wakeUp(t *rapid.T) { w.step(t, lawEvent{kind: "wake"}, w.Wake) }

func (w *lawWorld) cancel(t *rapid.T) {
	incident := rapid.SampledFrom([]string{"storm", "drought", "unheard of"}).Draw(t, "incident")
	if incident == "storm" && rapid.IntRange(0, 3).Draw(t, "really") > 0 {
		return // seldom: nothing of it is called from then on
	}
	known := w.model.incidents[incident]
	var ok bool
	w.step(t, lawEvent{kind: "cancel", incident: incident}, func(ctx context.Context) (r *Reply, err error) {
		ok, r, err = w.Cancel(ctx, incident)
		return r, err
	})
	if ok != known {
		t.Fatalf("cancel of %q, known %v: %v", incident, known, ok)
	}
}

func (w *lawWorld) releaseHold(t *rapid.T) {
	of := rapid.SampledFrom([]string{"", "", robot}).Draw(t, "released")
	w.step(t, lawEvent{kind: "release"}, func(ctx context.Context) (*Reply, error) {
		_, r, err := w.Release(ctx, of)
		return r, err
	})
}

func (w *lawWorld) resize(t *rapid.T) { w.params.Slots = rapid.IntRange(1, 4).Draw(t, "slots") }

// reconcile enqueues the task of every slot that is not idle, after an operator has deleted one.
func (w *lawWorld) reconcile(t *rapid.T) {
	if x, ok := pick(t, w.tasks, "deleted"); ok && !slices.ContainsFunc(w.runs, func(r *lawRun) bool { return r.task == x }) {
		w.done(x)
	}
	w.enqueueBusy(t)
}

// quiesce lets everything come to its end: workers live, calls succeed, somebody looks when a reply says so.
func (w *lawWorld) quiesce() {
	w.runs, w.calm = nil, true // whoever is at work now, dies
	for _, x := range w.tasks {
		x.retry++
	}
	w.params.Slots = 3
	w.enqueueBusy(w.t)
	for range 2000 {
		if len(w.tasks) > 0 {
			w.finish(w.tasks[0])
			continue
		}
		r := w.step(w.t, lawEvent{kind: "wake"}, w.Wake)
		if len(r.Due) > 0 {
			continue
		}
		if r.Next.IsZero() {
			w.checkEnd()
			return
		}
		*w.clock = time.UnixMilli(max(r.Next.UnixMilli(), w.clock.UnixMilli()))
	}
	w.t.Fatalf("there is no end to it: %+v", w.status(w.t))
}

func (w *lawWorld) enqueueBusy(t *rapid.T) {
	busy, err := w.BusySlots(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range busy {
		w.enqueue(d)
	}
}

func (w *lawWorld) finish(x *lawTask) {
	w.attachTask(w.t, x)
	for len(w.runs) > 0 {
		run := w.runs[0]
		w.settleBatch(w.t, run, flow.Settlement{Outcomes: all(len(run.batch.Keys), flow.Outcome{Fate: flow.FateRecalled}), Counted: true,
			RequestID: "end", Next: flow.NextClaim, Answered: true})
	}
	w.advance(time.Millisecond)
}
