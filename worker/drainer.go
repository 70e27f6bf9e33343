package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// drainer empties the outboxes of the apps that it is told of, one at a time, in a goroutine of its own. What it is told when it
// is busy is not forgotten; what is lost in a crash is found by the reconcile.
type drainer struct {
	drain func(ctx context.Context, app string) error
	log   *zap.Logger
	pause time.Duration // after a failure

	mu      sync.Mutex
	pending map[string]bool // guarded by mu
	kick    chan struct{}   // holds one: there is something pending
	quit    chan struct{}
	once    sync.Once
	ended   chan struct{} // nil until started; guarded by mu
}

func newDrainer(log *zap.Logger, drain func(ctx context.Context, app string) error) *drainer {
	return &drainer{drain: drain, log: log, pause: time.Second, pending: map[string]bool{}, kick: make(chan struct{}, 1), quit: make(chan struct{})}
}

// ask asks for an app's outbox to be drained. It does not block.
func (d *drainer) ask(app string) {
	d.mu.Lock()
	d.pending[app] = true
	d.mu.Unlock()
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

func (d *drainer) start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != nil {
		return
	}
	d.ended = make(chan struct{})
	go d.loop(d.ended)
}

func (d *drainer) loop(ended chan struct{}) {
	defer close(ended)
	for {
		select {
		case <-d.quit:
			return
		case <-d.kick:
		}
		if !d.round() {
			t := time.NewTimer(d.pause)
			select {
			case <-d.quit:
			case <-t.C:
			}
			t.Stop()
		}
	}
}

// round drains what is pending. False: something failed, and is pending again.
func (d *drainer) round() bool {
	d.mu.Lock()
	apps := d.pending
	d.pending = map[string]bool{}
	d.mu.Unlock()
	ok := true
	for app := range apps {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := d.drain(ctx, app)
		cancel()
		if err != nil {
			ok = false
			d.log.Warn("dead letters could not be brought into their queue; they stay in the outbox and are tried again", zap.String("app", app), zap.Error(err))
			d.ask(app)
		}
	}
	return ok
}

// stop ends the goroutine after what it is doing, and then drains once more what was asked for: the last calls of a worker that
// ends have dead letters too. It may be called more than once, and before start.
func (d *drainer) stop() {
	d.once.Do(func() { close(d.quit) })
	d.mu.Lock()
	ended := d.ended
	d.mu.Unlock()
	if ended != nil {
		<-ended
		d.round()
	}
}
