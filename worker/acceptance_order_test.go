package worker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

// oneAtATime makes a worker call at a steady rate from one slot, so that the order of calls is the order of claims.
func oneAtATime(rate float64) func(*worker.Config) {
	return func(c *worker.Config) {
		c.Apps[0].Rate, c.MaxSlots = rate, 1
	}
}

// holdBack pauses dispatch until the test has all in that it wants, and gives what lets it go.
func (b *bundle) holdBack() (release func()) {
	b.t.Helper()
	insp := asynq.NewInspectorFromRedisClient(b.rdb)
	// A queue can be paused from its first task on.
	t, opts := tasks.NewDispatchTask(tasks.Dispatch{App: "nobody", Slot: 1, Generation: 1})
	if _, err := asynq.NewClientFromRedisClient(b.rdb).Enqueue(t, opts...); err != nil {
		b.t.Fatal(err)
	}
	if err := insp.PauseQueue(tasks.QueueDispatch); err != nil {
		b.t.Fatal(err)
	}
	if err := insp.DeleteTask(tasks.QueueDispatch, tasks.DispatchTaskID(tasks.Dispatch{App: "nobody", Slot: 1, Generation: 1})); err != nil {
		b.t.Fatal(err)
	}
	return func() {
		b.t.Helper()
		if err := insp.UnpauseQueue(tasks.QueueDispatch); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bundle) untilAccepted(n int) {
	b.t.Helper()
	until(b.t, "all keys are accepted", func() bool { return b.status().Total.Accepted == int64(n) })
}

func TestUrgentKeysOvertakeABacklog(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, oneAtATime(20))
		b.start()
		b.recall(madeKeys(0, 1000, simulator.Good), tasks.WithClass(tasks.ClassBulk))
		until(t, "the backlog is being called", func() bool { return b.calls.count() > 0 })
		urgent := madeKeys(5000, 3, simulator.Good)
		b.recall(urgent, tasks.WithClass(tasks.ClassUrgent))
		b.untilAccepted(1003)
		before := b.calls.count()
		find := func() int {
			return slices.IndexFunc(b.calls.inOrder(), func(c simulator.RecallSeen) bool { return slices.Contains(c.Keys, urgent[0]) })
		}
		until(t, "the urgent keys are called", func() bool { return find() >= 0 })
		at := find()
		// The call in flight and the batch that its settle bound may go first.
		if at > before+2 {
			t.Errorf("the urgent keys went as call %d, and %d were over when they came", at+1, before)
		}
		call := b.calls.inOrder()[at]
		for i, k := range urgent {
			if !slices.Contains(call.Keys, k) {
				t.Errorf("urgent key %d went apart from the others", i)
			}
		}
		if len(call.Keys) != 20 {
			t.Errorf("the urgent call has %d keys, and others of the robot were there to fill it", len(call.Keys))
		}
		if left := b.status().Total; left.Waiting == 0 {
			t.Errorf("the backlog was over before: nothing was overtaken")
		}
	})
}

func TestEarliestWindowGoesFirst(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, oneAtATime(50))
		release := b.holdBack()
		b.start()
		now := time.Now()
		hours := []int{5, 20, 1, 12, 22, 8, 16, 3} // ago, in the order of submission
		at := map[string]int{}
		for i, h := range hours {
			sent := now.Add(-time.Duration(h) * time.Hour)
			keys := make([]string, 20)
			for j := range keys {
				keys[j] = simulator.MakeKey(1, uint64(100*i+j), simulator.Good, sent)
				at[keys[j]] = h
			}
			b.recall(keys, tasks.SentAt(sent))
		}
		b.untilAccepted(20 * len(hours))
		if n := b.calls.count(); n > 0 {
			t.Fatalf("%d calls were made while dispatch was paused", n)
		}
		release()
		b.untilSettled(20 * len(hours))
		var got []int
		for _, c := range b.calls.inOrder() {
			for _, k := range c.Keys {
				got = append(got, at[k])
			}
		}
		if !slices.IsSortedFunc(got, func(a, b int) int { return b - a }) || len(got) != 20*len(hours) {
			t.Errorf("%d keys were called in the order of these hours since sending: %v", len(got), slices.Compact(got))
		}
	})
}

func TestSmallRobotIsNotStarvedByABigOne(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, oneAtATime(20))
		b.start()
		b.recall(madeKeys(0, 1000, simulator.Good))
		until(t, "the big robot is being called", func() bool { return b.calls.count() > 0 })
		if _, err := b.client.Recall(context.Background(), "smallrobot", madeKeys(5000, 40, simulator.Good)); err != nil {
			t.Fatal(err)
		}
		b.untilAccepted(1040)
		before := b.calls.count()
		small := func() (at []int) {
			for i, c := range b.calls.inOrder() {
				if c.Robot == "smallrobot" {
					at = append(at, i)
				}
			}
			return at
		}
		until(t, "the small robot is done", func() bool { return len(small()) == 2 })
		// Robots take turns: its two calls are each at most one turn of the other away, beside what was bound already.
		if at := small(); at[0] > before+3 || at[1] > at[0]+2 {
			t.Errorf("the small robot's calls were number %d and %d, and %d were over when it came", at[0]+1, at[1]+1, before)
		}
		if left := b.status().Total; left.Waiting == 0 {
			t.Error("the big robot was done before: nothing was shared")
		}
	})
}
