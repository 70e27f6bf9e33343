package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// issuer is a token endpoint: tok-1, tok-2, ... or always the same one.
type issuer struct {
	asked  atomic.Int64
	same   atomic.Bool // the token is renewed, not replaced
	broken atomic.Pointer[http.HandlerFunc]
	gate   chan struct{} // if not nil, an answer waits for it
	life   int
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := i.asked.Add(1)
	_, _ = io.Copy(io.Discard, r.Body)
	if i.gate != nil {
		select {
		case <-i.gate:
		case <-r.Context().Done():
			return
		}
	}
	if broken := i.broken.Load(); broken != nil {
		(*broken)(w, r)
		return
	}
	if i.same.Load() {
		n = 1
	}
	respond(200, fmt.Sprintf(`{"accessToken":"tok-%d","expireIn":%d}`, n, i.life))(w, r)
}

type tokenBundle struct {
	*Tokens
	issuer *issuer
	clock  *clock
	store  *MemoryTokenStore
	client *Client
	errs   chan error
}

func setupTokens(t *testing.T, spoil ...func(*issuer)) *tokenBundle {
	t.Helper()
	b := &tokenBundle{issuer: &issuer{life: 7200}, clock: newClock(), errs: make(chan error, 100)}
	for _, f := range spoil {
		f(b.issuer)
	}
	b.client = serve(t, b.issuer.ServeHTTP)
	b.store = NewMemoryTokenStore(b.clock.now)
	b.Tokens = b.another(b.store)
	return b
}

// another is another process: Tokens of its own for the same service.
func (b *tokenBundle) another(store TokenStore) *Tokens {
	tokens := NewTokens(b.client, testCredentials, store, b.clock.now)
	tokens.OnStoreError = func(err error) { b.errs <- err }
	return tokens
}

func mustGet(t *testing.T, tokens *Tokens, want string) {
	t.Helper()
	if got, err := tokens.Get(t.Context()); err != nil || got != want {
		t.Fatalf("Get: %q, %v; want %q", got, err, want)
	}
}

func mustRenew(t *testing.T, tokens *Tokens, stale, want string) {
	t.Helper()
	if got, err := tokens.Renew(t.Context(), stale); err != nil || got != want {
		t.Fatalf("Renew(%q): %q, %v; want %q", stale, got, err, want)
	}
}

func (b *tokenBundle) mustHaveAsked(t *testing.T, want int64) {
	t.Helper()
	if got := b.issuer.asked.Load(); got != want {
		t.Fatalf("%d requests for a token, want %d", got, want)
	}
}

func TestFetchToken(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 1)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- r.Method + " " + r.RequestURI + " " + string(body)
		if token := r.Header.Get(tokenHeader); token != "" {
			t.Errorf("a token call has a token: %q", token)
		}
		respond(200, `{"accessToken":"abc","expireIn":7200}`)(w, r)
	})
	before := time.Now()
	token, err := client.FetchToken(t.Context(), testCredentials)
	if err != nil {
		t.Fatal(err)
	}
	if want := `POST /v1.0/oauth2/accessToken {"appKey":"` + testRobot + `","appSecret":"` + testSecret + `"}`; <-bodies != want {
		t.Errorf("the request is not %s", want)
	}
	if token.Value.Reveal() != "abc" || token.ExpiresAt.Before(before.Add(2*time.Hour)) || token.ExpiresAt.After(time.Now().Add(2*time.Hour)) {
		t.Errorf("got %+v", token)
	}
	if early := token.ExpiresAt.Sub(token.RefreshAt); early != 10*time.Minute {
		t.Errorf("refreshed %v before the end", early)
	}
}

func TestTokenAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		life   time.Duration // 0: an error
		scope  Scope
	}{
		{"life as a string", 200, `{"accessToken":"abc","expireIn":"60"}`, time.Minute, 0},
		{"life without end", 200, `{"accessToken":"abc","expireIn":9223372036854775807}`, maxTokenLife, 0},
		{"no life", 200, `{"accessToken":"abc"}`, 0, AppHold},
		{"life of zero", 200, `{"accessToken":"abc","expireIn":0}`, 0, AppHold},
		{"empty token", 200, `{"accessToken":"","expireIn":7200}`, 0, AppHold},
		{"token of another type", 200, `{"accessToken":5,"expireIn":7200}`, 0, AppHold},
		{"snake case", 200, `{"access_token":"abc","expires_in":7200}`, 0, AppHold},
		{"token with an error", 400, `{"accessToken":"abc","expireIn":7200}`, 0, AppHold},
		{"bad credentials", 400, `{"code":"invalidClientIdOrSecret","message":"无效的clientId或者clientSecret"}`, 0, AppHold},
		{"unauthorized", 401, `{"code":"unauthorized.client","message":"x"}`, 0, AppHold},
		{"page", 200, `<html></html>`, 0, Throttled},
		{"throttled", 403, `{"code":"Forbidden.AccessDenied.QpsLimitForApi"}`, 0, Throttled},
		{"trouble", 500, `{"code":"system.error"}`, 0, Transient},
		{"truncated", 200, `{"accessToken":"ab`, 0, Transient},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, respond(test.status, test.body))
			before := time.Now()
			token, err := client.FetchToken(t.Context(), testCredentials)
			if test.life == 0 {
				e := asError(t, err)
				if v := e.Verdict(0); v.Scope != test.scope || e.Op != OpToken {
					t.Errorf("%v: verdict %+v, want %v", e, v, test.scope)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if life := token.ExpiresAt.Sub(before); life < test.life || life > test.life+time.Minute {
				t.Errorf("a life of %v, want %v", life, test.life)
			}
			if early, half := token.ExpiresAt.Sub(token.RefreshAt), test.life/2; early > half || early > refreshEarly {
				t.Errorf("refreshed %v before the end of %v", early, test.life)
			}
		})
	}

	client := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for _, cred := range []Credentials{{}, {AppKey: "a"}, {AppSecret: testSecret}} {
		_, err := client.FetchToken(t.Context(), cred)
		if e := asError(t, err); e.Class != ClassRequest || e.Verdict(0).Scope != AppHold {
			t.Errorf("got %+v", e)
		}
	}
}

func TestTokenAtRest(t *testing.T) {
	t.Parallel()
	for _, refresh := range []time.Time{{}, time.UnixMilli(1_700_000_000_000)} {
		token := Token{Value: testToken, ExpiresAt: time.UnixMilli(1_700_000_600_000), RefreshAt: refresh}
		data, err := token.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var read Token
		if err := read.UnmarshalBinary(data); err != nil || read != token {
			t.Errorf("%+v reads back as %+v, %v", token, read, err)
		}
	}
	for _, data := range []string{"", "{}", `{"value":"a b","expiresAt":1}`, `{"value":"` + testToken, "x" + testToken} {
		if err := new(Token).UnmarshalBinary([]byte(data)); err == nil || strings.Contains(err.Error(), testToken) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// TestExpiredTokenIsAskedForOnce: fifty callers, one request; and the same through Renew, for all of them and for latecomers.
func TestExpiredTokenIsAskedForOnce(t *testing.T) {
	t.Parallel()
	b := setupTokens(t, func(i *issuer) { i.gate = make(chan struct{}) })
	many := func(get func() (string, error), want string) {
		var group sync.WaitGroup
		got := make(chan string, 50)
		for range cap(got) {
			group.Go(func() {
				token, err := get()
				if err != nil {
					t.Error(err)
				}
				got <- token
			})
		}
		b.issuer.gate <- struct{}{} // one answer, no more
		group.Wait()
		close(got)
		for token := range got {
			if token != want {
				t.Errorf("got %q, want %q", token, want)
			}
		}
	}
	many(func() (string, error) { return b.Get(t.Context()) }, "tok-1")
	b.mustHaveAsked(t, 1)
	b.clock.advance(2 * time.Hour)
	many(func() (string, error) { return b.Get(t.Context()) }, "tok-2")
	b.mustHaveAsked(t, 2)
	many(func() (string, error) { return b.Renew(t.Context(), "tok-2") }, "tok-3")
	b.mustHaveAsked(t, 3)
	mustRenew(t, b.Tokens, "tok-2", "tok-3")
	mustRenew(t, b.Tokens, "tok-1", "tok-3")
	mustGet(t, b.Tokens, "tok-3")
	b.mustHaveAsked(t, 3)
}

func TestTokenIsSharedThroughTheStore(t *testing.T) {
	t.Parallel()
	b := setupTokens(t, func(i *issuer) { i.gate = make(chan struct{}) })
	processes := []*Tokens{b.Tokens, b.another(b.store), b.another(b.store)}
	var waits atomic.Int64
	polled := make(chan struct{}, 1000)
	for _, p := range processes {
		p.wait = func(ctx context.Context, _ time.Duration) error {
			waits.Add(1)
			polled <- struct{}{}
			return pause(ctx, time.Millisecond)
		}
	}
	everyone := func(get func(*Tokens) (string, error), want string) {
		t.Helper()
		var group sync.WaitGroup
		for _, p := range processes {
			for range 10 {
				group.Go(func() {
					if got, err := get(p); err != nil || got != want {
						t.Errorf("got %q, %v; want %q", got, err, want)
					}
				})
			}
		}
		<-polled // somebody found the lock taken
		b.issuer.gate <- struct{}{}
		group.Wait()
	}
	everyone(func(p *Tokens) (string, error) { return p.Get(t.Context()) }, "tok-1")
	b.mustHaveAsked(t, 1)
	everyone(func(p *Tokens) (string, error) { return p.Renew(t.Context(), "tok-1") }, "tok-2")
	b.mustHaveAsked(t, 2)

	// A process that starts later asks nobody.
	mustGet(t, b.another(b.store), "tok-2")
	b.mustHaveAsked(t, 2)
}

// TestRenewedTokenOfTheSameValue: for an internal app, asking again gives the same token, renewed (documented).
func TestRenewedTokenOfTheSameValue(t *testing.T) {
	t.Parallel()
	b := setupTokens(t, func(i *issuer) { i.same.Store(true) })
	other := b.another(b.store)
	mustGet(t, b.Tokens, "tok-1")
	mustGet(t, other, "tok-1")
	b.clock.advance(time.Minute)
	mustRenew(t, b.Tokens, "tok-1", "tok-1")
	b.mustHaveAsked(t, 2)
	mustRenew(t, b.Tokens, "tok-1", "tok-1")
	mustRenew(t, other, "tok-1", "tok-1") // sees in the store that it was renewed since
	b.mustHaveAsked(t, 2)
	b.clock.advance(renewRest)
	mustRenew(t, b.Tokens, "tok-1", "tok-1")
	b.mustHaveAsked(t, 3)
}

func TestTokenIsRefreshedEarlyByOne(t *testing.T) {
	t.Parallel()
	b := setupTokens(t, func(i *issuer) { i.gate = make(chan struct{}, 1) })
	b.issuer.gate <- struct{}{}
	mustGet(t, b.Tokens, "tok-1")
	other := b.another(b.store)
	mustGet(t, other, "tok-1")
	b.clock.advance(2*time.Hour - refreshEarly - time.Second)
	mustGet(t, b.Tokens, "tok-1")
	b.mustHaveAsked(t, 1)
	b.clock.advance(time.Second)

	first := make(chan string, 1)
	go func() {
		token, err := b.Get(t.Context())
		if err != nil {
			t.Error(err)
		}
		first <- token
	}()
	waitFor(t, func() bool { return b.issuer.asked.Load() == 2 })
	mustGet(t, b.Tokens, "tok-1") // the others, here and elsewhere, go on with what they have
	mustGet(t, other, "tok-1")
	b.issuer.gate <- struct{}{}
	if got := <-first; got != "tok-2" {
		t.Errorf("the one who refreshed got %q", got)
	}
	mustGet(t, b.Tokens, "tok-2")
	b.clock.advance(elsewhereRest)
	mustGet(t, other, "tok-2")
	b.mustHaveAsked(t, 2)
}

// waitFor waits for a condition that another goroutine brings about.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("it did not come about in 10 s")
		}
	}
}

func TestFailedEarlyRefreshKeepsTheToken(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	mustGet(t, b.Tokens, "tok-1")
	b.clock.advance(2*time.Hour - refreshEarly)
	down := respond(500, `{"code":"system.error"}`)
	b.issuer.broken.Store(&down)
	mustGet(t, b.Tokens, "tok-1")
	mustGet(t, b.Tokens, "tok-1")
	b.mustHaveAsked(t, 2)
	b.clock.advance(earlyRest)
	mustGet(t, b.Tokens, "tok-1")
	b.mustHaveAsked(t, 3)
	b.clock.advance(refreshEarly - earlyRest)
	if token, err := b.Get(t.Context()); err == nil {
		t.Errorf("got the expired token %q", token)
	}
	b.issuer.broken.Store(nil)
	b.clock.advance(failureRest)
	mustGet(t, b.Tokens, "tok-5")
}

func TestBadCredentialsAreNotAskedAgainAtOnce(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	bad := respond(400, `{"code":"invalidClientIdOrSecret","message":"no"}`)
	b.issuer.broken.Store(&bad)
	for range 5 {
		_, err := b.Get(t.Context())
		if e := asError(t, err); e.Verdict(0).Scope != AppHold || !strings.Contains(err.Error(), "check the app's key and secret") {
			t.Fatalf("got %v", err)
		}
	}
	b.mustHaveAsked(t, 1)
	b.clock.advance(failureRest)
	_, _ = b.Get(t.Context())
	b.mustHaveAsked(t, 2)

	busy := respond(429, `{}`, "Retry-After", "60")
	b.issuer.broken.Store(&busy)
	b.clock.advance(failureRest)
	_, _ = b.Get(t.Context())
	b.clock.advance(59 * time.Second)
	_, _ = b.Get(t.Context())
	b.mustHaveAsked(t, 3)
	b.issuer.broken.Store(nil)
	b.clock.advance(time.Second)
	mustGet(t, b.Tokens, "tok-4")
}

// TestShortLivedTokenIsNoLoop: a token that is over before it arrives is handed out once, not asked for without end.
func TestShortLivedTokenIsNoLoop(t *testing.T) {
	t.Parallel()
	b := setupTokens(t, func(i *issuer) { i.life = 1 })
	fetch := b.fetch
	b.fetch = func(ctx context.Context) (Token, error) {
		token, err := fetch(ctx)
		b.clock.advance(2 * time.Second)
		return token, err
	}
	mustGet(t, b.Tokens, "tok-1")
	b.mustHaveAsked(t, 1)
}

// brokenStore fails at what it is told to.
type brokenStore struct {
	TokenStore
	load, save, lock error
}

func (s *brokenStore) Load(ctx context.Context) (Token, bool, error) {
	if s.load != nil {
		return Token{}, false, s.load
	}
	return s.TokenStore.Load(ctx)
}

func (s *brokenStore) Save(ctx context.Context, token Token) error {
	if s.save != nil {
		return s.save
	}
	return s.TokenStore.Save(ctx, token)
}

func (s *brokenStore) Lock(ctx context.Context, ttl time.Duration) (func(), bool, error) {
	if s.lock != nil {
		return nil, false, s.lock
	}
	return s.TokenStore.Lock(ctx, ttl)
}

func TestDeadStoreStopsNoTokens(t *testing.T) {
	t.Parallel()
	dead := errors.New("store is dead")
	for name, spoil := range map[string]func(*brokenStore){
		"load": func(s *brokenStore) { s.load = dead },
		"save": func(s *brokenStore) { s.save = dead },
		"lock": func(s *brokenStore) { s.lock = dead },
		"all":  func(s *brokenStore) { s.load, s.save, s.lock = dead, dead, dead },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupTokens(t)
			store := &brokenStore{TokenStore: b.store}
			spoil(store)
			tokens := b.another(store)
			mustGet(t, tokens, "tok-1")
			mustGet(t, tokens, "tok-1")
			mustRenew(t, tokens, "tok-1", "tok-2")
			b.mustHaveAsked(t, 2)
			if len(b.errs) == 0 {
				t.Fatal("nobody was told of the store's failure")
			}
			if err := <-b.errs; !errors.Is(err, dead) {
				t.Errorf("told of %v", err)
			}
			NewTokens(b.client, testCredentials, store, b.clock.now).storeFailed("load", dead) // without a callback
		})
	}
}

// TestLockThatIsNeverFreed: who has waited for the lock's whole life asks without it.
func TestLockThatIsNeverFreed(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	forever := &lockedStore{TokenStore: b.store}
	tokens := b.another(forever)
	var waited time.Duration
	tokens.wait = func(_ context.Context, d time.Duration) error { waited += d; return nil }
	mustGet(t, tokens, "tok-1")
	if waited < tokens.lockTTL || waited > 2*tokens.lockTTL {
		t.Errorf("waited %v for a lock of %v", waited, tokens.lockTTL)
	}

	b.clock.advance(2 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	tokens.wait = func(ctx context.Context, _ time.Duration) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	_, err := tokens.Get(ctx)
	if e := asError(t, err); e.Class != ClassCanceled || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it canceled", err)
	}
	b.mustHaveAsked(t, 1)
}

// lockedStore is one whose lock somebody else always has.
type lockedStore struct{ TokenStore }

func (lockedStore) Lock(context.Context, time.Duration) (func(), bool, error) { return nil, false, nil }

// TestOneWhoLeavesDoesNotHarmTheOthers: the request belongs to all who wait for it, and ends when nobody does.
func TestOneWhoLeavesDoesNotHarmTheOthers(t *testing.T) {
	t.Parallel()
	b := setupTokens(t, func(i *issuer) { i.gate = make(chan struct{}) })
	ctx, cancel := context.WithCancel(t.Context())
	leaver, stayer := make(chan error, 1), make(chan error, 1)
	go func() { _, err := b.Get(ctx); leaver <- err }()
	waitFor(t, func() bool { return b.issuer.asked.Load() == 1 })
	go func() { _, err := b.Get(t.Context()); stayer <- err }()
	waitFor(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.flight != nil && b.flight.waiters == 2
	})
	cancel()
	if err := <-leaver; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	b.issuer.gate <- struct{}{}
	if err := <-stayer; err != nil {
		t.Errorf("who stayed got %v", err)
	}
	b.mustHaveAsked(t, 1)

	b.clock.advance(2 * time.Hour)
	ctx, cancel = context.WithCancel(t.Context())
	go func() { _, err := b.Get(ctx); leaver <- err }()
	waitFor(t, func() bool { return b.issuer.asked.Load() == 2 })
	cancel()
	if err := <-leaver; !errors.Is(err, context.Canceled) {
		t.Errorf("the last one who left got %v", err)
	}
	// The next one gets a request of its own, not the canceled one's error.
	close(b.issuer.gate)
	mustGet(t, b.Tokens, "tok-3")
}

func TestMemoryTokenStoreLock(t *testing.T) {
	t.Parallel()
	c := newClock()
	store := NewMemoryTokenStore(c.now)
	first, ok, err := store.Lock(t.Context(), time.Second)
	if !ok || err != nil {
		t.Fatalf("%v %v", ok, err)
	}
	if _, ok, _ := store.Lock(t.Context(), time.Second); ok {
		t.Error("locked twice")
	}
	c.advance(time.Second)
	second, ok, _ := store.Lock(t.Context(), time.Second)
	if !ok {
		t.Error("the lock outlives its time")
	}
	first()
	if _, ok, _ := store.Lock(t.Context(), time.Second); ok {
		t.Error("a late release frees another's lock")
	}
	second()
	if _, ok, _ := store.Lock(t.Context(), time.Second); !ok {
		t.Error("not free after its release")
	}
}

// lateStore is one where another process saves its token just before this one gets the lock.
type lateStore struct {
	*MemoryTokenStore
	token Token
}

func (s *lateStore) Lock(ctx context.Context, ttl time.Duration) (func(), bool, error) {
	_ = s.Save(ctx, s.token)
	return s.MemoryTokenStore.Lock(ctx, ttl)
}

func TestTokenSavedWhileTakingTheLockIsUsed(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	// The store keeps no RefreshAt: it is worked out.
	store := &lateStore{b.store, Token{Value: "theirs", ExpiresAt: b.clock.now().Add(time.Hour)}}
	tokens := b.another(store)
	mustGet(t, tokens, "theirs")
	b.clock.advance(49 * time.Minute)
	mustGet(t, tokens, "theirs")
	b.mustHaveAsked(t, 0)
	b.clock.advance(time.Minute)
	store.token.ExpiresAt = b.clock.now().Add(-time.Second) // what is stored now is of no use
	mustGet(t, tokens, "tok-1")
	b.mustHaveAsked(t, 1)
}
