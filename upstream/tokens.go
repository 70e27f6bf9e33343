package upstream

import (
	"context"
	"time"
)

// TokenStore shares the token of one app between processes. It holds the token in clear: who can read it can act as the app
// until it expires.
type TokenStore interface {
	// Load returns the stored token; false if there is none.
	Load(ctx context.Context) (Token, bool, error)
	// Save replaces it; it may be forgotten at its ExpiresAt.
	Save(ctx context.Context, token Token) error
	// Lock takes the right to ask for a new token; false if another has it. It frees itself after ttl.
	Lock(ctx context.Context, ttl time.Duration) (release func(), ok bool, err error)
}

// Tokens hands out the token of one app. It is safe for concurrent use.
type Tokens struct {
	// OnStoreError, if set before first use, is told of every failure of the store. Such failures never stop tokens: without
	// its store a process asks for its own.
	OnStoreError func(error)
}

// NewTokens returns Tokens for an app. A nil store means a MemoryTokenStore, a nil now means time.Now.
func NewTokens(c *Client, cred Credentials, store TokenStore, now func() time.Time) *Tokens {
	return &Tokens{}
}

// Get returns a token that is good for some time yet.
func (t *Tokens) Get(ctx context.Context) (string, error) { return "", nil }

// Renew returns a token other than, or newer than, the stale one.
func (t *Tokens) Renew(ctx context.Context, stale string) (string, error) { return "", nil }

// MemoryTokenStore is a TokenStore for tests and for a single process.
type MemoryTokenStore struct{}

// NewMemoryTokenStore returns an empty store. A nil now means time.Now.
func NewMemoryTokenStore(now func() time.Time) *MemoryTokenStore { return &MemoryTokenStore{} }

// Load implements TokenStore.
func (m *MemoryTokenStore) Load(context.Context) (Token, bool, error) { return Token{}, false, nil }

// Save implements TokenStore.
func (m *MemoryTokenStore) Save(context.Context, Token) error { return nil }

// Lock implements TokenStore.
func (m *MemoryTokenStore) Lock(context.Context, time.Duration) (func(), bool, error) {
	return func() {}, true, nil
}
