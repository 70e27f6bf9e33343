package worker

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"dingrecall/upstream"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/tokenstore"
)

// addTokens gives an app the token that it shares with the other workers.
func (p *pipeline) addTokens(a *appState) error {
	var err error
	a.shared, err = tokenstore.New(p.rdb, tokenstore.Config{App: a.Name, Prefix: keystore.Prefix(a.Name), Key: p.cfg.TokenKey, OnUnreadable: func(err error) {
		p.log.Warn("there is a shared token that this worker cannot read; it counts as none. All workers need the same token key",
			zap.String("app", a.Name), zap.Error(err))
	}})
	if err != nil {
		return err
	}
	a.tokens = upstream.NewTokens(p.client, a.Credentials, a.shared, nil)
	a.tokens.OnStoreError = func(err error) {
		p.log.Warn("the shared token could not be used", zap.String("app", a.Name), zap.Error(err))
	}
	return nil
}

// Token gives an app's access token a try: the one that all workers share, or else a new one that they then share. It gives the time at which
// the token ends; the error is an [*upstream.Error]. A failure that rests, of another worker, is passed over: somebody may have
// mended it.
func (w *Worker) Token(ctx context.Context, app string) (expires time.Time, err error) {
	a := w.p.apps[app]
	if a == nil {
		return time.Time{}, fmt.Errorf("app %q is not in this worker's configuration", app)
	}
	_ = a.shared.ForgetFailure(ctx) // where Redis fails, the token says so
	token, err := a.tokens.Token(ctx)
	return token.ExpiresAt, err
}

// forgetTokenFailures lets this worker ask for tokens at once, whatever became of requests before it: its credentials may be others.
func (p *pipeline) forgetTokenFailures(ctx context.Context) error {
	for _, a := range p.apps {
		if err := a.shared.ForgetFailure(ctx); err != nil {
			return fmt.Errorf("app %q: %w", a.Name, err)
		}
	}
	return nil
}
