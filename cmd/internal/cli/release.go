package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

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
			cfg, err := a.loadConfig(cmd, needRedis)
			if err != nil {
				return err
			}
			rdb, err := openRedis(cmd.Context(), cfg.Redis)
			if err != nil {
				return err
			}
			defer func() { _ = rdb.Close() }()
			insp := worker.NewInspector(rdb, appNames(cfg))
			for _, name := range names {
				released, err := insp.Release(cmd.Context(), name)
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
		},
	}
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
