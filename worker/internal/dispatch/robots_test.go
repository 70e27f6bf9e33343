package dispatch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
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

// crowd runs all slots of the app at once, over and over, until no key waits. gathered is closed when each of the first has a batch.
type crowd struct {
	*bundle
	gathered chan struct{}
	mu       sync.Mutex // guards the rest
	with     map[int]bool
	due      []flow.DueSlot
}

func newCrowd(b *bundle, keys int) *crowd {
	b.t.Helper()
	c := &crowd{bundle: b, gathered: make(chan struct{}), with: map[int]bool{}}
	_, r, err := b.store.Admit(context.Background(), keystore.Admission{RobotCode: "robot", Keys: names(keys), Class: flow.Urgent})
	if err != nil {
		b.t.Fatal(err)
	}
	first := len(r.Due)
	if first < 4 {
		b.t.Fatalf("%d slots are due, and a crowd was wanted", first)
	}
	c.due = r.Due
	batches := 0
	b.onAfter = func(_ int, r *keystore.Reply) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.due = append(c.due, r.Due...)
		if r.Status == keystore.StatusBatch {
			if batches++; batches == first {
				close(c.gathered)
			}
		}
		return nil
	}
	return c
}

// all runs due slots until none is.
func (c *crowd) all() {
	c.t.Helper()
	d := c.dispatcher(time.Minute)
	for round := 0; ; round++ {
		c.mu.Lock()
		due := c.due
		c.due = nil
		c.mu.Unlock()
		if len(due) == 0 {
			return
		}
		if round > 100 {
			c.t.Fatal("still slots are due")
		}
		var wg sync.WaitGroup
		for _, at := range due {
			wg.Go(func() {
				if err := d.Run(context.Background(), testApp, at.Slot, at.Generation, 0); err != nil {
					c.t.Errorf("slot %d: %v", at.Slot, err)
				}
			})
		}
		wg.Wait()
	}
}

// real has the real client and a simulator in the place of the fake service.
func (b *bundle) real(cfg simulator.Config) *simulator.Simulator {
	b.t.Helper()
	cfg.AnyToken = true
	sim, err := simulator.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	server, err := sim.Listen("")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = server.Close() })
	client, err := upstream.New(upstream.Config{BaseURL: server.BaseURL()})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(client.Close)
	b.deps.Service = client
	return sim
}

// TestARobotThatDoesNotExistCostsTwoCalls: however many keys wait, and however many slots have taken some of them.
func TestARobotThatDoesNotExistCostsTwoCalls(t *testing.T) {
	t.Parallel()
	const keys = 1000
	for name, cfg := range map[string]simulator.Config{
		"as the error of the call":  {UnknownRobots: []string{"robot"}},
		"as the reason of each key": {Faults: []simulator.FaultRule{{Fault: simulator.FaultRobotReason, Probability: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
				b := setup(t, rdb, nil)
				logged, logs := observer.New(zap.ErrorLevel)
				b.deps.Log = zap.New(logged)
				var c *crowd
				cfg.Sleep = func(context.Context, time.Duration) { <-c.gathered } // no call ends before all slots have keys
				cfg.Latency = time.Second
				sim := b.real(cfg)
				c = newCrowd(b, keys)
				c.all()
				if st := sim.Stats(); st.Calls != 2 || st.KeysAsked != 40 && st.KeysAsked != 20 {
					t.Errorf("%d calls with %d keys", st.Calls, st.KeysAsked)
				}
				for _, r := range b.records(keys) {
					if r.State != flow.Dead || r.Code != upstream.CodeNoSuchRobot || r.Attempts > 0 && r.RequestID == "" {
						t.Fatalf("%+v", r)
					}
				}
				if entries := logs.All(); len(entries) != 1 || entries[0].ContextMap()["robot"] != "robot" || entries[0].ContextMap()["hint"] == "" {
					t.Errorf("logged %v", entries)
				}
			})
		})
	}
}

// TestARobotIsAskedAgainForNewKeys: what is submitted after its end may be after its mending.
func TestARobotIsAskedAgainForNewKeys(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		b.service.answer = func(n int, c fakeCall) (upstream.Answer, error) {
			if n <= 2 {
				return upstream.Answer{}, serviceError(400, upstream.CodeNoSuchRobot)
			}
			return allRecalled(c.keys), nil
		}
		c := newCrowd(b, 200)
		c.all()
		_, r, err := b.store.Admit(context.Background(), keystore.Admission{RobotCode: "robot", Keys: []string{"new"}, Class: flow.Urgent})
		if err != nil {
			t.Fatal(err)
		}
		c.due = r.Due
		c.all()
		recs, err := b.store.Lookup(context.Background(), "robot", []string{"new"})
		if err != nil || recs[0].State != flow.Recalled || len(b.service.seen()) != 3 || b.states(200)[flow.Dead] != 200 {
			t.Errorf("%+v, %v, %d calls, %v", recs, err, len(b.service.seen()), b.states(200))
		}
	})
}

// TestARobotThatStaysAwayCostsACall for each batch that comes later, and a line in the log now and then.
func TestARobotThatStaysAwayCostsACall(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		logged, logs := observer.New(zap.ErrorLevel)
		b.deps.Log = zap.New(logged)
		b.service.answer = func(int, fakeCall) (upstream.Answer, error) {
			return upstream.Answer{}, serviceError(400, upstream.CodeNoSuchRobot)
		}
		const later = 5
		for i := range 1 + later {
			b.admitKeys("robot", fmt.Sprintf("key %d", i))
			b.runAll()
		}
		if n := len(b.service.seen()); n != 2+later {
			t.Errorf("%d calls for %d keys that came one after the other", n, 1+later)
		}
		if n := logs.Len(); n != 1 {
			t.Errorf("%d lines", n)
		}
	})
}

// TestOddAnswersKillNoGoodRobot: one answer, at the start or later, or several of calls that were under way together, confirm nothing.
func TestOddAnswersKillNoGoodRobot(t *testing.T) {
	t.Parallel()
	const keys = 400
	for name, odd := range map[string][]int{"the first": {1}, "a later one": {7}, "four at once": {2, 3, 4, 5}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
				b := setup(t, rdb, nil)
				var together sync.WaitGroup
				together.Add(len(odd))
				b.service.answer = func(n int, c fakeCall) (upstream.Answer, error) {
					if !slices.Contains(odd, n) {
						return allRecalled(c.keys), nil
					}
					together.Done()
					together.Wait() // they answer when all are under way
					return upstream.Answer{}, serviceError(400, upstream.CodeNoSuchRobot)
				}
				newCrowd(b, keys).all()
				if n := len(b.service.seen()); n != keys/flow.MaxBatch+len(odd) || b.states(keys)[flow.Recalled] != keys {
					t.Errorf("%d calls, %v", n, b.states(keys))
				}
			})
		})
	}
}

// TestSuspicionIsSaid: keys of another robot die one by one, which is right; somebody should look at the robotCode.
func TestSuspicionIsSaid(t *testing.T) {
	t.Parallel()
	const code = "not.allowed.robotCode"
	refuse := func(failed map[string]string, keys []string) upstream.Answer {
		for _, k := range keys {
			failed[k] = code
		}
		return upstream.Answer{Failed: failed}
	}
	for name, c := range map[string]struct {
		answer func(n int, c fakeCall) (upstream.Answer, error)
		said   int
	}{
		"of single keys": {func(_ int, c fakeCall) (upstream.Answer, error) { return refuse(map[string]string{}, c.keys), nil }, 1},
		"of whole calls": {func(int, fakeCall) (upstream.Answer, error) { return upstream.Answer{}, serviceError(400, code) }, 1},
		"of few keys among many, and of whole calls": {func(_ int, c fakeCall) (upstream.Answer, error) {
			for _, bad := range []string{"k003", "k021", "k045", "k066", "k088", "k110", "k133", "k155"} {
				if slices.Contains(c.keys, bad) {
					return upstream.Answer{}, serviceError(400, code)
				}
			}
			return allRecalled(c.keys), nil
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
				b := setup(t, rdb, nil)
				logged, logs := observer.New(zap.WarnLevel)
				b.deps.Log = zap.New(logged)
				b.service.answer = c.answer
				newCrowd(b, 200).all()
				entries := logs.All()
				if len(entries) != c.said || c.said > 0 && (entries[0].ContextMap()["code"] != code || b.states(200)[flow.Dead] != 200) {
					t.Errorf("logged %v; %v", entries, b.states(200))
				}
			})
		})
	}
}

func TestRobotsAreForgottenWhenTheyAreTooMany(t *testing.T) {
	t.Parallel()
	var a robots
	busy, _ := a.enter("busy", time.Now())
	for i := range 3 * maxRobots {
		v, wait := a.enter(fmt.Sprint(i), time.Now())
		if wait != nil {
			t.Fatalf("robot %d has to wait", i)
		}
		v.end()
	}
	if len(a.known) > maxRobots {
		t.Errorf("%d robots are remembered", len(a.known))
	}
	if _, wait := a.enter("busy", time.Now()); wait == nil {
		t.Error("the robot that is being asked was forgotten")
	}
	busy.end()
	if v, _ := a.enter("busy", time.Now()); v == nil {
		t.Error("nobody may ask after a visit without a call")
	}
}

// TestTheFirstPermitLeads: of a robot that has not answered yet one call goes at a time, and it is not one whose moment comes after that of
// others: they would miss theirs for it.
func TestTheFirstPermitLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a robots
		began := time.Now()
		const later = 150 * time.Millisecond
		second := make(chan time.Duration, 1)
		go func() {
			if v, ok := a.visit(t.Context(), nil, "robot", began, began.Add(later)); ok {
				second <- time.Since(began)
				v.end()
			}
		}()
		synctest.Wait() // it is there first
		first, ok := a.visit(t.Context(), nil, "robot", began, began)
		if took := time.Since(began); !ok || took > 0 {
			t.Errorf("the one with the first permit is let go after %v", took)
		}
		first.end()
		if took := <-second; took != later {
			t.Errorf("the other one is let go after %v", took)
		}
	})
}

// TestAWaitingVisitEnds where the run has to.
func TestAWaitingVisitEnds(t *testing.T) {
	t.Parallel()
	var a robots
	if _, ok := a.visit(t.Context(), nil, "robot", time.Now(), time.Now()); !ok {
		t.Fatal("the first has to wait")
	}
	stopping := make(chan struct{})
	close(stopping)
	if _, ok := a.visit(t.Context(), stopping, "robot", time.Now(), time.Now()); ok {
		t.Error("a second call of a robot that nobody knows")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := a.visit(ctx, nil, "robot", time.Now(), time.Now()); ok {
		t.Error("a second call of a robot that nobody knows")
	}
	if _, ok := a.visit(ctx, nil, "another", time.Now(), time.Now().Add(time.Hour)); ok {
		t.Error("a call before its moment")
	}
}
