package upstream

import (
	"context"
	"errors"
	"time"
)

// attempt is one way to a token: through the store, and to the service if need be.
type attempt struct {
	*Tokens
	stale   string        // what is to be replaced, "" for nothing
	have    Token         // what this process had
	failing time.Time     // since when attempts have failed; zero if the last one has not
	rest    time.Duration // of a failure: for how long this process does not look again
}

var errLockKept = errors.New("another process has the right to ask, and does not come to an end")

// obtain gets a token from the store, or else from the service and into the store.
func (a *attempt) obtain(ctx context.Context) (Token, error) {
	pauses, waited := pollFirst, time.Duration(0)
	for {
		if token, done, err := a.look(ctx); done {
			return token, err
		}
		lock, err := a.lock(ctx)
		switch {
		case err != nil:
			return a.alone(ctx, err)
		case lock != nil:
			if token, done, err := a.replace(ctx, lock); done {
				return token, err
			}
		case a.stale == "" && a.now().Before(a.have.ExpiresAt):
			return a.have, nil // another process is refreshing it early: no need to wait
		}
		if waited >= a.patience {
			return a.alone(ctx, errLockKept)
		}
		if err := a.wait(ctx, pauses); err != nil {
			return Token{}, &Error{Op: OpToken, Class: ClassCanceled, Err: err}
		}
		waited += pauses
		pauses = min(2*pauses, pollMost)
	}
}

// look returns what the other processes share: a token that will do, or a failure that rests. done is false for neither.
func (a *attempt) look(ctx context.Context) (token Token, done bool, err error) {
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	shared, err := a.store.Load(limited)
	if err != nil {
		a.storeFailed("load", err)
		return Token{}, false, nil
	}
	if token, ok := a.fits(shared.Token); ok {
		return token, true, nil
	}
	if shared.Failure != nil {
		return Token{}, true, shared.Failure
	}
	return Token{}, false, nil
}

// fits says whether a shared token will do: not due for refresh, and newer than the stale one. The service may renew a token without
// changing it, so one with the same value is newer where it is not the copy that this process had.
func (a *attempt) fits(token Token) (Token, bool) {
	now := a.now()
	if !isHeaderValue(token.Value.Reveal()) || !now.Before(token.ExpiresAt) {
		return Token{}, false
	}
	sameCopy := token.Value == a.have.Value && token.IssuedAt.Equal(a.have.IssuedAt)
	if token.RefreshAt.IsZero() {
		token.RefreshAt = refreshAt(now, token.ExpiresAt)
		if sameCopy {
			token.RefreshAt = a.have.RefreshAt // or else it would be put off by half of the rest, again and again
		}
	}
	if !now.Before(token.RefreshAt) {
		return Token{}, false
	}
	if a.stale == "" || token.goodFor(a.stale, now) {
		return token, true
	}
	return token, a.have.Value == token.Value && !sameCopy
}

func (a *attempt) lock(ctx context.Context) (TokenLock, error) {
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	lock, err := a.store.Lock(limited, lockTTL)
	if err != nil {
		a.storeFailed("lock", err)
	}
	return lock, err
}

// alone is for a process that cannot share: why says what of the store fails.
func (a *attempt) alone(ctx context.Context, why error) (Token, error) {
	switch {
	case a.harmless:
		token, err := a.fetch(ctx)
		token.Replaced = a.stale != ""
		a.rest = a.restAfter(err)
		return token, err
	case a.stale == "" && a.now().Before(a.have.ExpiresAt):
		return a.have, nil
	}
	return Token{}, &Error{Op: OpToken, Class: ClassRequest, Code: CodeTokenUnshared, Err: why,
		Message: "the store of the shared token fails, and a token of this process' own could end that of the others"}
}

// replace asks the service, unless another process did while this one was getting the lock. done is false where this process lost the
// lock while it asked: then another's token is the one to use.
func (a *attempt) replace(ctx context.Context, lock TokenLock) (token Token, done bool, err error) {
	defer lock.Release()
	if token, done, err := a.look(ctx); done {
		return token, true, err
	}
	token, err = a.fetchHolding(ctx, lock)
	// The outcome is shared also where nobody waits for it any more: the old token may have ended with it.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err != nil {
		a.fail(limited, lock, err)
		return Token{}, true, err
	}
	token.Replaced = a.stale != ""
	saved, err := lock.Save(limited, token)
	if err != nil {
		a.storeFailed("save", err)
	}
	return token, saved || err != nil || a.harmless, nil
}

// fetchHolding asks the service, and keeps the lock as long as that takes.
func (a *attempt) fetchHolding(ctx context.Context, lock TokenLock) (Token, error) {
	ctx, cancel := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		a.keep(ctx, lock)
	}()
	defer func() { cancel(); <-kept }()
	return a.fetch(ctx)
}

func (a *attempt) keep(ctx context.Context, lock TokenLock) {
	tick := time.NewTicker(a.keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limited, cancel := context.WithTimeout(ctx, storeTimeout)
		held, err := lock.Keep(limited, lockTTL)
		cancel()
		if err == nil && !held {
			return // somebody else has it: this process was asleep
		}
		if err != nil && ctx.Err() == nil {
			a.storeFailed("keep the lock of", err)
		}
	}
}

// fail shares a failure that would be another process' as well: not its own lack of a ticket or of a connection.
func (a *attempt) fail(ctx context.Context, lock TokenLock, err error) {
	rest := a.restAfter(err)
	var e *Error
	if errors.As(err, &e) && e.Class != ClassRequest && e.Class != ClassNotSent && e.Class != ClassCanceled {
		shared, err := lock.Fail(ctx, e, rest)
		if err == nil && shared {
			return
		}
		if err != nil {
			a.storeFailed("save the failure of", err)
		}
	}
	a.rest = rest
}

// restAfter is for how long a request that failed so is not made again.
func (a *attempt) restAfter(err error) time.Duration {
	var e *Error
	if !errors.As(err, &e) || e.Class == ClassRequest {
		return failureRest // nothing was sent
	}
	v := e.Verdict(0)
	rest := failureRest
	if !a.failing.IsZero() {
		rest = min(max(rest, a.now().Sub(a.failing)), longestRest)
	}
	if v.Scope == AppHold || v.Scope == BudgetHold {
		rest = credentialRest
	}
	return min(max(rest, v.Rest), maxRetryAfter)
}
