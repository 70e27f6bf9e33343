package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

// yard is a pipeline without servers: nothing runs but what the test runs.
type yard struct {
	t    *testing.T
	p    *pipeline
	insp *asynq.Inspector
	rdb  *redis.Client
}

func newYard(t *testing.T, rdb *redis.Client) *yard {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Apps = []App{{Name: "main", Credentials: upstream.Credentials{AppKey: "key", AppSecret: "secret"}, Robots: []string{AnyRobot}}}
	cfg.Upstream = upstream.Config{BaseURL: "http://127.0.0.1:1"}
	cfg.Linger = 0
	p, err := newPipeline(cfg, Deps{Redis: rdb, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.wakeups.stop(); p.drainer.stop(); p.client.Close() })
	return &yard{t: t, p: p, insp: asynq.NewInspectorFromRedisClient(rdb), rdb: rdb}
}

// archive enqueues a task and archives it.
func (y *yard) archive(queue, id, taskType, payload string) {
	y.t.Helper()
	y.enqueue(queue, id, taskType, payload)
	if err := y.insp.ArchiveTask(queue, id); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) enqueue(queue, id, taskType, payload string, opts ...asynq.Option) {
	y.t.Helper()
	all := append([]asynq.Option{asynq.Queue(queue), asynq.TaskID(id)}, opts...)
	if _, err := y.p.queue.client.Enqueue(asynq.NewTask(taskType, []byte(payload)), all...); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) reconcile() {
	y.t.Helper()
	if err := y.p.runReconcile(context.Background()); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) archived() int {
	y.t.Helper()
	n := 0
	for _, q := range tasks.Queues() {
		if info, err := y.insp.GetQueueInfo(q); err == nil {
			n += info.Archived
		}
	}
	return n
}

// letters gives the scheduled dead letters by id.
func (y *yard) letters() map[string]tasks.DeadLetter {
	y.t.Helper()
	infos, err := y.insp.ListScheduledTasks(tasks.QueueDead, asynq.PageSize(1000))
	if err != nil {
		y.t.Fatal(err)
	}
	out := map[string]tasks.DeadLetter{}
	for _, i := range infos {
		l, err := tasks.DecodeDeadLetter(i.Payload)
		if err != nil {
			y.t.Fatalf("%s: %v", i.ID, err)
		}
		out[i.ID] = l
	}
	return out
}

func (y *yard) record(key string) keystore.KeyRecord {
	y.t.Helper()
	recs, err := y.p.apps["main"].store.Lookup(context.Background(), "r", []string{key})
	if err != nil {
		y.t.Fatal(err)
	}
	return recs[0]
}

func (y *yard) state(queue, id string) string {
	info, err := y.insp.GetTaskInfo(queue, id)
	if err != nil {
		return "gone"
	}
	return info.State.String()
}

func submission(key string) string { return fmt.Sprintf(`{"v":1,"robotCode":"r","keys":[%q]}`, key) }

func TestArchivedTasksEndWhereTheyShould(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		y := newYard(t, rdb)
		letter := tasks.DeadLetter{V: 1, App: "main", RobotCode: "r", Keys: []string{"dead"}, Code: "system.error", Batch: 7, Class: tasks.ClassBulk,
			DiedAt: time.Now().UnixMilli(), RetainUntil: time.Now().Add(24 * time.Hour).UnixMilli()}
		raw, err := json.Marshal(letter)
		if err != nil {
			t.Fatal(err)
		}
		// What is archived in a queue that it belongs to, and in one that it does not.
		for i, q := range tasks.Queues() {
			y.archive(q, fmt.Sprintf("submit-%d", i), tasks.TypeSubmit, submission("in-"+q))
			y.archive(q, fmt.Sprintf("bad-%d", i), tasks.TypeSubmit, "{")
			y.archive(q, fmt.Sprintf("mail-%d", i), "mail:send", "hello")
			y.archive(q, fmt.Sprintf("dead-%d", i), tasks.TypeDead, string(raw))
			y.archive(q, fmt.Sprintf("junk-%d", i), tasks.TypeDead, "junk")
			y.archive(q, fmt.Sprintf("dispatch-%d", i), tasks.TypeDispatch, `{"app":"main","slot":1,"generation":1}`)
			y.archive(q, fmt.Sprintf("alarm-%d", i), tasks.TypeAlarm, `{"app":"main","at":1}`)
			y.archive(q, fmt.Sprintf("reconcile-%d", i), tasks.TypeReconcile, `{}`)
		}
		y.reconcile()
		y.reconcile()
		if n := y.archived(); n != 0 {
			t.Errorf("%d tasks are archived still", n)
		}
		for q, class := range map[string]flow.Class{tasks.QueueUrgent: flow.Urgent, tasks.QueueDefault: flow.Default, tasks.QueueBulk: flow.Bulk, tasks.QueueDispatch: flow.Default, tasks.QueueDead: flow.Default} {
			if r := y.record("in-" + q); r.State != flow.Waiting || r.Class != class {
				t.Errorf("the key archived in %s: %+v", q, r)
			}
		}
		ls := y.letters()
		if len(ls) != 4*len(tasks.Queues()) {
			t.Errorf("%d letters", len(ls))
		}
		for i, q := range tasks.Queues() {
			if l := ls[fmt.Sprintf("dead-%d:again", i)]; !slices.Equal(l.Keys, letter.Keys) || l.Batch != 7 || l.RetainUntil != letter.RetainUntil || l.Class != tasks.ClassBulk {
				t.Errorf("the letter archived in %s: %+v", q, l)
			}
			for id, payload := range map[string]string{"bad": "{", "mail": "hello", "junk": "junk"} {
				l := ls[fmt.Sprintf("dead:%s-%d:submission.malformed", id, i)]
				if l.Code != tasks.CodeSubmissionMalformed || string(l.Raw()) != payload || !strings.HasSuffix(l.Origin, "in "+q+")") {
					t.Errorf("%s archived in %s: %+v", id, q, l)
				}
			}
		}
		if st, err := y.p.apps["main"].store.Status(context.Background()); err != nil || st.Total.Accepted != 5 || st.Total.Waiting != 5 {
			t.Errorf("%+v, %v", st.Total, err)
		}
	})
}

// TestALetterMayBeArchivedAgainAndAgain: its ids alternate, so that its own is never taken.
func TestALetterMayBeArchivedAgainAndAgain(t *testing.T) {
	t.Parallel()
	y := newYard(t, redistest.Mini(t))
	l := tasks.DeadLetter{RobotCode: "r", Keys: []string{"dead"}, Code: "c", DiedAt: time.Now().UnixMilli(), RetainUntil: time.Now().Add(24 * time.Hour).UnixMilli()}
	if err := y.p.queue.bury(context.Background(), l, "dead:main:1:1"); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		id, next := "dead:main:1:1", "dead:main:1:1:again"
		if i%2 == 1 {
			id, next = next, id
		}
		if err := y.insp.ArchiveTask(tasks.QueueDead, id); err != nil {
			t.Fatal(err)
		}
		y.reconcile()
		if ls := y.letters(); len(ls) != 1 || ls[next].Code != "c" {
			t.Fatalf("the %dth time: %v", i+1, ls)
		}
	}
}

func TestMoreThanAPageIsRescued(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		y := newYard(t, rdb)
		const n = 2*rescuePage + 1
		for i := range n {
			y.enqueue(tasks.QueueBulk, fmt.Sprintf("s%d", i), tasks.TypeSubmit, submission(fmt.Sprintf("k%d", i)))
		}
		if all, err := y.insp.ArchiveAllPendingTasks(tasks.QueueBulk); err != nil || all != n {
			t.Fatal(all, err)
		}
		y.reconcile()
		st, err := y.p.apps["main"].store.Status(context.Background())
		if err != nil || st.Total.Accepted != n || y.archived() != 0 {
			t.Errorf("%+v, %d archived, %v", st.Total, y.archived(), err)
		}
	})
}

// TestTheArchiveOfAWorkerThatDiedHalfWay: a task whose work was done and that was not removed yet does no more.
func TestTheArchiveOfAWorkerThatDiedHalfWay(t *testing.T) {
	t.Parallel()
	y := newYard(t, redistest.Mini(t))
	for range 2 {
		y.archive(tasks.QueueDefault, "s", tasks.TypeSubmit, submission("k"))
		y.archive(tasks.QueueDefault, "bad", tasks.TypeSubmit, "{")
		y.reconcile()
	}
	if st, err := y.p.apps["main"].store.Status(context.Background()); err != nil || st.Total.Accepted != 1 || len(y.letters()) != 1 {
		t.Errorf("%+v, letters %v, %v", st.Total, y.letters(), err)
	}
}

// TestEntriesWithoutATaskDoNotLoop: asynq leaves such behind when its archive overflows.
func TestEntriesWithoutATaskDoNotLoop(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		y := newYard(t, rdb)
		y.archive(tasks.QueueDefault, "s", tasks.TypeSubmit, submission("k"))
		for i := range 2 * rescuePage {
			if err := rdb.ZAdd(context.Background(), "asynq:{recall}:archived", redis.Z{Score: float64(i + 1), Member: fmt.Sprintf("ghost-%d", i)}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := y.p.runReconcile(ctx); err != nil {
			t.Fatal(err)
		}
		if info, err := y.insp.GetQueueInfo(tasks.QueueDead); err == nil && info.Size > 0 {
			t.Errorf("letters were made of nothing: %+v", info)
		}
	})
}

// TestTasksOfSlotsAreMadeAnew: deleted or archived, the task of every slot that is not idle is there after one reconcile.
func TestTasksOfSlotsAreMadeAnew(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		y := newYard(t, rdb)
		ctx := context.Background()
		keys := make([]string, 90)
		for i := range keys {
			keys[i] = fmt.Sprintf("k%d", i)
		}
		_, r, err := y.p.apps["main"].store.Admit(ctx, keystore.Admission{RobotCode: "r", Keys: keys})
		if err != nil || len(r.Due) < 2 {
			t.Fatalf("%v, due %v", err, r.Due)
		}
		if err := y.p.wakeups.after(ctx, "main", r); err != nil {
			t.Fatal(err)
		}
		id := func(i int) string {
			return tasks.DispatchTaskID(tasks.Dispatch{App: "main", Slot: r.Due[i].Slot, Generation: r.Due[i].Generation})
		}
		if _, err := y.p.apps["main"].store.Attach(ctx, r.Due[1].Slot, r.Due[1].Generation, 0); err != nil { // running, and its task is deleted too
			t.Fatal(err)
		}
		if err := y.insp.ArchiveTask(tasks.QueueDispatch, id(0)); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(r.Due); i++ {
			if err := y.insp.DeleteTask(tasks.QueueDispatch, id(i)); err != nil {
				t.Fatal(err)
			}
		}
		y.reconcile()
		for i := range r.Due {
			if s := y.state(tasks.QueueDispatch, id(i)); s != "pending" {
				t.Errorf("%s is %s", id(i), s)
			}
		}
		y.reconcile()
		if info, err := y.insp.GetQueueInfo(tasks.QueueDispatch); err != nil || info.Size != len(r.Due) {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

// TestAnArchivedReconcileComesBack: nothing else would bring archived tasks back.
func TestAnArchivedReconcileComesBack(t *testing.T) {
	t.Parallel()
	y := newYard(t, redistest.Mini(t))
	for range 3 {
		if err := y.p.beat(context.Background()); err != nil {
			t.Fatal(err)
		}
		if s := y.state(tasks.QueueDefault, tasks.ReconcileTaskID); s != "pending" {
			t.Fatalf("it is %s", s)
		}
		if err := y.insp.ArchiveTask(tasks.QueueDefault, tasks.ReconcileTaskID); err != nil {
			t.Fatal(err)
		}
	}
	_ = y.rdb.Close()
	if err := y.p.beat(context.Background()); err == nil {
		t.Error("no Redis, and no error")
	}
}

// TestAHandMadeSubmissionThatAsynqGivesUp: its deadline is over and it may not be retried, so it never reaches a handler.
func TestAHandMadeSubmissionThatAsynqGivesUp(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		y := newYard(t, rdb)
		y.enqueue(tasks.QueueDefault, "late", tasks.TypeSubmit, submission("k"), asynq.MaxRetry(0), asynq.Deadline(time.Now().Add(-time.Hour)))
		server := newServer(rdb, zap.NewNop(), 2, time.Second, intakeQueues())
		if err := server.Start(y.p.handlers()); err != nil {
			t.Fatal(err)
		}
		defer server.Shutdown()
		eventually(t, "it is archived", func() bool { return y.state(tasks.QueueDefault, "late") == "archived" })
		if r := y.record("k"); r.State != flow.Unknown {
			t.Fatalf("it reached its handler: %+v", r)
		}
		if err := y.p.beat(context.Background()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "its key waits", func() bool { return y.record("k").State == flow.Waiting })
		eventually(t, "the archive is empty", func() bool { return y.archived() == 0 })
	})
}

// TestReconcileFailsForLater: what Redis could not do is done again soon.
func TestReconcileFailsForLater(t *testing.T) {
	t.Parallel()
	y := newYard(t, redistest.Mini(t))
	_ = y.rdb.Close()
	err := y.p.runReconcile(context.Background())
	if err == nil || isFailure(err) || retryDelay(0, err, nil) != 5*time.Second {
		t.Errorf("%v", err)
	}
	for _, s := range steps {
		if !strings.Contains(err.Error(), s+": ") {
			t.Errorf("the step %s is not in %v", s, err)
		}
	}
}
