package upstream

import (
	"context"
	"sync"
	"time"
)

// MemoryTokenStore is a TokenStore for tests and for a single process.
type MemoryTokenStore struct {
	now func() time.Time

	mu      sync.Mutex // guards all below
	shared  SharedToken
	failEnd time.Time // of shared.Failure
	holder  int       // counts locks, so that a late word of one changes nothing; 0: free since
	locks   int
	lockEnd time.Time
}

// NewMemoryTokenStore returns an empty store. A nil now means time.Now.
func NewMemoryTokenStore(now func() time.Time) *MemoryTokenStore {
	if now == nil {
		now = time.Now
	}
	return &MemoryTokenStore{now: now}
}

// Load implements TokenStore.
func (m *MemoryTokenStore) Load(context.Context) (SharedToken, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shared.Failure != nil && !m.now().Before(m.failEnd) {
		m.shared.Failure = nil
	}
	return m.shared, nil
}

// Lock implements TokenStore.
func (m *MemoryTokenStore) Lock(_ context.Context, ttl time.Duration) (TokenLock, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if m.holder != 0 && now.Before(m.lockEnd) {
		return nil, nil
	}
	m.locks++
	m.holder, m.lockEnd = m.locks, now.Add(ttl)
	return &memoryLock{m, m.locks}, nil
}

type memoryLock struct {
	store *MemoryTokenStore
	mine  int
}

// ifHeld runs f if the lock is still held; it is free afterwards if done.
func (l *memoryLock) ifHeld(done bool, f func(*MemoryTokenStore)) bool {
	m := l.store
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holder != l.mine || !m.now().Before(m.lockEnd) {
		return false
	}
	f(m)
	if done {
		m.holder = 0
	}
	return true
}

// Keep implements TokenLock.
func (l *memoryLock) Keep(_ context.Context, ttl time.Duration) (bool, error) {
	return l.ifHeld(false, func(m *MemoryTokenStore) { m.lockEnd = m.now().Add(ttl) }), nil
}

// Save implements TokenLock.
func (l *memoryLock) Save(_ context.Context, token Token) (bool, error) {
	return l.ifHeld(true, func(m *MemoryTokenStore) { m.shared = SharedToken{Token: token} }), nil
}

// Fail implements TokenLock.
func (l *memoryLock) Fail(_ context.Context, failure *Error, rest time.Duration) (bool, error) {
	return l.ifHeld(true, func(m *MemoryTokenStore) { m.shared.Failure, m.failEnd = failure, m.now().Add(rest) }), nil
}

// Release implements TokenLock.
func (l *memoryLock) Release() { l.ifHeld(true, func(*MemoryTokenStore) {}) }
