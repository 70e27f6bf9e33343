package dispatch

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"dingrecall/upstream"
)

// trouble decides what a person should hear of calls that fail with what may pass. Not each of them, since keys are tried again; but that
// one after the other does, and when that is over. It lives in the process: each worker tells what it meets. The zero value
// is ready. It is safe for concurrent use.
type trouble struct {
	mu       sync.Mutex // guards all below
	failures int        // calls in a row that failed
	since    time.Time  // when the first of them did
	told     time.Time  // when that was last said; zero: it was not
	rest     time.Time  // until when a long rest lasts that was said
	odd      map[string]time.Time
}

const (
	// manyFailures in a row are no chance any more: of calls of which each tenth fails, that comes up once in a hundred million.
	manyFailures = 8
	// sayAgain is when what still is the case is said again.
	sayAgain = 10 * time.Minute
	// mostOdd bounds how many odd answers are told apart.
	mostOdd = 100
)

// failed counts a call that failed. say: it is time to say that all do, since when, and how many did.
func (t *trouble) failed(now time.Time) (failures int, since time.Time, say bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failures == 0 {
		t.since = now
	}
	t.failures++
	if t.failures < manyFailures || !t.told.IsZero() && now.Sub(t.told) < sayAgain {
		return 0, time.Time{}, false
	}
	t.told = now
	return t.failures, t.since, true
}

// answered says whether trouble is over that was spoken of.
func (t *trouble) answered() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	spoken := !t.told.IsZero()
	t.failures, t.told = 0, time.Time{}
	return spoken
}

// rests says whether a rest is news: all calls under way are answered with the same one.
func (t *trouble) rests(now time.Time, rest time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.rest) {
		return false
	}
	t.rest = now.Add(rest)
	return true
}

// isOdd says whether an answer in no table is to be told: a service that has a new one may have it for each call.
func (t *trouble) isOdd(now time.Time, code string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.odd[code]; ok && now.Sub(last) < sayAgain {
		return false
	}
	if t.odd == nil || len(t.odd) >= mostOdd {
		t.odd = map[string]time.Time{}
	}
	t.odd[code] = now
	return true
}

// report logs what a person should hear of a call that failed: what an operator has to mend, and what nobody knows.
func (r *run) report(dec decision, e *upstream.Error) {
	app, now := zap.String("app", r.app.Name), time.Now()
	switch {
	case dec.Hold != nil: // tellHold does, once the key store knows whether it is news
		return
	case dec.Answered: // what is wrong is a key or the robot
		r.reportAnswered()
	case dec.scope == upstream.Throttled && dec.Rest > longestRest:
		if r.app.trouble.rests(now, dec.Rest) {
			r.deps.Log.Warn("the service wants a long rest: no call of the app is made until it is over", app, zap.Duration("rest", dec.Rest), zap.Error(e))
			return
		}
	case dec.scope == upstream.Transient || dec.scope == upstream.Unknown:
		if failures, since, say := r.app.trouble.failed(now); say {
			r.deps.Log.Warn("one call after the other fails: the keys wait and are tried again", app, zap.Int("calls", failures),
				zap.Duration("for", now.Sub(since).Round(time.Second)), zap.Error(e))
			return
		}
		if dec.scope == upstream.Unknown && r.app.trouble.isOdd(now, e.Code) {
			r.deps.Log.Warn("an answer that is in no table", app, zap.Error(e))
			return
		}
	}
	r.deps.Log.Debug("a call failed", app, zap.String("scope", dec.scope.String()), zap.Error(e))
}

// reportAnswered logs that trouble is over that was spoken of.
func (r *run) reportAnswered() {
	if r.app.trouble.answered() {
		r.deps.Log.Info("calls are answered again", zap.String("app", r.app.Name))
	}
}
