package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/worker"
)

// ending is how a job came to its end.
type ending int

const (
	endDone        ending = iota // nothing is left to wait for
	endHeld                      // all that is left waits for an app on hold
	endInterrupted               // somebody asked to stop
	endFailed                    // something that the job stands on failed
)

// Patience of a watch.
const (
	pollEvery    = 200 * time.Millisecond
	redisGrace   = 30 * time.Second // how long Redis may be away before a job gives up
	outboxGrace  = 10 * time.Second // how long the last dead letters may take to the queue
	pollAtMost   = time.Second      // between two looks, however long one takes
	statusWeight = 10               // below that, looking may take a tenth of the time
)

// watch follows the keys of an incident until each has come to its end.
type watch struct {
	status      func(context.Context) (worker.Status, error)
	gone        func() (bool, error) // whether the queue has none of the job's submissions any more
	calls       func() int64
	incident    string
	total       int
	windows     *windows
	holdWait    time.Duration // how long to wait for apps on hold when nothing else is left; negative: for ever
	awaitOutbox bool          // the dead letters are to reach the queue, because it outlives this process
	progress    *progress
	now         func() time.Time

	holds      map[string]string // what was told of the hold of each app
	allHeld    time.Time         // since when nothing but holds is in the way; zero: there is more
	redisDown  time.Time         // since when Redis does not answer; zero: it does
	allSettled time.Time         // since when every key has come to its end; zero: not yet
	stopped    []string          // of an end by endHeld: the apps and why
}

// until returns when the job is over. The channel fed gives one value when all keys are in the queue, or what prevented that.
func (w *watch) until(ctx context.Context, fed <-chan error) (ending, error) {
	w.holds = map[string]string{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	complete := false
	for {
		select {
		case <-ctx.Done():
			return endInterrupted, nil
		case err := <-fed:
			if ctx.Err() != nil {
				return endInterrupted, nil
			}
			if err != nil {
				return endFailed, err
			}
			complete, fed = true, nil
			continue
		case <-timer.C:
		}
		start := time.Now()
		over, end, err := w.look(ctx, complete)
		if over || err != nil {
			return end, err
		}
		timer.Reset(min(max(pollEvery, statusWeight*time.Since(start)), pollAtMost))
	}
}

// look reads how things stand and says whether the job is over.
func (w *watch) look(ctx context.Context, complete bool) (over bool, end ending, err error) {
	// The queue first: a submission that is gone from there is in the counts that are read after it.
	gone, err := w.gone()
	var st worker.Status
	if err == nil {
		st, err = w.status(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			return true, endInterrupted, nil
		}
		return w.withoutRedis(err)
	}
	if !w.redisDown.IsZero() {
		w.progress.note("Redis answers again")
		w.redisDown = time.Time{}
	}
	v := w.view(st)
	w.progress.update(v.snapshot)
	w.tellHolds(st)
	if !complete || !gone {
		w.allHeld, w.allSettled = time.Time{}, time.Time{}
		return false, 0, nil
	}
	if v.left == 0 {
		return w.settled(v.outbox), endDone, nil
	}
	w.allSettled = time.Time{}
	return w.heldUp(st, v.left-v.leftHeld), endHeld, nil
}

// withoutRedis bears with a Redis that does not answer, for a while.
func (w *watch) withoutRedis(err error) (bool, ending, error) {
	if w.redisDown.IsZero() {
		w.redisDown = w.now()
		w.progress.note("Redis does not answer (%s); trying on for %s", firstLine(err.Error()), roughly(redisGrace))
	}
	if w.now().Sub(w.redisDown) < redisGrace {
		return false, 0, nil
	}
	return true, endFailed, err
}

// settled is asked once every key has come to its end.
func (w *watch) settled(outbox int64) bool {
	if w.allSettled.IsZero() {
		w.allSettled = w.now()
	}
	return !w.awaitOutbox || outbox == 0 || w.now().Sub(w.allSettled) > outboxGrace
}

// view is what a status says of the incident.
type view struct {
	snapshot
	left     int64 // keys that wait or are bound
	leftHeld int64 // of those, keys of apps and robots on hold
	outbox   int64
}

func (w *watch) view(st worker.Status) view {
	v := view{snapshot: snapshot{total: w.total, calls: w.calls(), now: w.now()}}
	accepted := int64(0)
	for _, app := range st.Apps {
		v.outbox += app.Outbox
		for _, g := range app.Groups {
			if g.Incident != w.incident {
				continue
			}
			accepted += g.Counts.Accepted
			v.recalled += g.Counts.Recalled
			v.dead += g.Counts.Dead + g.Counts.Cancelled
			left := g.Counts.Waiting + g.Counts.Bound
			v.left += left
			if app.Hold != nil || robotHeld(app, g.Target(), v.now) != nil {
				v.leftHeld += left
			}
		}
	}
	v.total = max(v.total, int(accepted)) // the incident may have keys of earlier files
	v.closes = w.windows.next(v.now, v.done())
	return v
}

// tellHolds says when an app comes to rest, when the reason changes, and when it goes on.
func (w *watch) tellHolds(st worker.Status) {
	for _, app := range st.Apps {
		if !w.concerns(app) {
			continue
		}
		before, now := w.holds[app.App], ""
		if app.Hold != nil {
			now = app.Hold.Code
		}
		if now == before {
			continue
		}
		w.holds[app.App] = now
		if app.Hold == nil {
			w.progress.note("app %s goes on", app.App)
			continue
		}
		w.progress.note("APP %s IS ON HOLD: %s", app.App, describeHold(app))
	}
}

// concerns says whether keys of the incident are left in an app, or were told to be held up there.
func (w *watch) concerns(app worker.AppStatus) bool {
	return w.holds[app.App] != "" || slices.ContainsFunc(app.Groups, func(g worker.Group) bool {
		return g.Incident == w.incident && g.Counts.Waiting+g.Counts.Bound > 0
	})
}

// heldUp says whether to give up because of holds; free is how many keys wait for something else.
func (w *watch) heldUp(st worker.Status, free int64) bool {
	if free > 0 {
		w.allHeld = time.Time{}
		return false
	}
	if w.allHeld.IsZero() {
		w.allHeld = w.now()
		if w.holdWait != 0 {
			w.progress.note("all that is left waits for apps or robots on hold; waiting on%s", pick(w.holdWait > 0, " for "+roughly(w.holdWait), ""))
		}
	}
	if w.holdWait < 0 || w.now().Sub(w.allHeld) < w.holdWait {
		return false
	}
	for _, app := range st.Apps {
		if app.Hold != nil && w.concerns(app) {
			w.stopped = append(w.stopped, fmt.Sprintf("app %s (%s)", app.App, describeHold(app)))
			continue
		}
		for _, g := range app.Groups {
			if h := robotHeld(app, g.Target(), w.now()); h != nil && g.Incident == w.incident && g.Counts.Waiting+g.Counts.Bound > 0 {
				w.stopped = append(w.stopped, fmt.Sprintf("robot %s (%s)", h.Target, strings.Join(nonEmpty(h.Code, h.Message), ": ")))
			}
		}
	}
	return true
}

// windows knows when the windows of a file's keys close, as exactly as the check of the file does.
type windows struct {
	closes []time.Time // rounded to the earlier side, ascending
	keys   []int64     // how many close before or at that moment
}

// newWindows reads a summary. Keys that do not say when they were sent are taken as sent at now.
func newWindows(s keyfile.Summary, now time.Time, window, margin time.Duration) *windows {
	counts := map[int64]int64{}
	for _, target := range s.Targets {
		for at, n := range target.Sent {
			counts[at] += int64(n)
		}
	}
	if s.WithoutSentAt > 0 {
		counts[now.Unix()] += int64(s.WithoutSentAt)
	}
	moments := make([]int64, 0, len(counts))
	for at := range counts {
		moments = append(moments, at)
	}
	slices.Sort(moments)
	w := &windows{}
	sum := int64(0)
	for _, at := range moments {
		sum += counts[at]
		w.closes = append(w.closes, time.Unix(at, 0).Add(window-margin))
		w.keys = append(w.keys, sum)
	}
	return w
}

// next is when the first window closes that is still open. Since keys go in that order, the first done keys are taken as those
// whose windows close first; robots take turns, so that this is near the truth and not the truth.
func (w *windows) next(now time.Time, done int64) time.Time {
	for i, at := range w.closes {
		if at.After(now) && w.keys[i] > done {
			return at
		}
	}
	return time.Time{}
}
