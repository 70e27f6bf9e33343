package cli

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dingrecall/config"
	"dingrecall/worker"
)

func newDeadCmd(a *app) *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use:   "dead",
		Short: "List, show, replay and purge dead letters: keys that could not be recalled, and why",
		Long: `A dead letter holds the keys of one batch that died of one cause, with the service's code and message. It is kept for
worker.deadRetention as a scheduled task of the queue recall-dead. Replaying it has its keys recalled again; purging it
removes it for good.`,
	})
	cmd.AddCommand(newDeadListCmd(a), newDeadShowCmd(a), newDeadReplayCmd(a), newDeadPurgeCmd(a))
	return cmd
}

// deadFilterFlags binds the flags that choose dead letters.
func deadFilterFlags(flags *pflag.FlagSet, f *worker.DeadFilter) {
	flags.StringVar(&f.App, "app", "", "only of the app `NAME`")
	flags.StringVar(&f.RobotCode, "robot", "", "only of the robot `CODE`")
	flags.StringVar(&f.Conversation, "conversation", "", "only of the group or private chat with this openConversationId")
	flags.BoolVar(&f.Ambiguous, "ambiguous", false, "only those of which an answer was lost, which may have been recalled after all")
	flags.StringVar(&f.Incident, "incident", "", "only of the incident `NAME`")
	flags.StringVar(&f.Code, "code", "", "only those that died of `CODE`")
}

// withDead runs f with a connection to the configured Redis, and puts its errors into words.
func (a *app) withDead(cmd *cobra.Command, f func(ctx context.Context, rdb *redis.Client, insp *worker.Inspector) error) error {
	err := a.withRedis(cmd, func(ctx context.Context, cfg *config.Config, rdb *redis.Client) error {
		return f(ctx, rdb, worker.NewInspector(rdb, appNames(cfg)))
	})
	if errors.Is(err, worker.ErrNoDeadLetter) {
		err = badInput(err)
	}
	return err
}
