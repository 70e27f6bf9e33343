package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dingrecall/config"
	"dingrecall/upstream"
)

func newCheckCmd(a *app) *cobra.Command {
	var online bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print what is in effect, without secrets",
		Long: `check loads the configuration as the worker would, reports all that is wrong with it, and prints what is in
effect with secrets as [redacted]. It opens no connection, unless with --online: then it also connects to Redis
and fetches a token for each app, which proves the credentials and recalls nothing.`,
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
	if rdb, err := openRedis(ctx, cfg.Redis); err != nil {
		failures = append(failures, err)
		if ctx.Err() != nil {
			return err
		}
	} else {
		_ = rdb.Close()
		fmt.Fprintf(a.Out, "# Redis at %s answers\n", cfg.Redis.Addr)
	}
	client, err := upstream.New(cfg.Upstream)
	if err != nil {
		return errors.Join(append(failures, fmt.Errorf("upstream: %w", err))...)
	}
	defer client.Close()
	for _, app := range cfg.Apps {
		token, err := client.FetchToken(ctx, upstream.Credentials{AppKey: app.AppKey, AppSecret: app.AppSecret})
		if err != nil {
			failures = append(failures, fmt.Errorf("app %q at %s: %w", app.Name, cfg.Upstream.BaseURL, err))
			continue
		}
		fmt.Fprintf(a.Out, "# app %q has a token, good until %s\n", app.Name, token.ExpiresAt.Format(time.RFC3339))
	}
	return errors.Join(failures...)
}
