package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/proctest"
	"dingrecall/worker/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(proctest.Main(m)) }

// run starts the program.
func run(t *testing.T, name string, args ...string) *proctest.Process {
	t.Helper()
	return proctest.Run(t, name, proctest.Recall(t), []string{"RECALL_APPS_MAIN_APP_SECRET=any"}, args...)
}

func until(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	proctest.Until(t, within, what, ok)
}

// bundle is a Redis, a simulator process and a configuration for the other processes.
type bundle struct {
	t      *testing.T
	redis  *redistest.Server
	rdb    *redis.Client
	insp   *worker.Inspector
	simURL string
	sim    *proctest.Process
	config string
	dir    string
	keys   []string // of the last file of keys
	settings
}

const robot = "dingrobotone"

// settings are what differs between tests; a rate of 0 is no limit.
type settings struct {
	redisArgs []string
	simArgs   []string
	rate      int
	worker    string // further lines of the configuration's section worker, indented
}

func setup(t *testing.T, s settings) *bundle {
	t.Helper()
	b := &bundle{t: t, dir: t.TempDir()}
	if len(s.redisArgs) == 0 {
		s.redisArgs = []string{"--save", ""}
	}
	var err error
	if b.redis, err = redistest.Start(s.redisArgs...); err != nil {
		t.Fatalf("a real redis-server is needed for this test (apt-get install redis-server): %v", err)
	}
	t.Cleanup(func() {
		if err := b.redis.Stop(); err != nil {
			t.Error(err)
		}
	})
	b.rdb = redis.NewClient(&redis.Options{Addr: b.redis.Addr})
	t.Cleanup(func() { _ = b.rdb.Close() })
	b.insp = worker.NewInspector(b.rdb, nil)
	b.startSimulator("127.0.0.1:0", s.simArgs...)
	b.config = filepath.Join(b.dir, "recall.yaml")
	b.settings = s
	b.writeConfig(b.redis.Addr)
	return b
}

// writeConfig writes the configuration of the processes that are started from now on. They find Redis at addr.
func (b *bundle) writeConfig(addr string) {
	b.t.Helper()
	b.write(b.config, fmt.Sprintf("redis:\n  addr: %s\nupstream:\n  baseURL: %s\napps:\n  - name: main\n    appKey: any\n    rate: %d\n    monthlyCalls: 0\n    robots: [\"*\"]\n"+
		"admin:\n  addr: 127.0.0.1:0\nlog:\n  format: console\nworker:\n  linger: 1s\n%s", addr, b.simURL, b.settings.rate, b.settings.worker))
}

func (b *bundle) write(path, text string) {
	b.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

var simulatorAt = regexp.MustCompile(`answers at (http://\S+)\.`)

func (b *bundle) startSimulator(addr string, args ...string) {
	b.t.Helper()
	b.sim = run(b.t, "simulate", append([]string{"simulate", "--addr", addr}, args...)...)
	until(b.t, 20*time.Second, "the simulator says where it is", func() bool {
		m := simulatorAt.FindStringSubmatch(b.sim.Out.String())
		if m == nil {
			return false
		}
		b.simURL = m[1]
		return true
	})
}

// worker starts a worker and waits until it says that it works.
func (b *bundle) worker(name string) *proctest.Process {
	b.t.Helper()
	p := run(b.t, name, "worker", "-c", b.config)
	until(b.t, 20*time.Second, name+" has started", func() bool { return strings.Contains(p.Out.String(), "worker started") })
	return p
}

// keyFile writes n good keys as CSV and gives its path.
func (b *bundle) keyFile(n int) string {
	b.t.Helper()
	var text strings.Builder
	text.WriteString("processQueryKey,robotCode,sentAt\n")
	sent := time.Now().Add(-time.Hour).Truncate(time.Second)
	b.keys = nil
	for i := range n {
		b.keys = append(b.keys, simulator.MakeKey(1, uint64(i), simulator.Good, sent))
		fmt.Fprintf(&text, "%s,%s,%s\n", b.keys[i], robot, sent.UTC().Format(time.RFC3339))
	}
	path := filepath.Join(b.dir, "keys.csv")
	b.write(path, text.String())
	return path
}

// submit hands n keys to the queue by the command.
func (b *bundle) submit(n int) {
	b.t.Helper()
	p := run(b.t, "submit", "submit", b.keyFile(n), "-c", b.config, "--incident", "storm")
	if status := p.Status(time.Minute); status != 0 {
		b.t.Fatalf("recall submit ended with status %d", status)
	}
}

// stats gives what the simulator process has seen.
func (b *bundle) stats() simulator.Stats {
	b.t.Helper()
	resp, err := http.Get(b.simURL + "/_sim/stats")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	var s simulator.Stats
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// total gives the counts of the keys of all robots.
func (b *bundle) total() (worker.Counts, error) {
	st, err := b.insp.Status(context.Background())
	if err != nil {
		return worker.Counts{}, err
	}
	for _, a := range st.Apps {
		if a.App == "main" {
			return a.Total, nil
		}
	}
	return worker.Counts{}, nil
}

// untilSettled waits until n keys are accepted and none of them waits or is bound.
func (b *bundle) untilSettled(n int, within time.Duration) worker.Counts {
	b.t.Helper()
	var c worker.Counts
	until(b.t, within, fmt.Sprintf("%d keys are settled", n), func() bool {
		var err error
		c, err = b.total()
		return err == nil && c.Accepted == int64(n) && c.Waiting == 0 && c.Bound == 0
	})
	return c
}

// untilCalled waits until the simulator has seen n calls.
func (b *bundle) untilCalled(n int64) {
	b.t.Helper()
	until(b.t, time.Minute, fmt.Sprintf("%d calls were made", n), func() bool { return b.stats().Calls >= n })
}

// checkAllRecalled checks what must be true whatever happened on the way.
func (b *bundle) checkAllRecalled(n int, c worker.Counts) simulator.Stats {
	b.t.Helper()
	s := b.stats()
	if c.Recalled != int64(n) || c.Dead != 0 || c.Cancelled != 0 {
		b.t.Errorf("of %d keys %d are recalled, %d dead, %d cancelled", n, c.Recalled, c.Dead, c.Cancelled)
	}
	if s.KeysRecalled != int64(n) || s.KeysDistinct != int64(n) {
		b.t.Errorf("the simulator saw %d keys and recalled %d of %d", s.KeysDistinct, s.KeysRecalled, n)
	}
	if s.MaxKeysInCall > simulator.MaxKeys || s.KeysRepeated != 0 {
		b.t.Errorf("up to %d keys in a call, %d twice in one", s.MaxKeysInCall, s.KeysRepeated)
	}
	return s
}
