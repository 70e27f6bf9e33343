package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

func isStale() (upstream.Answer, error) {
	return upstream.Answer{}, serviceError(400, "InvalidAuthentication")
}

func TestAStaleTokenIsRenewedOnce(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		const interval = 200 * time.Millisecond
		b := setup(t, rdb, func(p *keystore.Params) { p.Interval = interval })
		at := b.admit(20)
		b.tokens.renewWith = "t2"
		b.service.answer = func(_ int, c fakeCall) (upstream.Answer, error) {
			if c.token == "t1" {
				return isStale()
			}
			return allRecalled(c.keys), nil
		}
		if err := b.run(at, 0); err != nil {
			t.Fatal(err)
		}
		calls := b.service.seen()
		if len(calls) != 2 || calls[1].token != "t2" || len(b.tokens.renewed) != 1 || b.tokens.renewed[0] != "t1" {
			t.Fatalf("calls %v, renewed %v", calls, b.tokens.renewed)
		}
		// Each call has a permit of its own: a token that ends is refused to all slots at once.
		if gap := calls[1].at.Sub(calls[0].at); gap < interval-2*late {
			t.Errorf("the second call came %v after the first, permits are %v apart", gap, interval)
		}
		for _, r := range b.records(20) {
			if r.State != flow.Recalled || r.Attempts != 1 {
				t.Fatalf("%+v", r)
			}
		}
		if b.observer.calls[upstream.TokenStale] != 1 || b.observer.calls[upstream.Done] != 1 {
			t.Errorf("observed %v", b.observer.calls)
		}
	})
}

func TestATokenThatIsStaleWhenFreshHoldsTheApp(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(40)
		b.tokens.renewWith = "t2"
		b.service.answer = func(int, fakeCall) (upstream.Answer, error) { return isStale() }
		if err := b.run(at, 0); err != nil {
			t.Fatal(err)
		}
		if n := len(b.service.seen()); n != 2 || len(b.tokens.renewed) != 1 {
			t.Errorf("%d calls, %d renewals", n, len(b.tokens.renewed))
		}
		st := b.status()
		if st.Hold == nil || st.Hold.Code != "InvalidAuthentication" || st.Total.Waiting != 40 {
			t.Errorf("hold %+v, total %+v", st.Hold, st.Total)
		}
		for _, r := range b.records(40) {
			if r.State != flow.Waiting || r.Attempts != 0 || r.Ambiguous {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func TestNoTokenNoCall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		hold string
	}{
		{"bad credentials", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassService, Status: 400, Code: "invalidClientIdOrSecret"}, "invalidClientIdOrSecret"},
		{"not sent", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassNotSent}, ""},
		{"lost", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassTimeout, Lost: true}, ""},
		{"503", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassService, Status: 503}, ""},
		{"no error of upstream", errors.New("disk full"), ""},
	} {
		for _, n := range []int{1, 20} {
			t.Run(fmt.Sprintf("%s, %d keys", c.name, n), func(t *testing.T) {
				t.Parallel()
				redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
					b := setup(t, rdb, nil)
					at := b.admit(n)
					b.tokens.err = c.err
					err := b.run(at, 0)
					if len(b.service.seen()) != 0 || b.tokens.gets != 1 {
						t.Fatalf("%d calls, asked for a token %d times", len(b.service.seen()), b.tokens.gets)
					}
					if c.hold != "" {
						if st := b.status(); err != nil || st.Hold == nil || st.Hold.Code != c.hold || st.Total.Waiting != int64(n) {
							t.Errorf("%v, hold %+v", err, st.Hold)
						}
					} else if l := later(t, err); !l.Blame || l.Delay < 500*time.Millisecond || !errors.Is(l, c.err) || b.last().Status != keystore.StatusHeld {
						t.Errorf("%+v, %s", l, b.last().Status)
					}
					for _, r := range b.records(n) {
						if r.Attempts != 0 || r.Ambiguous || r.State != flow.Waiting && r.State != flow.Bound {
							t.Fatalf("%+v", r)
						}
					}
				})
			})
		}
	}
}

func TestARenewalThatFailsIsNoAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, redistest.Mini(t), nil)
	at := b.admit(1)
	b.tokens.renewErr = &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassNotSent}
	b.service.answer = func(int, fakeCall) (upstream.Answer, error) { return isStale() }
	l := later(t, b.run(at, 0))
	if r := b.records(1)[0]; !l.Blame || r.Attempts != 0 || r.State != flow.Bound || len(b.service.seen()) != 1 {
		t.Errorf("%+v, %+v", l, r)
	}
}

// missPermits holds a run up, as a busy machine does, until the moment of its permit has passed.
func missPermits() { <-time.After(5 * late) }

// TestAMissedPermitIsNotUsed: whoever comes late takes another one.
func TestAMissedPermitIsNotUsed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, func(p *keystore.Params) { p.Interval = 300 * time.Millisecond })
		at := b.admit(20)
		b.onAfter = func(n int, _ *keystore.Reply) error {
			if n == 1 {
				missPermits()
			}
			return nil
		}
		before := 0
		b.service.answer = func(_ int, c fakeCall) (upstream.Answer, error) {
			before = b.faults.scripts()
			return allRecalled(c.keys), nil
		}
		began := time.Now()
		if err := b.run(at, 0); err != nil {
			t.Fatal(err)
		}
		calls := b.service.seen()
		if len(calls) != 1 || before != 2 {
			t.Fatalf("%d calls, %d scripts before the first: to attach, and for another permit", len(calls), before)
		}
		if waited := calls[0].at.Sub(began); waited < 250*time.Millisecond {
			t.Errorf("the call was made after %v, with a permit that had passed", waited)
		}
	})
}

// TestNoCallForABatchThatIsNoLongerOurs: the queue gave the task to another worker while this one was held up.
func TestNoCallForABatchThatIsNoLongerOurs(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, func(p *keystore.Params) { p.Interval = 10 * time.Millisecond })
		at := b.admit(20)
		b.onAfter = func(n int, _ *keystore.Reply) error {
			if n > 1 {
				return nil
			}
			missPermits()
			_, err := b.store.Attach(context.Background(), at.Slot, at.Generation, 1)
			return err
		}
		l := later(t, b.run(at, 0))
		if len(b.service.seen()) != 0 || b.last().Status != keystore.StatusRefused || l.Delay <= 0 {
			t.Errorf("%d calls, %s, %+v", len(b.service.seen()), b.last().Status, l)
		}
		if st := b.status(); st.Total.Bound != 20 {
			t.Errorf("%+v", st.Total)
		}
	})
}

func TestRedisThatIsAwayAtThePermit(t *testing.T) {
	t.Parallel()
	b := setup(t, redistest.Mini(t), func(p *keystore.Params) { p.Interval = 10 * time.Millisecond })
	at := b.admit(20)
	b.onAfter = func(n int, _ *keystore.Reply) error {
		if n == 1 {
			missPermits()
			b.faults.set(2, 0) // the permit, and the takeover
		}
		return nil
	}
	if l := later(t, b.run(at, 0)); l.Blame || len(b.service.seen()) != 0 {
		t.Errorf("%+v, %d calls", l, len(b.service.seen()))
	}
	if err := b.run(at, 0); err != nil {
		t.Fatal(err)
	}
	if got := b.states(20); got[flow.Recalled] != 20 || b.service.mostOften() != 1 {
		t.Errorf("states %v", got)
	}
}

// TestAThrottleIsRespected with a rate of our own and without.
func TestAThrottleIsRespected(t *testing.T) {
	t.Parallel()
	for _, interval := range []time.Duration{0, time.Millisecond} {
		t.Run(interval.String(), func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
				b := setup(t, rdb, func(p *keystore.Params) { p.Interval = interval })
				at := b.admit(20)
				b.service.answer = func(n int, c fakeCall) (upstream.Answer, error) {
					if n == 1 {
						return upstream.Answer{}, serviceError(403, "Forbidden.AccessDenied.QpsLimitForApi")
					}
					return allRecalled(c.keys), nil
				}
				if err := b.run(at, 0); err != nil {
					t.Fatal(err)
				}
				calls := b.service.seen()
				if len(calls) != 2 || calls[1].at.Sub(calls[0].at) < time.Second-2*late {
					t.Fatalf("%d calls, the second %v after the first", len(calls), calls[len(calls)-1].at.Sub(calls[0].at))
				}
				for _, r := range b.records(20) {
					if r.State != flow.Recalled || r.Attempts != 1 {
						t.Fatalf("%+v", r)
					}
				}
			})
		})
	}
}

// bothAttached gives what is closed when two runs have attached.
func (b *bundle) bothAttached() <-chan struct{} {
	attached := make(chan struct{})
	b.onAfter = func(n int, _ *keystore.Reply) error {
		if n == 2 {
			close(attached)
		}
		return nil
	}
	return attached
}

// TestPermitsFromBeforeAThrottleAreNotUsed: a run that waits for its moment hears that another of its process was throttled.
func TestPermitsFromBeforeAThrottleAreNotUsed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, func(p *keystore.Params) { p.Interval, p.Slots = 1500*time.Millisecond, 2 })
		b.admit(40)
		r, err := b.store.Wake(context.Background())
		if err != nil || len(r.Due) != 2 {
			t.Fatal(r, err)
		}
		attached := b.bothAttached()
		b.service.answer = func(n int, c fakeCall) (upstream.Answer, error) {
			if n == 1 {
				<-attached
				return upstream.Answer{}, serviceError(403, "Forbidden.AccessDenied.QpsLimitForApi")
			}
			return allRecalled(c.keys), nil
		}
		d := b.dispatcher(time.Minute)
		ends := make(chan error)
		for _, at := range r.Due {
			go func() { ends <- d.Run(context.Background(), testApp, at.Slot, at.Generation, 0) }()
		}
		for range r.Due {
			if err := <-ends; err != nil {
				t.Error(err)
			}
		}
		calls := b.service.seen()
		if len(calls) != 3 || calls[1].at.Sub(calls[0].at) < time.Second-2*late {
			t.Fatalf("%d calls, the second %v after the first", len(calls), calls[1].at.Sub(calls[0].at))
		}
		for _, r := range b.records(40) {
			if r.State != flow.Recalled || r.Attempts != 1 {
				t.Fatalf("%+v", r)
			}
		}
	})
}

// TestALongThrottleEndsTheOtherRuns: none of them sleeps for minutes with a handler.
func TestALongThrottleEndsTheOtherRuns(t *testing.T) {
	t.Parallel()
	b := setup(t, redistest.Real(t), func(p *keystore.Params) { p.Interval, p.Slots = 1500*time.Millisecond, 2 })
	b.admit(80)
	r, err := b.store.Wake(context.Background())
	if err != nil || len(r.Due) != 2 {
		t.Fatal(r, err)
	}
	attached := b.bothAttached()
	b.service.answer = func(int, fakeCall) (upstream.Answer, error) {
		<-attached
		return upstream.Answer{}, &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassService, Status: 403, Banned: true}
	}
	d := b.dispatcher(time.Minute)
	ends := make(chan error)
	for _, at := range r.Due {
		go func() { ends <- d.Run(context.Background(), testApp, at.Slot, at.Generation, 0) }()
	}
	waits, again := 0, 0
	wait := func(err error) {
		if l := later(t, err); l.Delay < 5*time.Minute-5*time.Second || l.Delay > 5*time.Minute {
			t.Errorf("%+v", l)
		}
		waits++
	}
	for range r.Due {
		if err := <-ends; err != nil {
			wait(err)
			continue
		}
		for _, at := range b.last().Due { // it gave its slot up, which is owed a task of its own
			wait(d.Run(context.Background(), testApp, at.Slot, at.Generation, 0))
			again++
		}
	}
	if waits != 2 || again != 1 {
		t.Errorf("%d runs wait, %d of them after they gave up", waits, again)
	}
	if calls := b.service.seen(); len(calls) != 1 {
		t.Errorf("%d calls while the address is refused", len(calls))
	}
	if st := b.status(); st.Held != 2 || st.Total.Waiting != 40 || st.Rest.IsZero() {
		t.Errorf("%+v", st)
	}
}

// TestALongThrottleKeepsNoHandler: minutes are waited out in the queue.
func TestALongThrottleKeepsNoHandler(t *testing.T) {
	t.Parallel()
	b := setup(t, redistest.Mini(t), func(p *keystore.Params) { p.Interval = time.Millisecond })
	at := b.admit(20)
	b.service.answer = func(int, fakeCall) (upstream.Answer, error) {
		return upstream.Answer{}, serviceError(403, "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi")
	}
	l := later(t, b.run(at, 0))
	if !l.Blame || l.Delay != time.Minute || len(b.service.seen()) != 1 {
		t.Errorf("%+v, %d calls", l, len(b.service.seen()))
	}
	if r := b.records(1)[0]; r.Attempts != 0 || r.State != flow.Bound {
		t.Errorf("%+v", r)
	}
}
