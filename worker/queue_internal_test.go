package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

func TestWhatAHandlerReturnsBecomesTheQueuesKnobs(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	blamed, blameless := &flow.Later{Delay: 7 * time.Minute, Blame: true, Err: cause}, &flow.Later{Delay: 0, Err: cause}
	for _, c := range []struct {
		name    string
		err     error
		retried int
		delay   time.Duration
		failure bool
	}{
		{"later, with blame", blamed, 3, 7 * time.Minute, true},
		{"later, without blame, at once", blameless, 300, 0, false},
		{"wrapped", fmt.Errorf("on the way: %w", fmt.Errorf("again: %w", blameless)), 0, 0, false},
		{"joined", errors.Join(cause, blamed), 0, 7 * time.Minute, true},
		{"lease expired", asynq.ErrLeaseExpired, 0, time.Second, true},
		{"lease expired, wrapped", fmt.Errorf("x: %w", asynq.ErrLeaseExpired), 1, 2 * time.Second, true},
		{"a panic", errors.New("panic [runtime error: index out of range]"), 4, 16 * time.Second, true},
		{"time is over", context.DeadlineExceeded, 5, 30 * time.Second, true},
		{"anything, many times", cause, math.MaxInt32, 30 * time.Second, true},
	} {
		if got := retryDelay(c.retried, c.err, nil); got != c.delay {
			t.Errorf("%s: runs again after %v, want %v", c.name, got, c.delay)
		}
		if got := isFailure(c.err); got != c.failure {
			t.Errorf("%s: blame %v", c.name, got)
		}
	}
}

func TestEveryQueueHasAServer(t *testing.T) {
	t.Parallel()
	served := map[string]int{}
	for q := range intakeQueues() {
		served[q]++
	}
	for q := range dispatchQueues() {
		served[q]++
	}
	for _, q := range tasks.Queues() {
		if served[q] != 1 {
			t.Errorf("queue %s has %d servers: its scheduled tasks would never run, or two kinds of handlers would", q, served[q])
		}
	}
	if len(served) != len(tasks.Queues()) {
		t.Errorf("served %v", served)
	}
}

func TestATaskThatExistsIsNoError(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	q := newEnqueuer(rdb)
	task, opts := tasks.NewDispatchTask(tasks.Dispatch{App: "main", Slot: 1, Generation: 1})
	for range 3 {
		if err := q.put(context.Background(), task, opts); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := asynq.NewInspectorFromRedisClient(rdb).GetQueueInfo(tasks.QueueDispatch); err != nil || info.Pending != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	_ = rdb.Close()
	if err := q.put(context.Background(), task, opts); err == nil {
		t.Error("no Redis, and no error")
	}
}
