package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

var errBlink = errors.New("redis blinked")

// eventually waits for a condition, for half a minute at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

// drained counts how often each app's outbox was drained.
type drained struct {
	mu    sync.Mutex
	times map[string]int
	fail  int // as many more times
}

func (d *drained) drain(_ context.Context, app string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.times == nil {
		d.times = map[string]int{}
	}
	d.times[app]++
	if d.fail > 0 {
		d.fail--
		return errBlink
	}
	return nil
}

func (d *drained) of(app string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.times[app]
}

func TestDrainerDrainsWhatItIsAskedFor(t *testing.T) {
	t.Parallel()
	var d drained
	dr := newDrainer(zap.NewNop(), d.drain)
	dr.ask("early") // before it runs
	dr.start()
	dr.start()
	defer dr.stop()
	eventually(t, "the early one is drained", func() bool { return d.of("early") == 1 })
	for range 100 {
		dr.ask("a")
		dr.ask("b")
	}
	eventually(t, "both are drained", func() bool { return d.of("a") > 0 && d.of("b") > 0 })
}

func TestDrainerForgetsNothingWhileBusy(t *testing.T) {
	t.Parallel()
	var rounds atomic.Int32
	busy, goOn := make(chan struct{}), make(chan struct{})
	dr := newDrainer(zap.NewNop(), func(context.Context, string) error {
		if rounds.Add(1) == 1 {
			close(busy)
			<-goOn
		}
		return nil
	})
	dr.start()
	defer dr.stop()
	dr.ask("a")
	<-busy
	for range 10 {
		dr.ask("a") // must not block, and must be seen to after the one that is under way
	}
	close(goOn)
	eventually(t, "it is drained once more", func() bool { return rounds.Load() >= 2 })
}

func TestDrainerTriesAgain(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	d := drained{fail: 3}
	dr := newDrainer(zap.New(core), d.drain)
	dr.pause = time.Millisecond
	dr.start()
	dr.ask("a")
	eventually(t, "the fourth time goes well", func() bool { return d.of("a") == 4 })
	dr.stop()
	if logs.Len() != 3 || d.of("a") != 4 {
		t.Errorf("%d warnings, drained %d times", logs.Len(), d.of("a"))
	}
}

func TestDrainerDrainsOnceMoreAtItsEnd(t *testing.T) {
	t.Parallel()
	d := drained{fail: 1}
	dr := newDrainer(zap.NewNop(), d.drain)
	dr.pause = time.Hour
	dr.start()
	dr.ask("a")
	eventually(t, "it failed", func() bool { return d.of("a") == 1 })
	dr.ask("b")
	dr.stop()
	if d.of("a") != 2 || d.of("b") != 1 {
		t.Errorf("a %d times, b %d times", d.of("a"), d.of("b"))
	}
}

// service is what is started and stopped.
type service interface {
	start()
	stop()
}

// stress starts and stops a service in every order, from many goroutines at once.
func stress(t *testing.T, fresh func() service, ended func(service) bool) {
	t.Helper()
	for range 50 {
		before := fresh()
		before.stop()
		before.stop()
		before.start()
		before.stop()

		s := fresh()
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				if i%2 == 0 {
					s.start()
				} else {
					s.stop()
				}
			})
		}
		all.Wait()
		s.stop()
		s.stop()
		if !ended(s) || !ended(before) {
			t.Fatal("stop came back, and the goroutine runs still")
		}
	}
}

func isClosed(ended chan struct{}) bool {
	if ended == nil {
		return true // it never began
	}
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

func TestDrainerStartStop(t *testing.T) {
	t.Parallel()
	stress(t, func() service {
		dr := newDrainer(zap.NewNop(), func(context.Context, string) error { return errBlink })
		dr.ask("a")
		return dr
	}, func(s service) bool { return isClosed(s.(*drainer).ended) })
}

func TestMetronomeStartStop(t *testing.T) {
	t.Parallel()
	stress(t, func() service {
		m := newMetronome(zap.NewNop(), "x", time.Microsecond, func(context.Context) error { return nil })
		return m
	}, func(s service) bool { return isClosed(s.(*metronome).ended) })
}

func TestMetronomeBeatsAtOnceAndGoesOn(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	var beats atomic.Int32
	m := newMetronome(zap.New(core), "the beat was missed", time.Millisecond, func(context.Context) error {
		if n := beats.Add(1); n == 2 || n == 3 || n == 5 {
			return errBlink
		}
		return nil
	})
	m.start()
	eventually(t, "it has beaten eight times", func() bool { return beats.Load() >= 8 })
	m.stop()
	n := beats.Load()
	if got := logs.FilterMessage("the beat was missed; it is tried again").Len(); got != 2 || logs.Len() != 2 || n != beats.Load() {
		t.Errorf("%d warnings: one for each row of failures", got)
	}
	slow := newMetronome(zap.NewNop(), "x", time.Hour, func(context.Context) error { beats.Store(-1); return nil })
	slow.start()
	defer slow.stop()
	eventually(t, "the first beat comes at once", func() bool { return beats.Load() == -1 })
}
