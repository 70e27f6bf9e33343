package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"dingrecall/worker"
)

// deadAction is something that is done to dead letters.
type deadAction struct {
	verb, done string // "replay", "replayed"
	do         func(*worker.Inspector, context.Context, string) error
}

var (
	replayDead = deadAction{"replay", "replayed", (*worker.Inspector).Replay}
	purgeDead  = deadAction{"purge", "purged", (*worker.Inspector).Purge}
)

// deadChoice is which dead letters are meant.
type deadChoice struct {
	ids    []string
	filter worker.DeadFilter
	all    bool
	yes    bool
}

func newDeadReplayCmd(a *app) *cobra.Command {
	return a.newDeadAction(replayDead, &cobra.Command{
		Use:   "replay [ID...]",
		Short: "Have the keys of dead letters recalled again",
		Long: `replay has the keys of dead letters wait again, as soon as a worker takes them up: those with these IDs, those that the
flags choose, or --all. Mend first what they died of. Keys whose 24 hours are over die again, without a call.`,
		Example: `  recall dead replay dead:main:12:1
  recall dead replay --code system.error --incident 2026-03-02-coupon
  recall dead replay --all --yes`,
	})
}

func newDeadPurgeCmd(a *app) *cobra.Command {
	return a.newDeadAction(purgeDead, &cobra.Command{
		Use:   "purge [ID...]",
		Short: "Remove dead letters for good",
		Long: `purge removes dead letters for good: those with these IDs, those that the flags choose, or --all. What became of their
keys can be asked with "recall status --key" until worker.ledgerRetention is over.`,
		Example: `  recall dead purge dead:main:12:1
  recall dead purge --code window.closed --yes`,
	})
}

func (a *app) newDeadAction(action deadAction, cmd *cobra.Command) *cobra.Command {
	var choice deadChoice
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		choice.ids = ids
		if err := choice.validate(action); err != nil {
			return badInput(err)
		}
		return a.withDead(cmd, func(ctx context.Context, rdb *redis.Client, insp *worker.Inspector) error {
			return a.actOnDead(ctx, rdb, insp, action, choice)
		})
	}
	deadFilterFlags(cmd.Flags(), &choice.filter)
	cmd.Flags().BoolVar(&choice.all, "all", false, action.verb+" all dead letters")
	cmd.Flags().BoolVarP(&choice.yes, "yes", "y", false, "do not ask whether that is meant")
	return cmd
}

func (c deadChoice) validate(action deadAction) error {
	filtered := c.filter != (worker.DeadFilter{})
	switch {
	case len(c.ids) > 0 && (filtered || c.all):
		return fmt.Errorf("give either IDs or the flags that choose dead letters, not both")
	case c.all && filtered:
		return fmt.Errorf("--all is everything: leave it out, or the flags that choose less")
	case len(c.ids) == 0 && !filtered && !c.all:
		return fmt.Errorf("say which: IDs from \"recall dead list\", --app, --robot, --conversation, --incident, --code or --ambiguous, or --all to %s every one", action.verb)
	}
	return nil
}

// actOnDead does it to all that are chosen, and says how many they were.
func (a *app) actOnDead(ctx context.Context, rdb *redis.Client, insp *worker.Inspector, action deadAction, choice deadChoice) error {
	chosen, sum, err := chooseDead(ctx, insp, choice)
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		return a.say("no dead letters of that kind: nothing was %s", action.done)
	}
	if len(choice.ids) == 0 { // who names each one has thought of each one
		if err := a.confirmDead(ctx, action, choice, sum); err != nil {
			return err
		}
	}
	var done deadSum
	gone := 0
	for _, letter := range chosen {
		err := ctx.Err()
		if err == nil {
			err = action.do(insp, ctx, letter.id)
		}
		if errors.Is(err, worker.ErrNoDeadLetter) && len(choice.ids) == 0 {
			gone++ // somebody else was quicker
			continue
		}
		if err != nil {
			return fmt.Errorf("%w; %s of %s were %s, and the same command goes on with the rest", err, thousands(done.letters), counted(len(chosen), "dead letter", "dead letters"), action.done)
		}
		done = deadSum{done.letters + 1, done.keys + letter.keys}
	}
	if gone > 0 {
		fmt.Fprintf(a.Out, "%s gone meanwhile\n", counted(gone, "dead letter was", "dead letters were"))
	}
	if err := a.say("%s %s with %s", action.done, counted(done.letters, "dead letter", "dead letters"), counted(done.keys, "key", "keys")); err != nil {
		return err
	}
	if action.verb != replayDead.verb {
		return nil
	}
	if n, err := workersAt(rdb); err == nil && n == 0 {
		return a.say("No worker seems to be running at this Redis: the keys wait until one does.")
	}
	return nil
}

// chosenLetter is a dead letter that is meant.
type chosenLetter struct {
	id   string
	keys int
}

// chooseDead finds the dead letters before anything is done to any: acting on one shifts the pages that the others are listed on.
func chooseDead(ctx context.Context, insp *worker.Inspector, choice deadChoice) ([]chosenLetter, deadSum, error) {
	var chosen []chosenLetter
	var sum deadSum
	take := func(d worker.DeadTask) error {
		chosen = append(chosen, chosenLetter{d.ID, len(d.Letter.Keys)})
		sum = deadSum{sum.letters + 1, sum.keys + len(d.Letter.Keys)}
		return nil
	}
	if len(choice.ids) == 0 {
		err := insp.DeadLetters(ctx, choice.filter, take)
		return chosen, sum, err
	}
	for _, id := range choice.ids {
		d, err := insp.DeadLetter(ctx, id)
		if err != nil {
			return nil, sum, err
		}
		if d.State != "scheduled" && d.State != "archived" {
			return nil, sum, badInput(fmt.Errorf("dead letter %s is being replayed already (its task is %s)", id, d.State))
		}
		_ = take(d) // it never fails
	}
	return chosen, sum, nil
}

// confirmDead asks whether that is meant to happen to all of these.
func (a *app) confirmDead(ctx context.Context, action deadAction, choice deadChoice, sum deadSum) error {
	what := fmt.Sprintf("%s %s with %s", action.verb, counted(sum.letters, "dead letter", "dead letters"), counted(sum.keys, "key", "keys"))
	return a.confirm(ctx, choice.yes, what, "nothing was "+action.done)
}

// confirm asks a person whether what is to be done is meant, and where there is none, asks for --yes. no is what to say of a no.
func (a *app) confirm(ctx context.Context, sure bool, what, no string) error {
	switch {
	case sure:
		return nil
	case !a.IsTerminal(a.In):
		return badInput(fmt.Errorf("this would %s; add --yes if that is meant", what))
	}
	yes, err := a.askYes(ctx, strings.ToUpper(what[:1])+what[1:]+"?")
	if err == nil && !yes {
		err = withExit(ExitInterrupted, errors.New(no))
	}
	return err
}

// askYes puts a question to the person at the terminal. What is not yes is no.
func (a *app) askYes(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(a.Err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // a read of a terminal cannot be interrupted
		line, err := bufio.NewReader(a.In).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			line = ""
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.Err)
		return false, ctx.Err()
	case text := <-answer:
		return text == "y" || text == "yes", nil
	}
}
