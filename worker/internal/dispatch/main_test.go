package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

func TestMain(m *testing.M) {
	code := redistest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// testPolicy has no chance in it: a backoff is three quarters of its most.
func testPolicy() Policy {
	return Policy{MaxAttempts: 10, UnknownAttempts: 3, SplitAfter: 3, BackoffBase: time.Second, BackoffMax: time.Minute, Probe: time.Minute,
		Random: func() float64 { return 0.5 }}
}

var testNow = time.UnixMilli(1_790_000_000_000)

// testBatch is a batch of n keys, k0, k1, ..., all of which are called.
func testBatch(n int) *flow.Batch {
	b := &flow.Batch{ID: 1, Run: 1, RobotCode: "robot", Cut: n}
	for i := range n {
		b.Keys = append(b.Keys, flow.BoundKey{Key: fmt.Sprintf("k%d", i), Deadline: testNow.Add(time.Hour)})
	}
	return b
}

// realError makes a call with the real client to a server that answers so, and gives the error.
func realError(t *testing.T, keys []string, status int, body string) *upstream.Error {
	t.Helper()
	return callError(t, keys, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-acs-request-id", "rid")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

func callError(t *testing.T, keys []string, h http.HandlerFunc) *upstream.Error {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	return errorOf(t, server.URL, keys)
}

func errorOf(t *testing.T, baseURL string, keys []string) *upstream.Error {
	t.Helper()
	client, err := upstream.New(upstream.Config{BaseURL: baseURL, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.BatchRecall(context.Background(), "token", "robot", keys)
	var e *upstream.Error
	if !errors.As(err, &e) {
		t.Fatalf("the call did not fail as it should: %v", err)
	}
	return e
}

// refused is the error of a call that could not be connected.
func refused(t *testing.T, keys []string) *upstream.Error {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	return errorOf(t, server.URL, keys)
}

// cut is the error of a call whose connection broke before the answer.
func cut(t *testing.T, keys []string) *upstream.Error {
	t.Helper()
	return callError(t, keys, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

func body(code string) string {
	return fmt.Sprintf(`{"code":%q,"requestid":"rid","message":"words"}`, code)
}

// fates is the fates of a decision as text, one letter for each key.
func fates(d decision) string {
	var b []byte
	for _, o := range d.Outcomes {
		b = append(b, byte(o.Fate))
	}
	return string(b)
}
