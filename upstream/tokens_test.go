package upstream

import (
	"context"
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
	other, late := b.another(b.store), b.another(b.store)
	mustGet(t, b.Tokens, "tok-1")
	mustGet(t, other, "tok-1")
	mustGet(t, late, "tok-1")
	b.clock.advance(time.Minute)
	mustRenew(t, b.Tokens, "tok-1", "tok-1")
	b.mustHaveAsked(t, 2)
	mustRenew(t, b.Tokens, "tok-1", "tok-1")
	mustRenew(t, other, "tok-1", "tok-1") // sees in the store that it was renewed since
	b.mustHaveAsked(t, 2)
	b.clock.advance(renewRest)
	mustRenew(t, late, "tok-1", "tok-1") // its own copy is older than what is there
	b.mustHaveAsked(t, 2)
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

// restOfMany is longer than any failure rests.
const restOfMany = time.Minute

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
	b.clock.advance(restOfMany)
	mustGet(t, b.Tokens, "tok-5")
}

func TestBadCredentialsAreNotAskedAgainAtOnce(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	other := b.another(b.store)
	mustFail := func(hint string) {
		t.Helper()
		for _, tokens := range []*Tokens{b.Tokens, other, b.Tokens} {
			_, err := tokens.Get(t.Context())
			if e := asError(t, err); !strings.Contains(err.Error(), hint) {
				t.Fatalf("got %v, want it to say %q", e, hint)
			}
		}
	}
	bad := respond(400, `{"code":"invalidClientIdOrSecret","message":"no"}`)
	b.issuer.broken.Store(&bad)
	mustFail("check the app's key and secret")
	b.mustHaveAsked(t, 1)
	b.clock.advance(credentialRest - time.Second)
	mustFail("check the app's key and secret")
	b.mustHaveAsked(t, 1)
	b.clock.advance(time.Second)
	mustFail("check the app's key and secret")
	b.mustHaveAsked(t, 2)

	busy := respond(429, `{}`, "Retry-After", "60")
	b.issuer.broken.Store(&busy)
	b.clock.advance(credentialRest)
	mustFail("429")
	b.clock.advance(59 * time.Second)
	mustFail("429")
	b.mustHaveAsked(t, 3)
	b.issuer.broken.Store(nil)
	b.clock.advance(time.Second)
	mustGet(t, b.Tokens, "tok-4")
}

// TestFailuresRestLongerAndLonger: trouble of the service is asked about again after 1, 1, 2, 4 ... 30 s, by all processes together.
func TestFailuresRestLongerAndLonger(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	other := b.another(b.store)
	down := respond(500, `{"code":"system.error"}`)
	b.issuer.broken.Store(&down)
	for i, rest := range []int{1, 1, 2, 4, 8, 16, 30, 30} {
		for range rest {
			for _, tokens := range []*Tokens{b.Tokens, other} {
				if _, err := tokens.Get(t.Context()); asError(t, err).Verdict(0).Scope != Transient {
					t.Fatal(err)
				}
			}
			if got := b.issuer.asked.Load(); got != int64(i+1) {
				t.Fatalf("asked %d times in rest %d", got, i+1)
			}
			b.clock.advance(time.Second)
		}
	}
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
