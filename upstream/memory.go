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
	token   Token
	has     bool
	holder  int // counts locks, so that a late release frees nobody else's
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
func (m *MemoryTokenStore) Load(context.Context) (Token, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.token, m.has, nil
}

// Save implements TokenStore.
func (m *MemoryTokenStore) Save(_ context.Context, token Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.token, m.has = token, true
	return nil
}

// Lock implements TokenStore.
func (m *MemoryTokenStore) Lock(_ context.Context, ttl time.Duration) (func(), bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if now.Before(m.lockEnd) {
		return nil, false, nil
	}
	m.lockEnd = now.Add(ttl)
	m.holder++
	holder := m.holder
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.holder == holder {
			m.lockEnd = time.Time{}
		}
	}, true, nil
}
