package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker/internal/dispatch"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/intake"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

// The law of the whole: two processes do, one step at a time, what the queue gives them (submissions, slots, alarms, dead letters,
// the reconcile), and die, or lose their connection, at any call of Redis. A process that died is followed by one that remembers nothing. The
// queue is asynq's own where tasks are put into it, and this test where it gives them out: a task whose handler died is given out again.
// What came of each key is compared with what producers handed over and the service has seen.

const crashKeys = 260 // of two robots; more than one admission takes at once

func TestCrashesAnywhere(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var both crashTally // a machine that is very slow has few steps in each
	t.Cleanup(func() {
		if err := both.vacuous(); err != nil && !t.Failed() {
			t.Error(err)
		}
	})
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		var all crashTally
		rapid.Check(t, func(rt *rapid.T) { all.add(crashCase(rt, rdb)) })
		t.Logf("%+v", all)
		mu.Lock()
		defer mu.Unlock()
		both.add(all)
	})
}

// crashProcess is one process: what it remembers, and its way to Redis.
type crashProcess struct {
	*brink
	p   *pipeline
	rdb *redis.Client
}

// crashSubmission is a task of a producer.
type crashSubmission struct {
	intake.Task
	robot string
	keys  []string
	acked bool
}

type crashWorld struct {
	t           *rapid.T
	rdb         *redis.Client // the test's own: it never breaks
	insp        *asynq.Inspector
	store       *keystore.Store // likewise
	clock       time.Time
	processes   []*crashProcess
	submissions []*crashSubmission
	retries     map[string]int // of tasks, by id
	leases      map[string]int // how often a task was given out
	service     *crashService
	running     []string // tasks under way
	last        map[string]flow.State
	quiet       bool // nothing breaks any more
	crashTally
}

func crashCase(t *rapid.T, rdb *redis.Client) crashTally {
	if err := rdb.FlushDB(context.Background()).Err(); err != nil { // the database is this test's own
		t.Fatal(err)
	}
	w := &crashWorld{t: t, rdb: rdb, insp: asynq.NewInspectorFromRedisClient(rdb), clock: time.Now().Truncate(time.Second), retries: map[string]int{},
		leases: map[string]int{}, last: map[string]flow.State{}}
	w.service = newCrashService(w)
	w.store = keystore.New(rdb, "main", func() keystore.Params { return w.processes[0].p.apps["main"].params(w.processes[0].p.cfg) }, w.now)
	w.processes = []*crashProcess{w.newProcess(), w.newProcess()}
	defer func() {
		for _, c := range w.processes {
			c.close()
		}
	}()
	w.submit(t)
	t.Repeat(map[string]func(*rapid.T){
		"hand over": w.submit, "intake": w.takeIn, "intake more": w.takeIn, "dispatch": w.dispatchAny, "dispatch more": w.dispatchAny, "dispatch still more": w.dispatchAny,
		"wake": w.wake, "drain": w.drain, "reconcile": w.reconcile, "alarm": w.alarm, "replay": w.replay, "restart": w.restart, "clock": w.tick,
	})
	w.t, w.quiet = t, true
	w.untilQuiet()
	w.checkEnd()
	return w.crashTally
}

func (w *crashWorld) now() time.Time { return w.clock }

// newProcess wires a pipeline that has the test's clock and service, and whose timers never go off.
func (w *crashWorld) newProcess() *crashProcess {
	c := &crashProcess{brink: &brink{}}
	c.rdb = redis.NewClient(&redis.Options{Addr: w.rdb.Options().Addr, DB: w.rdb.Options().DB, MaxRetries: -1})
	c.rdb.AddHook(c.brink)
	cfg := DefaultConfig()
	cfg.Apps = []App{{Name: "main", Credentials: upstream.Credentials{AppKey: "key", AppSecret: "secret"}, Robots: []string{AnyRobot}}}
	cfg.Upstream = upstream.Config{BaseURL: "http://127.0.0.1:1"}
	cfg.MaxSlots, cfg.MaxAttempts, cfg.UnknownAttempts = 2, 3, 2
	p, err := newPipeline(cfg, Deps{Redis: c.rdb, Log: zap.NewNop()})
	if err != nil {
		w.t.Fatal(err)
	}
	p.wakeups.stop()
	p.wakeups.now = w.now
	a := p.apps["main"]
	a.store = keystore.New(c.rdb, "main", func() keystore.Params { return a.params(cfg) }, w.now)
	policy := dispatch.Policy{MaxAttempts: cfg.MaxAttempts, UnknownAttempts: cfg.UnknownAttempts, SplitAfter: cfg.SplitAfter, BackoffBase: time.Second,
		BackoffMax: time.Minute, Probe: time.Minute}
	p.dispatch, err = dispatch.New(dispatch.Config{Policy: policy, Slice: time.Minute}, dispatch.Deps{Service: crashCaller{w.service, c}, Observer: p.metrics,
		Log: zap.NewNop(), After: p.wakeups.after, Stopping: p.stopping}, []*dispatch.App{{Name: "main", Store: a.store, Tokens: crashTokens{}, Latency: a.latency}})
	if err != nil {
		w.t.Fatal(err)
	}
	c.p = p
	return c
}

func (c *crashProcess) close() {
	c.p.client.Close()
	_ = c.rdb.Close()
}

// on has a process do something. died: it did not live to the end of it, and another has taken its place.
func (w *crashWorld) on(t *rapid.T, c *crashProcess, f func(p *pipeline) error) (err error, died bool) { //nolint:revive // the error is the handler's
	w.Steps++
	if !w.quiet {
		c.arm(t)
	}
	before := c.broken
	defer func() {
		c.n = 0
		for i := range c.broken {
			w.Broken[i] += c.broken[i] - before[i]
		}
		if !c.dead {
			return
		}
		if r := recover(); r == nil {
			w.t.Fatal("a process that died went on to the end")
		}
		died = true
		if i := slices.Index(w.processes, c); i >= 0 {
			c.close()
			w.processes[i] = w.newProcess()
		}
	}()
	return f(c.p), false
}

func (w *crashWorld) any(t *rapid.T) *crashProcess {
	return w.processes[rapid.IntRange(0, len(w.processes)-1).Draw(t, "process")]
}

// submit has a producer hand over keys, some of which others have handed over before.
func (w *crashWorld) submit(t *rapid.T) {
	if len(w.submissions) > 12 {
		return
	}
	s := &crashSubmission{robot: rapid.SampledFrom([]string{"ding-a", "ding-b"}).Draw(t, "robot")}
	from, n := rapid.IntRange(0, crashKeys-1).Draw(t, "first key"), rapid.SampledFrom([]int{1, 20, 45, 230, 230}).Draw(t, "keys")
	for i := range n {
		s.keys = append(s.keys, fmt.Sprintf("key-%03d", (from+i)%crashKeys))
	}
	payload, err := json.Marshal(tasks.Submission{V: 1, RobotCode: s.robot, Keys: s.keys, Incident: rapid.SampledFrom([]string{"", "storm"}).Draw(t, "incident")})
	if err != nil {
		t.Fatal(err)
	}
	class := rapid.SampledFrom([]tasks.Class{tasks.ClassUrgent, tasks.ClassDefault, tasks.ClassBulk}).Draw(t, "class")
	s.Task = intake.Task{ID: fmt.Sprint("submit:", len(w.submissions)), Type: tasks.TypeSubmit, Queue: tasks.QueueDefault, Class: class, Payload: payload}
	w.submissions = append(w.submissions, s)
}

// takeIn gives out a submission that was not acknowledged, or one whose acknowledgement was lost.
func (w *crashWorld) takeIn(t *rapid.T) {
	s := rapid.SampledFrom(w.submissions).Draw(t, "submission")
	if s.acked && rapid.IntRange(0, 5).Draw(t, "again") > 0 {
		return
	}
	w.takeInOn(t, w.any(t), s)
}

func (w *crashWorld) takeInOn(t *rapid.T, c *crashProcess, s *crashSubmission) {
	err, died := w.on(t, c, func(p *pipeline) error { return p.intake.Submit(context.Background(), s.Task) })
	if err == nil && !died {
		s.acked = true
	}
	w.check(t)
}

// pending gives the tasks of a type that could be given out now.
func (w *crashWorld) pending(queue, taskType string) (out []*asynq.TaskInfo) {
	lists := []func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){w.insp.ListPendingTasks, w.insp.ListScheduledTasks}
	for _, list := range lists {
		infos, err := list(queue, asynq.PageSize(1000))
		if err != nil && !errors.Is(err, asynq.ErrQueueNotFound) {
			w.t.Fatal(err)
		}
		for _, info := range infos {
			later := info.State == asynq.TaskStateScheduled && info.NextProcessAt.After(w.clock) && taskType != tasks.TypeDead // those run when somebody says so
			if info.Type == taskType && !later && !slices.Contains(w.running, info.ID) {
				out = append(out, info)
			}
		}
	}
	return out
}

func (w *crashWorld) dispatchAny(t *rapid.T) { w.dispatchOn(t, w.any(t)) }

func (w *crashWorld) dispatchOn(t *rapid.T, c *crashProcess) {
	if free := w.pending(tasks.QueueDispatch, tasks.TypeDispatch); len(free) > 0 {
		w.give(t, c, rapid.SampledFrom(free).Draw(t, "task"))
	}
}

// give gives a dispatch task to a process. Where the task is given to another meanwhile, the queue takes no word of this one.
func (w *crashWorld) give(t *rapid.T, c *crashProcess, info *asynq.TaskInfo) {
	d, err := tasks.DecodeDispatch(info.Payload)
	if err != nil {
		w.t.Fatal(err)
	}
	w.leases[info.ID]++
	lease, retry := w.leases[info.ID], w.retries[info.ID]
	w.running = append(w.running, info.ID)
	err, died := w.on(t, c, func(p *pipeline) error {
		return p.dispatch.Run(context.Background(), d.App, d.Slot, d.Generation, retry)
	})
	if lease != w.leases[info.ID] {
		w.Late++
		return
	}
	w.running = slices.DeleteFunc(w.running, func(id string) bool { return id == info.ID })
	switch {
	case died || err != nil && isFailure(err):
		w.retries[info.ID]++
	case err == nil:
		w.done(tasks.QueueDispatch, info.ID)
	}
	w.check(t)
}

// done takes a task out of its queue, whose id is free from then on.
func (w *crashWorld) done(queue, id string) {
	delete(w.retries, id)
	if err := w.insp.DeleteTask(queue, id); err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
		w.t.Fatal(err)
	}
}

// loseLease has the queue give a task that is under way to another process: because its lease is over, or because the clock of whoever
// looked is wrong. Then it is refused, and its run, which goes on, may be the victim only once.
func (w *crashWorld) loseLease(t *rapid.T, c *crashProcess) {
	if len(w.running) == 0 {
		return
	}
	if rapid.Bool().Draw(t, "the lease is over") {
		w.clock = w.clock.Add(lease + time.Second)
	}
	id := w.running[len(w.running)-1]
	info, err := w.insp.GetTaskInfo(tasks.QueueDispatch, id)
	if err != nil {
		w.t.Fatal(err)
	}
	w.running = w.running[:len(w.running)-1]
	w.retries[id]++
	w.give(t, c, info)
}

func (w *crashWorld) wake(t *rapid.T) {
	w.on(t, w.any(t), func(p *pipeline) error { return p.wake(context.Background(), "main") })
	w.check(t)
}

func (w *crashWorld) drain(t *rapid.T) {
	w.on(t, w.any(t), func(p *pipeline) error { return p.drain(context.Background(), "main") })
	w.check(t)
}

func (w *crashWorld) reconcile(t *rapid.T) { w.reconcileOn(t, w.any(t)) }

func (w *crashWorld) reconcileOn(t *rapid.T, c *crashProcess) {
	w.on(t, c, func(p *pipeline) error { return p.runReconcile(context.Background()) })
	w.check(t)
}

func (w *crashWorld) alarm(t *rapid.T) {
	for _, info := range w.pending(tasks.QueueDefault, tasks.TypeAlarm) {
		err, died := w.on(t, w.any(t), func(p *pipeline) error { return p.wake(context.Background(), "main") })
		if err == nil && !died {
			w.done(tasks.QueueDefault, info.ID)
		}
	}
	w.check(t)
}

// replay has an operator run a dead letter.
func (w *crashWorld) replay(t *rapid.T) {
	letters := w.pending(tasks.QueueDead, tasks.TypeDead)
	if len(letters) == 0 {
		return
	}
	info := rapid.SampledFrom(letters).Draw(t, "letter")
	err, died := w.on(t, w.any(t), func(p *pipeline) error { return p.dead.Run(context.Background(), info.ID, info.Payload) })
	w.Replays++
	if err == nil && !died {
		w.done(tasks.QueueDead, info.ID)
	}
	w.check(t)
}

// restart ends a process between two tasks: what it was to do on its own account (drain an outbox, say) is forgotten.
func (w *crashWorld) restart(t *rapid.T) {
	i := rapid.IntRange(0, len(w.processes)-1).Draw(t, "process")
	w.processes[i].close()
	w.processes[i] = w.newProcess()
}

func (w *crashWorld) tick(t *rapid.T) {
	w.clock = w.clock.Add(rapid.SampledFrom([]time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, time.Minute}).Draw(t, "time"))
}

// untilQuiet lets everything come to its end: processes live, the service answers.
func (w *crashWorld) untilQuiet() {
	for i := range w.processes {
		w.processes[i].close()
		w.processes[i] = w.newProcess()
	}
	c := w.processes[0]
	for range 3000 {
		if i := slices.IndexFunc(w.submissions, func(s *crashSubmission) bool { return !s.acked }); i >= 0 {
			w.takeInOn(w.t, c, w.submissions[i])
			continue
		}
		if due := w.pending(tasks.QueueDispatch, tasks.TypeDispatch); len(due) > 0 {
			w.give(w.t, c, due[0])
			w.clock = w.clock.Add(time.Second) // a slot whose run died in a call is given out once its lease is over
			continue
		}
		w.reconcileOn(w.t, c)
		if len(w.pending(tasks.QueueDispatch, tasks.TypeDispatch)) > 0 {
			continue
		}
		r, err := w.store.Wake(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		if r.Next.IsZero() && len(r.Due) == 0 {
			return
		}
		if r.Next.After(w.clock) {
			w.clock = r.Next
		}
	}
	w.t.Fatalf("there is no end to it: %+v", w.status())
}

func (w *crashWorld) status() keystore.AppStatus {
	st, err := w.store.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}
