package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// failureRest is for how long a failure to get a token is handed out again without another look, so that many callers that come
	// one after the other do not each ask. It grows to as long as requests have failed already, up to longestRest; the service's own word
	// (Retry-After, or a limit) makes it longer still.
	failureRest = time.Second
	longestRest = 30 * time.Second
	// credentialRest is the same where somebody has to mend something: less than the pauses between the probes of a held app.
	credentialRest = 30 * time.Second
	// renewRest is for how long a token that took the place of a refused one is handed out, even to who says that it is refused too: a
	// second request would tell nothing new, and where two who do not share a store end each other's tokens, it would go on for ever.
	renewRest = 10 * time.Second
	// earlyRest is for how long nobody tries again after an early refresh failed, while the old token is still good.
	earlyRest = 15 * time.Second
	// elsewhereRest is for how long nobody looks again where another process is just refreshing a token that is still good.
	elsewhereRest = time.Second
	// storeTimeout bounds one access to the store: a store that hangs is as good as dead, and must not stop tokens.
	storeTimeout = 3 * time.Second
	// pollFirst and pollMost bound the pause between two looks at the store while another process has the lock.
	pollFirst = 50 * time.Millisecond
	pollMost  = 500 * time.Millisecond
	// lockTTL is for how long a process that died while it asked keeps the others waiting. Who lives keeps its lock, each keepEvery.
	lockTTL   = 5 * time.Second
	keepEvery = lockTTL / 4
)

// Tokens hands out the token of one app to any number of callers: one request for all of them in this process, and, through the
// store, for all processes. It is safe for concurrent use.
//
// A token is replaced by one caller about ten minutes before its end; the others go on with the old one meanwhile, also where that
// fails. A failure is shared as well, and asked for again only after a rest.
//
// A store that does not work costs an internal app a request of this process' own, and a call of OnStoreError; it never stops tokens. For the
// other kinds, such a request could end the token that the other processes have: they go on with what they have, or wait for the store.
type Tokens struct {
	// OnStoreError, if set before first use, is told of every failure of the store. It may be called from any goroutine.
	OnStoreError func(error)

	fetch     func(context.Context) (Token, error)
	harmless  bool // asking beside another process harms nobody
	store     TokenStore
	now       func() time.Time
	wait      func(ctx context.Context, d time.Duration) error // replaced in tests, as is keepEvery
	keepEvery time.Duration
	patience  time.Duration // for how long another process may take to get a token

	mu      sync.Mutex // guards all below
	current Token      // zero Value: none
	refused string     // its value, if the service refused it and nothing has replaced it yet
	flight  *flight    // nil: nobody is getting a token
	failed  error      // the last failure, handed out until failTo
	failTo  time.Time
	failing time.Time // since when all attempts have failed; zero if the last one has not
	tryFrom time.Time // no early refresh before this
}

// flight is one attempt to get a token, shared by those who wait for it. It is canceled when nobody waits any more.
type flight struct {
	done    chan struct{} // closed at the end
	cancel  context.CancelFunc
	waiters int    // guarded by Tokens.mu
	stale   string // what it was to replace, "" for nothing
	token   Token  // its outcome, once done is closed
	err     error
}

// NewTokens returns Tokens for an app. A nil store means a MemoryTokenStore of its own, a nil now means time.Now.
func NewTokens(c *Client, cred Credentials, store TokenStore, now func() time.Time) *Tokens {
	if now == nil {
		now = time.Now
	}
	if store == nil {
		store = NewMemoryTokenStore(now)
	}
	return &Tokens{
		fetch:     func(ctx context.Context) (Token, error) { return c.fetchToken(ctx, cred, now) },
		harmless:  cred.sameToken(),
		store:     store,
		now:       now,
		wait:      pause,
		keepEvery: keepEvery,
		patience:  2*c.cfg.Timeout + 2*lockTTL, // a refused suite ticket makes two requests
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Get returns a token that is good for some time yet. Its error is always an [*Error].
func (t *Tokens) Get(ctx context.Context) (string, error) { return t.value(ctx, "") }

// Renew is for a token that the service called stale: it returns the one that replaces it. However many ask, in however many
// processes, about the same stale token, it is replaced once. The answer can be the same value again: the service may renew
// a token rather than replace it, and one that has just replaced another is not replaced at once. If it is refused too, the app's
// credentials are at fault, or somebody else asks for tokens of the same app.
func (t *Tokens) Renew(ctx context.Context, stale string) (string, error) { return t.value(ctx, stale) }

// Token is Get with what is known of the token.
func (t *Tokens) Token(ctx context.Context) (Token, error) { return t.get(ctx, "") }

func (t *Tokens) value(ctx context.Context, stale string) (string, error) {
	token, err := t.get(ctx, stale)
	return token.Value.Reveal(), err
}

func (t *Tokens) get(ctx context.Context, stale string) (Token, error) {
	for {
		t.mu.Lock()
		now, have := t.now(), t.current
		if stale == "" && !have.justReplaced(now) && have.Value.Reveal() == t.refused {
			stale = t.refused // somebody learnt that it is refused: a call with it would be in vain
		}
		good := have.goodFor(stale, now)
		if !good && stale != "" && have.Value.Reveal() == stale {
			t.refused = stale
		}
		early := good && !now.Before(have.RefreshAt)
		if good && (!early || t.flight != nil || now.Before(t.tryFrom)) {
			t.mu.Unlock()
			return have, nil
		}
		if !good && t.failed != nil && now.Before(t.failTo) {
			err := t.failed
			t.mu.Unlock()
			return Token{}, err
		}
		f := t.flight
		if f == nil {
			f = t.launch(ctx, stale)
		}
		f.waiters++
		t.mu.Unlock()

		err := t.join(ctx, f)
		switch {
		case err != nil && good:
			return have, nil // the refresh was early, the old one is still good
		case err != nil:
			return Token{}, err
		case f.stale == stale || f.token.Value.Reveal() != stale:
			return f.token, nil
		}
		// That flight was somebody's who did not know that this token is stale. Look again.
	}
}

// goodFor says whether the token can be handed out to somebody for whom stale was refused.
func (token Token) goodFor(stale string, now time.Time) bool {
	return token.Value != "" && now.Before(token.ExpiresAt) && (token.Value.Reveal() != stale || token.justReplaced(now))
}

// justReplaced says whether the service was asked so lately to replace a refused token, by this one, that it is not asked again.
func (token Token) justReplaced(now time.Time) bool {
	age := now.Sub(token.IssuedAt) // below 0 where another process' clock is ahead
	return token.Replaced && age < renewRest && age > -renewRest
}

// join waits for the flight to end, or for ctx.
func (t *Tokens) join(ctx context.Context, f *flight) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f.waiters--
	if f.waiters == 0 {
		f.cancel()
		if t.flight == f {
			t.flight = nil // whoever comes next must not be told that it was canceled
		}
	}
	return &Error{Op: OpToken, Class: ClassCanceled, Err: ended(ctx)}
}

// launch starts a flight; t.mu is held. It has the values of ctx but not its end, since others may come to wait for it.
func (t *Tokens) launch(ctx context.Context, stale string) *flight {
	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel, stale: stale}
	t.flight = f
	a := &attempt{Tokens: t, stale: stale, have: t.current, failing: t.failing, rest: failureRest}
	go func() {
		defer cancel()
		token, err := a.obtain(detached)
		t.land(f, token, err, a.rest)
	}()
	return f
}

// land writes the outcome of a flight and ends it. rest is for how long a failure is handed out.
func (t *Tokens) land(f *flight, token Token, err error, rest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	abandoned := t.flight != f
	switch {
	case err == nil && abandoned && t.current.ExpiresAt.After(token.ExpiresAt):
		// A later flight has brought a later token.
	case err == nil:
		t.current, t.failed, t.failing = token, nil, time.Time{}
		if f.stale == t.refused || token.Value.Reveal() != t.refused {
			t.refused = ""
		}
		if !now.Before(token.RefreshAt) {
			t.tryFrom = now.Add(elsewhereRest)
		}
	case !abandoned:
		t.failed, t.failTo, t.tryFrom = err, now.Add(rest), now.Add(earlyRest)
		if t.failing.IsZero() {
			t.failing = now
		}
	}
	f.token, f.err = token, err
	if !abandoned {
		t.flight = nil
	}
	close(f.done)
}

func (t *Tokens) storeFailed(what string, err error) {
	if t.OnStoreError != nil {
		t.OnStoreError(fmt.Errorf("%s the shared access token: %w", what, err))
	}
}
