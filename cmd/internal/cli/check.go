package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dingrecall/config"
	"dingrecall/upstream"
	"dingrecall/worker"
)

func newCheckCmd(a *app) *cobra.Command {
	var online bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print what is in effect, without secrets",
		Long: `check loads the configuration as the worker would, reports all that is wrong with it, and prints what is in
effect with secrets as [redacted]. It opens no connection, unless with --online: then it also connects to Redis
and fetches a token for each app, which proves the credentials and recalls nothing. For an app whose workers could
lose their token by that (third-party, unified), it takes the token that they share in Redis, if there is one.`,
		Example: `  recall check -c recall.yaml
  recall check -c recall.yaml --online`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(cmd, needApps)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprint(a.Out, cfg.Redacted()); err != nil {
				return fmt.Errorf("printing the configuration: %w", err)
			}
			if online {
				return a.checkOnline(cmd.Context(), cfg)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&online, "online", false, "also connect to Redis and fetch a token for each app")
	return cmd
}

// checkOnline tries everything that the configuration names, and reports all that fails. What works is printed as comments, so that
// the output stays YAML.
func (a *app) checkOnline(ctx context.Context, cfg *config.Config) error {
	var failures []error
	var shared *worker.Worker // which is not started: it knows the shared tokens
	rdb, err := openRedis(ctx, cfg.Redis)
	switch {
	case err == nil:
		defer func() { _ = rdb.Close() }()
		fmt.Fprintf(a.Out, "# Redis at %s answers\n", cfg.Redis.Addr)
		if shared, err = worker.New(workerConfig(cfg), worker.Deps{Redis: rdb}); err != nil {
			return err
		}
		defer shared.Stop()
	case ctx.Err() != nil:
		return err
	default:
		failures = append(failures, err)
	}
	client, err := upstream.New(cfg.Upstream)
	if err != nil {
		return errors.Join(append(failures, fmt.Errorf("upstream: %w", err))...)
	}
	defer client.Close()
	for _, app := range cfg.Apps {
		end, err := tryToken(ctx, app, client, shared)
		if err != nil {
			failures = append(failures, fmt.Errorf("app %q at %s: %w", app.Name, cfg.Upstream.BaseURL, err))
			continue
		}
		fmt.Fprintf(a.Out, "# app %q has a token, good until %s\n", app.Name, end.Format(time.RFC3339))
	}
	return errors.Join(failures...)
}

// tryToken gets a token for an app, and says until when it is good. An internal app's is asked for anew, which proves the credentials and gives
// the workers' token again. For the other kinds that could end the workers' token, so it is theirs, or one that they will share; shared is nil
// where their Redis is out of reach.
func tryToken(ctx context.Context, app config.App, client *upstream.Client, shared *worker.Worker) (time.Time, error) {
	switch {
	case app.Kind == upstream.KindInternal:
		token, err := client.FetchToken(ctx, app.Credentials())
		return token.ExpiresAt, err
	case shared == nil:
		return time.Time{}, errors.New("no token was asked for, since it could end the one that the workers share in Redis")
	}
	return shared.Token(ctx, app.Name)
}
