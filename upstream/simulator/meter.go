package simulator

import (
	"sync"
	"time"
)

// meter keeps the rate of one app at one API. Official: the limit is per app and API, and passing it costs one second. How the service
// counts is unknown; this one is strict: in no second, wherever it begins, are more calls let through than the rate allows.
type meter struct {
	mu       sync.Mutex      // guards all below
	passed   []time.Duration // a ring of the last rate calls let through
	next     int             // where the ring's oldest is
	full     bool
	until    time.Duration   // refused until then
	arrivals []time.Duration // the calls of the last second, let through or not
	head     int             // where they begin
	most     int             // the most arrivals there were in any second
	calls    int64
	refused  int64
}

// take tells whether a call may pass. now is called under the lock, so that the calls of a meter are in the order of their times.
func (m *meter) take(now func() time.Duration, rate int, penalty time.Duration) bool {
	if rate <= 0 {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := now()
	if len(m.passed) != rate {
		m.passed, m.next, m.full = make([]time.Duration, rate), 0, false
	}
	if t < m.until {
		m.refused++
		return false
	}
	if m.full && m.passed[m.next] > t-time.Second {
		m.until = t + penalty
		m.refused++
		return false
	}
	m.passed[m.next] = t
	if m.next++; m.next == rate {
		m.next, m.full = 0, true
	}
	return true
}

// arrive counts a call, whatever becomes of it.
func (m *meter) arrive(now func() time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := now()
	m.calls++
	for m.head < len(m.arrivals) && m.arrivals[m.head] <= t-time.Second {
		m.head++
	}
	if m.head > 1024 && m.head > len(m.arrivals)/2 {
		m.arrivals = m.arrivals[:copy(m.arrivals, m.arrivals[m.head:])]
		m.head = 0
	}
	m.arrivals = append(m.arrivals, t)
	m.most = max(m.most, len(m.arrivals)-m.head)
}

// read returns the counters.
func (m *meter) read() AppStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return AppStats{Calls: m.calls, Throttled: m.refused, MaxCallsPerSecond: m.most}
}

// reset forgets all calls.
func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passed, m.next, m.full, m.until = nil, 0, false, 0
	m.arrivals, m.head, m.most, m.calls, m.refused = nil, 0, 0, 0, 0
}

// quota counts the organisation's calls of the month.
type quota struct {
	mu    sync.Mutex // guards all below
	month int        // year*12 + month of used
	used  int64
}

// beijing is where the month of this quota turns. Which zone the service uses is unknown.
var beijing = time.FixedZone("UTC+8", 8*60*60)

// take counts a call and tells whether the month had room for it.
func (q *quota) take(now time.Time, limit int64) bool {
	local := now.In(beijing)
	month := local.Year()*12 + int(local.Month())
	q.mu.Lock()
	defer q.mu.Unlock()
	if month != q.month {
		q.month, q.used = month, 0
	}
	if limit > 0 && q.used >= limit {
		return false
	}
	q.used++
	return true
}

func (q *quota) read() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used
}

func (q *quota) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used = 0
}
