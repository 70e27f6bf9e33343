package tokenstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
	"dingrecall/worker/internal/redistest"
)

const robot = "dingrobot0000000001"

// fleet is some workers that share a Redis and a simulated service.
type fleet struct {
	t       *testing.T
	sim     *simulator.Simulator
	client  *upstream.Client
	workers []*upstream.Tokens
	ahead   time.Duration // by how much the service's clock, and the workers', is ahead
	mu      sync.Mutex    // guards ahead
}

func (f *fleet) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.ahead)
}

func (f *fleet) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ahead += d
}

func newFleet(t *testing.T, rdb *redis.Client, workers int, kind upstream.Kind, cfg simulator.Config) *fleet {
	t.Helper()
	f := &fleet{t: t}
	cfg.Apps, cfg.CorpIDs, cfg.SuiteTicket = map[string]string{"app": "secret"}, []string{"corp"}, "ticket"
	cfg.Now = f.now
	sim, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.Handler(sim))
	t.Cleanup(server.Close)
	client, err := upstream.New(upstream.Config{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	f.sim, f.client = sim, client
	cred := upstream.Credentials{Kind: kind, AppKey: "app", AppSecret: "secret", CorpID: "corp", Ticket: func() (upstream.Secret, error) { return "ticket", nil }}
	for range workers {
		tokens := upstream.NewTokens(client, cred, open(t, rdb, withKey(oneKey)), f.now)
		tokens.OnStoreError = func(err error) { t.Error(err) }
		f.workers = append(f.workers, tokens)
	}
	return f
}

// dispatch makes a call as a dispatcher does: with the token there is, and once more with another one if it is refused.
func (f *fleet) dispatch(n int) error {
	tokens, ctx := f.workers[n%len(f.workers)], context.Background()
	token, err := tokens.Get(ctx)
	if err != nil {
		return err
	}
	key := []string{simulator.MakeKey(1, uint64(n), simulator.Good, time.Now())}
	_, err = f.client.BatchRecall(ctx, token, robot, key)
	var e *upstream.Error
	if errors.As(err, &e) && e.Verdict(1).Scope == upstream.TokenStale {
		if token, err = tokens.Renew(ctx, token); err != nil {
			return err
		}
		_, err = f.client.BatchRecall(ctx, token, robot, key)
	}
	return err
}

// together runs fifty dispatchers at once and wants so many requests for a token of all of them.
func (f *fleet) together(what string, want int64) {
	f.t.Helper()
	before := f.sim.Stats()
	start := make(chan struct{})
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			<-start
			if err := f.dispatch(n); err != nil {
				f.t.Errorf("%s: %v", what, err)
			}
		})
	}
	close(start)
	all.Wait()
	after := f.sim.Stats()
	if got := after.TokenCalls - before.TokenCalls; got != want {
		f.t.Errorf("%s: %d requests for a token, want %d", what, got, want)
	}
	if refused := after.Outcomes["InvalidAuthentication"] - before.Outcomes["InvalidAuthentication"]; refused > 50 {
		f.t.Errorf("%s: %d calls were refused", what, refused)
	}
}

// TestFiftyDispatchersAskOnce: of two workers, for the first token, for one that has expired, for one that is revoked, and for one that is due,
// whichever kind the app is and whatever becomes of older tokens.
func TestFiftyDispatchersAskOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range upstream.Kinds() {
		for _, old := range []simulator.OldTokens{simulator.OldTokensLive, simulator.OldTokensDie} {
			if kind == upstream.KindInternal && old == simulator.OldTokensDie {
				continue // asking again gives the same one
			}
			t.Run(fmt.Sprintf("%s, old ones %s", kind, old), func(t *testing.T) {
				t.Parallel()
				redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
					f := newFleet(t, rdb, 2, kind, simulator.Config{OldTokens: old, UnifiedAgain: simulator.AgainNew, Latency: 10 * time.Millisecond})
					f.together("the first token", 1)
					f.together("a good token", 0)
					f.advance(2 * time.Hour)
					f.together("an expired token", 1)
					f.advance(time.Minute)
					f.sim.RevokeTokens()
					f.together("a revoked token", 1)
					f.advance(2*time.Hour - 10*time.Minute)
					f.together("a token that is due", 1)
					f.advance(2 * time.Second) // the other worker looks again
					f.together("a token that was due", 0)
				})
			})
		}
	}
}

// TestNobodyAsksWhileCredentialsAreBad: one request for all, and the next after the rest.
func TestNobodyAsksWhileCredentialsAreBad(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		f := newFleet(t, rdb, 3, upstream.KindThirdParty, simulator.Config{})
		f.sim.SetSuiteTicket("another")
		var all sync.WaitGroup
		for n := range 50 {
			all.Go(func() {
				var e *upstream.Error
				if err := f.dispatch(n); !errors.As(err, &e) || e.Code != "invalidSuiteTicket" || e.Verdict(1).Scope != upstream.AppHold {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if st := f.sim.Stats(); st.TokenCalls != 1 || st.Calls != 0 {
			t.Errorf("%d requests for a token, %d calls", st.TokenCalls, st.Calls)
		}
		// Mended, and said so: no need to wait for the rest of the others.
		f.sim.SetSuiteTicket("ticket")
		if err := open(t, rdb).ForgetFailure(context.Background()); err != nil {
			t.Fatal(err)
		}
		f.advance(2 * time.Second)
		f.together("after it was mended", 1)
	})
}

// TestSlowDispatchersDoNotThrash: the old token ends as soon as a new one is issued, and calls made with the old one are refused one after
// the other for a while. None of them may cost the new one its life.
func TestSlowDispatchersDoNotThrash(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		f := newFleet(t, rdb, 2, upstream.KindThirdParty, simulator.Config{OldTokens: simulator.OldTokensDie})
		ctx := context.Background()
		stale, err := f.workers[0].Get(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := f.workers[1].Get(ctx); err != nil || same != stale {
			t.Fatalf("%q, %v", same, err)
		}
		f.sim.RevokeTokens()
		fresh, err := f.workers[0].Renew(ctx, stale)
		if err != nil || fresh == stale {
			t.Fatal(fresh, err)
		}
		for range 30 {
			f.advance(time.Second)
			for _, w := range f.workers {
				if got, err := w.Renew(ctx, stale); err != nil || got != fresh {
					t.Fatalf("%q, %v; want %q", got, err, fresh)
				}
			}
		}
		f.together("with the new one", 0)
		if n := f.sim.Stats().TokenCalls; n != 2 {
			t.Errorf("%d requests for two tokens", n)
		}
	})
}
