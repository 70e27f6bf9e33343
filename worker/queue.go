package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
)

// This file is all that knows how asynq is made to do what the stages ask for.

const (
	// pollEvery is how often an empty queue is looked at; asynq's default of a second would be most of an urgent key's way.
	pollEvery = 15 * time.Millisecond
	// forwardEvery is how often scheduled and retried tasks are looked at; asynq's default is 5 s.
	forwardEvery = 200 * time.Millisecond
)

// retryDelay maps what a handler returned to when the task runs again.
func retryDelay(n int, err error, _ *asynq.Task) time.Duration {
	var later *flow.Later
	if errors.As(err, &later) {
		return later.Delay
	}
	// A lease that ran out, a panic, a time-out: nobody knows what was done, so somebody looks soon.
	return min(time.Second<<min(n, 5), 30*time.Second)
}

// isFailure tells asynq whether the retry count goes up. The count only fences off old deliveries; attempts are counted by the
// key store, and retries never run out.
func isFailure(err error) bool {
	var later *flow.Later
	if errors.As(err, &later) {
		return later.Blame
	}
	return true
}

// enqueuer puts tasks into their queues. That a task exists already is no error: it is what ids are for.
type enqueuer struct{ client *asynq.Client }

func newEnqueuer(rdb redis.UniversalClient) *enqueuer {
	return &enqueuer{client: asynq.NewClientFromRedisClient(rdb)}
}

func (e *enqueuer) put(ctx context.Context, t *asynq.Task, opts []asynq.Option) error {
	_, err := e.client.EnqueueContext(ctx, t, opts...)
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) && !errors.Is(err, asynq.ErrDuplicateTask) {
		return fmt.Errorf("enqueue a task of type %s: %w", t.Type(), err)
	}
	return nil
}

// bury enqueues a dead letter.
func (e *enqueuer) bury(ctx context.Context, l tasks.DeadLetter, id string) error {
	t, opts := tasks.NewDeadTask(l, id)
	return e.put(ctx, t, opts)
}

// newServer makes one asynq server. Intake and dispatch have one each, so that neither takes the other's handlers.
func newServer(rdb redis.UniversalClient, log *zap.Logger, concurrency int, shutdown time.Duration, queues map[string]int) *asynq.Server {
	return asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency:              concurrency,
		Queues:                   queues,
		RetryDelayFunc:           retryDelay,
		IsFailure:                isFailure,
		TaskCheckInterval:        pollEvery,
		DelayedTaskCheckInterval: forwardEvery,
		ShutdownTimeout:          shutdown,
		Logger:                   newQueueLog(log),
		LogLevel:                 asynq.InfoLevel,
	})
}

// intakeQueues are the weights of the design: of ten looks, six go to urgent submissions first. Dead letters that run are as
// rare as operators.
func intakeQueues() map[string]int {
	return map[string]int{tasks.QueueUrgent: 6, tasks.QueueDefault: 3, tasks.QueueBulk: 1, tasks.QueueDead: 1}
}

func dispatchQueues() map[string]int { return map[string]int{tasks.QueueDispatch: 1} }
