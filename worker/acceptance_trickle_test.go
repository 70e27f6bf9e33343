package worker_test

import (
	"context"
	"sync"
	"testing"
	"time"

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

// mostTrickleWait is what the program promises on a real Redis. miniredis interprets the scripts, which with the race detector takes
// so much of the processor that times say nothing of the program.
func mostTrickleWait(backend string, linger time.Duration) time.Duration {
	if backend == "miniredis" {
		return 30 * time.Second
	}
	return linger + time.Second
}

func TestTrickleOfManyProducersMakesFullCalls(t *testing.T) {
	t.Parallel()
	for _, backend := range redistest.Backends() {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, backend.Open(t), simulator.Config{Latency: 20 * time.Millisecond}, func(c *worker.Config) { c.Linger = time.Second })
			b.start()
			sent := b.trickle(50, 6, 2*time.Second)
			if average := b.checkTrickle(sent, mostTrickleWait(backend.Name, time.Second)); average < 15 {
				t.Errorf("%.1f keys a call, and 20 were there", average)
			}
		})
	}
}

func TestThinTrickleWaitsNoLongerThanTheLinger(t *testing.T) {
	t.Parallel()
	for _, backend := range redistest.Backends() {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			const linger = 700 * time.Millisecond
			b := setup(t, backend.Open(t), simulator.Config{}, func(c *worker.Config) { c.Linger = linger })
			b.start()
			sent := b.trickle(3, 6, time.Second)
			if average := b.checkTrickle(sent, mostTrickleWait(backend.Name, linger)); average < 1.5 {
				t.Errorf("%.1f keys a call, and those that came within the linger should go together", average)
			}
		})
	}
}
