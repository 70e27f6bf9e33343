package dispatch

import (
	"context"
	"errors"
	"time"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
)

// token gives the app's token. It is waited for also while the worker ends: other slots share the request.
func (r *run) token(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	return r.app.Tokens.Get(ctx)
}

// call makes the call and decides what it came to. made is false where its token was refused and it was not made again.
func (r *run) call(ctx context.Context, d *decider, token string) (dec decision, made bool) {
	b := d.batch
	d.note.RobotBad = d.note.RobotBad || r.visit.denied
	answer, took, err := r.once(ctx, token, b)
	if err != nil && upstreamError(err).Verdict(b.Cut).Scope == upstream.TokenStale {
		r.deps.Observer.Called(r.app.Name, upstream.TokenStale, b.Cut, took)
		if token, err = r.renew(ctx, token); err != nil {
			return r.noToken(d, err), true
		}
		if !r.anotherPermit(ctx, b) { // a token that ends is refused to all slots at once: all call a second time
			return decision{}, false
		}
		answer, took, err = r.once(ctx, token, b)
	}
	var e *upstream.Error
	if err != nil {
		e = upstreamError(err)
		dec = d.failed(e)
		r.cause = e
		r.report(dec, e)
	} else {
		dec = d.answered(answer.RequestID, answer.Verdicts(b.Called()))
		r.reportAnswered()
	}
	r.visit.told = &dec
	r.reportRobot(b, dec, answer, e)
	r.deps.Observer.Called(r.app.Name, dec.scope, b.Cut, took)
	return dec, true
}

// renew gives the token that replaces one that was refused.
func (r *run) renew(ctx context.Context, stale string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	return r.app.Tokens.Renew(ctx, stale)
}

// once makes the call, to its end also where the worker is to stop meanwhile.
func (r *run) once(ctx context.Context, token string, b *flow.Batch) (upstream.Answer, time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	began := time.Now()
	to := upstream.Target{RobotCode: b.RobotCode, Chat: b.Chat, OpenConversationID: b.OpenConversationID}
	answer, err := r.deps.Service.Recall(ctx, token, to, b.Called())
	took := time.Since(began)
	if err == nil {
		err = toldAsReasons(answer)
	}
	if r.made == 0 {
		r.began = began
	}
	r.silent = err != nil && noAnswer(upstreamError(err))
	r.made++
	if err == nil || metered(upstreamError(err)) {
		r.metered++
	}
	return answer, took, err
}

// toldAsReasons gives the error of a call that was answered, where the service failed it by giving each key the same reason: an outage
// that is told so is one all the same, and must not kill every key that it meets.
func toldAsReasons(answer upstream.Answer) error {
	if e := answer.AsError(); e != nil {
		return e
	}
	return nil
}

// noToken decides where no call was made because there is no token. No attempt is counted, whatever the reason.
func (r *run) noToken(d *decider, err error) decision {
	e := upstreamError(err)
	dec := d.withoutToken(e)
	r.cause = e
	r.report(dec, e)
	return dec
}

// upstreamError gives the one error type of package upstream; anything else there is a bug, which must not stop the keys.
func upstreamError(err error) *upstream.Error {
	var e *upstream.Error
	if errors.As(err, &e) {
		return e
	}
	return &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassNotSent, Message: err.Error(), Err: err}
}
