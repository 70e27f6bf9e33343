package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"dingrecall/config"
	"dingrecall/worker"
)

func newReleaseCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "release APP|ROBOT...",
		Short: "End the hold of an app or a robot, once its cause is mended",
		Long: `release ends the hold of an app, or of a robot, without waiting for its next probe: keys that wait are called again as soon as
a worker sees it. Mend first what the hold names ("recall status"): a cause that is still there holds it again, at the cost of a
call or two. Robots that an app was held for are tried once more, each with one call.

It needs Redis only. What is not on hold is left as it is.`,
		Example: `  recall release main
  recall release dingue4kfzdxbyn0pjqd`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return badInput(errors.New("say which app or robot: \"recall status\" has those on hold"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withRedis(cmd, func(ctx context.Context, cfg *config.Config, rdb *redis.Client) error {
				return a.release(ctx, worker.NewInspector(rdb, appNames(cfg)), names)
			})
		},
	}
}

func (a *app) release(ctx context.Context, insp *worker.Inspector, names []string) error {
	for _, name := range names {
		released, err := insp.Release(ctx, name)
		if errors.Is(err, worker.ErrUnknownName) {
			return badInput(fmt.Errorf("%w; see \"recall status\" for those that there are", err))
		}
		if err != nil {
			return err
		}
		for _, r := range released {
			if err := a.say("%s", describeRelease(r)); err != nil {
				return err
			}
		}
	}
	return nil
}

func describeRelease(r worker.Released) string {
	what := "app " + r.App
	if r.RobotCode != "" {
		what = fmt.Sprintf("robot %s (app %s)", r.Target, r.App)
	}
	if r.Code == "" {
		return what + " is not on hold: nothing to release"
	}
	return fmt.Sprintf("%s is released, it was on hold for %s", what, r.Code)
}
