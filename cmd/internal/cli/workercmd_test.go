package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"dingrecall/upstream/simulator"
)

// watched is a buffer that a command writes to while a test reads it.
type watched struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// running is a command that runs until it is stopped.
type running struct {
	out, err watched
	cancel   context.CancelFunc
	done     chan int
}

// launch starts a command that runs until the test, or stop, ends it.
func launch(t *testing.T, environ []string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan int, 1)}
	go func() {
		r.done <- Run(ctx, Env{Out: &r.out, Err: &r.err, Args: args, Environ: environ, Version: "v0.0.0-test"})
	}()
	t.Cleanup(func() { r.stop() })
	return r
}

// stop ends the command as a signal would and returns its status; the second time too.
func (r *running) stop() int {
	r.cancel()
	code := <-r.done
	r.done <- code
	return code
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// find waits until a command has printed what matches, and returns the match's first group.
func find(t *testing.T, where *watched, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var m []string
	eventually(t, pattern+" in:\n"+where.String(), func() bool { m = re.FindStringSubmatch(where.String()); return m != nil })
	return m[1]
}

// get asks an admin server, without keeping the connection.
func get(t *testing.T, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// queueOnly is a Redis and the environment that points to it.
func queueOnly(t *testing.T) (*redis.Client, []string) {
	t.Helper()
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb, []string{"RECALL_REDIS_ADDR=" + m.Addr()}
}

// TestWholeService runs a simulator, a worker, a producer and the commands of an operator, as processes would be.
func TestWholeService(t *testing.T) {
	t.Parallel()
	_, environ := queueOnly(t)
	const adminToken = "0123456789abcdef0123456789abcdef"

	sim := launch(t, nil, "simulate", "--addr", "127.0.0.1:0")
	baseURL := find(t, &sim.out, `answers at (http://\S+)\. `)
	environ = append(environ, "RECALL_UPSTREAM_BASE_URL="+baseURL, "RECALL_APP_KEY=dingx", "RECALL_APP_SECRET=hunter22", "RECALL_ADMIN_TOKEN="+adminToken,
		"RECALL_APP_RATE=200", "RECALL_WORKER_LINGER=50ms")
	w := launch(t, environ, "worker", "--admin-addr", "127.0.0.1:0")
	admin := find(t, &w.err, `"admin":"(http://[^"]+)"`)

	if code, body := get(t, admin+"/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, _ := get(t, admin+"/readyz"); code != 401 {
		t.Errorf("/readyz without the token: %d", code)
	}
	if code, body := get(t, admin+"/readyz", "Authorization", "Bearer "+adminToken); code != 200 {
		t.Errorf("/readyz: %d %q", code, body)
	}

	lines := []string{simulator.MakeKey(1, 1, simulator.Unknown, time.Now())}
	for i := range 45 {
		lines = append(lines, fmt.Sprintf("key-%d", i))
	}
	file := writeFile(t, strings.Join(lines, "\n")+"\n")
	if got := run(t, environ, "submit", file, "--robot", "dingrobot", "--incident", "inc", "--format", "plain"); got.code != ExitOK {
		t.Fatalf("submit: %+v", got)
	}
	counts := regexp.MustCompile(`"recalled": 45,\s+"dead": 1,`)
	defer func() {
		if t.Failed() {
			t.Logf("the worker's log:\n%s\nthe status:\n%s", w.err.String(), run(t, environ, "status").out)
		}
	}()
	eventually(t, "45 recalled and 1 dead", func() bool { return counts.MatchString(run(t, environ, "status", "--json").out) })
	var list result
	eventually(t, "a dead letter in the queue", func() bool {
		list = run(t, environ, "dead", "list")
		return strings.Contains(list.out, "1 dead letter with 1 key")
	})
	status := run(t, environ, "status")
	for _, want := range []string{"app default: 200 calls/s, idle", "\ninc\n  dingrobot               0      0        45     1     46  100.0%\n", "1 worker is running\n"} {
		if !strings.Contains(status.out, want) {
			t.Errorf("no %q in\n%s", want, status.out)
		}
	}
	if key := run(t, environ, "status", "--key", lines[0]); !strings.Contains(key.out, "state       dead\ncode        invalid.processQueryKey\n") {
		t.Errorf("the dead key:\n%s", key.out)
	}
	if code, body := get(t, admin+"/metrics", "Authorization", "Bearer "+adminToken); code != 200 ||
		!strings.Contains(body, `dingrecall_keys{app="default",state="recalled"} 45`+"\n") || !strings.Contains(body, `dingrecall_build_info{`) || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics: %d\n%s", code, body)
	}
	id := strings.Fields(strings.Split(list.out, "\n")[1])[0]
	if got := run(t, environ, "dead", "replay", id); got.code != ExitOK || got.out != "replayed 1 dead letter with 1 key\n" {
		t.Errorf("replay: %+v", got)
	}
	eventually(t, "the replayed key is dead again, in another letter", func() bool {
		got := run(t, environ, "dead", "list")
		return strings.Contains(got.out, "1 dead letter with 1 key") && !strings.Contains(got.out, id+" ")
	})

	if code := w.stop(); code != ExitOK {
		t.Errorf("the worker ended with %d:\n%s", code, w.err.String())
	}
	if log := w.err.String(); !strings.Contains(log, `"message":"worker stopped"`) || strings.Contains(log, adminToken) || strings.Contains(log, "hunter22") {
		t.Errorf("the worker's log:\n%s", log)
	}
	if code := sim.stop(); code != ExitOK {
		t.Errorf("the simulator ended with %d", code)
	}
	if out := sim.out.String(); !regexp.MustCompile(`\nsimulator: calls=\d+ keys=\d+ distinct=46 repeated=\d+ overlapping=0 max_batch=20 max_calls_per_second=\d+ throttled=\d+\n$`).MatchString(out) {
		t.Errorf("the simulator's last line:\n%s", out)
	}
	if got := run(t, environ, "status"); !strings.Contains(got.out, "no worker is running") {
		t.Errorf("status after the worker's end:\n%s", got.out)
	}
}

// TestWorkerErrors: what keeps a worker from starting is one line that says what to do.
func TestWorkerErrors(t *testing.T) {
	t.Parallel()
	_, environ := queueOnly(t)
	taken := launch(t, nil, "simulate", "--addr", "127.0.0.1:0")
	addr := find(t, &taken.out, `answers at http://(\S+)\. `)
	for name, c := range map[string]struct {
		environ []string
		args    []string
		code    int
		want    string
	}{
		"no apps":       {environ, nil, ExitBadInput, "set RECALL_APP_KEY"},
		"no redis":      {append(oneApp, "RECALL_REDIS_ADDR=127.0.0.1:1"), nil, ExitFailure, "cannot reach Redis at 127.0.0.1:1: connection refused"},
		"open address":  {append(oneApp, environ...), []string{"--admin-addr", "0.0.0.0:0"}, ExitBadInput, "needs a token"},
		"taken address": {append(oneApp, environ...), []string{"--admin-addr", addr}, ExitFailure, "choose another with --admin-addr"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := run(t, c.environ, append([]string{"worker"}, c.args...)...)
			if got.code != c.code || !strings.Contains(got.err, c.want) || strings.Count(got.err, "\n") != 1 {
				t.Errorf("status %d, error %q, want %d and %q", got.code, got.err, c.code, c.want)
			}
		})
	}
}
