package dispatch

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

// allFailed is the answer that has one reason for all keys of a call.
func allFailed(keys []string, reason string) upstream.Answer {
	a := upstream.Answer{RequestID: "rid", Failed: map[string]string{}}
	for _, k := range keys {
		a.Failed[k] = reason
	}
	return a
}

// TestAnOutageToldAsReasonsKillsNoKey: for longer than a key has attempts, and somebody hears of it.
func TestAnOutageToldAsReasonsKillsNoKey(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"system error", "SYSTEM_ERROR"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
				b := setup(t, rdb, nil)
				logged, logs := observer.New(zap.InfoLevel)
				b.deps.Log = zap.New(logged)
				down := 2 * testPolicy().MaxAttempts
				b.service.answer = func(n int, c fakeCall) (upstream.Answer, error) {
					if n <= down {
						return allFailed(c.keys, reason), nil
					}
					return allRecalled(c.keys), nil
				}
				at := b.admit(20)
				for retry := range down {
					later(t, b.run(at, retry))
					if st := b.status(); st.Total.Recalled > 0 || st.Total.Dead > 0 || !st.LastOK.IsZero() || st.Held != 1 {
						t.Fatalf("after %d calls: %+v", retry+1, st)
					}
				}
				if b.observer.recalled > 0 || b.observer.dead > 0 || b.observer.calls[upstream.Transient] != down || b.observer.calls[upstream.Done] > 0 {
					t.Errorf("told of %d recalled, %d dead, calls %v", b.observer.recalled, b.observer.dead, b.observer.calls)
				}
				if err := b.run(at, down); err != nil || b.states(20)[flow.Recalled] != 20 {
					t.Errorf("after the outage: %v, %v", err, b.states(20))
				}
				if n := logs.Len(); n != 2 || logs.All()[0].Level != zap.WarnLevel || logs.All()[1].Level != zap.InfoLevel {
					t.Errorf("logged %v", logs.All())
				}
			})
		})
	}
}

// TestAThrottleToldAsReasonsRests, and counts against no key nor the month.
func TestAThrottleToldAsReasonsRests(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, func(p *keystore.Params) { p.Budget = keystore.Budget{Zone: time.UTC, Calls: 100} })
		at := b.admit(20)
		b.service.answer = func(n int, c fakeCall) (upstream.Answer, error) {
			if n == 1 {
				return allFailed(c.keys, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"), nil
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
		if st := b.status(); st.Budget == nil || st.Budget.Used != 1 {
			t.Errorf("%+v", st.Budget)
		}
	})
}

// TestAHoldToldAsReasonsHolds: no call of the app is made, and its keys wait.
func TestAHoldToldAsReasonsHolds(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"Forbidden.AccessDenied.IpNotInWhiteList", "Forbidden.AccessDenied.ApiCountLimitForOrg"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
				b := setup(t, rdb, nil)
				b.service.answer = func(_ int, c fakeCall) (upstream.Answer, error) { return allFailed(c.keys, code), nil }
				if err := b.run(b.admit(40), 0); err != nil {
					t.Fatal(err)
				}
				st := b.status()
				if st.Hold == nil || st.Hold.Code != code || st.Total.Waiting != 40 || len(b.service.seen()) != 1 {
					t.Errorf("%+v, hold %+v, %d calls", st.Total, st.Hold, len(b.service.seen()))
				}
			})
		})
	}
}

// TestAStaleTokenToldAsReasonsIsRenewed once.
func TestAStaleTokenToldAsReasonsIsRenewed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		b.tokens.renewWith = "t2"
		b.service.answer = func(_ int, c fakeCall) (upstream.Answer, error) {
			if c.token == "t1" {
				return allFailed(c.keys, "InvalidAuthentication"), nil
			}
			return allRecalled(c.keys), nil
		}
		if err := b.run(b.admit(20), 0); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(b.tokens.renewed, []string{"t1"}) || b.states(20)[flow.Recalled] != 20 || b.records(1)[0].Attempts != 1 {
			t.Errorf("renewed %v, %v, %+v", b.tokens.renewed, b.states(20), b.records(1))
		}
	})
}

// TestReasonsOfTheSimulatorKillNoKey has the real client and the simulator's service, which is well again after two calls.
func TestReasonsOfTheSimulatorKillNoKey(t *testing.T) {
	t.Parallel()
	for fault, attempts := range map[simulator.Fault]int{simulator.FaultSystemReason: 3, simulator.FaultQPSReason: 1} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
				b := setup(t, rdb, nil)
				sim := b.real(simulator.Config{AnyToken: true, Faults: []simulator.FaultRule{{Fault: fault, To: 2}}})
				var keys []string
				for i := range uint64(20) {
					keys = append(keys, simulator.MakeKey(3, i, simulator.Good, time.Now().Add(-time.Hour)))
				}
				_, r, err := b.store.Admit(t.Context(), keystore.Admission{RobotCode: "robot", Keys: keys, Class: flow.Urgent})
				if err != nil {
					t.Fatal(err)
				}
				for retry := 0; retry <= 2 && b.run(r.Due[0], retry) != nil; retry++ {
				}
				recs, err := b.store.Lookup(t.Context(), "robot", keys)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range recs {
					if r.State != flow.Recalled || r.Attempts != attempts {
						t.Fatalf("%+v", r)
					}
				}
				if st := sim.Stats(); st.Calls != 3 || st.KeysRecalled != 20 || b.observer.calls[upstream.Done] != 1 {
					t.Errorf("%d calls, %d keys recalled, %v", st.Calls, st.KeysRecalled, b.observer.calls)
				}
			})
		})
	}
}

// reasonsOf is a service that gives bad keys a reason and recalls the others, as the dispatcher hears it.
func reasonsOf(reason string, bad ...string) func(*world, []string) ([]upstream.Verdict, *upstream.Error) {
	return func(_ *world, keys []string) ([]upstream.Verdict, *upstream.Error) {
		var a upstream.Answer
		for _, k := range keys {
			if !slices.Contains(bad, k) {
				a.Recalled = append(a.Recalled, k)
				continue
			}
			if a.Failed == nil {
				a.Failed = map[string]string{}
			}
			a.Failed[k] = reason
		}
		var e *upstream.Error
		if errors.As(toldAsReasons(a), &e) {
			return nil, e
		}
		return a.Verdicts(keys), nil
	}
}

// TestAnOutageToldAsReasonsIsNoSearch: no batch of any slot is split, however many calls fail.
func TestAnOutageToldAsReasonsIsNoSearch(t *testing.T) {
	t.Parallel()
	for _, down := range []int{1, 2, 3, 10, 29, 55} {
		w := newWorld(t, 2, names(400), func(w *world, keys []string) ([]upstream.Verdict, *upstream.Error) {
			if w.calls <= down {
				return reasonsOf("system error", keys...)(w, keys)
			}
			return allDone(len(keys)), nil
		})
		w.run(down + 100)
		if len(w.dead()) > 0 || w.splits > 0 || w.calls != down+20 {
			t.Errorf("%d calls fail: %d died, %d calls were split, %d calls", down, len(w.dead()), w.splits, w.calls)
		}
	}
}

// TestKeysThatAreBadForEverEnd, though their reason is an outage's: with few calls, also where they come in one.
func TestKeysThatAreBadForEverEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keys, bad, apart int
		more             int // a good key comes each second
		most             int // calls beyond those that carry the good keys
	}{
		"a call of them, and nothing else":      {keys: 20, bad: 20, apart: 1, most: 31},
		"two, and nothing else":                 {keys: 2, bad: 2, apart: 1, most: 31},
		"a call of them, others succeed":        {keys: 20, bad: 20, apart: 1, more: 1000, most: 15},
		"one in each call, others succeed":      {keys: 400, bad: 20, apart: 20, more: 1000, most: 10},
		"one in each call, then nothing else":   {keys: 400, bad: 20, apart: 20, most: 200},
		"a few of many, that meet in one call":  {keys: 400, bad: 5, apart: 1, most: 40},
		"a call of them that is called a third": {keys: 60, bad: 20, apart: 1, most: 40},
	} {
		keys := names(c.keys)
		var bad []string
		for i := range c.bad {
			bad = append(bad, keys[i*c.apart])
		}
		w := newWorld(t, 2, keys, reasonsOf("system error", bad...))
		good := c.keys - c.bad
		for i := range c.more {
			k := &modelKey{BoundKey: flow.BoundKey{Key: fmt.Sprintf("more %d", i)}, fate: flow.FateWait, after: w.now.Add(time.Duration(i) * time.Second)}
			w.all[k.Key], w.waiting, good = k, append(w.waiting, k), good+1
		}
		w.run(5000)
		if dead := w.dead(); !slices.Equal(dead, bad) || w.splits > 0 {
			t.Errorf("%s: bad %v, dead %v, %d calls were split", name, bad, dead, w.splits)
		}
		calls := 0
		for _, k := range bad {
			calls = max(calls, w.all[k].sent)
		}
		t.Logf("%s: %d calls for %d good keys, a bad one was in %d", name, w.calls, good, calls)
		if c.more == 0 && w.calls-(good+19)/20 > c.most || calls > c.most {
			t.Errorf("%s: too many", name)
		}
	}
}

// TestTheEndOfAnOutageKillsNoKey: a call that was on its way fails when others succeed already.
func TestTheEndOfAnOutageKillsNoKey(t *testing.T) {
	t.Parallel()
	b := testBatch(20)
	e := allFailed(b.Called(), "system error").AsError()
	for i := range b.Keys {
		b.Keys[i].Attempts = 15
	}
	b.Tries, b.Note, b.LastOK = 15, note{FirstFail: testNow.Add(-time.Minute).UnixMilli()}.String(), testNow.Add(-time.Second)
	got := newDecider(testPolicy(), b, testNow).failed(e)
	if fates(got) != expand("l20") || got.Answered || !got.Counted || got.Next != flow.NextClaim {
		t.Errorf("%s %+v", fates(got), got)
	}
	// Asked anew, they are all that fails.
	b.Tries = testPolicy().SplitAfter - 1
	got = newDecider(testPolicy(), b, testNow).failed(e)
	if fates(got) != expand("d20") || got.Outcomes[0].Code != "system.error" || got.Outcomes[0].Message != "system error" {
		t.Errorf("%s %+v", fates(got), got)
	}
	// Nor are they spared for ever.
	b.Tries = 15
	for i := range b.Keys {
		b.Keys[i].Attempts = 3*testPolicy().MaxAttempts - 1
	}
	if got = newDecider(testPolicy(), b, testNow).failed(e); fates(got) != expand("d20") {
		t.Errorf("%s", fates(got))
	}
}
