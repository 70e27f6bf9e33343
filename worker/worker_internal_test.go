package worker

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

func validConfig() Config {
	cfg := DefaultConfig()
	cfg.Apps = []App{{Name: "main", Credentials: upstream.Credentials{AppKey: "key", AppSecret: "very-secret"}, Rate: 20, Robots: []string{AnyRobot}}}
	cfg.Upstream = upstream.Config{BaseURL: "http://127.0.0.1:1"}
	return cfg
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	if _, err := New(validConfig(), Deps{Redis: rdb}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		says  string
		spoil func(c *Config)
	}{
		{"there is no app", func(c *Config) { c.Apps = nil }},
		{`app names must be there and different: ""`, func(c *Config) { c.Apps[0].Name = "" }},
		{`app names must be there and different: "main"`, func(c *Config) { c.Apps = append(c.Apps, c.Apps[0]) }},
		{"rate cannot be negative", func(c *Config) { c.Apps[0].Rate = -1 }},
		{`robot "*" is app "main"'s already`, func(c *Config) { c.Apps = append(c.Apps, App{Name: "two", Robots: []string{AnyRobot}}) }},
		{"linger", func(c *Config) { c.Linger = -1 }},
		{"the margin (24h0m0s) must be less than the window (24h0m0s)", func(c *Config) { c.Margin = c.Window }},
		{"retention", func(c *Config) { c.DeadRetention = 0 }},
		{"ledger", func(c *Config) { c.LedgerRetention = time.Hour }},
		{"at least one handler", func(c *Config) { c.Concurrency = 0 }},
		{"at least one handler", func(c *Config) { c.IntakeConcurrency = -1 }},
		{"a script can take in", func(c *Config) { c.AdmitAtOnce = 201 }},
		{"slots", func(c *Config) { c.MaxSlots = 121 }},
		{"shutdown", func(c *Config) { c.ShutdownTimeout = 0 }},
		{"slice", func(c *Config) { c.Slice = 0 }},
		{"attempts", func(c *Config) { c.MaxAttempts = 0 }},
		{"attempts for unknown", func(c *Config) { c.UnknownAttempts = 11 }},
		{"split", func(c *Config) { c.SplitAfter = 0 }},
		{"backoff", func(c *Config) { c.BackoffMax = c.BackoffBase - 1 }},
		{"probes", func(c *Config) { c.ProbeBase = time.Millisecond }},
		{"probes", func(c *Config) { c.ProbeMax = c.ProbeBase - 1 }},
		{"upstream", func(c *Config) { c.Upstream.BaseURL = "no url" }},
	} {
		cfg := validConfig()
		c.spoil(&cfg)
		_, err := New(cfg, Deps{Redis: rdb})
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "very-secret") {
			t.Errorf("want %q in %v", c.says, err)
		}
	}
	if _, err := New(validConfig(), Deps{}); err == nil {
		t.Error("no Redis, and no error")
	}
	reg := prometheus.NewRegistry()
	if _, err := New(validConfig(), Deps{Redis: rdb, Metrics: reg}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(validConfig(), Deps{Redis: rdb, Metrics: reg}); err == nil || !strings.Contains(err.Error(), "metrics") {
		t.Errorf("the same metrics twice: %v", err)
	}
}

func TestRobotsHaveOneApp(t *testing.T) {
	t.Parallel()
	cfg := validConfig()
	cfg.Apps = append(cfg.Apps, App{Name: "two", Robots: []string{"r2", "r3"}})
	w, err := New(cfg, Deps{Redis: redistest.Mini(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for robot, want := range map[string]string{"r1": "main", "r2": "two", "r3": "two", "": "main", AnyRobot: "main"} {
		if a, ok := w.p.appOf(robot); !ok || a.Name != want {
			t.Errorf("%q has the app %+v", robot, a)
		}
	}
	cfg.Apps = cfg.Apps[1:]
	w2, err := New(cfg, Deps{Redis: redistest.Mini(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer w2.Stop()
	for _, robot := range []string{"r1", AnyRobot, ""} {
		if _, ok := w2.p.appOf(robot); ok {
			t.Errorf("%q has an app", robot)
		}
	}
}

// TestParamsAreValidForEveryRate and latency, since they follow both while the worker runs.
func TestParamsAreValidForEveryRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, 0.001, 1, 20, 60, 1000, 1e9, math.MaxFloat64} {
		for _, latency := range []time.Duration{0, 1, time.Millisecond, time.Second, time.Hour} {
			for _, most := range []int{1, 2, 64, 120} {
				cfg := validConfig()
				cfg.Apps[0].Rate, cfg.MaxSlots = rate, most
				w, err := New(cfg, Deps{Redis: redistest.Mini(t)})
				if err != nil {
					t.Fatal(err)
				}
				a := w.p.apps["main"]
				a.latency.Observe(latency)
				p := a.params(cfg)
				if err := p.Validate(); err != nil || p.Slots > most {
					t.Errorf("rate %v, latency %v, most %d: %d slots, %v", rate, latency, most, p.Slots, err)
				}
				if perSecond := float64(time.Second) / float64(max(p.Interval, 1)); rate > 0 && rate <= 1e6 && (perSecond > rate || perSecond < 0.97*rate) {
					t.Errorf("rate %v: %v calls a second", rate, perSecond)
				}
				w.Stop()
			}
		}
	}
}

func TestWorkerStartsOnceAndStopsAnyTime(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		fresh := func() *Worker {
			t.Helper()
			w, err := New(validConfig(), Deps{Redis: rdb})
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		never := fresh()
		never.Stop()
		never.Stop()
		if err := never.Start(context.Background()); err == nil {
			t.Error("started after its end")
		}
		for range 3 {
			w := fresh()
			var all sync.WaitGroup
			for i := range 4 {
				all.Go(func() {
					if i%2 == 0 {
						_ = w.Start(context.Background()) // it may have been stopped before
					} else {
						w.Stop()
					}
				})
			}
			all.Wait()
			w.Stop()
			if !isClosed(w.metronomes[0].ended) || !isClosed(w.metronomes[1].ended) || !isClosed(w.p.drainer.ended) {
				t.Error("something runs still")
			}
		}
		w := fresh()
		if err := w.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := w.Start(context.Background()); err == nil {
			t.Error("started twice")
		}
		w.Stop()
	})
}

func TestWithoutRedisNothingStarts(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, Password: "very-secret"})
	defer rdb.Close()
	w, err := New(validConfig(), Deps{Redis: rdb})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := w.Start(context.Background()); err == nil || strings.Contains(err.Error(), "very-secret") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if err := w.Ready(context.Background()); err == nil || !strings.Contains(err.Error(), "redis") || strings.Contains(err.Error(), "very-secret") {
		t.Errorf("%v", err)
	}
}

func TestReadyAsksForTokens(t *testing.T) {
	t.Parallel()
	w, err := New(validConfig(), Deps{Redis: redistest.Mini(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := w.Ready(context.Background()); err == nil || !strings.Contains(err.Error(), `app "main"`) || strings.Contains(err.Error(), "very-secret") {
		t.Errorf("the service is not there: %v", err)
	}
}

// TestTasksThatCannotBeRead: those that workers make are made anew, so theirs are dropped; what belongs to another worker waits.
func TestTasksThatCannotBeRead(t *testing.T) {
	t.Parallel()
	y := newYard(t, redistest.Mini(t))
	h := y.p.handlers()
	for _, payload := range []string{"", "{", "null", `{"v":9}`, `{"app":"","slot":1}`, `{"app":"main","slot":-1,"generation":1}`} {
		for _, kind := range []string{tasks.TypeDispatch, tasks.TypeAlarm} {
			if kind == tasks.TypeAlarm && strings.Contains(payload, "main") {
				continue
			}
			if err := h.ProcessTask(context.Background(), asynq.NewTask(kind, []byte(payload))); err != nil {
				t.Errorf("%s %q: %v", kind, payload, err)
			}
		}
	}
	for _, task := range []*asynq.Task{asynq.NewTask(tasks.TypeDispatch, []byte(`{"app":"other","slot":1,"generation":1}`)), asynq.NewTask(tasks.TypeAlarm, []byte(`{"app":"other","at":1}`))} {
		if err := h.ProcessTask(context.Background(), task); err == nil || isFailure(err) || retryDelay(0, err, nil) < time.Minute {
			t.Errorf("%s: %v", task.Type(), err)
		}
	}
	// A submission in any queue is taken in, as default where the queue says nothing.
	if err := h.ProcessTask(context.Background(), asynq.NewTask(tasks.TypeSubmit, []byte(submission("k")))); err != nil {
		t.Fatal(err)
	}
	if r := y.record("k"); r.State != flow.Waiting || r.Class != flow.Default {
		t.Errorf("%+v", r)
	}
}

// TestALetterThatWasRunInVainIsListed: it waits among the retries then.
func TestALetterThatWasRunInVainIsListed(t *testing.T) {
	t.Parallel()
	y := newYard(t, redistest.Mini(t))
	l := tasks.DeadLetter{RobotCode: "r", Keys: []string{""}, Code: tasks.CodeKeyMalformed, DiedAt: time.Now().UnixMilli(), RetainUntil: time.Now().Add(24 * time.Hour).UnixMilli()}
	if err := y.p.queue.bury(context.Background(), l, "dead:x"); err != nil {
		t.Fatal(err)
	}
	i := NewInspector(y.rdb, nil)
	if err := i.Replay(context.Background(), "dead:x"); err != nil {
		t.Fatal(err)
	}
	server := newServer(y.rdb, y.p.log, 1, time.Second, intakeQueues())
	if err := server.Start(y.p.handlers()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was run in vain", func() bool { return y.state(tasks.QueueDead, "dead:x") == "retry" })
	server.Shutdown()
	var seen []string
	err := i.DeadLetters(context.Background(), DeadFilter{}, func(d DeadTask) error { seen = append(seen, d.ID+" "+d.State); return nil })
	if err != nil || len(seen) != 1 || seen[0] != "dead:x retry" {
		t.Errorf("%v, %v", seen, err)
	}
}
