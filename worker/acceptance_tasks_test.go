package worker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

// raw enqueues a task as a producer does that does not import package tasks.
func (b *bundle) raw(taskType, payload string, opts ...asynq.Option) {
	b.t.Helper()
	if _, err := asynq.NewClientFromRedisClient(b.rdb).Enqueue(asynq.NewTask(taskType, []byte(payload)), opts...); err != nil {
		b.t.Fatal(err)
	}
}

// reconcile has the periodic repair run now.
func (b *bundle) reconcile() {
	b.t.Helper()
	t, opts := tasks.NewReconcileTask()
	client := asynq.NewClientFromRedisClient(b.rdb)
	until(b.t, "no other reconcile is under way", func() bool {
		_, err := client.Enqueue(t, opts...)
		return err == nil
	})
}

func TestMinimalTaskOfTheDocumentWorks(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, nil)
		b.start()
		key := goodKeys(1)[0]
		// The least that docs/tasks.md promises to work, with nothing but a queue.
		b.raw("recall:submit", fmt.Sprintf(`{"robotCode": "dingue4kfzdxbyn0pjqd", "keys": [%q]}`, key), asynq.Queue("recall"))
		b.untilSettled(1)
		if s := b.sim.Stats(); s.KeysRecalled != 1 || s.CallsByRobot["dingue4kfzdxbyn0pjqd"] != 1 {
			t.Errorf("recalled %d, calls %v", s.KeysRecalled, s.CallsByRobot)
		}
		until(t, "the task is gone", func() bool { q := b.queue("recall"); return q.Pending+q.Active+q.Retry+q.Archived == 0 })
	})
}

func TestUnusableTasksBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	good := goodKeys(2)
	// Each: what is enqueued, and what its letter says.
	for _, c := range []struct{ name, taskType, queue, payload, code, reason string }{
		{"no JSON", "recall:submit", "recall", `robot=1`, tasks.CodeSubmissionMalformed, "JSON"},
		{"nothing", "recall:submit", "recall-bulk", ``, tasks.CodeSubmissionMalformed, ""},
		{"keys of a wrong type", "recall:submit", "recall-urgent", `{"robotCode":"r","keys":"K"}`, tasks.CodeSubmissionMalformed, "keys"},
		{"no robot", "recall:submit", "recall", `{"keys":["K"]}`, tasks.CodeSubmissionMalformed, "robotCode"},
		{"newer version", "recall:submit", "recall", `{"v":99,"robotCode":"r","keys":["K"]}`, tasks.CodeSubmissionMalformed, "version"},
		{"no UTF-8", "recall:submit", "recall", "\xff\xfe{}", tasks.CodeSubmissionMalformed, ""},
		{"wrong type of task", "mail:send", "recall", `{"to":"all"}`, tasks.CodeSubmissionMalformed, `"mail:send"`},
		{"a bad key among good ones", "recall:submit", "recall", fmt.Sprintf(`{"robotCode":"r","keys":[%q,"a\nb",%q]}`, good[0], good[1]), tasks.CodeKeyMalformed, "control character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
				b := setup(t, rdb, simulator.Config{}, nil)
				b.start()
				b.raw(c.taskType, c.payload, asynq.Queue(c.queue), asynq.TaskID("the-task"))
				l := b.untilLetters(1)[0].Letter
				if l.Code != c.code || !strings.Contains(l.Message, c.reason) || !strings.Contains(l.Origin, "the-task") {
					t.Errorf("code %q, message %q, origin %q", l.Code, l.Message, l.Origin)
				}
				if c.code == tasks.CodeKeyMalformed {
					b.untilSettled(2)
					if b.sim.Stats().KeysRecalled != 2 || len(l.Keys) != 1 || l.Keys[0] != "a\nb" {
						t.Errorf("%d good keys recalled, the letter has %q", b.sim.Stats().KeysRecalled, l.Keys)
					}
				} else if string(l.Raw()) != c.payload {
					t.Errorf("the letter holds %q of %q", l.Raw(), c.payload)
				}
				until(t, "the task is gone", func() bool { q := b.queue(c.queue); return q.Pending+q.Active+q.Retry+q.Archived == 0 })
			})
		})
	}
}

// A robot that no app names is mended in the configuration; asynqmon's "run" then brings its keys back.
func TestReplayAfterTheRobotWasConfigured(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, func(c *worker.Config) { c.Apps[0].Robots = []string{"another"} })
		w := b.start()
		keys := goodKeys(30)
		sent := time.Now().Add(-time.Hour).Truncate(time.Second)
		b.recall(keys, tasks.Incident("storm"), tasks.WithClass(tasks.ClassUrgent), tasks.SentAt(sent))
		d := b.untilLetters(1)[0]
		if d.Letter.Code != tasks.CodeRobotUnconfigured || len(d.Letter.Keys) != 30 || !strings.Contains(d.Letter.Message, robot) {
			t.Fatalf("%+v", d.Letter)
		}
		insp := asynq.NewInspectorFromRedisClient(rdb)
		// Too early: the letter says why it still cannot be replayed, and stays.
		if err := insp.RunTask(tasks.QueueDead, d.ID); err != nil {
			t.Fatal(err)
		}
		until(t, "the replay was refused", func() bool {
			info, err := insp.GetTaskInfo(tasks.QueueDead, d.ID)
			return err == nil && info.State == asynq.TaskStateRetry && strings.Contains(info.LastErr, "no app")
		})
		w.Stop()
		b.cfg.Apps[0].Robots = []string{worker.AnyRobot}
		b.start()
		if err := insp.RunTask(tasks.QueueDead, d.ID); err != nil {
			t.Fatal(err)
		}
		b.untilSettled(30)
		if s := b.sim.Stats(); s.KeysRecalled != 30 {
			t.Errorf("%d keys recalled", s.KeysRecalled)
		}
		recs, err := b.insp.Keys(context.Background(), robot, keys)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			if r.State != worker.KeyRecalled || r.Incident != "storm" || !r.Deadline.Equal(sent.Add(b.cfg.Window-b.cfg.Margin)) {
				t.Errorf("%+v", r)
			}
		}
		b.untilLetters(0)
	})
}

func TestReplayOfKeysThatTheServiceRefused(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		const n = 7
		b := setup(t, rdb, simulator.Config{}, nil)
		keys := goodKeys(n)
		for _, k := range keys { // as long as nobody knows them they are another robot's
			b.sim.RegisterKey(k, simulator.KeyInfo{Robot: "another", SentAt: time.Now()})
		}
		b.start()
		b.recall(keys)
		b.untilSettled(n)
		d := b.untilLetters(1)[0]
		if d.Letter.Code != "not.allowed.robotCode" || len(d.Letter.Keys) != n {
			t.Fatalf("%+v", d.Letter)
		}
		for _, k := range keys {
			b.sim.RegisterKey(k, simulator.KeyInfo{Robot: robot, SentAt: time.Now()})
		}
		if err := b.insp.Replay(context.Background(), d.ID); err != nil {
			t.Fatal(err)
		}
		until(t, "the keys are recalled", func() bool { return b.sim.Stats().KeysRecalled == n })
		b.untilLetters(0)
		st := b.untilSettled(n)
		if st.Total.Recalled != n || st.Total.Dead != 0 {
			t.Errorf("%+v", st.Total)
		}
		if err := b.insp.Replay(context.Background(), d.ID); err == nil {
			t.Error("a letter that is gone was replayed")
		}
	})
}

func TestArchivedTasksComeBack(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, nil)
		insp := asynq.NewInspectorFromRedisClient(rdb)
		// Somebody archives submissions before a worker is there, and one is archived by asynq itself: its deadline passes in the queue.
		for _, queue := range []string{"recall-urgent", "recall", "recall-bulk"} {
			payload := fmt.Sprintf(`{"robotCode":%q,"keys":[%q]}`, robot, "key-of-"+queue)
			b.raw("recall:submit", payload, asynq.Queue(queue), asynq.TaskID("archived"))
			if n, err := insp.ArchiveAllPendingTasks(queue); err != nil || n != 1 {
				t.Fatal(n, err)
			}
		}
		b.raw("recall:submit", fmt.Sprintf(`{"robotCode":%q,"keys":["key-with-deadline"]}`, robot), asynq.Queue("recall"),
			asynq.Deadline(time.Now().Add(-time.Minute)), asynq.MaxRetry(0))
		bad := madeKeys(900, 5, simulator.Expired)
		b.recall(bad)
		b.start()
		until(t, "the task with a deadline is archived or done", func() bool {
			q := b.queue("recall")
			return q.Pending+q.Active+q.Retry == 0
		})
		b.reconcile()
		b.untilSettled(4 + len(bad))
		for _, queue := range tasks.Queues() {
			until(t, "nothing is archived in "+queue, func() bool { return b.queue(queue).Archived == 0 })
		}
		// A dead letter in the archive comes back as a scheduled one, and can be replayed.
		b.untilLetters(1)
		if n, err := insp.ArchiveAllScheduledTasks(tasks.QueueDead); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		b.reconcile()
		until(t, "the letter is scheduled again", func() bool {
			l := b.letters()
			return len(l) == 1 && l[0].State == "scheduled"
		})
		l := b.letters()[0].Letter
		slices.Sort(bad)
		slices.Sort(l.Keys)
		if !slices.Equal(l.Keys, bad) {
			t.Errorf("the letter has %v, want %v", l.Keys, bad)
		}
	})
}
