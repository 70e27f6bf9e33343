package dispatch

import (
	"math"
	"sync/atomic"
	"time"
)

// Latency is the moving average of how long a call keeps its slot: from its beginning until its outcome is written and the slot has its
// next batch. A slow Redis takes more slots to use a rate, as a slow service does. The zero value has seen no call. It is safe for
// concurrent use.
type Latency struct{ bits atomic.Uint64 }

// mostSettle bounds what the writing of one outcome adds: while Redis is away it tells nothing of later calls.
const mostSettle = time.Second

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

// coldSlots is how many calls may be in flight before the first is answered. 2, so that an urgent key never waits for a slow
// call; not more, so that an app that may not call at all finds that out with few calls.
const coldSlots = 2

// ahead is how long before its moment a batch is to be ready for its permit: what a scheduler or a Redis that is busy with other scripts
// takes at times. A permit whose moment passes unused is lost.
const ahead = 20 * time.Millisecond

// Slots gives how many calls of an app may be in flight at once: what its rate and the latency need, with half as much to
// spare and some that wait for their permits, coldSlots at least, and at most limit. Without a rate it is limit, once a call was answered.
func (l *Latency) Slots(rate float64, limit int) int {
	latency := l.Average().Seconds()
	switch {
	case latency == 0:
		return max(1, min(limit, coldSlots))
	case rate <= 0:
		return limit
	}
	return max(1, min(limit, max(coldSlots, int(math.Ceil(rate*(latency*1.5+ahead.Seconds())))+1)))
}
