package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// third makes Tokens of a third-party app, for which asking again may end what the others have.
func (b *tokenBundle) third(store TokenStore) *Tokens {
	tokens := NewTokens(b.client, credentialsOf(KindThirdParty), store, b.clock.now)
	tokens.OnStoreError = func(err error) { b.errs <- err }
	return tokens
}

// TestRefusedTokenIsNotHandedOut: who asks while its replacement is on its way waits for that, and makes no call in vain.
func TestRefusedTokenIsNotHandedOut(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	mustGet(t, b.Tokens, "tok-1")
	down := respond(500, `{"code":"system.error"}`)
	b.issuer.broken.Store(&down)
	if _, err := b.Renew(t.Context(), "tok-1"); err == nil {
		t.Fatal("renewed by a service that is down")
	}
	if token, err := b.Get(t.Context()); err == nil {
		t.Errorf("got %q, which is refused", token)
	}
	b.mustHaveAsked(t, 2)
	b.issuer.broken.Store(nil)
	b.clock.advance(restOfMany)
	mustGet(t, b.Tokens, "tok-3")
	b.mustHaveAsked(t, 3)
}

// TestFreshTokenThatIsRefusedIsKept: for ten seconds, in all processes. Where two that share no store end each other's tokens, they must not
// go on for ever.
func TestFreshTokenThatIsRefusedIsKept(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	other := b.third(b.store)
	mustGet(t, b.Tokens, "tok-1")
	mustGet(t, other, "tok-1")
	b.clock.advance(time.Minute)
	mustRenew(t, b.Tokens, "tok-1", "tok-2")
	mustRenew(t, b.Tokens, "tok-2", "tok-2")
	mustRenew(t, other, "tok-1", "tok-2")
	mustRenew(t, other, "tok-2", "tok-2")
	mustGet(t, other, "tok-2")
	b.clock.advance(renewRest - time.Millisecond)
	mustRenew(t, other, "tok-2", "tok-2")
	b.mustHaveAsked(t, 2)
	b.clock.advance(time.Millisecond)
	mustRenew(t, other, "tok-2", "tok-3")
	mustRenew(t, b.Tokens, "tok-2", "tok-3")
	b.mustHaveAsked(t, 3)
}

// rivals issues tokens of which only the last one given works, as a service may that ends the old one.
type rivals struct {
	mu     sync.Mutex
	issued int
	calls  int
}

func (r *rivals) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.URL.Path == CorpTokenPath {
		r.issued++
		respond(200, fmt.Sprintf(`{"accessToken":"tok-%d","expireIn":7200}`, r.issued))(w, q)
		return
	}
	r.calls++
	if q.Header.Get(tokenHeader) != fmt.Sprintf("tok-%d", r.issued) {
		respond(400, `{"code":"InvalidAuthentication"}`)(w, q)
		return
	}
	respond(200, `{"successResult":[],"failedResult":{}}`)(w, q)
}

// TestTwoWithoutAStoreDoNotThrash: two programs of the same third-party app that know nothing of each other end each other's tokens. Each
// call that is refused twice holds its app for a minute, and a minute's calls cost a few tokens, not one each.
func TestTwoWithoutAStoreDoNotThrash(t *testing.T) {
	t.Parallel()
	service, clock := &rivals{}, newClock()
	client := serve(t, service.ServeHTTP)
	var both [2]*Tokens
	for i := range both {
		both[i] = NewTokens(client, credentialsOf(KindThirdParty), nil, clock.now)
	}
	held := [2]time.Time{}
	for range 90 { // seconds
		clock.advance(time.Second)
		for i, tokens := range both {
			if clock.now().Before(held[i]) {
				continue
			}
			token, err := tokens.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err = client.BatchRecall(t.Context(), token, testRobot, testKeys(1)); err == nil {
				continue
			}
			if token, err = tokens.Renew(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			if _, err = client.BatchRecall(t.Context(), token, testRobot, testKeys(1)); err != nil {
				held[i] = clock.now().Add(time.Minute)
			}
		}
	}
	if service.issued > 6 {
		t.Errorf("%d tokens for %d calls", service.issued, service.calls)
	}
}

// TestThirdPartyWithoutAStore: a token of its own could end that of the others, so there is none. One that is good is gone on with.
func TestThirdPartyWithoutAStore(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	dead := errors.New("store is dead")
	store := &brokenStore{TokenStore: b.store}
	tokens := b.third(store)
	store.load, store.lock = dead, dead
	mustRefuse := func(err error) {
		t.Helper()
		e := asError(t, err)
		if v := e.Verdict(0); e.Code != CodeTokenUnshared || v.Scope != Transient || !errors.Is(err, dead) {
			t.Errorf("got %v, verdict %+v", err, v)
		}
	}
	_, err := tokens.Get(t.Context())
	mustRefuse(err)
	store.load, store.lock = nil, nil
	b.clock.advance(failureRest)
	mustGet(t, tokens, "tok-1")
	store.load, store.lock = dead, dead
	b.clock.advance(2*time.Hour - refreshEarly)
	mustGet(t, tokens, "tok-1") // due, and still good
	b.clock.advance(elsewhereRest)
	_, err = tokens.Renew(t.Context(), "tok-1")
	mustRefuse(err)
	b.mustHaveAsked(t, 1)

	// A lock that nobody ever frees is a store that fails.
	locked := b.third(&lockedStore{TokenStore: NewMemoryTokenStore(b.clock.now)})
	locked.wait = func(context.Context, time.Duration) error { return nil }
	if _, err := locked.Get(t.Context()); !errors.Is(err, errLockKept) {
		t.Errorf("got %v", err)
	}
	b.mustHaveAsked(t, 1)
}

// TestWhoDiesWhileAskingIsNotWaitedForLong: its lock ends by itself, and another asks.
func TestWhoDiesWhileAskingIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	if lock, err := b.store.Lock(t.Context(), lockTTL); lock == nil || err != nil {
		t.Fatal(lock, err)
	} // and no more is heard of it
	tokens := b.third(b.store)
	began := b.clock.now()
	tokens.wait = func(_ context.Context, d time.Duration) error { b.clock.advance(d); return nil }
	mustGet(t, tokens, "tok-1")
	if took := b.clock.now().Sub(began); took > lockTTL+pollMost {
		t.Errorf("waited %v", took)
	}
}

// TestLockIsKeptWhileTheServiceIsSlow: one who lives is waited for, however slow the service is, and nobody else asks.
func TestLockIsKeptWhileTheServiceIsSlow(t *testing.T) {
	t.Parallel()
	b := setupTokens(t, func(i *issuer) { i.gate = make(chan struct{}) })
	store := &countedStore{TokenStore: b.store}
	slow, other := b.third(store), b.third(b.store)
	slow.keepEvery = time.Millisecond
	polled := make(chan struct{}, 1000)
	other.wait = func(ctx context.Context, _ time.Duration) error {
		polled <- struct{}{}
		return pause(ctx, time.Millisecond)
	}
	got := make(chan string, 2)
	for _, tokens := range []*Tokens{slow, other} {
		go func() {
			token, err := tokens.Get(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- token
		}()
		waitFor(t, func() bool { return b.issuer.asked.Load() == 1 })
	}
	for range 3 { // three times the life of the lock
		kept := store.kept.Load()
		b.clock.advance(lockTTL - time.Second)
		waitFor(t, func() bool { return store.kept.Load() > kept+1 })
		<-polled
	}
	b.issuer.gate <- struct{}{}
	if first, second := <-got, <-got; first != "tok-1" || second != "tok-1" {
		t.Errorf("got %q and %q", first, second)
	}
	b.mustHaveAsked(t, 1)
}

// countedStore counts how often its locks are kept.
type countedStore struct {
	TokenStore
	kept atomic.Int64
}

func (s *countedStore) Lock(ctx context.Context, ttl time.Duration) (TokenLock, error) {
	lock, err := s.TokenStore.Lock(ctx, ttl)
	if lock == nil {
		return nil, err
	}
	return &countedLock{lock, s}, err
}

type countedLock struct {
	TokenLock
	store *countedStore
}

func (l *countedLock) Keep(ctx context.Context, ttl time.Duration) (bool, error) {
	held, err := l.TokenLock.Keep(ctx, ttl)
	l.store.kept.Add(1)
	return held, err
}

// TestWhoWasAsleepUsesTheOthersToken: a process that was stopped while it asked has lost its lock; what it brings is not to take the
// place of the token that the others have since.
func TestWhoWasAsleepUsesTheOthersToken(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	sleeper, other := b.third(b.store), b.third(b.store)
	fetch := sleeper.fetch
	sleeper.fetch = func(ctx context.Context) (Token, error) {
		token, err := fetch(ctx) // tok-1
		b.clock.advance(lockTTL)
		mustGet(t, other, "tok-2")
		return token, err
	}
	mustGet(t, sleeper, "tok-2")
	mustGet(t, other, "tok-2")
	b.mustHaveAsked(t, 2)
}

// TestOwnTroubleIsNotShared: a process without a ticket, or without a network, keeps no other from asking.
func TestOwnTroubleIsNotShared(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	cred := credentialsOf(KindThirdParty)
	cred.Ticket = func() (Secret, error) { return "", errors.New("no file") }
	without := NewTokens(b.client, cred, b.store, b.clock.now)
	if _, err := without.Get(t.Context()); asError(t, err).Code != CodeRequestTicket {
		t.Errorf("got %v", err)
	}
	unplugged := NewTokens(dial(t, refused(t)), credentialsOf(KindThirdParty), b.store, b.clock.now)
	if _, err := unplugged.Get(t.Context()); asError(t, err).Class != ClassNotSent {
		t.Errorf("got %v", err)
	}
	mustGet(t, b.third(b.store), "tok-1")
	b.clock.advance(failureRest)
	mustGet(t, without, "tok-1")
	mustGet(t, unplugged, "tok-1")
	b.mustHaveAsked(t, 1)
}

// TestShortLives: a token is refreshed at half of a short life, by one process, and nobody ever holds one that is over.
func TestShortLives(t *testing.T) {
	t.Parallel()
	for life, most := range map[int]int64{2: 601, 60: 21, 19 * 60: 2, 7200: 1} { // requests in ten minutes
		b := setupTokens(t, func(i *issuer) { i.life = life })
		all := []*Tokens{b.Tokens, b.another(b.store), b.third(b.store)}
		for range 600 {
			for _, tokens := range all {
				token, err := tokens.Token(t.Context())
				if err != nil || !b.clock.now().Before(token.ExpiresAt) {
					t.Fatalf("a life of %d s: %+v, %v", life, token, err)
				}
			}
			b.clock.advance(time.Second)
		}
		if got := b.issuer.asked.Load(); got > most {
			t.Errorf("a life of %d s: %d requests in ten minutes, want %d", life, got, most)
		}
	}
}

// TestTokenTellsOfItself: what check prints.
func TestTokenTellsOfItself(t *testing.T) {
	t.Parallel()
	b := setupTokens(t)
	token, err := b.Token(t.Context())
	if err != nil || token.Value.Reveal() != "tok-1" || token.ExpiresAt.IsZero() || strings.Contains(fmt.Sprintf("%+v", token), "tok-1") {
		t.Errorf("%+v, %v", token, err)
	}
}
