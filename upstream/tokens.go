package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// failureRest is for how long a failure to get a token is handed out again without another request, so that many callers that
	// come one after the other do not each ask with credentials that were just refused. Retry-After makes it longer.
	failureRest = time.Second
	// renewRest is for how long the service is not asked again to replace the same token: for an internal app it answers with the
	// same one, renewed (documented), so a second request would tell nothing new.
	renewRest = 10 * time.Second
	// earlyRest is for how long nobody tries again after an early refresh failed, while the old token is still good.
	earlyRest = 15 * time.Second
	// elsewhereRest is for how long nobody looks again where another process is just refreshing a token that is still good.
	elsewhereRest = time.Second
	// storeTimeout bounds one access to the store: a store that hangs is as good as dead, and must not stop tokens.
	storeTimeout = 3 * time.Second
	// pollFirst and pollMost bound the pause between two looks at the store while another process has the lock.
	pollFirst = 50 * time.Millisecond
	pollMost  = time.Second
)

// TokenStore shares the token of one app between processes. Whoever can read it can act as the app until the token expires; a
// store that keeps a Token must reveal its value on purpose, see [Token.MarshalBinary].
type TokenStore interface {
	// Load returns the stored token; false if there is none.
	Load(ctx context.Context) (Token, bool, error)
	// Save replaces it; it may be forgotten at its ExpiresAt.
	Save(ctx context.Context, token Token) error
	// Lock takes the right to ask for a new token; false if another has it. It frees itself after ttl. release is called once
	// where ok is true, and must not free a lock that somebody else took since.
	Lock(ctx context.Context, ttl time.Duration) (release func(), ok bool, err error)
}

// Tokens hands out the token of one app to any number of callers: one request for all of them in this process, and, through the
// store, for all processes. It is safe for concurrent use.
//
// A token is replaced by one caller about ten minutes before its end; the others go on with the old one meanwhile, also where that
// fails. A store that does not work costs a request of this process' own and a call of OnStoreError; it never stops tokens.
type Tokens struct {
	// OnStoreError, if set before first use, is told of every failure of the store. It may be called from any goroutine.
	OnStoreError func(error)

	fetch   func(context.Context) (Token, error)
	store   TokenStore
	now     func() time.Time
	wait    func(ctx context.Context, d time.Duration) error // replaced in tests
	lockTTL time.Duration                                    // longer than a fetch can take

	mu      sync.Mutex // guards all below
	current Token      // zero Value: none
	flight  *flight    // nil: nobody is getting a token
	failed  error      // the last failure, handed out until failedTo
	failTo  time.Time
	tryFrom time.Time // no early refresh before this
	renewed renewal
}

// renewal remembers the last stale token that was replaced, and when.
type renewal struct {
	stale string
	at    time.Time
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

// NewTokens returns Tokens for an internal app. A nil store means a MemoryTokenStore of its own, a nil now means time.Now.
func NewTokens(c *Client, cred Credentials, store TokenStore, now func() time.Time) *Tokens {
	if now == nil {
		now = time.Now
	}
	if store == nil {
		store = NewMemoryTokenStore(now)
	}
	return &Tokens{
		fetch:   func(ctx context.Context) (Token, error) { return c.fetchToken(ctx, cred, now) },
		store:   store,
		now:     now,
		wait:    pause,
		lockTTL: c.cfg.Timeout + 5*time.Second,
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
func (t *Tokens) Get(ctx context.Context) (string, error) { return t.get(ctx, "") }

// Renew is for a token that the service called stale: it returns the one that replaces it. However many ask, in however many
// processes, about the same stale token, it is replaced once. The answer can be the same value again, since the service may renew
// a token rather than replace it; if that is refused too, the app's credentials are at fault.
func (t *Tokens) Renew(ctx context.Context, stale string) (string, error) { return t.get(ctx, stale) }

func (t *Tokens) get(ctx context.Context, stale string) (string, error) {
	for {
		t.mu.Lock()
		now := t.now()
		good := t.current.Value != "" && now.Before(t.current.ExpiresAt) && t.current.Value.Reveal() != stale
		if stale != "" && t.renewed.stale == stale && now.Sub(t.renewed.at) < renewRest && now.Before(t.current.ExpiresAt) {
			good = true // the service was just asked to replace it: this is what it gave
		}
		early := good && !now.Before(t.current.RefreshAt)
		value := t.current.Value.Reveal()
		if good && (!early || t.flight != nil || now.Before(t.tryFrom)) {
			t.mu.Unlock()
			return value, nil
		}
		if !good && t.failed != nil && now.Before(t.failTo) {
			err := t.failed
			t.mu.Unlock()
			return "", err
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
			return value, nil // the refresh was early, the old one is still good
		case err != nil:
			return "", err
		case f.stale == stale || f.token.Value.Reveal() != stale:
			return f.token.Value.Reveal(), nil
		}
		// That flight was somebody's who did not know that this token is stale. Look again.
	}
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
	have := t.current
	go func() {
		defer cancel()
		token, err := t.obtain(detached, stale, have)
		t.land(f, token, err)
	}()
	return f
}

// land writes the outcome of a flight and ends it.
func (t *Tokens) land(f *flight, token Token, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	abandoned := t.flight != f
	switch {
	case err == nil && abandoned && t.current.ExpiresAt.After(token.ExpiresAt):
		// A later flight has brought a later token.
	case err == nil:
		t.current, t.failed = token, nil
		if f.stale != "" {
			t.renewed = renewal{stale: f.stale, at: now}
		}
		if !now.Before(token.RefreshAt) {
			t.tryFrom = now.Add(elsewhereRest)
		}
	case !abandoned:
		t.failed, t.failTo, t.tryFrom = err, now.Add(failureRest), now.Add(earlyRest)
		var e *Error
		if errors.As(err, &e) && e.RetryAfter > failureRest {
			t.failTo = now.Add(e.RetryAfter)
		}
	}
	f.token, f.err = token, err
	if !abandoned {
		t.flight = nil
	}
	close(f.done)
}

// obtain gets a token from the store, or else from the service and into the store. have is what this process had.
func (t *Tokens) obtain(ctx context.Context, stale string, have Token) (Token, error) {
	pauses, waited := pollFirst, time.Duration(0)
	for {
		if token, ok := t.load(ctx, stale, have); ok {
			return token, nil
		}
		release, ok, err := t.lock(ctx)
		switch {
		case err != nil:
			return t.fetch(ctx)
		case ok:
			defer release()
			return t.replace(ctx, stale, have)
		case stale == "" && t.now().Before(have.ExpiresAt):
			return have, nil // another process is refreshing it early: no need to wait
		case waited >= t.lockTTL:
			// The lock outlived its time, so the store is not to be trusted with it.
			return t.replace(ctx, stale, have)
		}
		if err := t.wait(ctx, pauses); err != nil {
			return Token{}, &Error{Op: OpToken, Class: ClassCanceled, Err: err}
		}
		waited += pauses
		pauses = min(2*pauses, pollMost)
	}
}

// replace asks the service, unless another process did while this one was getting the lock.
func (t *Tokens) replace(ctx context.Context, stale string, have Token) (Token, error) {
	if token, ok := t.load(ctx, stale, have); ok {
		return token, nil
	}
	token, err := t.fetch(ctx)
	if err != nil {
		return Token{}, err
	}
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := t.store.Save(limited, token); err != nil {
		t.storeFailed("save", err)
	}
	return token, nil
}

func (t *Tokens) lock(ctx context.Context) (release func(), ok bool, err error) {
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	release, ok, err = t.store.Lock(limited, t.lockTTL)
	if err != nil {
		t.storeFailed("lock", err)
	}
	return release, ok, err
}

// load returns the stored token if it will do: not due for refresh, and newer than the stale one. The service may renew a token without
// changing it, so one with the same value counts as newer where it ends later than the copy that this process had.
func (t *Tokens) load(ctx context.Context, stale string, have Token) (Token, bool) {
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	token, ok, err := t.store.Load(limited)
	if err != nil {
		t.storeFailed("load", err)
		return Token{}, false
	}
	now := t.now()
	if !ok || !isHeaderValue(token.Value.Reveal()) || !now.Before(token.ExpiresAt) {
		return Token{}, false
	}
	if token.RefreshAt.IsZero() {
		token.RefreshAt = refreshAt(now, token.ExpiresAt)
		if token.Value == have.Value && !token.ExpiresAt.After(have.ExpiresAt.Add(time.Second)) {
			token.RefreshAt = have.RefreshAt // the copy we had, or else it would be put off by half of the rest, again and again
		}
	}
	if !now.Before(token.RefreshAt) {
		return Token{}, false
	}
	if stale != "" && token.Value.Reveal() == stale {
		sameCopy := have.Value != token.Value || !token.ExpiresAt.After(have.ExpiresAt.Add(time.Second))
		return token, !sameCopy
	}
	return token, true
}

func (t *Tokens) storeFailed(what string, err error) {
	if t.OnStoreError != nil {
		t.OnStoreError(fmt.Errorf("%s the shared access token: %w", what, err))
	}
}
