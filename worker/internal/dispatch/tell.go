package dispatch

import (
	"context"

	"go.uber.org/zap"

	"dingrecall/worker/internal/keystore"
)

// tellHold logs that the app, or the robot, is held, which is one line however many calls, workers and probes are refused; and that it
// goes on.
func (r *run) tellHold(ctx context.Context, dec decision, settled *keystore.Reply) {
	app := zap.String("app", r.app.Name)
	switch {
	case dec.Hold != nil:
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), soon)
		defer cancel()
		news, err := r.app.Store.ToldHold(ctx, settled)
		if err != nil || news { // twice is better than never
			r.app.told.Store(true)
			r.deps.Log.Error("held: no call is made until this is mended; the keys wait", app, zap.String("code", dec.Hold.Code),
				zap.String("hint", dec.hint), zap.Duration("next_probe_in", dec.Hold.Probe), zap.Error(r.cause))
			return
		}
		r.deps.Log.Debug("another call says why it is held", app, zap.String("code", dec.Hold.Code))
	case dec.Answered && r.app.told.Load():
		if held, err := r.app.Store.IsHeld(ctx); err == nil && !held && r.app.told.Swap(false) {
			r.deps.Log.Info("a call was answered as it should: nothing is held any more", app)
		}
	}
}
