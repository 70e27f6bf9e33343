package upstream

import (
	"context"
	"errors"
	"testing"
	"time"
)

// brokenStore fails at what it is told to.
type brokenStore struct {
	TokenStore
	load, save, lock error
}

func (s *brokenStore) Load(ctx context.Context) (SharedToken, error) {
	if s.load != nil {
		return SharedToken{}, s.load
	}
	return s.TokenStore.Load(ctx)
}

func (s *brokenStore) Lock(ctx context.Context, ttl time.Duration) (TokenLock, error) {
	if s.lock != nil {
		return nil, s.lock
	}
	lock, err := s.TokenStore.Lock(ctx, ttl)
	if lock == nil {
		return nil, err
	}
	return &brokenLock{lock, s.save}, err
}

type brokenLock struct {
	TokenLock
	save error
}

func (l *brokenLock) Save(ctx context.Context, token Token) (bool, error) {
	if l.save != nil {
		return false, l.save
	}
	return l.TokenLock.Save(ctx, token)
}

func (l *brokenLock) Fail(ctx context.Context, failure *Error, rest time.Duration) (bool, error) {
	if l.save != nil {
		return false, l.save
	}
	return l.TokenLock.Fail(ctx, failure, rest)
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

// TestLockThatIsNeverFreed: who has waited for longer than anybody can need asks without it, where that harms nobody.
func TestLockThatIsNeverFreed(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	forever := &lockedStore{TokenStore: b.store}
	tokens := b.another(forever)
	var waited time.Duration
	tokens.wait = func(_ context.Context, d time.Duration) error { waited += d; return nil }
	mustGet(t, tokens, "tok-1")
	if waited < tokens.patience || waited > tokens.patience+pollMost {
		t.Errorf("waited %v, want %v", waited, tokens.patience)
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

func (lockedStore) Lock(context.Context, time.Duration) (TokenLock, error) { return nil, nil }

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
	lock := func() TokenLock {
		t.Helper()
		l, err := store.Lock(t.Context(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := lock()
	if first == nil || lock() != nil {
		t.Fatal("not free at first, or locked twice")
	}
	c.advance(900 * time.Millisecond)
	if held, _ := first.Keep(t.Context(), time.Second); !held {
		t.Error("the lock cannot be kept")
	}
	c.advance(900 * time.Millisecond)
	if lock() != nil {
		t.Error("the lock was not kept")
	}
	c.advance(100 * time.Millisecond)
	second := lock()
	if second == nil {
		t.Fatal("the lock outlives its time")
	}
	first.Release()
	saved, _ := first.Save(t.Context(), Token{Value: "late"})
	failed, _ := first.Fail(t.Context(), &Error{}, time.Hour)
	kept, _ := first.Keep(t.Context(), time.Hour)
	if shared, _ := store.Load(t.Context()); saved || failed || kept || shared != (SharedToken{}) {
		t.Errorf("a late word changes something: %v %v %v %+v", saved, failed, kept, shared)
	}
	if lock() != nil {
		t.Error("a late release frees another's lock")
	}
	if failed, _ := second.Fail(t.Context(), &Error{Op: OpToken}, time.Second); !failed {
		t.Error("the failure was not taken")
	}
	if shared, _ := store.Load(t.Context()); shared.Failure == nil {
		t.Error("the failure is not shared")
	}
	c.advance(time.Second)
	if shared, _ := store.Load(t.Context()); shared.Failure != nil {
		t.Error("the failure rests for ever")
	}
	third := lock()
	if third == nil {
		t.Fatal("not free after a failure")
	}
	third.Release()
	if lock() == nil {
		t.Error("not free after its release")
	}
}

// lateStore is one where another process saves its token just before this one gets the lock.
type lateStore struct {
	*MemoryTokenStore
	token Token
}

func (s *lateStore) Lock(ctx context.Context, ttl time.Duration) (TokenLock, error) {
	s.mu.Lock()
	s.shared.Token = s.token
	s.mu.Unlock()
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
