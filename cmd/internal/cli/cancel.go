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

func newCancelCmd(a *app) *cobra.Command {
	var only string
	var sure bool
	cmd := &cobra.Command{
		Use:   "cancel INCIDENT",
		Short: "Recall nothing more of an incident, for good",
		Long: `cancel ends an incident, in each app that has keys of it: its messages stay where they are. This cannot be taken back.

Keys that wait end as cancelled, without a call, within moments; behind keys of other incidents of the same robot, when it is
their turn; where they wait for a retry, when it is due; on hold, when the hold ends or their windows close. They get no dead
letter. Keys that are in calls (BOUND) are still recalled. Keys that come later under the same name are accepted, and end as cancelled,
too, as do dead ones that are replayed. A key that came under another name first counts there, and goes on.

A cancelled key stays so in this Redis, under whatever name it is submitted again; "recall run" without --redis recalls it.

It needs Redis only. An incident of which no worker has taken in a key is not known yet.`,
		Example: `  recall cancel 2026-03-02-coupon
  recall cancel 2026-03-02-coupon --app main --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return badInput(errors.New("say which incident, one: \"recall status\" has those that there are"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.withRedis(cmd, func(ctx context.Context, cfg *config.Config, rdb *redis.Client) error {
				return a.cancel(ctx, rdb, worker.NewInspector(rdb, appNames(cfg)), args[0], only, sure)
			})
			if errors.Is(err, worker.ErrUnknownIncident) {
				return badInput(fmt.Errorf("%w; see \"recall status\" for those that there are", err))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&only, "app", "", "only in the app `NAME`")
	cmd.Flags().BoolVarP(&sure, "yes", "y", false, "do not ask whether that is meant")
	return cmd
}

func (a *app) cancel(ctx context.Context, rdb *redis.Client, insp *worker.Inspector, incident, only string, sure bool) error {
	found, err := insp.Incident(ctx, incident, only)
	if err != nil {
		return err
	}
	var waiting int64
	for _, f := range found {
		waiting += f.Counts.Waiting
	}
	what := fmt.Sprintf("cancel incident %s, of which %s %s, in %s", incident,
		counted(waiting, "key", "keys"), pick(waiting == 1, "waits", "wait"), counted(len(found), "app", "apps"))
	if err := a.confirm(ctx, sure, what, "nothing was cancelled"); err != nil {
		return err
	}
	cancelled, err := insp.Cancel(ctx, incident, only)
	for _, c := range cancelled {
		if err := a.say("%s", describeCancel(incident, c)); err != nil {
			return err
		}
	}
	if err != nil || waiting == 0 {
		return err
	}
	if n, err := workersAt(rdb); err == nil && n == 0 {
		return a.say("No worker seems to be running at this Redis: the keys wait until one does.")
	}
	return nil
}

func describeCancel(incident string, c worker.AppIncident) string {
	line := fmt.Sprintf("app %s: incident %s is cancelled; ", c.App, incident)
	if n := c.Counts.Waiting; n > 0 {
		when := "within moments"
		if c.Hold != "" {
			when = fmt.Sprintf("once the hold ends (%s) or windows close", c.Hold)
		}
		line += fmt.Sprintf("%s still waiting, to end as cancelled, without a call, %s", counted(n, "key was", "keys were"), when)
	} else {
		line += "no key was still waiting"
	}
	if b := c.Counts.Bound; b > 0 {
		line += fmt.Sprintf("; %s in calls, which are not taken back", counted(b, "key is", "keys are"))
	}
	return line
}
