package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

const testApp = "main"

// bundle is a dispatcher on a real key store, with a service, tokens and a queue of the test's own.
type bundle struct {
	t        *testing.T
	rdb      *redis.Client
	p        keystore.Params // changed only while nothing runs
	store    *keystore.Store // the test's own way to the key store: never fails
	faults   *faults         // of the dispatcher's way
	service  *fakeService
	tokens   *fakeTokens
	observer *fakeObserver
	app      *App
	deps     Deps
	stopping chan struct{}

	mu      sync.Mutex
	replies []*keystore.Reply
	onAfter func(n int, r *keystore.Reply) error // n counts from 1
}

func testParams() keystore.Params {
	return keystore.Params{Slots: 4, SlotsCap: 8, Life: 24 * time.Hour, LedgerTTL: 48 * time.Hour, Letter: 200, ProbeMax: time.Hour}
}

func setup(t *testing.T, rdb *redis.Client, change func(*keystore.Params)) *bundle {
	t.Helper()
	p := testParams()
	if change != nil {
		change(&p)
	}
	b := &bundle{t: t, rdb: rdb, p: p, faults: &faults{}, service: &fakeService{}, tokens: &fakeTokens{token: "t1"},
		observer: &fakeObserver{calls: map[upstream.Scope]int{}}, stopping: make(chan struct{})}
	params := func() keystore.Params { return b.p }
	b.store = keystore.New(rdb, testApp, params, nil)
	own := redis.NewClient(&redis.Options{Addr: rdb.Options().Addr, DB: rdb.Options().DB})
	own.AddHook(b.faults)
	t.Cleanup(func() { _ = own.Close() })
	b.app = &App{Name: testApp, Store: keystore.New(own, testApp, params, nil), Tokens: b.tokens, Limited: p.Interval > 0, Latency: &Latency{}}
	b.deps = Deps{Service: b.service, Observer: b.observer, Log: zap.NewNop(), After: b.after, Stopping: b.stopping}
	return b
}

func (b *bundle) dispatcher(slice time.Duration) *Dispatcher {
	b.t.Helper()
	d, err := New(Config{Policy: testPolicy(), Slice: slice}, b.deps, []*App{b.app})
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// run runs the slot as the queue would.
func (b *bundle) run(at flow.DueSlot, retry int) error {
	b.t.Helper()
	return b.dispatcher(time.Minute).Run(context.Background(), testApp, at.Slot, at.Generation, retry)
}

func (b *bundle) after(_ context.Context, app string, r *keystore.Reply) error {
	if app != testApp || r == nil {
		return fmt.Errorf("after was told of app %q, reply %v", app, r)
	}
	b.mu.Lock()
	b.replies = append(b.replies, r)
	n, f := len(b.replies), b.onAfter
	b.mu.Unlock()
	if f != nil {
		return f(n, r)
	}
	return nil
}

func (b *bundle) last() *keystore.Reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.replies[len(b.replies)-1]
}

// admit takes n urgent keys in and gives the first due slot.
func (b *bundle) admit(n int) flow.DueSlot {
	b.t.Helper()
	_, r, err := b.store.Admit(context.Background(), keystore.Admission{RobotCode: "robot", Keys: names(n), Class: flow.Urgent})
	if err != nil {
		b.t.Fatal(err)
	}
	if len(r.Due) == 0 {
		b.t.Fatal("no slot is due")
	}
	return r.Due[0]
}

// nextPermitIn has the app's limiter give out its next permit for a moment so far away.
func (b *bundle) nextPermitIn(d time.Duration) {
	b.t.Helper()
	now, err := b.rdb.Time(context.Background()).Result()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.rdb.HSet(context.Background(), keystore.Prefix(testApp)+"meta", "tat", now.Add(d).UnixMicro()).Err(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) records(n int) []keystore.KeyRecord {
	b.t.Helper()
	recs, err := b.store.Lookup(context.Background(), "robot", names(n))
	if err != nil {
		b.t.Fatal(err)
	}
	return recs
}

// states counts the keys in each state.
func (b *bundle) states(n int) map[flow.State]int {
	b.t.Helper()
	out := map[flow.State]int{}
	for _, r := range b.records(n) {
		out[r.State]++
	}
	return out
}

func (b *bundle) status() keystore.AppStatus {
	b.t.Helper()
	st, err := b.store.Status(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

// later is the error as *flow.Later.
func later(t *testing.T, err error) *flow.Later {
	t.Helper()
	var l *flow.Later
	if !errors.As(err, &l) {
		t.Fatalf("not for later: %v", err)
	}
	return l
}

// fakeService answers as told; without being told it recalls every key.
type fakeService struct {
	mu     sync.Mutex
	calls  []fakeCall
	answer func(n int, c fakeCall) (upstream.Answer, error) // n counts from 1
}

type fakeCall struct {
	token, robot string
	to           upstream.Target
	keys         []string
	at           time.Time
}

func (f *fakeService) Recall(ctx context.Context, token string, to upstream.Target, keys []string) (upstream.Answer, error) {
	if err := ctx.Err(); err != nil {
		return upstream.Answer{}, err
	}
	f.mu.Lock()
	c := fakeCall{token, to.RobotCode, to, keys, time.Now()}
	f.calls = append(f.calls, c)
	n, answer := len(f.calls), f.answer
	f.mu.Unlock()
	if answer == nil {
		return allRecalled(keys), nil
	}
	a, err := answer(n, c)
	if ctx.Err() != nil { // the real client gives up then
		return upstream.Answer{}, ctx.Err()
	}
	return a, err
}

func allRecalled(keys []string) upstream.Answer {
	return upstream.Answer{RequestID: "rid", Recalled: keys}
}

func (f *fakeService) seen() []fakeCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]fakeCall(nil), f.calls...)
}

// mostOften is how often the key that was called most often was called.
func (f *fakeService) mostOften() int {
	times, most := map[string]int{}, 0
	for _, c := range f.seen() {
		for _, k := range c.keys {
			times[k]++
			most = max(most, times[k])
		}
	}
	return most
}

type fakeTokens struct {
	mu        sync.Mutex
	token     string
	err       error
	gets      int
	renewed   []string
	renewWith string
	renewErr  error
}

func (f *fakeTokens) Get(ctx context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets++
	if f.err == nil {
		f.err = ctx.Err()
	}
	return f.token, f.err
}

func (f *fakeTokens) Renew(_ context.Context, stale string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewed = append(f.renewed, stale)
	if f.renewErr != nil {
		return "", f.renewErr
	}
	f.token = f.renewWith
	return f.token, nil
}

type fakeObserver struct {
	mu             sync.Mutex
	calls          map[upstream.Scope]int
	recalled, dead int
}

func (f *fakeObserver) Called(_ string, s upstream.Scope, _ int, _ time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[s]++
}

func (f *fakeObserver) Settled(_ string, recalled, dead int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recalled += recalled
	f.dead += dead
}

// faults is a connection to Redis that fails when it is told to: before a script has run, or after it.
type faults struct {
	mu       sync.Mutex
	before   int
	after    int
	commands [][]any // scripts that were sent
}

func (f *faults) set(before, after int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

var errBlink = errors.New("redis blinked")

func (f *faults) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *faults) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *faults) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "evalsha" && cmd.Name() != "eval" {
			return next(ctx, cmd)
		}
		f.mu.Lock()
		f.commands = append(f.commands, cmd.Args())
		before, after := f.before > 0, f.before == 0 && f.after > 0
		switch {
		case before:
			f.before--
		case after && cmd.Name() == "eval": // the first time the script is not known yet: evalsha fails by itself
			f.after--
		}
		f.mu.Unlock()
		if before {
			cmd.SetErr(errBlink)
			return errBlink
		}
		err := next(ctx, cmd)
		if after && err == nil {
			f.mu.Lock()
			if cmd.Name() == "evalsha" {
				f.after--
			}
			f.mu.Unlock()
			cmd.SetErr(errBlink)
			return errBlink
		}
		return err
	}
}

// scripts counts the different scripts that were sent so far.
func (f *faults) scripts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[any]bool{}
	for _, c := range f.commands {
		if c[0] == "evalsha" {
			seen[c[1]] = true
		}
	}
	return len(seen)
}
