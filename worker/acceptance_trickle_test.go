package worker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

// trickle has many producers hand in one key at a time, each pausing for up to most between two, and gives when each key was
// handed in.
func (b *bundle) trickle(producers, each int, most time.Duration) map[string]time.Time {
	b.t.Helper()
	keys := goodKeys(producers * each)
	var mu sync.Mutex
	sent := map[string]time.Time{}
	var all sync.WaitGroup
	for p := range producers {
		all.Go(func() {
			for i := range each {
				pause(most)
				key, now := keys[p*each+i], time.Now()
				if _, err := b.client.Recall(context.Background(), robot, []string{key}); err != nil {
					b.t.Errorf("producer %d: %v", p, err)
					return
				}
				mu.Lock()
				sent[key] = now
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return sent
}

// checkTrickle checks that each key was called once and soon, and gives the keys a call had on average. most is the longest that
// a key may wait.
func (b *bundle) checkTrickle(sent map[string]time.Time, most time.Duration) float64 {
	b.t.Helper()
	b.untilSettled(len(sent))
	var longest time.Duration
	calls, called := b.calls.inOrder(), map[string]bool{}
	for _, c := range calls {
		for _, k := range c.Keys {
			if called[k] {
				b.t.Errorf("key %s was called twice", k)
			}
			called[k] = true
			longest = max(longest, c.At.Sub(sent[k]))
		}
	}
	if len(called) != len(sent) {
		b.t.Errorf("%d of %d keys were called", len(called), len(sent))
	}
	if longest > most {
		b.t.Errorf("a key waited %v for its call, which is longer than %v", longest, most)
	}
	average := float64(len(sent)) / float64(len(calls))
	b.t.Logf("%d calls, %.1f keys each, longest wait %v", len(calls), average, longest)
	return average
}

// eachAlone runs a test on both kinds of Redis, one after the other and not beside other tests of this package: it looks at times.
// most is the longest that a key may wait with this linger. That is promised on a real Redis; miniredis interprets the scripts, and
// with the race detector that takes so much of the processor that times say nothing of the program.
func eachAlone(t *testing.T, linger time.Duration, f func(t *testing.T, rdb *redis.Client, most time.Duration)) {
	for _, backend := range redistest.Backends() {
		t.Run(backend.Name, func(t *testing.T) {
			most := linger + time.Second
			if backend.Name == "miniredis" {
				most = time.Minute
			}
			f(t, backend.Open(t), most)
		})
	}
}

func TestTrickleOfManyProducersMakesFullCalls(t *testing.T) {
	const linger = time.Second
	eachAlone(t, linger, func(t *testing.T, rdb *redis.Client, most time.Duration) {
		b := setup(t, rdb, simulator.Config{Latency: 20 * time.Millisecond}, func(c *worker.Config) { c.Linger = linger })
		b.start()
		sent := b.trickle(50, 5, 1600*time.Millisecond)
		if average := b.checkTrickle(sent, most); average < 15 {
			t.Errorf("%.1f keys a call, and 20 were there", average)
		}
	})
}

func TestThinTrickleWaitsNoLongerThanTheLinger(t *testing.T) {
	const linger = 700 * time.Millisecond
	eachAlone(t, linger, func(t *testing.T, rdb *redis.Client, most time.Duration) {
		b := setup(t, rdb, simulator.Config{}, func(c *worker.Config) { c.Linger = linger })
		b.start()
		sent := b.trickle(3, 5, time.Second)
		if average := b.checkTrickle(sent, most); average < 1.5 {
			t.Errorf("%.1f keys a call, and those that came within the linger should go together", average)
		}
	})
}
