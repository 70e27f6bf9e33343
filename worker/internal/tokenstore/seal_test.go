package tokenstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream"
	"dingrecall/worker/internal/redistest"
	"dingrecall/worker/internal/tokenstore"
)

var (
	oneKey     = upstream.Secret(strings.Repeat("one.", 8))
	anotherKey = upstream.Secret(strings.Repeat("two.", 8))
)

func withKey(key upstream.Secret) func(*tokenstore.Config) {
	return func(c *tokenstore.Config) { c.Key = key }
}

// TestTokenIsEncryptedAtRest: what is in Redis has no trace of the token, is never the same twice, and is read with the same key alone.
func TestTokenIsEncryptedAtRest(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		s := open(t, rdb, withKey(oneKey))
		token := good("sesame-open-0123456789")
		seen := map[string]bool{}
		for range 3 {
			mustSave(t, s, token)
			if got := mustLoad(t, s, token.Value.Reveal()); got.Token != token {
				t.Errorf("%+v, want %+v", got, token)
			}
			stored := rdb.Get(ctx, prefix+"token").Val()
			if strings.Contains(stored, "sesame") || strings.Contains(stored, "expires") || seen[stored] {
				t.Errorf("at rest: %q", stored)
			}
			seen[stored] = true
		}
		if rdb.PTTL(ctx, prefix+"token").Val() <= 0 {
			t.Error("Redis keeps it for ever")
		}
	})
}

// TestTokenThatCannotBeDecryptedIsNone: with one warning, and the next one saved is read again.
func TestTokenThatCannotBeDecryptedIsNone(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		mustSave(t, open(t, rdb, withKey(oneKey)), good("sesame"))
		sealed := rdb.Get(ctx, prefix+"token").Val()
		cut, flipped := sealed[:20], sealed[:len(sealed)-1]+string(sealed[len(sealed)-1]^1)
		for name, tc := range map[string]struct {
			stored string
			spoil  func(*tokenstore.Config)
			says   string
		}{
			"key rotated":    {sealed, withKey(anotherKey), "another key"},
			"no key":         {sealed, withKey(""), "no key"},
			"in clear":       {`{"value":"planted","expiresAt":99999999999999}`, withKey(oneKey), "not encrypted"},
			"another app's":  {sealed, func(c *tokenstore.Config) { c.App, c.Key = "other", oneKey }, "another key"},
			"changed":        {flipped, withKey(oneKey), "another key"},
			"cut":            {cut, withKey(oneKey), "another key"},
			"the mark alone": {"\x01", withKey(oneKey), "another key"},
		} {
			var warned []error
			s := open(t, rdb, tc.spoil, func(c *tokenstore.Config) { c.OnUnreadable = func(err error) { warned = append(warned, err) } })
			for range 3 {
				if err := rdb.Set(ctx, prefix+"token", tc.stored, 0).Err(); err != nil {
					t.Fatal(err)
				}
				mustLoad(t, s, "")
			}
			mustSave(t, s, good("fresh"))
			mustLoad(t, s, "fresh")
			if len(warned) != 1 || !strings.Contains(warned[0].Error(), tc.says) || strings.Contains(warned[0].Error(), "sesame") {
				t.Errorf("%s: warned %v", name, warned)
			}
			open(t, rdb, tc.spoil, func(c *tokenstore.Config) { c.OnUnreadable = nil })
		}
	})
}

func TestKeysOfAnotherLengthAreRefused(t *testing.T) {
	t.Parallel()
	for _, key := range []upstream.Secret{"short-key-of-mine", oneKey[:31], oneKey + "x"} {
		_, err := tokenstore.New(nil, tokenstore.Config{App: "main", Key: key})
		if err == nil || strings.Contains(err.Error(), key.Reveal()[:8]) {
			t.Errorf("%d bytes: %v", len(key), err)
		}
	}
	cfg := tokenstore.Config{App: "main", Key: oneKey}
	s, err := tokenstore.New(nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg); strings.Contains(text, "one.") {
		t.Errorf("the settings tell the key: %s", text)
	}
	if s == nil {
		t.Error("no store")
	}
}
