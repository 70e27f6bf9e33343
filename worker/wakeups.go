package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"dingrecall/tasks"
	"dingrecall/worker/internal/keystore"
)

// wakeups does what every reply of the key store asks for: it enqueues the task of each due slot, has somebody look again at
// the next moment, and has the outbox drained.
//
// The next moment is looked after twice: by a timer of this process, which is exact, and by an alarm task a little later, which
// is there for the case that this process dies.
type wakeups struct {
	queue *enqueuer
	log   *zap.Logger
	drain func(app string) // asks for the outbox of an app to be drained; does not block
	wake  func(ctx context.Context, app string) error

	flights singleflight.Group // of tasks that are being enqueued, by their id

	mu     sync.Mutex                   // guards all below
	closed bool                         // after stop: no timer is set
	timers map[string]*nextLook         // by app
	done   map[tasks.Dispatch]time.Time // tasks enqueued lately
	alarms map[string]int64             // by app: the moment of the last alarm enqueued, ms
	inWork sync.WaitGroup               // of timers that are running
	now    func() time.Time
}

type nextLook struct {
	at    time.Time // of this process's clock
	timer *time.Timer
}

const (
	// alarmAfter is by how much an alarm comes after the moment that it is for: the timer was there first, if all is well.
	alarmAfter = time.Second
	// rememberEnqueued is for how long a task that was enqueued is not enqueued again. Slots stay due until their task has
	// attached, and each reply lists them; a task that somebody deletes meanwhile is found by the reconcile.
	rememberEnqueued = 2 * time.Second
	lookTime         = 10 * time.Second
)

func newWakeups(queue *enqueuer, log *zap.Logger, drain func(string), wake func(context.Context, string) error) *wakeups {
	return &wakeups{queue: queue, log: log, drain: drain, wake: wake, now: time.Now, timers: map[string]*nextLook{},
		done: map[tasks.Dispatch]time.Time{}, alarms: map[string]int64{}}
}

// after does what a reply asks for. An error means that something could not be enqueued: the caller's task has to run again.
func (w *wakeups) after(ctx context.Context, app string, r *keystore.Reply) error {
	if r == nil {
		return nil
	}
	if r.Outbox > 0 {
		w.drain(app)
	}
	var errs []error
	for _, d := range r.Due {
		if err := w.dispatch(ctx, tasks.Dispatch{App: app, Slot: d.Slot, Generation: d.Generation}); err != nil {
			errs = append(errs, err)
		}
	}
	if !r.Next.IsZero() {
		w.lookAt(app, w.now().Add(r.Next.Sub(r.Now)))
		if err := w.alarm(ctx, app, r.Next); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// dispatch enqueues the task of a due slot. Every reply lists all due slots, so that many runs come here with the same one at the
// same moment: one of them enqueues it, the others wait for that.
func (w *wakeups) dispatch(ctx context.Context, d tasks.Dispatch) error {
	if w.lately(d) {
		return nil
	}
	_, err, _ := w.flights.Do(tasks.DispatchTaskID(d), func() (any, error) {
		if w.lately(d) {
			return nil, nil
		}
		t, opts := tasks.NewDispatchTask(d)
		if err := w.queue.put(ctx, t, opts); err != nil {
			return nil, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.done) > 10_000 {
			clear(w.done)
		}
		w.done[d] = w.now()
		return nil, nil
	})
	return err
}

func (w *wakeups) lately(d tasks.Dispatch) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.done[d]
	if ok && w.now().Sub(at) > rememberEnqueued {
		delete(w.done, d)
		return false
	}
	return ok
}

// alarm enqueues the task that looks again if this process does not. There is one for each second at most.
func (w *wakeups) alarm(ctx context.Context, app string, next time.Time) error {
	at := next.Add(alarmAfter).Truncate(time.Second).Add(time.Second).UnixMilli()
	w.mu.Lock()
	last := w.alarms[app]
	w.mu.Unlock()
	if last == at {
		return nil
	}
	t, opts := tasks.NewAlarmTask(tasks.Alarm{App: app, At: at})
	if err := w.queue.put(ctx, t, opts); err != nil {
		return err
	}
	w.mu.Lock()
	w.alarms[app] = at
	w.mu.Unlock()
	return nil
}

// lookAt sets the app's timer, unless it goes off earlier anyway.
func (w *wakeups) lookAt(app string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if l := w.timers[app]; l != nil {
		if !l.at.After(at) && l.at.After(w.now().Add(-time.Second)) {
			return
		}
		l.timer.Stop()
	}
	l := &nextLook{at: at}
	l.timer = time.AfterFunc(max(0, at.Sub(w.now())), func() { w.look(app, l) })
	w.timers[app] = l
}

// look runs when a timer goes off. Where it fails the alarm task looks, a little later.
func (w *wakeups) look(app string, l *nextLook) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	if w.timers[app] == l {
		delete(w.timers, app)
	}
	w.inWork.Add(1)
	w.mu.Unlock()
	defer w.inWork.Done()
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	if err := w.wake(ctx, app); err != nil {
		w.log.Warn("could not look for keys whose moment has come; an alarm task will", zap.String("app", app), zap.Error(err))
	}
}

// stop ends the timers and waits for those that are running.
func (w *wakeups) stop() {
	w.mu.Lock()
	w.closed = true
	for app, l := range w.timers {
		l.timer.Stop()
		delete(w.timers, app)
	}
	w.mu.Unlock()
	w.inWork.Wait()
}
