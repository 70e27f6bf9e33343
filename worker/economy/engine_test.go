package economy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
	"dingrecall/worker/internal/dispatch"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

// engine stands in for the queue: it runs the task of each due slot and looks again when a reply says so. All of its waiting is on
// the test's own clock.
type engine struct {
	t        *testing.T
	store    *keystore.Store
	dispatch *dispatch.Dispatcher
	ctx      context.Context

	mu      sync.Mutex
	started map[flow.DueSlot]bool // guarded by mu
	looks   map[int64]bool        // guarded by mu: the moments, ms, at which somebody looks
	runs    sync.WaitGroup
}

// begun is when the test's clock begins.
var begun = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// openRedis gives a Redis outside of the test's clock: what waits for it holds the clock up.
func openRedis(t *testing.T) *redis.Client {
	t.Helper()
	m := miniredis.RunT(t)
	m.SetTime(begun)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), ReadTimeout: -2, WriteTimeout: -2, PoolTimeout: time.Hour, MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func newEngine(t *testing.T, rdb *redis.Client, sim *simulator.Simulator, params keystore.Params) *engine {
	t.Helper()
	client, err := upstream.NewOver(upstream.Config{BaseURL: "http://simulator.test"}, carrier{sim})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &engine{t: t, started: map[flow.DueSlot]bool{}, looks: map[int64]bool{}, ctx: ctx}
	e.store = keystore.New(rdb, "main", func() keystore.Params { return params }, time.Now)
	policy := dispatch.Policy{MaxAttempts: 10, UnknownAttempts: 3, SplitAfter: 3, BackoffBase: time.Second, BackoffMax: time.Minute, Probe: time.Minute}
	app := &dispatch.App{Name: "main", Store: e.store, Tokens: token{}, Limited: true, Latency: &dispatch.Latency{}}
	e.dispatch, err = dispatch.New(dispatch.Config{Policy: policy, Slice: 3 * time.Second},
		dispatch.Deps{Service: client, Observer: nobody{}, Log: zap.NewNop(), After: e.after, Stopping: make(chan struct{})}, []*dispatch.App{app})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); e.runs.Wait() })
	return e
}

// after does what a reply of the key store asks for.
func (e *engine) after(_ context.Context, _ string, r *keystore.Reply) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return nil
	}
	for _, due := range r.Due {
		if !e.started[due] {
			e.started[due] = true
			e.runs.Go(func() { e.run(due) })
		}
	}
	if at := r.Next.UnixMilli(); !r.Next.IsZero() && !e.looks[at] {
		e.looks[at] = true
		e.runs.Go(func() {
			if !e.sleep(time.Until(time.UnixMilli(at))) {
				return
			}
			e.wake()
		})
	}
	return nil
}

func (e *engine) wake() {
	r, err := e.store.Wake(e.ctx)
	if err == nil {
		err = e.after(e.ctx, "main", r)
	}
	if err != nil && e.ctx.Err() == nil {
		e.t.Error(err)
	}
}

// run runs a task to its end, as often as that takes.
func (e *engine) run(due flow.DueSlot) {
	for retry := 0; ; {
		err := e.dispatch.Run(e.ctx, "main", due.Slot, due.Generation, retry)
		var later *flow.Later
		switch {
		case err == nil || e.ctx.Err() != nil:
			return
		case !errors.As(err, &later):
			e.t.Error(err)
			return
		case !e.sleep(later.Delay):
			return
		case later.Blame:
			retry++
		}
	}
}

func (e *engine) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-e.ctx.Done():
		return false
	}
}

// untilSettled waits until no key waits any more, and gives the counts.
func (e *engine) untilSettled() keystore.Counts {
	e.t.Helper()
	for range 600 {
		st, err := e.store.Status(e.ctx)
		if err != nil {
			e.t.Fatal(err)
		}
		if st.Total.Waiting == 0 && st.Total.Bound == 0 {
			return st.Total
		}
		e.sleep(time.Second)
	}
	st, err := e.store.Status(e.ctx)
	e.t.Fatalf("keys still wait: %+v, %v", st, err)
	return keystore.Counts{}
}

// carrier hands calls to the simulator without a network.
type carrier struct{ sim *simulator.Simulator }

func (c carrier) RoundTrip(r *http.Request) (answer *http.Response, err error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	defer func() {
		if p := recover(); p != nil { // how the simulator cuts a connection
			answer, err = nil, io.ErrUnexpectedEOF
		}
	}()
	arrived := r.Clone(r.Context())
	arrived.Header = http.Header{}
	for name, values := range r.Header { // a server reads them in their usual spelling
		arrived.Header[http.CanonicalHeaderKey(name)] = values
	}
	w := httptest.NewRecorder()
	c.sim.ServeHTTP(w, arrived)
	return w.Result(), nil
}

type token struct{}

func (token) Get(context.Context) (string, error)           { return "token", nil }
func (token) Renew(context.Context, string) (string, error) { return "token", nil }

type nobody struct{}

func (nobody) Called(string, upstream.Scope, int, time.Duration) {}
func (nobody) Settled(string, int, int)                          {}
