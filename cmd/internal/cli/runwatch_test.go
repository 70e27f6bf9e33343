package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/worker"
)

// fakeWatch is a watch whose world is set by the test, look by look.
type fakeWatch struct {
	*watch
	out    bytes.Buffer
	clock  time.Time
	gone   bool
	err    error
	status worker.Status
}

func newFakeWatch() *fakeWatch {
	f := &fakeWatch{clock: progressStart, gone: true}
	p := &progress{w: &f.out, mode: progressNone, width: func() int { return 80 }}
	f.watch = &watch{
		status:   func(context.Context) (worker.Status, error) { return f.status, f.err },
		gone:     func() (bool, error) { return f.gone, nil },
		calls:    func() int64 { return 7 },
		incident: "sale", total: 100, windows: &windows{}, progress: p,
		now:   func() time.Time { return f.clock },
		holds: map[string]string{},
	}
	return f
}

// set makes the status: one app, with keys of the incident and of another.
func (f *fakeWatch) set(waiting int64, hold string) {
	app := worker.AppStatus{App: "main", Groups: []worker.Group{
		{RobotCode: "r", Incident: "other", Counts: worker.Counts{Accepted: 1000, Waiting: 1000}},
		{RobotCode: "r", Incident: "sale", Counts: worker.Counts{Accepted: 100, Waiting: waiting, Recalled: 90 - waiting, Dead: 10}},
	}}
	f.status = worker.Status{Apps: []worker.AppStatus{withHold(app, hold)}}
}

// look expects what a look says.
func (f *fakeWatch) look(t *testing.T, complete, over bool, end ending) {
	t.Helper()
	gotOver, gotEnd, err := f.watch.look(t.Context(), complete)
	if err != nil && end != endFailed {
		t.Fatal(err)
	}
	if gotOver != over || (over && gotEnd != end) {
		t.Fatalf("over %v, end %v; want %v, %v", gotOver, gotEnd, over, end)
	}
}

func TestWatchIsDone(t *testing.T) {
	t.Parallel()
	f := newFakeWatch()
	f.set(5, "")
	f.look(t, true, false, 0) // keys wait
	f.set(0, "")
	f.look(t, false, false, 0) // not everything is handed over
	f.gone = false
	f.look(t, true, false, 0) // submissions stand in the queue
	f.gone = true
	f.look(t, true, true, endDone)
	if f.progress.last.recalled != 90 || f.progress.last.dead != 10 || f.progress.last.calls != 7 {
		t.Errorf("shown: %+v", f.progress.last)
	}
}

func TestWatchAwaitsTheOutboxForAWhile(t *testing.T) {
	t.Parallel()
	f := newFakeWatch()
	f.awaitOutbox = true
	f.set(0, "")
	f.status.Apps[0].Outbox = 3
	f.look(t, true, false, 0)
	f.clock = f.clock.Add(outboxGrace + time.Second)
	f.look(t, true, true, endDone)
	f = newFakeWatch()
	f.awaitOutbox = true
	f.set(0, "")
	f.look(t, true, true, endDone)
}

func TestWatchHolds(t *testing.T) {
	t.Parallel()
	f := newFakeWatch()
	f.holdWait = time.Minute
	f.set(50, "no.permission")
	f.look(t, true, false, 0)
	f.look(t, true, false, 0)
	f.set(40, "")
	f.look(t, true, false, 0) // it goes on
	f.set(40, "budget.spent")
	f.look(t, true, false, 0)
	f.clock = f.clock.Add(59 * time.Second)
	f.look(t, true, false, 0)
	f.clock = f.clock.Add(time.Second)
	f.look(t, true, true, endHeld)
	want := "recall: APP main IS ON HOLD: no.permission: the message\n" +
		"recall: all that is left waits for apps or robots on hold; waiting on for 1 min 0 s\n" +
		"recall: app main goes on\n" +
		"recall: APP main IS ON HOLD: budget.spent: the message\n" +
		"recall: all that is left waits for apps or robots on hold; waiting on for 1 min 0 s\n"
	if f.out.String() != want {
		t.Errorf("told:\n%s\nwant:\n%s", &f.out, want)
	}
	if len(f.stopped) != 1 || f.stopped[0] != "app main (budget.spent: the message)" {
		t.Errorf("stopped by %q", f.stopped)
	}
}

// A robot that is held holds up the job as its app would; when its probe is due it may go on.
func TestWatchOfARobotOnHold(t *testing.T) {
	t.Parallel()
	f := newFakeWatch()
	f.set(50, "")
	app := &f.status.Apps[0]
	app.Groups[1].RobotCode = "dingbad"
	hold := worker.RobotHold{Target: worker.Target{RobotCode: "dingbad"}}
	hold.Code, hold.Message, hold.NextProbe = "no.permission", "words", f.clock
	app.Robots = []worker.RobotHold{hold}
	f.look(t, true, false, 0)
	app.Robots[0].NextProbe = f.clock.Add(time.Minute)
	f.look(t, true, true, endHeld)
	if len(f.stopped) != 1 || f.stopped[0] != "robot dingbad (no.permission: words)" {
		t.Errorf("stopped by %q", f.stopped)
	}
}

func TestWatchGoesOnWhileAnotherAppWorks(t *testing.T) {
	t.Parallel()
	f := newFakeWatch()
	f.set(50, "no.permission")
	busy := worker.AppStatus{App: "busy", Groups: []worker.Group{{Incident: "sale", Counts: worker.Counts{Accepted: 5, Bound: 5}}}}
	f.status.Apps = append(f.status.Apps, busy)
	f.look(t, true, false, 0)
	f.status.Apps[1].Groups[0].Counts = worker.Counts{Accepted: 5, Recalled: 5}
	f.look(t, true, true, endHeld)
	f = newFakeWatch()
	f.holdWait = -1
	f.set(50, "no.permission")
	f.look(t, true, false, 0)
	f.clock = f.clock.Add(1000 * time.Hour)
	f.look(t, true, false, 0) // for ever
}

func TestWatchBearsWithRedis(t *testing.T) {
	t.Parallel()
	f := newFakeWatch()
	f.set(50, "")
	f.err = errors.New("connection refused")
	f.look(t, true, false, 0)
	f.clock = f.clock.Add(redisGrace - time.Second)
	f.look(t, true, false, 0)
	f.err = nil
	f.look(t, true, false, 0)
	f.err = errors.New("connection refused")
	f.look(t, true, false, 0)
	f.clock = f.clock.Add(redisGrace)
	f.look(t, true, true, endFailed)
	if got := f.out.String(); strings.Count(got, "Redis does not answer (connection refused); trying on for 30 s\n") != 2 || strings.Count(got, "Redis answers again\n") != 1 {
		t.Errorf("told:\n%s", got)
	}
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	f := newFakeWatch()
	f.set(50, "")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if end, err := f.until(cancelled, make(chan error)); end != endInterrupted || err != nil {
		t.Errorf("interrupted: %v, %v", end, err)
	}
	fed := make(chan error, 1)
	fed <- errors.New("no Redis")
	if end, err := f.until(t.Context(), fed); end != endFailed || err == nil || err.Error() != "no Redis" {
		t.Errorf("failed: %v, %v", end, err)
	}
	f.set(0, "")
	fed <- nil
	if end, err := f.until(t.Context(), fed); end != endDone || err != nil {
		t.Errorf("done: %v, %v", end, err)
	}
}

func TestWindows(t *testing.T) {
	t.Parallel()
	now := progressStart
	at := func(ago time.Duration) int64 { return now.Add(-ago).Unix() }
	w := newWindows(keyfile.Summary{WithoutSentAt: 1, Targets: map[keyfile.Target]*keyfile.TargetSummary{
		{RobotCode: "a"}: {Sent: map[int64]int{at(30 * time.Hour): 2, at(2 * time.Hour): 3}},
		{RobotCode: "b"}: {Sent: map[int64]int{at(2 * time.Hour): 1, at(time.Hour): 4}},
	}}, now, 24*time.Hour, 2*time.Minute)
	for done, want := range map[int64]time.Duration{
		0: 22*time.Hour - 2*time.Minute, 5: 22*time.Hour - 2*time.Minute, 6: 23*time.Hour - 2*time.Minute, 9: 23*time.Hour - 2*time.Minute,
		10: 24*time.Hour - 2*time.Minute,
	} {
		if got := w.next(now, done).Sub(now); got != want {
			t.Errorf("%d done: in %v, want %v", done, got, want)
		}
	}
	if got := w.next(now, 11); !got.IsZero() {
		t.Errorf("all done: %v", got)
	}
}

// withHold puts an app at rest, if there is a code for it.
func withHold(app worker.AppStatus, code string) worker.AppStatus {
	if code != "" {
		allocate(&app.Hold)
		app.Hold.Code, app.Hold.Message = code, "the message"
	}
	return app
}

// allocate makes a value of a type that has no name here.
func allocate[T any](p **T) { *p = new(T) }
