package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

// lookout is wake-ups on a Redis, with a clock of the test's own; their timers are real.
type lookout struct {
	*wakeups
	rdb     *redis.Client
	insp    *asynq.Inspector
	clock   atomic.Int64 // ns
	looked  chan string
	drained []string
}

// redisNow is ahead of this machine's clock, and not at a whole second.
var redisNow = time.Now().Add(time.Hour).Truncate(time.Second).Add(300 * time.Millisecond)

func newLookout(t *testing.T) *lookout {
	t.Helper()
	rdb := redistest.Mini(t)
	l := &lookout{rdb: rdb, insp: asynq.NewInspectorFromRedisClient(rdb), looked: make(chan string, 100)}
	l.clock.Store(time.Now().UnixNano())
	l.wakeups = newWakeups(newEnqueuer(rdb), zap.NewNop(), func(app string) { l.drained = append(l.drained, app) },
		func(_ context.Context, app string) error { l.looked <- app; return nil })
	l.now = func() time.Time { return time.Unix(0, l.clock.Load()) }
	t.Cleanup(l.stop)
	return l
}

func (l *lookout) tick(d time.Duration) { l.clock.Add(int64(d)) }

func (l *lookout) has(t *testing.T, queue, id string) *asynq.TaskInfo {
	t.Helper()
	info, err := l.insp.GetTaskInfo(queue, id)
	if err != nil {
		return nil
	}
	return info
}

func (l *lookout) reply(next time.Duration, due ...flow.DueSlot) *keystore.Reply {
	r := &keystore.Reply{Due: due, Now: redisNow} // Redis's clock is its own
	if next > 0 {
		r.Next = r.Now.Add(next)
	}
	return r
}

func TestADueSlotIsEnqueued(t *testing.T) {
	t.Parallel()
	l := newLookout(t)
	ctx := context.Background()
	one, two := flow.DueSlot{Slot: 1, Generation: 7}, flow.DueSlot{Slot: 2, Generation: 9}
	if err := l.after(ctx, "main", l.reply(0, one, two)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"dispatch:main:1:7", "dispatch:main:2:9"} {
		if l.has(t, tasks.QueueDispatch, id) == nil {
			t.Errorf("%s is not there", id)
		}
	}
	// Every reply lists what is due: that is no reason to go to Redis each time, but not for ever.
	if err := l.insp.DeleteTask(tasks.QueueDispatch, "dispatch:main:1:7"); err != nil {
		t.Fatal(err)
	}
	again := func() bool {
		t.Helper()
		if err := l.after(ctx, "main", l.reply(0, one, two)); err != nil {
			t.Fatal(err)
		}
		return l.has(t, tasks.QueueDispatch, "dispatch:main:1:7") != nil
	}
	l.tick(rememberEnqueued)
	if again() {
		t.Error("enqueued again at once")
	}
	l.tick(1)
	if !again() {
		t.Error("not enqueued again")
	}
	// The same slot of another app, or of another generation, is another task.
	if err := l.after(ctx, "other", l.reply(0, one, flow.DueSlot{Slot: 1, Generation: 8})); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"dispatch:other:1:7", "dispatch:other:1:8"} {
		if l.has(t, tasks.QueueDispatch, id) == nil {
			t.Errorf("%s is not there", id)
		}
	}
}

func TestWhatCouldNotBeEnqueuedIsTried(t *testing.T) {
	t.Parallel()
	l := newLookout(t)
	due := flow.DueSlot{Slot: 1, Generation: 7}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.after(gone, "main", l.reply(time.Hour, due)); err == nil {
		t.Fatal("nothing could be enqueued, and no error")
	}
	if err := l.after(context.Background(), "main", l.reply(time.Hour, due)); err != nil {
		t.Fatal(err)
	}
	if l.has(t, tasks.QueueDispatch, "dispatch:main:1:7") == nil {
		t.Error("what failed counts as enqueued")
	}
	if info, err := l.insp.GetQueueInfo(tasks.QueueDefault); err != nil || info.Scheduled != 1 {
		t.Errorf("alarms: %+v, %v", info, err)
	}
}

func TestAnOutboxIsDrained(t *testing.T) {
	t.Parallel()
	l := newLookout(t)
	for _, n := range []int{0, 3} {
		r := l.reply(0)
		r.Outbox = n
		if err := l.after(context.Background(), "main", r); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.drained) != 1 || l.drained[0] != "main" {
		t.Errorf("drained %v", l.drained)
	}
	if err := l.after(context.Background(), "main", nil); err != nil {
		t.Error(err)
	}
}

// TestAnAlarmComesAfterItsMoment: by Redis's clock, at most two seconds and a bit after it, one for a second.
func TestAnAlarmComesAfterItsMoment(t *testing.T) {
	t.Parallel()
	l := newLookout(t)
	ctx := context.Background()
	for range 3 {
		if err := l.after(ctx, "main", l.reply(90*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := l.insp.ListScheduledTasks(tasks.QueueDefault)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d alarms, %v", len(list), err)
	}
	next := redisNow.Add(90 * time.Second)
	if at := list[0].NextProcessAt; at.Before(next.Add(alarmAfter)) || at.After(next.Add(alarmAfter+time.Second)) || list[0].Type != tasks.TypeAlarm {
		t.Errorf("the alarm of %v is at %v", next, at)
	}
	a, err := tasks.DecodeAlarm(list[0].Payload)
	if err != nil || a.App != "main" {
		t.Errorf("%+v, %v", a, err)
	}
	if err := l.after(ctx, "main", l.reply(91*time.Second)); err != nil {
		t.Fatal(err)
	}
	if list, err := l.insp.ListScheduledTasks(tasks.QueueDefault); err != nil || len(list) != 2 {
		t.Errorf("%d alarms, %v", len(list), err)
	}
}

func (l *lookout) timer(app string) *nextLook {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.timers[app]
}

func TestTheTimerGoesOffAtTheEarliestMoment(t *testing.T) {
	t.Parallel()
	l := newLookout(t)
	now := l.now()
	l.lookAt("main", now.Add(time.Hour))
	l.lookAt("main", now.Add(2*time.Hour)) // later: nothing changes
	if at := l.timer("main").at; !at.Equal(now.Add(time.Hour)) {
		t.Errorf("the timer is set for %v", at.Sub(now))
	}
	l.lookAt("other", now.Add(time.Hour))
	l.lookAt("main", now.Add(time.Millisecond))
	if app := <-l.looked; app != "main" {
		t.Errorf("looked at %s", app)
	}
	eventually(t, "the timer is gone", func() bool { return l.timer("main") == nil })
	l.lookAt("main", now.Add(-time.Hour)) // past: at once
	<-l.looked
	if l.timer("other") == nil {
		t.Error("the timer of another app is gone")
	}
	select {
	case app := <-l.looked:
		t.Errorf("looked at %s too", app)
	default:
	}
}

func TestATimerThatShouldHaveGoneOffIsReplaced(t *testing.T) {
	t.Parallel()
	l := newLookout(t)
	l.lookAt("main", l.now().Add(time.Hour))
	l.tick(time.Hour + 2*time.Second) // as after a long suspend: the clock went on, the timer did not
	l.lookAt("main", l.now().Add(time.Millisecond))
	<-l.looked
}

func TestStopWaitsForALookThatRuns(t *testing.T) {
	t.Parallel()
	l := newLookout(t)
	in, out := make(chan struct{}), make(chan struct{})
	var done atomic.Bool
	l.wake = func(ctx context.Context, app string) error {
		close(in)
		<-out
		l.lookAt(app, l.now()) // what a reply asks for now is nobody's business any more
		done.Store(true)
		return nil
	}
	l.lookAt("main", l.now())
	<-in
	stopped := make(chan struct{})
	go func() { l.stop(); close(stopped) }()
	eventually(t, "no timer is set any more", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.closed })
	select {
	case <-stopped:
		t.Fatal("stop did not wait")
	default:
	}
	close(out)
	<-stopped
	if !done.Load() || l.timer("main") != nil {
		t.Error("a timer was set after the end")
	}
	l.stop()
}

func TestALookThatFailsIsTold(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	l := newLookout(t)
	l.log = zap.New(core)
	l.wake = func(context.Context, string) error { return errBlink }
	l.lookAt("main", l.now())
	eventually(t, "a warning is written", func() bool { return logs.Len() == 1 })
}

// TestWakeupsUnderStress is for the race detector: replies of many apps at once, timers that go off meanwhile, and the end.
func TestWakeupsUnderStress(t *testing.T) {
	t.Parallel()
	for range 5 {
		l := newLookout(t)
		var inLook atomic.Int32
		l.wake = func(context.Context, string) error {
			inLook.Add(1)
			defer inLook.Add(-1)
			return nil
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := range 30 {
					r := l.reply(time.Duration(j%3)*time.Millisecond, flow.DueSlot{Slot: i % 3, Generation: int64(j % 5)})
					if err := l.after(context.Background(), []string{"a", "b"}[j%2], r); err != nil {
						t.Error(err)
					}
					if i == 0 && j == 20 {
						all.Go(l.stop)
						l.stop()
					}
				}
			})
		}
		all.Wait()
		l.stop()
		if inLook.Load() != 0 || len(l.timers) != 0 {
			t.Errorf("after the end: %d looks, %d timers", inLook.Load(), len(l.timers))
		}
		if info, err := l.insp.GetQueueInfo(tasks.QueueDispatch); err != nil || info.Pending != 30 {
			t.Errorf("%+v, %v", info, err)
		}
	}
}
