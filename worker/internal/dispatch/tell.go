package dispatch

import (
	"context"

	"go.uber.org/zap"

	"dingrecall/worker/internal/flow"
)

// What of an app was last said in this process's log to be held.
const (
	toldNothing int32 = iota
	toldApp
	toldRobots // of it alone
)

// tellHold logs that the app, or the robot, is held, which is one line however many calls, workers and probes are refused; and that it
// goes on.
func (r *run) tellHold(ctx context.Context, b *flow.Batch, dec decision) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), soon)
	defer cancel()
	switch {
	case dec.Hold != nil:
		r.tellHeld(ctx, b, dec)
	case dec.Answered && r.app.told.Load() != toldNothing:
		r.tellReleased(ctx)
	}
}

func (r *run) tellHeld(ctx context.Context, b *flow.Batch, dec decision) {
	news, robot, err := r.app.Store.ToldHold(ctx, b.ID)
	about := []zap.Field{zap.String("app", r.app.Name), zap.String("robot", b.RobotCode), zap.String("code", dec.Hold.Code),
		zap.String("hint", dec.hint), zap.Duration("next_probe_in", dec.Hold.Probe), zap.Error(r.cause)}
	switch {
	case err == nil && !news:
		r.deps.Log.Debug("another call says why it is held", about...)
	case err == nil && robot:
		r.app.told.CompareAndSwap(toldNothing, toldRobots)
		r.deps.Log.Error("a robot is held: none of its keys is called until this is mended; they wait, and other robots go on", about...)
	default: // twice is better than never
		r.app.told.Store(toldApp)
		r.deps.Log.Error("the app is held: no call is made until this is mended; the keys wait", about...)
	}
}

// tellReleased logs what goes on, once the app or all of its robots do.
func (r *run) tellReleased(ctx context.Context) {
	app := zap.String("app", r.app.Name)
	held, robots, err := r.app.Store.IsHeld(ctx)
	switch {
	case err != nil || held:
	case robots == 0:
		if r.app.told.Swap(toldNothing) != toldNothing {
			r.deps.Log.Info("a call was answered as it should: nothing is held any more", app)
		}
	case r.app.told.CompareAndSwap(toldApp, toldRobots):
		r.deps.Log.Warn("a call was answered as it should: the app goes on, and robots of it stay on hold (recall status names them)",
			app, zap.Int("robots", robots))
	}
}
