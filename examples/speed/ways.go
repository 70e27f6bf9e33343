package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/worker"
)

// world is what a way is given: keys by robot, a service and an empty Redis.
type world struct {
	srv    *server
	rdb    *redis.Client
	svc    *service
	robots []string
	keys   [][]string // of each robot
	total  int
	failed atomic.Pointer[error] // the first that a way met while it drains
}

// fail notes an error, by which the way ends.
func (w *world) fail(err error) { w.failed.CompareAndSwap(nil, &err) }

// way is how somebody could recall keys.
type way struct {
	name   string
	submit func(ctx context.Context, w *world) error
	// drain starts to work off what was submitted and returns what ends it.
	drain func(ctx context.Context, w *world) (stop func(), err error)
	most  int // keys that are given to it at most, because it is slow; 0 = all
}

const (
	handlers = 64
	fullCall = 20 // keys of a call at most

	cut              = "producers cut 20-key tasks"
	documentedGroups = "asynq groups as documented"
)

// call is the service's call, made as simply as can be.
func call(ctx context.Context, svc *service, robot string, keys []string) error {
	body, err := json.Marshal(map[string]any{"robotCode": robot, "processQueryKeys": keys})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, svc.url+"/v1.0/robot/otoMessages/batchRecall", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-acs-dingtalk-access-token", "speed")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		SuccessResult []string          `json:"successResult"`
		FailedResult  map[string]string `json:"failedResult"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return err
	}
	if len(answer.SuccessResult) != len(keys) {
		return fmt.Errorf("%d of %d keys recalled", len(answer.SuccessResult), len(keys))
	}
	return nil
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256}}

// producers has four producers hand over each robot's keys in parts.
func producers(w *world, size int, put func(robot string, keys []string) error) error {
	type part struct {
		robot string
		keys  []string
	}
	parts := make(chan part)
	errs := make(chan error, 4)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for p := range parts {
				if err := put(p.robot, p.keys); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for i, robot := range w.robots {
		for from := 0; from < len(w.keys[i]); from += size {
			parts <- part{robot, w.keys[i][from:min(from+size, len(w.keys[i]))]}
		}
	}
	close(parts)
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// ours is this program: tasks.Client and a worker.
func ours() way {
	return way{name: "dingrecall",
		submit: func(ctx context.Context, w *world) error {
			c := tasks.NewClientFromRedis(w.rdb)
			defer func() { _ = c.Close() }() // the connection is not its own
			return producers(w, tasks.MaxKeysPerSubmission, func(robot string, keys []string) error {
				_, err := c.Recall(ctx, robot, keys, tasks.Incident("speed"))
				return err
			})
		},
		drain: func(ctx context.Context, w *world) (func(), error) {
			wk, err := newWorker(w.rdb, w.svc, worker.App{Name: "speed", Robots: []string{worker.AnyRobot}})
			if err != nil {
				return nil, err
			}
			if err := wk.Start(ctx); err != nil {
				return nil, err
			}
			return wk.Stop, nil
		}}
}

// takenIn is the same with all keys taken in before the clock of the drain starts: it drains what waits, as a plain list does.
func takenIn() way {
	return way{name: "dingrecall, taken in before",
		submit: func(ctx context.Context, w *world) error {
			p := &program{srv: w.srv, svc: w.svc, tell: worker.NewInspector(w.rdb, nil)}
			if err := p.work(ctx, anyRobot("speed", 0)); err != nil {
				return err
			}
			defer p.stop()
			if err := p.pause(ctx); err != nil {
				return err
			}
			if err := ours().submit(ctx, w); err != nil {
				return err
			}
			return p.accepted(ctx, w.total)
		},
		drain: func(ctx context.Context, w *world) (func(), error) {
			p := &program{srv: w.srv}
			if err := p.resume(); err != nil {
				return nil, err
			}
			return ours().drain(ctx, w)
		}}
}

// payload is what the tasks of the other ways carry.
type payload struct {
	RobotCode string   `json:"robotCode"`
	Keys      []string `json:"keys"`
}

func enqueue(ctx context.Context, c *asynq.Client, robot string, keys []string, opts ...asynq.Option) error {
	b, err := json.Marshal(payload{robot, keys})
	if err != nil {
		return err
	}
	_, err = c.EnqueueContext(ctx, asynq.NewTask("recall", b), opts...)
	return err
}

// serve runs an asynq server that calls for each task, 20 keys at a time.
func serve(w *world, cfg asynq.Config, before func(ctx context.Context) error) (func(), error) {
	cfg.Concurrency, cfg.LogLevel, cfg.TaskCheckInterval = handlers, asynq.FatalLevel, 15*time.Millisecond
	cfg.ShutdownTimeout = time.Second
	s := asynq.NewServerFromRedisClient(w.rdb, cfg)
	err := s.Start(asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		var p payload
		if err := json.Unmarshal(t.Payload(), &p); err != nil {
			return err
		}
		for from := 0; from < len(p.Keys); from += fullCall {
			if before != nil {
				if err := before(ctx); err != nil {
					return err
				}
			}
			if err := call(ctx, w.svc, p.RobotCode, p.Keys[from:min(from+fullCall, len(p.Keys))]); err != nil {
				return err
			}
		}
		return nil
	}))
	return s.Shutdown, err
}

// chunks is producers that cut tasks of 20 keys themselves.
func chunks(name string, limited bool) way {
	return way{name: name,
		submit: func(ctx context.Context, w *world) error {
			c := asynq.NewClientFromRedisClient(w.rdb)
			return producers(w, fullCall, func(robot string, keys []string) error { return enqueue(ctx, c, robot, keys) })
		},
		drain: func(_ context.Context, w *world) (func(), error) {
			if !limited {
				return serve(w, asynq.Config{}, nil)
			}
			limiter := redis_rate.NewLimiter(w.rdb)
			return serve(w, asynq.Config{}, func(ctx context.Context) error {
				_, err := limiter.Allow(ctx, "speed", redis_rate.PerSecond(1_000_000)) // never reached: what asking costs
				return err
			})
		}}
}

// single is one task for each key.
func single() way {
	return way{name: "one asynq task per key", most: 20_000,
		submit: func(ctx context.Context, w *world) error {
			c := asynq.NewClientFromRedisClient(w.rdb)
			return producers(w, 1, func(robot string, keys []string) error { return enqueue(ctx, c, robot, keys) })
		},
		drain: func(_ context.Context, w *world) (func(), error) { return serve(w, asynq.Config{}, nil) }}
}

// groups is asynq's own aggregation: a task for each key, in a group for each robot.
func groups(name string, size, most int) way {
	return way{name: name, most: most,
		submit: func(ctx context.Context, w *world) error {
			c := asynq.NewClientFromRedisClient(w.rdb)
			return producers(w, 1, func(robot string, keys []string) error {
				_, err := c.EnqueueContext(ctx, asynq.NewTask("recall", []byte(keys[0])), asynq.Group(robot))
				return err
			})
		},
		drain: func(_ context.Context, w *world) (func(), error) {
			return serve(w, asynq.Config{GroupMaxSize: size, GroupGracePeriod: time.Second, GroupMaxDelay: 10 * time.Second,
				GroupAggregator: asynq.GroupAggregatorFunc(func(group string, ts []*asynq.Task) *asynq.Task {
					p := payload{RobotCode: group}
					for _, t := range ts {
						p.Keys = append(p.Keys, string(t.Payload()))
					}
					b, err := json.Marshal(p)
					if err != nil {
						panic(err) // strings always can
					}
					return asynq.NewTask("recall", b)
				})}, nil)
		}}
}

// list is a plain Redis list, popped 20 at a time: no acknowledgement, no retry, no order.
func list() way {
	return way{name: "LPOP 20 and HTTP",
		submit: func(ctx context.Context, w *world) error {
			return producers(w, 1000, func(robot string, keys []string) error {
				vals := make([]any, len(keys))
				for i, k := range keys {
					vals[i] = k
				}
				return w.rdb.RPush(ctx, "list:"+robot, vals...).Err()
			})
		},
		drain: func(ctx context.Context, w *world) (func(), error) {
			ctx, cancel := context.WithCancel(ctx)
			var all sync.WaitGroup
			for i := range handlers {
				all.Go(func() {
					for n := i; ctx.Err() == nil; n++ {
						robot := w.robots[n%len(w.robots)]
						keys, err := w.rdb.LPopCount(ctx, "list:"+robot, fullCall).Result()
						if errors.Is(err, redis.Nil) {
							time.Sleep(time.Millisecond) // empty
							continue
						}
						if err == nil {
							err = call(ctx, w.svc, robot, keys)
						}
						if err != nil {
							if ctx.Err() == nil {
								w.fail(err)
							}
							return
						}
					}
				})
			}
			return func() { cancel(); all.Wait() }, nil
		}}
}

// loop is the floor: calls, and no queue at all.
func loop() way {
	return way{name: "HTTP loop, no queue",
		submit: func(context.Context, *world) error { return nil },
		drain: func(ctx context.Context, w *world) (func(), error) {
			ctx, cancel := context.WithCancel(ctx)
			var all sync.WaitGroup
			parts := make(chan int)
			all.Go(func() {
				defer close(parts)
				for i := range w.robots {
					for range (len(w.keys[i]) + fullCall - 1) / fullCall {
						parts <- i
					}
				}
			})
			var mu sync.Mutex
			at := make([]int, len(w.robots))
			for range handlers {
				all.Go(func() {
					for i := range parts {
						mu.Lock()
						from := at[i]
						at[i] += fullCall
						mu.Unlock()
						err := call(ctx, w.svc, w.robots[i], w.keys[i][from:min(from+fullCall, len(w.keys[i]))])
						if err != nil && ctx.Err() == nil {
							w.fail(err)
						}
					}
				})
			}
			return func() { cancel(); all.Wait() }, nil
		}}
}

func ways() []way {
	return []way{ours(), takenIn(), chunks(cut, false), chunks("the same with redis_rate", true), single(),
		groups(documentedGroups, 20, 100), groups("asynq groups, large", 10_000, 20_000), list(), loop()}
}
