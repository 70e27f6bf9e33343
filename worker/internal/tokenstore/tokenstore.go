// Package tokenstore shares the access token of an app among all workers through Redis.
//
// Three names of an app, with its hash tag: token, the newest one; token:failed, why the last request came to nothing, for as long as it is
// not to be repeated; token:lock, the right to ask, which ends by itself a few seconds after its holder died. What a holder has to say and
// the end of its lock are one script, and a holder that lost its lock meanwhile changes nothing.
//
// With a key, the token is encrypted (see seal.go). Without one, whoever can read the Redis can read the token and act as the app until it
// expires, as whoever can read it can read and change everything else of this program: protect it accordingly.
package tokenstore

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream"
)

var (
	//go:embed scripts/keep.lua
	keepText string
	//go:embed scripts/save.lua
	saveText string
	//go:embed scripts/fail.lua
	failText string
	//go:embed scripts/release.lua
	releaseText string

	keepScript, saveScript, failScript, releaseScript = redis.NewScript(keepText), redis.NewScript(saveText), redis.NewScript(failText), redis.NewScript(releaseText)
)

// Config says whose token it is.
type Config struct {
	// App is the app's name. An encrypted token is bound to it: copied to another app's name, it cannot be read.
	App string
	// Prefix is what all names of the app in Redis begin with.
	Prefix string
	// Key encrypts the token in Redis, with AES-256: KeySize bytes, or empty for no encryption. Workers that share tokens need the same one.
	Key upstream.Secret
	// OnUnreadable, if set, is told once that there is a token which cannot be read: of another key, say. It counts as none.
	OnUnreadable func(error)
}

// Store is the shared token of one app. It implements upstream.TokenStore.
type Store struct {
	rdb    redis.UniversalClient
	cfg    Config
	sealer *sealer // nil: no key
	warn   sync.Once
}

// New makes the store of an app. It fails where the key is none.
func New(rdb redis.UniversalClient, cfg Config) (*Store, error) {
	s := &Store{rdb: rdb, cfg: cfg}
	if cfg.Key != "" {
		var err error
		if s.sealer, err = newSealer(cfg.Key, cfg.App); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Store) token() string  { return s.cfg.Prefix + "token" }
func (s *Store) failed() string { return s.cfg.Prefix + "token:failed" }
func (s *Store) lock() string   { return s.cfg.Prefix + "token:lock" }

// Load implements upstream.TokenStore. A token that cannot be decrypted counts as none.
func (s *Store) Load(ctx context.Context) (upstream.SharedToken, error) {
	var shared upstream.SharedToken
	both, err := s.rdb.MGet(ctx, s.token(), s.failed()).Result()
	if err != nil {
		return shared, fmt.Errorf("read the shared token: %w", err)
	}
	if text, ok := both[1].(string); ok {
		failure := &upstream.Error{}
		if json.Unmarshal([]byte(text), failure) == nil { // else another version wrote it: it is over in a moment
			shared.Failure = failure
		}
	}
	text, ok := both[0].(string)
	if !ok {
		return shared, nil
	}
	plain, err := s.open([]byte(text))
	if err != nil {
		s.warn.Do(func() {
			if s.cfg.OnUnreadable != nil {
				s.cfg.OnUnreadable(err)
			}
		})
		return shared, nil
	}
	if err := shared.Token.UnmarshalBinary(plain); err != nil {
		return upstream.SharedToken{Failure: shared.Failure}, fmt.Errorf("read the shared token: %w", err)
	}
	return shared, nil
}

// Lock implements upstream.TokenStore.
func (s *Store) Lock(ctx context.Context, ttl time.Duration) (upstream.TokenLock, error) {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // it never fails: crypto/rand ends the program first
	mine := hex.EncodeToString(raw[:])
	err := s.rdb.SetArgs(ctx, s.lock(), mine, redis.SetArgs{Mode: "NX", TTL: ttl}).Err()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock the shared token: %w", err)
	}
	return &lock{s, mine}, nil
}

// ForgetFailure lets the next one who needs a token ask at once: somebody has mended what it failed of.
func (s *Store) ForgetFailure(ctx context.Context) error {
	if err := s.rdb.Del(ctx, s.failed()).Err(); err != nil {
		return fmt.Errorf("forget why there is no token: %w", err)
	}
	return nil
}

// lock is the right to ask for a token.
type lock struct {
	*Store
	mine string
}

func (l *lock) run(ctx context.Context, what string, script *redis.Script, keys []string, args ...any) (bool, error) {
	n, err := script.Run(ctx, l.rdb, append([]string{l.lock()}, keys...), append([]any{l.mine}, args...)...).Int()
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	return n == 1, nil
}

// Keep implements upstream.TokenLock.
func (l *lock) Keep(ctx context.Context, ttl time.Duration) (bool, error) {
	return l.run(ctx, "keep the lock of the shared token", keepScript, nil, ttl.Milliseconds())
}

// Save implements upstream.TokenLock. Redis forgets the token when it ends.
func (l *lock) Save(ctx context.Context, token upstream.Token) (bool, error) {
	plain, err := token.MarshalBinary()
	if err != nil {
		return false, fmt.Errorf("write the shared token: %w", err)
	}
	return l.run(ctx, "write the shared token", saveScript, []string{l.token(), l.failed()}, l.seal(plain), time.Until(token.ExpiresAt).Milliseconds())
}

// Fail implements upstream.TokenLock.
func (l *lock) Fail(ctx context.Context, failure *upstream.Error, rest time.Duration) (bool, error) {
	told := *failure
	if told.Message == "" && told.Err != nil {
		told.Message = told.Err.Error() // it is free of secrets, and Err itself is not kept
	}
	text, err := json.Marshal(told)
	if err != nil {
		return false, fmt.Errorf("write why there is no token: %w", err)
	}
	return l.run(ctx, "write why there is no token", failScript, []string{l.failed()}, text, max(rest.Milliseconds(), 1))
}

// Release implements upstream.TokenLock.
func (l *lock) Release() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, _ = l.run(ctx, "free the lock of the shared token", releaseScript, nil) // it frees itself after its ttl
}
