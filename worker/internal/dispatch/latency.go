package dispatch

import (
	"math"
	"sync/atomic"
	"time"
)

// Latency is the moving average of how long calls take. The zero value has seen none. It is safe for concurrent use.
type Latency struct{ bits atomic.Uint64 }

// Observe takes a call into account. Concurrent observations may overwrite one another: it is an estimate.
func (l *Latency) Observe(d time.Duration) {
	old := math.Float64frombits(l.bits.Load())
	v := d.Seconds()
	if old > 0 {
		v = 0.9*old + 0.1*v
	}
	l.bits.Store(math.Float64bits(v))
}

// Average gives the estimate, 0 before the first call.
func (l *Latency) Average() time.Duration {
	return time.Duration(math.Float64frombits(l.bits.Load()) * float64(time.Second))
}

// Slots gives how many calls of an app may be in flight at once: what its rate and the latency need, with half as much to
// spare, 2 at least so that an urgent key never waits for a slow call, and at most limit. Without a rate it is limit.
func (l *Latency) Slots(rate float64, limit int) int {
	if rate <= 0 {
		return limit
	}
	latency := l.Average().Seconds()
	if latency == 0 {
		latency = 0.2 // before the first call
	}
	return max(1, min(limit, max(2, int(math.Ceil(rate*latency*1.5))+1)))
}
