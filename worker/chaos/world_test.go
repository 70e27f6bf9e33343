package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/worker"
	"dingrecall/worker/internal/proctest"
	"dingrecall/worker/internal/redistest"
)

const (
	app        = "main"
	callRate   = 40 // calls a second
	workers    = 3
	backlog    = 1500 // keys that are there before anything breaks
	quietAfter = 4 * time.Minute
)

// world is a Redis, the service, workers and producers, in which one fault strikes.
type world struct {
	*testing.T
	seed      uint64
	chance    *rand.Rand // of the fault
	dir       string
	redis     *redistest.Server
	rdb       *redis.Client // past all proxies
	insp      *worker.Inspector
	queue     *asynq.Inspector
	service   *service
	producers *producers
	ownProxy  *proctest.Proxy // of the producers
	agents    []*agent        // all workers there ever were

	windows  []span // calls that were under way in one of these may be made again
	replayed bool   // dead letters were run: bad keys may be called again
	forgot   []span // what was accepted in one of these, Redis may have forgotten
	struckAt time.Time
	over     time.Time       // when the fault was over
	ended    []time.Duration // how long workers took to end
}

type span struct{ from, to time.Time }

// agent is a worker process and what stands around it.
type agent struct {
	*proctest.Process
	name  string
	proxy *proctest.Proxy
	door  *door
	admin string // address of its admin server

	isStruck atomic.Bool
	mu       sync.Mutex
	excused  map[string]bool // keys that were bound to it when it was struck; guarded by mu
}

func (a *agent) struck() bool { return a.isStruck.Load() }

func newWorld(t *testing.T, seed uint64, redisArgs ...string) *world {
	t.Helper()
	w := &world{T: t, seed: seed, chance: rand.New(rand.NewPCG(seed, 3)), dir: t.TempDir()}
	var err error
	w.redis, err = redistest.Start(append([]string{"--save", "", "--appendonly", "yes"}, redisArgs...)...)
	if err != nil {
		t.Fatalf("a real redis-server is needed for this test (apt-get install redis-server): %v", err)
	}
	t.Cleanup(func() {
		if err := w.redis.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.rdb = redis.NewClient(&redis.Options{Addr: w.redis.Addr})
	t.Cleanup(func() { _ = w.rdb.Close() })
	w.insp, w.queue = worker.NewInspector(w.rdb, nil), asynq.NewInspectorFromRedisClient(w.rdb)
	w.service = newService(t, seed)
	w.ownProxy = proctest.NewProxy(t, w.redis.Addr, seed)
	w.producers = newProducers(t, w.ownProxy.Addr(), seed)
	for range workers {
		w.hire()
	}
	return w
}

var adminAt = regexp.MustCompile(`"admin": "(http://[^"]+)"`)

// hire starts a worker, with a proxy and a door of its own. env is added to its environment; program "" is the recall binary.
func (w *world) hire(env ...string) *agent { return w.hireAs(proctest.Recall(w), env...) }

func (w *world) hireAs(program string, env ...string) *agent {
	w.Helper()
	n := len(w.agents) + 1
	a := &agent{name: fmt.Sprintf("worker %d", n), excused: map[string]bool{}}
	a.proxy = proctest.NewProxy(w, w.redis.Addr, w.seed+uint64(n))
	a.door = w.service.open(w.T, a)
	config := filepath.Join(w.dir, fmt.Sprintf("recall%d.yaml", n))
	text := fmt.Sprintf("redis:\n  addr: %s\nupstream:\n  baseURL: http://%s\napps:\n  - name: %s\n    appKey: any\n    rate: %d\n    robots: [\"*\"]\n"+
		"admin:\n  addr: 127.0.0.1:0\nlog:\n  format: console\n", a.proxy.Addr(), a.door.addr, app, callRate)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	a.Process = proctest.Run(w, a.name, program, append([]string{"RECALL_APPS_MAIN_APP_SECRET=any"}, env...), "worker", "-c", config)
	proctest.Until(w, time.Minute, a.name+" has started", func() bool { return strings.Contains(a.Out.String(), "worker started") })
	if m := adminAt.FindStringSubmatch(a.Out.String()); m != nil {
		a.admin = m[1]
	}
	w.agents = append(w.agents, a)
	return a
}

// living gives the workers that have not ended.
func (w *world) living() (out []*agent) {
	for _, a := range w.agents {
		if !a.Ended() {
			out = append(out, a)
		}
	}
	return out
}

// anyone gives a worker by chance.
func (w *world) anyone() *agent {
	all := w.living()
	return all[w.chance.IntN(len(all))]
}

// busy gives a worker by chance that is in a call right now.
func (w *world) busy() *agent {
	w.Helper()
	var in []*agent
	proctest.Until(w, time.Minute, "a worker is in a call", func() bool {
		in = w.service.calling()
		return len(in) > 0
	})
	return in[w.chance.IntN(len(in))]
}

// between gives a time by chance.
func (w *world) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.chance.Int64N(int64(to-from)+1))
}

// pause lets time pass in which the fault goes on, or the world without it.
func (w *world) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// strike notes that a worker can no longer tell what became of its calls: it was killed or stopped just now. The keys that are bound to it
// may be called once more, by others.
func (w *world) strike(agents ...*agent) {
	w.Helper()
	w.struckAt = time.Now()
	for _, a := range agents {
		a.isStruck.Store(true)
	}
	w.pause(300 * time.Millisecond) // until what it had sent has arrived, and a signal to stop has reached all of its threads
	for _, a := range agents {
		keys := w.service.keysOf(a, w.struckAt.Add(-time.Minute))
		slices.Sort(keys)
		for part := range slices.Chunk(slices.Compact(keys), 200) {
			recs, err := w.insp.Keys(context.Background(), "", part)
			if err != nil {
				w.Fatal(err)
			}
			a.mu.Lock()
			for _, r := range recs {
				if r.State == worker.KeyBound {
					a.excused[r.Key] = true
				}
			}
			a.mu.Unlock()
		}
	}
}

// behave has all proxies behave in a manner, also that of the producers.
func (w *world) behave(m proctest.Manner) {
	w.ownProxy.Behave(m)
	for _, a := range w.agents {
		a.proxy.Behave(m)
	}
}

// quiet says whether every key is in, and nothing waits, runs or is owed any more. What asynq has as active is left out: where a worker
// died, or the reply was lost by which it was given a task, asynq finds that out within two minutes, and what the task is for is done
// long before. Only where Redis may have forgotten keys it counts: nothing else tells there when all that are left are in.
func (w *world) quiet() bool {
	st, err := w.insp.Status(context.Background())
	if err != nil {
		return false
	}
	for _, a := range st.Apps {
		if len(w.forgot) == 0 && a.Total.Accepted < int64(len(w.producers.ledger)) || a.Total.Waiting > 0 || a.Total.Bound > 0 || a.Slots > 0 || a.Outbox > 0 {
			return false
		}
	}
	for _, q := range st.Queues {
		busy := q.Pending + q.Retry
		if len(w.forgot) > 0 {
			busy += q.Active
		}
		switch q.Queue {
		case "recall-dead":
			busy += q.Archived
		case "recall-dispatch":
			busy += q.Scheduled + q.Archived
		default:
			busy += q.Archived // its scheduled ones are alarms
		}
		if busy > 0 {
			return false
		}
	}
	return true
}
