package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker"
)

func newWorker(rdb *redis.Client, svc *service, apps ...worker.App) (*worker.Worker, error) {
	cfg := worker.DefaultConfig()
	cfg.Upstream = upstream.Config{BaseURL: svc.url}.WithDefaults()
	cfg.MaxSlots = handlers
	for _, a := range apps {
		a.Credentials = upstream.Credentials{AppKey: a.Name, AppSecret: "speed"}
		cfg.Apps = append(cfg.Apps, a)
	}
	return worker.New(cfg, worker.Deps{Redis: rdb})
}

// program is this program at work on an empty Redis: a producer and a worker.
type program struct {
	srv    *server
	svc    *service
	client *tasks.Client
	tell   *worker.Inspector
	stop   func() // ends the worker
}

// begin empties Redis, and starts a worker unless there are no apps.
func begin(ctx context.Context, srv *server, svc *service, apps ...worker.App) (*program, error) {
	if err := srv.rdb.FlushAll(ctx).Err(); err != nil {
		return nil, err
	}
	svc.reset()
	p := &program{srv: srv, svc: svc, client: tasks.NewClientFromRedis(srv.rdb), tell: worker.NewInspector(srv.rdb, nil)}
	return p, p.work(ctx, apps...)
}

// anyRobot is an app with all robots that no other has.
func anyRobot(name string, rate float64) worker.App {
	return worker.App{Name: name, Rate: rate, Robots: []string{worker.AnyRobot}}
}

// work starts a worker.
func (p *program) work(ctx context.Context, apps ...worker.App) error {
	w, err := newWorker(p.srv.rdb, p.svc, apps...)
	if err != nil {
		return err
	}
	p.stop = w.Stop
	return w.Start(ctx)
}

// pause keeps keys waiting that were taken in: no call is made.
func (p *program) pause(ctx context.Context) error {
	// A queue can be paused from its first task on.
	d := tasks.Dispatch{App: "nobody", Slot: 1, Generation: 1}
	t, opts := tasks.NewDispatchTask(d)
	if _, err := asynq.NewClientFromRedisClient(p.srv.rdb).EnqueueContext(ctx, t, opts...); err != nil {
		return err
	}
	q := asynq.NewInspectorFromRedisClient(p.srv.rdb)
	if err := q.PauseQueue(tasks.QueueDispatch); err != nil {
		return err
	}
	if err := q.DeleteTask(tasks.QueueDispatch, tasks.DispatchTaskID(d)); err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
		return err // not found: the worker was quicker
	}
	return nil
}

func (p *program) resume() error {
	return asynq.NewInspectorFromRedisClient(p.srv.rdb).UnpauseQueue(tasks.QueueDispatch)
}

// submit hands over n keys, from the number from on, robot by robot.
func (p *program) submit(ctx context.Context, from, n int, robots []string, opts ...tasks.Option) error {
	w := &world{robots: robots}
	for r := range robots {
		var keys []string
		for i := r; i < n; i += len(robots) {
			keys = append(keys, key(from+i))
		}
		w.keys = append(w.keys, keys)
	}
	opts = append([]tasks.Option{tasks.Incident("speed"), tasks.SentAt(time.Now())}, opts...)
	return producers(w, tasks.MaxKeysPerSubmission, func(robot string, keys []string) error {
		_, err := p.client.Recall(ctx, robot, keys, opts...)
		return err
	})
}

// accepted waits until n keys were taken in.
func (p *program) accepted(ctx context.Context, n int) error {
	var failed error
	err := until(ctx, fmt.Sprintf("%d keys are taken in", n), func() bool {
		st, err := p.tell.Status(ctx)
		if err != nil {
			failed = err
			return true
		}
		var sum int64
		for _, a := range st.Apps {
			sum += a.Total.Accepted
		}
		return sum >= int64(n)
	})
	if failed != nil {
		return failed
	}
	return err
}

// recalled waits until the service saw n keys, and all outcomes are written.
func (p *program) recalled(ctx context.Context, n int) error {
	if err := until(ctx, fmt.Sprintf("%d keys are recalled", n), func() bool { return p.svc.keys.Load() >= int64(n) }); err != nil {
		return err
	}
	var failed error
	err := until(ctx, "all outcomes are written", func() bool {
		st, err := p.tell.Status(ctx)
		if err != nil {
			failed = err
			return true
		}
		var open int64
		for _, a := range st.Apps {
			open += a.Total.Waiting + a.Total.Bound
		}
		return open == 0
	})
	if failed != nil {
		return failed
	}
	return err
}

func robotCodes(prefix string, n int) []string {
	codes := make([]string, n)
	for i := range codes {
		codes[i] = fmt.Sprintf("ding%s%07d", prefix, i)
	}
	return codes
}

// until waits for a condition, for a quarter of an hour.
func until(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited until %s: %w", what, ctx.Err())
		}
	}
	return nil
}
