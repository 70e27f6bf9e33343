package cli

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dingrecall/upstream/simulator"
)

// fileKey is a key of a test's file, and what is to become of it.
type fileKey struct {
	key, robot string
	sentAt     time.Time
	code       string // "" for a key that is to be recalled
}

// broadcast makes keys of two robots: n good ones, and some that cannot be recalled.
func broadcast(n int, bad bool) []fileKey {
	now := time.Now().Truncate(time.Second)
	seed := uint64(n)
	var keys []fileKey
	add := func(kind simulator.Kind, sentAt time.Time, code string) {
		i := len(keys)
		keys = append(keys, fileKey{simulator.MakeKey(seed, uint64(i), kind, sentAt), fmt.Sprintf("dingrobot%d", i%2), sentAt, code})
	}
	for i := range n {
		add(simulator.Good, now.Add(-time.Duration(i)*time.Second-time.Hour), "")
		switch {
		case bad && i%100 == 10:
			add(simulator.Unknown, now.Add(-time.Hour), "invalid.processQueryKey")
		case bad && i%100 == 30:
			add(simulator.Foreign, now.Add(-time.Hour), "not.allowed.robotCode")
		case bad && i%100 == 50:
			add(simulator.Good, now.Add(-25*time.Hour), "window.closed")
		case bad && i%100 == 70:
			add(simulator.Expired, time.Time{}, "robot.processQueryKey.expired")
		}
	}
	return keys
}

// keysCSV writes keys as a CSV file and returns its path.
func keysCSV(t *testing.T, keys []fileKey) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("processQueryKey,robotCode,sentAt\n")
	for _, k := range keys {
		at := ""
		if !k.sentAt.IsZero() {
			at = k.sentAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(&b, "%s,%s,%s\n", k.key, k.robot, at)
	}
	return writeAt(t, filepath.Join(t.TempDir(), "keys.csv"), b.String())
}

func writeAt(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// readReport returns the rows of a report as maps, in their order.
func readReport(t *testing.T, path string) []map[string]string {
	t.Helper()
	records, err := csv.NewReader(strings.NewReader(readFile(t, path))).ReadAll()
	if err != nil || len(records) == 0 {
		t.Fatalf("%s is no report: %v", path, err)
	}
	var rows []map[string]string
	for _, rec := range records[1:] {
		row := map[string]string{}
		for i, name := range records[0] {
			row[name] = rec[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// runWith runs the program with a context and an input of the test's own.
func runWith(ctx context.Context, in io.Reader, environ []string, args ...string) result {
	var out, errs syncBuffer
	code := Run(ctx, Env{In: in, Out: &out, Err: &errs, Args: args, Environ: environ, Version: "v0.0.0-test"})
	return result{code, out.String(), errs.String()}
}

// syncBuffer may be written by a logger and a command at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// simulated are the arguments of a run against the simulator in its own process, at full speed.
func simulated(args ...string) []string {
	return append([]string{"run", "--simulate", "--rate", "0", "--sim-latency", "0", "--progress", "none"}, args...)
}

// service is a simulator of the test's own, with a look at every call of a recall before it is answered.
func service(t *testing.T, cfg simulator.Config, before func(call int)) (*simulator.Simulator, []string) {
	t.Helper()
	sim, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/batchRecall") && before != nil {
			mu.Lock()
			calls++
			n := calls
			mu.Unlock()
			before(n)
		}
		sim.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return sim, append([]string{"RECALL_UPSTREAM_BASE_URL=" + server.URL}, oneApp...)
}

func wantCode(t *testing.T, got result, code int, inOut, inErr string) {
	t.Helper()
	if got.code != code || !strings.Contains(got.out, inOut) || !strings.Contains(got.err, inErr) {
		t.Fatalf("status %d, want %d\noutput, want %q:\n%s\nerrors, want %q:\n%s", got.code, code, inOut, got.out, inErr, got.err)
	}
}
