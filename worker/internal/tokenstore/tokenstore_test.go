package tokenstore_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream"
	"dingrecall/worker/internal/redistest"
	"dingrecall/worker/internal/tokenstore"
)

const prefix = "dingrecall:{main}:"

func TestLoadAndSave(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		s := tokenstore.New(rdb, prefix)
		if _, ok, err := s.Load(ctx); ok || err != nil {
			t.Fatalf("an empty store: %v, %v", ok, err)
		}
		want := upstream.Token{Value: "sesame", ExpiresAt: time.UnixMilli(time.Now().Add(2 * time.Hour).UnixMilli()), RefreshAt: time.UnixMilli(time.Now().Add(time.Hour).UnixMilli())}
		if err := s.Save(ctx, want); err != nil {
			t.Fatal(err)
		}
		got, ok, err := s.Load(ctx)
		if err != nil || !ok || got.Value != want.Value || !got.ExpiresAt.Equal(want.ExpiresAt) || !got.RefreshAt.Equal(want.RefreshAt) {
			t.Errorf("%+v, %v, %v", got, ok, err)
		}
		ttl, err := rdb.PTTL(ctx, prefix+"token").Result()
		if err != nil || ttl < 2*time.Hour-time.Minute || ttl > 2*time.Hour {
			t.Errorf("Redis keeps the token for %v, %v", ttl, err)
		}
		if _, ok, err := tokenstore.New(rdb, "dingrecall:{other}:").Load(ctx); ok || err != nil {
			t.Errorf("another app has it too: %v, %v", ok, err)
		}
		// One that is over is forgotten at once, and leaves nothing of the one before it.
		want.ExpiresAt = time.Now().Add(-time.Second)
		if err := s.Save(ctx, want); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Load(ctx); ok || err != nil {
			t.Errorf("a token that is over: %v, %v", ok, err)
		}
	})
}

func TestTheLockIsItsOwners(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		s := tokenstore.New(rdb, prefix)
		lock := func() (func(), bool) {
			t.Helper()
			release, ok, err := s.Lock(ctx, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return release, ok
		}
		first, ok := lock()
		if !ok {
			t.Fatal("nobody has it, and it is not to be had")
		}
		if _, ok := lock(); ok {
			t.Fatal("two have it")
		}
		if ttl := rdb.PTTL(ctx, prefix+"token:lock").Val(); ttl <= 0 || ttl > time.Minute {
			t.Errorf("it frees itself in %v", ttl)
		}
		first()
		second, ok := lock()
		if !ok {
			t.Fatal("it was released, and is not to be had")
		}
		first() // late: somebody else has it since
		if _, ok := lock(); ok {
			t.Fatal("a late release freed another's lock")
		}
		// It ends by itself, as Redis's clock says.
		if err := rdb.PExpire(ctx, prefix+"token:lock", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if _, ok := lock(); !ok {
			t.Fatal("it was over, and is not to be had")
		}
		second()
		if _, ok := lock(); ok {
			t.Fatal("a late release freed another's lock")
		}
	})
}

func TestOneOfManyGetsTheLock(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		s := tokenstore.New(rdb, prefix)
		var got atomic.Int32
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, ok, err := s.Lock(context.Background(), time.Minute); err != nil {
					t.Error(err)
				} else if ok {
					got.Add(1)
				}
			})
		}
		all.Wait()
		if got.Load() != 1 {
			t.Errorf("%d of 20 have it", got.Load())
		}
	})
}

func TestReleaseWorksAfterTheCallersContextEnded(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		s := tokenstore.New(rdb, prefix)
		ctx, cancel := context.WithCancel(context.Background())
		release, ok, err := s.Lock(ctx, time.Minute)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		cancel()
		release()
		if n := rdb.Exists(context.Background(), prefix+"token:lock").Val(); n != 0 {
			t.Error("it is locked still")
		}
	})
}

// tokenServer counts how often it is asked for a token; answers differ.
func tokenServer(t *testing.T, asked *atomic.Int32) *upstream.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := asked.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"accessToken": "token-" + strings.Repeat("x", int(n)), "expireIn": 7200})
	}))
	t.Cleanup(server.Close)
	c, err := upstream.New(upstream.Config{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestWorkersShareOneToken(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		var asked atomic.Int32
		client := tokenServer(t, &asked)
		cred := upstream.Credentials{AppKey: "key", AppSecret: "secret"}
		var workers []*upstream.Tokens
		for range 4 {
			workers = append(workers, upstream.NewTokens(client, cred, tokenstore.New(rdb, prefix), nil))
		}
		get := func(f func(w *upstream.Tokens) (string, error)) string {
			t.Helper()
			seen := sync.Map{}
			var all sync.WaitGroup
			for _, w := range workers {
				w.OnStoreError = func(err error) { t.Error(err) }
				for range 5 {
					all.Go(func() {
						token, err := f(w)
						if err != nil {
							t.Error(err)
						}
						seen.Store(token, true)
					})
				}
			}
			all.Wait()
			var tokens []string
			seen.Range(func(k, _ any) bool { tokens = append(tokens, k.(string)); return true })
			if len(tokens) != 1 {
				t.Fatalf("different tokens: %q", tokens)
			}
			return tokens[0]
		}
		stale := get(func(w *upstream.Tokens) (string, error) { return w.Get(context.Background()) })
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times for one token", n)
		}
		fresh := get(func(w *upstream.Tokens) (string, error) { return w.Renew(context.Background(), stale) })
		if n := asked.Load(); n != 2 || fresh == stale {
			t.Errorf("asked %d times for two tokens, the second is %q", n, fresh)
		}
	})
}

// TestNoErrorTellsTheToken: whatever is in Redis, and whatever is wrong with it.
func TestNoErrorTellsTheToken(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		const secret = "sesame-open"
		ctx := context.Background()
		s := tokenstore.New(rdb, prefix)
		name := prefix + "token"
		check := func(what string, err error) {
			t.Helper()
			if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "shared token") {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, junk := range []string{secret, `{"value":"` + secret + `","expiresAt":"` + secret + `"}`, `{"value":"` + secret + `\n","expiresAt":1}`, `{"value":7,"x":"` + secret + `"}`} {
			if err := rdb.Set(ctx, name, junk, 0).Err(); err != nil {
				t.Fatal(err)
			}
			_, _, err := s.Load(ctx)
			check("junk", err)
		}
		if err := rdb.Del(ctx, name).Err(); err != nil {
			t.Fatal(err)
		}
		if err := rdb.HSet(ctx, name, secret, secret).Err(); err != nil {
			t.Fatal(err)
		}
		_, _, err := s.Load(ctx)
		check("of another type", err)
		if err := rdb.Set(ctx, name+":lock", secret, 0).Err(); err != nil {
			t.Fatal(err)
		}
		gone := redis.NewClient(&redis.Options{Addr: rdb.Options().Addr, DB: rdb.Options().DB})
		_ = gone.Close()
		s = tokenstore.New(gone, prefix)
		_, _, err = s.Load(ctx)
		check("load without Redis", err)
		check("save without Redis", s.Save(ctx, upstream.Token{Value: secret, ExpiresAt: time.Now().Add(time.Hour)}))
		_, _, err = s.Lock(ctx, time.Second)
		check("lock without Redis", err)
	})
}
