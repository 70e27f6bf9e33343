package worker_test

import (
	"context"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker/internal/redistest"
)

func TestSameSubmissionTwiceIsOne(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, nil)
		keys := goodKeys(50)
		b.recall(keys)
		if r := b.recall(keys); r.AlreadyQueued != 1 {
			t.Errorf("while it waits in the queue: %+v", r)
		}
		b.start()
		b.untilSettled(50)
		b.recall(keys) // after it is done: the ledger knows its keys
		b.recall(keys[10:30], tasks.WithClass(tasks.ClassUrgent), tasks.Incident("another"))
		b.recall(madeKeys(500, 1, simulator.Good)) // what is submitted last is settled last
		b.untilSettled(51)
		until(t, "all submissions are done", func() bool {
			return b.queue(tasks.QueueDefault).Pending+b.queue(tasks.QueueDefault).Active+b.queue(tasks.QueueUrgent).Pending+b.queue(tasks.QueueUrgent).Active == 0
		})
		st := b.untilSettled(51)
		s := b.sim.Stats()
		if s.KeysAskedAgain != 0 || s.KeysRecalled != 51 || st.Total.Recalled != 51 {
			t.Errorf("asked again %d, recalled %d and %d", s.KeysAskedAgain, s.KeysRecalled, st.Total.Recalled)
		}
	})
}

// asynq runs a task again whose acknowledgement was lost: the same submission under the same id, after it was admitted.
func TestSubmissionThatRunsAgainIsHarmless(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, nil)
		bad, good := madeKeys(1000, 5, simulator.Unknown), goodKeys(50)
		payload := tasks.Submission{RobotCode: robot, Keys: append(append([]string{}, good...), bad...), Incident: "storm"}
		task, opts := tasks.NewSubmitTask(payload, tasks.ClassDefault)
		client := asynq.NewClientFromRedisClient(rdb)
		b.start()
		for range 3 {
			if _, err := client.EnqueueContext(context.Background(), task, opts...); err != nil {
				t.Fatal(err)
			}
			b.untilSettled(55)
			until(t, "the task is done", func() bool {
				_, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(tasks.QueueDefault, tasks.SubmitTaskID(payload, tasks.ClassDefault))
				return err != nil
			})
		}
		st := b.untilSettled(55)
		if st.Total.Recalled != 50 || st.Total.Dead != 5 {
			t.Errorf("%+v", st.Total)
		}
		letters := b.untilLetters(1)
		if len(letters[0].Letter.Keys) != 5 {
			t.Errorf("the letter has %d keys", len(letters[0].Letter.Keys))
		}
		if s := b.sim.Stats(); s.KeysAskedAgain != 0 {
			t.Errorf("%d keys were asked again", s.KeysAskedAgain)
		}
	})
}
