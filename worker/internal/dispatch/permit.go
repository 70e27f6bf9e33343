package dispatch

import (
	"context"
	"time"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

// late is how long after its moment a permit may still be used. The limiter spaces calls by 1.5 % more than the rate asks for, so
// that calls which are this late still keep to the rate in every second.
const late = 5 * time.Millisecond

// maxPermits bounds how often a machine that is late each time takes another permit.
const maxPermits = 20

// waitForPermit waits for the moment at which the call may be made, and takes another permit where that was missed (the
// scheduler was late, or the process was stopped), or where the service has had enough meanwhile. False means that the call is not to be made.
func (r *run) waitForPermit(ctx context.Context, b *flow.Batch, p keystore.Permit) bool {
	for range maxPermits {
		if !r.sleep(ctx, time.Until(p.From)) {
			return false
		}
		if !r.app.passed(p.Given) && (!r.app.Limited || time.Since(p.From) <= late) {
			return true
		}
		var ok bool
		var err error
		if p, ok, err = r.app.Store.Permit(ctx, r.at, b.ID, r.made+1); err != nil || !ok {
			return false // without Redis, or where the batch is no longer this run's, nothing may be called
		}
	}
	return true
}

// anotherPermit takes a permit for a second call of the same batch and waits for it.
func (r *run) anotherPermit(ctx context.Context, b *flow.Batch) bool {
	p, ok, err := r.app.Store.Permit(ctx, r.at, b.ID, r.made+1)
	return err == nil && ok && r.waitForPermit(ctx, b, p)
}

func (r *run) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return !r.stopping() && ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	return waitFor(ctx, r.deps.Stopping, t.C)
}
