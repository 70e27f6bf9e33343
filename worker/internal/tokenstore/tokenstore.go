// Package tokenstore shares the access token of an app among all workers through Redis.
//
// Whoever can read the Redis can read the token and act as the app until it expires, as whoever can read it can read and
// change everything else of this program: protect it accordingly.
package tokenstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream"
)

// Store is the shared token of one app. It implements upstream.TokenStore.
type Store struct {
	rdb    redis.UniversalClient
	prefix string
}

// New makes the store of an app; prefix is what all of its names in Redis begin with.
func New(rdb redis.UniversalClient, prefix string) *Store { return &Store{rdb: rdb, prefix: prefix} }

// Load implements upstream.TokenStore.
func (s *Store) Load(ctx context.Context) (upstream.Token, bool, error) {
	v, err := s.rdb.Get(ctx, s.prefix+"token").Bytes()
	if errors.Is(err, redis.Nil) {
		return upstream.Token{}, false, nil
	}
	if err != nil {
		return upstream.Token{}, false, fmt.Errorf("read the shared token: %w", err)
	}
	var t upstream.Token
	if err := t.UnmarshalBinary(v); err != nil {
		return upstream.Token{}, false, fmt.Errorf("read the shared token: %w", err)
	}
	return t, true, nil
}

// Save implements upstream.TokenStore. Redis forgets the token when it ends.
func (s *Store) Save(ctx context.Context, t upstream.Token) error {
	v, err := t.MarshalBinary()
	if err != nil {
		return fmt.Errorf("write the shared token: %w", err)
	}
	_, err = s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, s.prefix+"token", v, 0)
		p.PExpireAt(ctx, s.prefix+"token", t.ExpiresAt)
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the shared token: %w", err)
	}
	return nil
}

// unlock frees a lock only while it is still the caller's.
var unlock = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)

// Lock implements upstream.TokenStore.
func (s *Store) Lock(ctx context.Context, ttl time.Duration) (func(), bool, error) {
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, false, fmt.Errorf("lock the shared token: %w", err)
	}
	mine, key := hex.EncodeToString(raw[:]), s.prefix+"token:lock"
	err := s.rdb.SetArgs(ctx, key, mine, redis.SetArgs{Mode: "NX", TTL: ttl}).Err()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("lock the shared token: %w", err)
	}
	release := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = unlock.Run(ctx, s.rdb, []string{key}, mine).Err() // it frees itself after its ttl
	}
	return release, true, nil
}
