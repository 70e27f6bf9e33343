package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// begin empties Redis and starts a worker.
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
	// The worker may be quicker: then it is gone, or will be when the worker is through with it.
	return until(ctx, "the queue's first task is gone", func() bool {
		err := q.DeleteTask(tasks.QueueDispatch, tasks.DispatchTaskID(d))
		return err == nil || errors.Is(err, asynq.ErrTaskNotFound)
	})
}

func (p *program) resume() error {
	return asynq.NewInspectorFromRedisClient(p.srv.rdb).UnpauseQueue(tasks.QueueDispatch)
}

// submit hands over n keys, from the number from on, robot by robot.
func (p *program) submit(ctx context.Context, from, n int, robots []string, opts ...tasks.Option) error {
	w := &world{robots: robots, keys: deal(from, n, len(robots))}
	opts = append([]tasks.Option{tasks.Incident("speed"), tasks.SentAt(time.Now())}, opts...)
	return producers(w, tasks.MaxKeysPerSubmission, func(robot string, keys []string) error {
		_, err := p.client.Recall(ctx, robot, keys, opts...)
		return err
	})
}

// accepted waits until n keys were taken in.
func (p *program) accepted(ctx context.Context, n int) error {
	return p.stands(ctx, fmt.Sprintf("%d keys are taken in", n), []string{tasks.QueueUrgent, tasks.QueueDefault, tasks.QueueBulk},
		func(c worker.Counts) bool { return c.Accepted >= int64(n) })
}

// recalled waits until the service saw n keys, and all outcomes are written.
func (p *program) recalled(ctx context.Context, n int) error {
	if err := until(ctx, fmt.Sprintf("%d keys are recalled", n), func() bool { return p.svc.keys.Load() >= int64(n) }); err != nil {
		return err
	}
	return p.stands(ctx, "all outcomes are written", []string{tasks.QueueDispatch}, func(c worker.Counts) bool { return c.Waiting+c.Bound == 0 })
}

// stands waits until nothing is to be done in the queues and the apps' counts are as wanted. Only then it asks for those: of an app with
// thousands of robots they are dear, and asking over and over would be what is measured.
func (p *program) stands(ctx context.Context, what string, queues []string, ok func(worker.Counts) bool) error {
	var failed error
	err := until(ctx, what, func() bool {
		done, err := p.nothingIn(queues)
		if err != nil || !done {
			failed = err
			return err != nil
		}
		var st worker.Status
		if st, failed = p.tell.Status(ctx); failed != nil {
			return true
		}
		sum := worker.Counts{}
		for _, a := range st.Apps {
			sum.Accepted += a.Total.Accepted
			sum.Waiting += a.Total.Waiting
			sum.Bound += a.Total.Bound
		}
		return ok(sum)
	})
	if failed != nil {
		return failed
	}
	return err
}

// nothingIn is true where no task of the queues waits for a handler or has one.
func (p *program) nothingIn(queues []string) (bool, error) {
	q := asynq.NewInspectorFromRedisClient(p.srv.rdb)
	known, err := q.Queues()
	if err != nil {
		return false, err
	}
	for _, name := range queues {
		if !slices.Contains(known, name) { // it had no task yet
			continue
		}
		info, err := q.GetQueueInfo(name)
		if err != nil || info.Pending+info.Active > 0 {
			return false, err
		}
	}
	return true, nil
}

// until waits until something is so, for a quarter of an hour. It looks every five milliseconds, and less often where looking takes long.
func until(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	for {
		began := time.Now()
		if ok() {
			return nil
		}
		pause := time.NewTimer(max(5*time.Millisecond, 10*time.Since(began)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("waited until %s: %w", what, ctx.Err())
		}
	}
}

func robotCodes(prefix string, n int) []string {
	codes := make([]string, n)
	for i := range codes {
		codes[i] = fmt.Sprintf("ding%s%07d", prefix, i)
	}
	return codes
}
