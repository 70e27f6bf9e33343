package dispatch

import (
	"sync"
	"time"

	"dingrecall/upstream"
)

// unanswered keeps how long calls took that nobody answered, until one is answered. Where some calls hang, the time that they hold their
// slots has to count, or there are too few slots for the rate. Where all do, counting it would multiply the slots, and each of
// them would spend calls of the month on a service that is not there. The zero value is ready. It is safe for concurrent use.
type unanswered struct {
	mu   sync.Mutex
	took []time.Duration // guarded by mu
}

// mostUnanswered bounds what is kept: older calls than these would hardly weigh in the average.
const mostUnanswered = 20

// observe has the latency take a call into account, or keeps it for later where the service was silent.
func (u *unanswered) observe(l *Latency, took time.Duration, silent bool) {
	if silent {
		u.mu.Lock()
		defer u.mu.Unlock()
		if len(u.took) < mostUnanswered {
			u.took = append(u.took, took)
		}
		return
	}
	for _, earlier := range u.take() {
		l.Observe(earlier)
	}
	l.Observe(took)
}

func (u *unanswered) take() []time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	took := u.took
	u.took = nil
	return took
}

// noAnswer says whether nothing came of the service: no connection, no answer in time, or none to its end.
func noAnswer(e *upstream.Error) bool {
	switch e.Class {
	case upstream.ClassNotSent, upstream.ClassCanceled, upstream.ClassTimeout, upstream.ClassCut:
		return e.Status == 0
	}
	return false
}
