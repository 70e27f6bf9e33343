package tokenstore_test

import (
	"context"
	"errors"
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

// open makes a store of the app main; each spoil changes its settings.
func open(t *testing.T, rdb redis.UniversalClient, spoil ...func(*tokenstore.Config)) *tokenstore.Store {
	t.Helper()
	cfg := tokenstore.Config{App: "main", Prefix: prefix, OnUnreadable: func(err error) { t.Errorf("unreadable: %v", err) }}
	for _, f := range spoil {
		f(&cfg)
	}
	s, err := tokenstore.New(rdb, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustLock(t *testing.T, s *tokenstore.Store) upstream.TokenLock {
	t.Helper()
	l, err := s.Lock(context.Background(), time.Minute)
	if err != nil || l == nil {
		t.Fatalf("nobody has the lock, and it is not to be had: %v", err)
	}
	return l
}

func mustNotLock(t *testing.T, s *tokenstore.Store) {
	t.Helper()
	if l, err := s.Lock(context.Background(), time.Minute); err != nil || l != nil {
		t.Fatalf("somebody has the lock, and it was given: %v", err)
	}
}

func mustSave(t *testing.T, s *tokenstore.Store, token upstream.Token) {
	t.Helper()
	if saved, err := mustLock(t, s).Save(context.Background(), token); err != nil || !saved {
		t.Fatal(saved, err)
	}
}

// mustLoad wants the token that is shared, "" for none.
func mustLoad(t *testing.T, s *tokenstore.Store, want string) upstream.SharedToken {
	t.Helper()
	shared, err := s.Load(context.Background())
	if err != nil || shared.Token.Value.Reveal() != want {
		t.Fatalf("%q, %v; want %q", shared.Token.Value.Reveal(), err, want)
	}
	return shared
}

// good is a token that lives for two hours.
func good(value string) upstream.Token {
	now := time.UnixMilli(time.Now().UnixMilli())
	return upstream.Token{Value: upstream.Secret(value), IssuedAt: now, ExpiresAt: now.Add(2 * time.Hour), RefreshAt: now.Add(time.Hour), Replaced: true}
}

func TestLoadAndSave(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		s := open(t, rdb)
		mustLoad(t, s, "")
		want := good("sesame")
		mustSave(t, s, want)
		if got := mustLoad(t, s, "sesame"); got.Token != want || got.Failure != nil {
			t.Errorf("%+v, want %+v", got, want)
		}
		ttl, err := rdb.PTTL(ctx, prefix+"token").Result()
		if err != nil || ttl < 2*time.Hour-time.Minute || ttl > 2*time.Hour {
			t.Errorf("Redis keeps the token for %v, %v", ttl, err)
		}
		mustLoad(t, open(t, rdb, func(c *tokenstore.Config) { c.Prefix = "dingrecall:{other}:" }), "")
		// One that is over is forgotten at once, and leaves nothing of the one before it.
		want.ExpiresAt = time.Now().Add(-time.Second)
		mustSave(t, s, want)
		mustLoad(t, s, "")
	})
}

func TestFailureIsShared(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		s := open(t, rdb)
		mustSave(t, s, good("sesame"))
		fail := func(e *upstream.Error) *upstream.Error {
			t.Helper()
			if failed, err := mustLock(t, s).Fail(ctx, e, time.Minute); err != nil || !failed {
				t.Fatal(failed, err)
			}
			return mustLoad(t, open(t, rdb), "sesame").Failure // the token stays: it may be good yet
		}
		told := upstream.Error{Op: upstream.OpToken, Class: upstream.ClassService, Status: 400, Code: "invalidSuiteKey", Message: "no", RequestID: "R-1", RetryAfter: time.Second}
		if got := fail(&told); got == nil || got.Error() != told.Error() || got.RetryAfter != time.Second || got.Verdict(0) != told.Verdict(0) {
			t.Errorf("%+v, want %+v", got, told)
		}
		cut := upstream.Error{Op: upstream.OpToken, Class: upstream.ClassCut, Err: errors.New("reset by peer")}
		if got := fail(&cut); got == nil || !strings.Contains(got.Error(), "reset by peer") || cut.Message != "" {
			t.Errorf("%+v, want %+v", got, cut)
		}
		if ttl := rdb.PTTL(ctx, prefix+"token:failed").Val(); ttl <= 0 || ttl > time.Minute {
			t.Errorf("it rests for %v", ttl)
		}
		if err := s.ForgetFailure(ctx); err != nil || mustLoad(t, s, "sesame").Failure != nil {
			t.Errorf("it is not forgotten: %v", err)
		}
		fail(&told)
		mustSave(t, s, good("another"))
		if mustLoad(t, s, "another").Failure != nil {
			t.Error("a token does not end a failure")
		}
		if err := rdb.Set(ctx, prefix+"token:failed", "{", 0).Err(); err != nil || mustLoad(t, s, "another").Failure != nil {
			t.Errorf("what cannot be read: %v", err)
		}
	})
}

func TestTheLockIsItsOwners(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		s := open(t, rdb)
		first := mustLock(t, s)
		mustNotLock(t, s)
		for _, ttl := range []time.Duration{time.Minute, time.Hour} {
			if got := rdb.PTTL(ctx, prefix+"token:lock").Val(); got > ttl || got < ttl-30*time.Second {
				t.Errorf("it frees itself in %v, want %v", got, ttl)
			}
			if kept, err := first.Keep(ctx, time.Hour); !kept || err != nil {
				t.Errorf("it cannot be kept: %v", err)
			}
		}
		first.Release()
		second := mustLock(t, s)
		late := func(l upstream.TokenLock) {
			t.Helper()
			l.Release()
			kept, err1 := l.Keep(ctx, time.Hour)
			saved, err2 := l.Save(ctx, good("late"))
			failed, err3 := l.Fail(ctx, &upstream.Error{}, time.Hour)
			if err := errors.Join(err1, err2, err3); err != nil || kept || saved || failed {
				t.Errorf("a late word was taken: %v %v %v %v", kept, saved, failed, err)
			}
			mustNotLock(t, s)
			if mustLoad(t, s, "").Failure != nil {
				t.Error("a late failure was taken")
			}
		}
		late(first)
		// It ends by itself, as Redis's clock says.
		if err := rdb.PExpire(ctx, prefix+"token:lock", 0).Err(); err != nil {
			t.Fatal(err)
		}
		third := mustLock(t, s)
		late(second)
		if saved, err := third.Save(ctx, good("sesame")); !saved || err != nil {
			t.Fatal(saved, err)
		}
		mustLock(t, s).Release()
		mustLoad(t, s, "sesame")
	})
}

func TestOneOfManyGetsTheLock(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		s := open(t, rdb)
		var got atomic.Int32
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if l, err := s.Lock(context.Background(), time.Minute); err != nil {
					t.Error(err)
				} else if l != nil {
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

// TestNoErrorTellsTheToken: whatever is in Redis, and whatever is wrong with it.
func TestNoErrorTellsTheToken(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		const secret = "sesame-open"
		ctx := context.Background()
		s := open(t, rdb)
		name := prefix + "token"
		check := func(what string, err error) {
			t.Helper()
			if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "token") {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, junk := range []string{secret, `{"value":"` + secret + `","expiresAt":"` + secret + `"}`, `{"value":"` + secret + `\n","expiresAt":1}`, `{"value":7,"x":"` + secret + `"}`} {
			if err := rdb.Set(ctx, name, junk, 0).Err(); err != nil {
				t.Fatal(err)
			}
			_, err := s.Load(ctx)
			check("junk", err)
		}
		// One of another type counts as none, and is written over.
		if err := errors.Join(rdb.Del(ctx, name).Err(), rdb.HSet(ctx, name, secret, secret).Err()); err != nil {
			t.Fatal(err)
		}
		mustLoad(t, s, "")
		mustSave(t, s, good(secret))
		mustLoad(t, s, secret)

		gone := redis.NewClient(&redis.Options{Addr: rdb.Options().Addr, DB: rdb.Options().DB})
		s = open(t, gone)
		lock := mustLock(t, s)
		_ = gone.Close()
		_, err := s.Load(ctx)
		check("load without Redis", err)
		_, err = s.Lock(ctx, time.Second)
		check("lock without Redis", err)
		_, err = lock.Save(ctx, good(secret))
		check("save without Redis", err)
		_, err = lock.Fail(ctx, &upstream.Error{Message: "x"}, time.Second)
		check("fail without Redis", err)
		_, err = lock.Keep(ctx, time.Second)
		check("keep without Redis", err)
		check("forget without Redis", s.ForgetFailure(ctx))
		lock.Release()
	})
}
