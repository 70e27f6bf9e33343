package worker_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

func TestMain(m *testing.M) {
	// Of the law of the whole; what the command line says wins.
	for name, value := range map[string]string{"rapid.checks": "20", "rapid.steps": "60"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(redistest.Main(m))
}

const (
	appName = "main"
	robot   = "dingrobotone"
)

// bundle is a simulator, a Redis, a producer's client and an inspector; workers are started by the test.
type bundle struct {
	t      testing.TB
	rdb    *redis.Client
	calls  *calls
	sim    *simulator.Simulator
	server *simulator.Server
	client *tasks.Client
	insp   *worker.Inspector
	cfg    worker.Config
}

func setup(t testing.TB, rdb *redis.Client, sc simulator.Config, change func(*worker.Config)) *bundle {
	t.Helper()
	seen := &calls{}
	sc.OnRecall = seen.add
	sim, err := simulator.New(sc)
	if err != nil {
		t.Fatal(err)
	}
	server, err := sim.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	cfg := worker.DefaultConfig()
	cfg.Apps = []worker.App{{Name: appName, Credentials: upstream.Credentials{AppKey: "key", AppSecret: "secret"}, Robots: []string{worker.AnyRobot}}}
	cfg.Upstream = upstream.Config{BaseURL: server.BaseURL()}
	cfg.MaxSlots, cfg.Linger = 8, 50*time.Millisecond
	cfg.BackoffBase, cfg.BackoffMax = 20*time.Millisecond, 200*time.Millisecond
	if change != nil {
		change(&cfg)
	}
	client := tasks.NewClientFromRedis(rdb)
	t.Cleanup(func() { _ = client.Close() })
	return &bundle{t: t, rdb: rdb, calls: seen, sim: sim, server: server, client: client, insp: worker.NewInspector(rdb, nil), cfg: cfg}
}

// start starts a worker that ends with the test.
func (b *bundle) start() *worker.Worker {
	b.t.Helper()
	return b.startOn(b.rdb)
}

// startOn starts a worker that has another way to the same Redis.
func (b *bundle) startOn(rdb redis.UniversalClient) *worker.Worker {
	b.t.Helper()
	log := zaptest.NewLogger(b.t, zaptest.Level(zapcore.WarnLevel), zaptest.WrapOptions(zap.AddStacktrace(zapcore.FatalLevel)))
	w, err := worker.New(b.cfg, worker.Deps{Redis: rdb, Log: log})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := w.Start(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(w.Stop)
	return w
}

func (b *bundle) recall(keys []string, opts ...tasks.Option) tasks.Receipt {
	b.t.Helper()
	r, err := b.client.Recall(context.Background(), robot, keys, opts...)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bundle) status() worker.AppStatus {
	b.t.Helper()
	st, err := b.insp.Status(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, a := range st.Apps {
		if a.App == appName {
			return a
		}
	}
	return worker.AppStatus{}
}

// until waits for a condition, which it looks at every few milliseconds, for a minute at most.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

// untilSettled waits until n keys are accepted and none of them waits or is bound.
func (b *bundle) untilSettled(n int) worker.AppStatus {
	b.t.Helper()
	var st worker.AppStatus
	until(b.t, fmt.Sprintf("%d keys are settled", n), func() bool {
		st = b.status()
		return st.Total.Accepted == int64(n) && st.Total.Waiting == 0 && st.Total.Bound == 0
	})
	return st
}

// goodKeys gives n keys that can be recalled. They hold the time of sending: asked for again, they are others.
func goodKeys(n int) []string { return madeKeys(0, n, simulator.Good) }

func madeKeys(from, n int, kind simulator.Kind) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = simulator.MakeKey(1, uint64(from+i), kind, time.Now().Add(-time.Hour))
	}
	return keys
}

// letters gives all dead letters.
func (b *bundle) letters() []worker.DeadTask {
	b.t.Helper()
	var out []worker.DeadTask
	err := b.insp.DeadLetters(context.Background(), worker.DeadFilter{}, func(d worker.DeadTask) error {
		out = append(out, d)
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// untilLetters waits until there are n dead letters, and gives them.
func (b *bundle) untilLetters(n int) []worker.DeadTask {
	b.t.Helper()
	var all []worker.DeadTask
	until(b.t, fmt.Sprintf("there are %d dead letters", n), func() bool {
		all = b.letters()
		return len(all) == n
	})
	return all
}

// queue gives how a queue stands.
func (b *bundle) queue(name string) worker.QueueStatus {
	b.t.Helper()
	st, err := b.insp.Status(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	i := slices.IndexFunc(st.Queues, func(q worker.QueueStatus) bool { return q.Queue == name })
	if i < 0 {
		b.t.Fatalf("there is no queue %s", name)
	}
	return st.Queues[i]
}

// calls are the recalls that a simulator has seen, in the order in which they were over.
type calls struct {
	forget bool // set before the first call: keep none
	mu     sync.Mutex
	all    []simulator.RecallSeen // guarded by mu
}

func (c *calls) add(r simulator.RecallSeen) {
	if c.forget {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, r)
}

func (c *calls) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

// inOrder gives the calls as they came.
func (c *calls) inOrder() []simulator.RecallSeen {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.all)
	slices.SortStableFunc(all, func(a, b simulator.RecallSeen) int { return a.At.Compare(b.At) })
	return all
}

// pause waits for a random time up to most, as somebody does who has other things to do.
func pause(most time.Duration) {
	t := time.NewTimer(rand.N(most))
	defer t.Stop()
	<-t.C
}
