package worker_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream/simulator"
	"dingrecall/worker"
)

// The simulator is strict: in no second, wherever it begins, does it let more calls through than the rate. See eachAlone.
func TestWorkersTogetherKeepTheRate(t *testing.T) {
	eachAlone(t, 0, func(t *testing.T, rdb *redis.Client, _ time.Duration) {
		const rate, n = 50, 3000
		b := setup(t, rdb, simulator.Config{Rate: rate, Latency: 30 * time.Millisecond, Jitter: 10 * time.Millisecond}, func(c *worker.Config) {
			c.Apps[0].Rate = rate
		})
		b.start()
		b.start()
		b.recall(goodKeys(n))
		b.untilSettled(n)
		s := b.sim.Stats()
		if s.MaxCallsPerSecond > rate || s.Throttled > 0 {
			t.Errorf("%d calls in one second with a rate of %d, %d refused", s.MaxCallsPerSecond, rate, s.Throttled)
		}
		if s.Calls != n/20 || s.KeysRecalled != n {
			t.Errorf("%d calls for %d keys, %d recalled", s.Calls, n, s.KeysRecalled)
		}
		ideal := time.Duration(s.Calls-1) * time.Second / rate
		t.Logf("%v for %d calls: %.2f of the ideal", s.LastCall.Sub(s.FirstCall), s.Calls, float64(s.LastCall.Sub(s.FirstCall))/float64(ideal))
	})
}
