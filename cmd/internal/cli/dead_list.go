package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"dingrecall/tasks"
	"dingrecall/worker"
)

// deadView is a dead letter in the shape of --json: the task's payload, which docs/tasks.md describes, with the task's id and state.
type deadView struct {
	ID    string `json:"id"`
	State string `json:"state"`
	tasks.DeadLetter
}

func newDeadListCmd(a *app) *cobra.Command {
	var filter worker.DeadFilter
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, those that are dropped first going first",
		Long: `list prints dead letters, with --json one JSON object a line: the payload of the task with its id and state. The
flags that choose must all agree.`,
		Example: `  recall dead list
  recall dead list --incident 2026-03-02-coupon --code system.error
  recall dead list --json --limit 0 | jq -r '.keys[]'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return badInput(fmt.Errorf("--limit: %d is negative; 0 lists all", limit))
			}
			return a.withDead(cmd, func(ctx context.Context, _ *redis.Client, insp *worker.Inspector) error {
				if asJSON {
					return a.listDeadJSON(ctx, insp, filter, limit)
				}
				return a.listDead(ctx, insp, filter, limit)
			})
		},
	}
	deadFilterFlags(cmd.Flags(), &filter)
	cmd.Flags().IntVar(&limit, "limit", 50, "list at most `N`; 0: all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

// errEnough ends the reading of dead letters where enough have been seen.
var errEnough = errors.New("enough")

func (a *app) listDeadJSON(ctx context.Context, insp *worker.Inspector, filter worker.DeadFilter, limit int) error {
	n := 0
	err := insp.DeadLetters(ctx, filter, func(d worker.DeadTask) error {
		if n++; limit > 0 && n > limit {
			return errEnough
		}
		return writeJSON(a.Out, deadView{d.ID, d.State, d.Letter}, false)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// deadSum counts letters and their keys.
type deadSum struct{ letters, keys int }

func (a *app) listDead(ctx context.Context, insp *worker.Inspector, filter worker.DeadFilter, limit int) error {
	t := newTable("ID", ">KEYS", "CODE", "ROBOT", "CHAT", "INCIDENT", "DIED", "", "")
	var all deadSum
	byCode := map[string]deadSum{}
	err := insp.DeadLetters(ctx, filter, func(d worker.DeadTask) error {
		l := d.Letter
		all.letters, all.keys = all.letters+1, all.keys+len(l.Keys)
		sum := byCode[l.Code]
		byCode[l.Code] = deadSum{sum.letters + 1, sum.keys + len(l.Keys)}
		if limit == 0 || all.letters <= limit {
			state := d.State
			if state == "scheduled" {
				state = "" // as it should be
			}
			ambiguous := ""
			if l.Ambiguous {
				ambiguous = "ambiguous"
			}
			t.row(d.ID, thousands(len(l.Keys)), l.Code, l.RobotCode, l.Conversation.String(), l.Incident, time.UnixMilli(l.DiedAt).Format("01-02 15:04"), ambiguous, state)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if all.letters == 0 {
		if filter != (worker.DeadFilter{}) {
			return a.say("no dead letters of that kind")
		}
		return a.say("no dead letters")
	}
	t.dropEmpty()
	if err := t.write(a.Out); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	if len(byCode) > 1 {
		if err := sumTable(byCode).write(a.Out); err != nil {
			return err
		}
		fmt.Fprintln(a.Out)
	}
	if limit > 0 && all.letters > limit {
		return a.say("%s of %s shown, with %s in all; --limit 0 lists all", thousands(limit), counted(all.letters, "dead letter", "dead letters"), counted(all.keys, "key", "keys"))
	}
	return a.say("%s with %s", counted(all.letters, "dead letter", "dead letters"), counted(all.keys, "key", "keys"))
}

// sumTable says how many died of what, and what that means.
func sumTable(byCode map[string]deadSum) *table {
	t := newTable("CODE", ">LETTERS", ">KEYS", "MEANING")
	for _, code := range slices.Sorted(maps.Keys(byCode)) {
		t.row(code, thousands(byCode[code].letters), thousands(byCode[code].keys), codeHint(code))
	}
	t.dropEmpty()
	return t
}

func (a *app) say(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.Out, format+"\n", args...); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

func newDeadShowCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID...",
		Short:   "Show dead letters whole, with all their keys",
		Example: `  recall dead show dead:main:12:1`,
		Args:    someIDs,
		RunE: func(cmd *cobra.Command, ids []string) error {
			return a.withDead(cmd, func(ctx context.Context, _ *redis.Client, insp *worker.Inspector) error {
				for i, id := range ids {
					d, err := insp.DeadLetter(ctx, id)
					if err != nil {
						return err
					}
					if asJSON {
						err = writeJSON(a.Out, deadView{d.ID, d.State, d.Letter}, false)
					} else {
						if i > 0 {
							fmt.Fprintln(a.Out)
						}
						err = showDead(a.Out, d, a.Now())
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func someIDs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return badInput(fmt.Errorf("%s: the ID of a dead letter is missing; \"recall dead list\" shows them", cmd.CommandPath()))
	}
	return nil
}

func showDead(w io.Writer, d worker.DeadTask, now time.Time) error {
	l := d.Letter
	t := newTable("id", d.ID)
	line := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	line("code", l.Code)
	line("message", l.Message)
	line("meaning", codeHint(l.Code))
	if l.Ambiguous {
		line("ambiguous", "a call's answer was lost: these messages may have been recalled after all")
	}
	line("request id", l.RequestID)
	line("attempts", strconv.Itoa(l.Attempts))
	line("app", l.App)
	line("robot", l.RobotCode)
	line("chat", l.Conversation.String())
	line("incident", l.Incident)
	line("class", string(l.Class))
	line("died", moment(time.UnixMilli(l.DiedAt), now))
	line("kept until", moment(d.Until, now))
	if d.State != "scheduled" {
		line("state", d.State)
	}
	line("came in", l.Origin)
	line("replay", "recall dead replay "+d.ID)
	if err := t.write(w); err != nil {
		return err
	}
	if raw := l.Raw(); raw != nil {
		if _, err := fmt.Fprintf(w, "submission %q\n", raw); err != nil {
			return fmt.Errorf("printing: %w", err)
		}
	}
	fmt.Fprintf(w, "\n%s:\n", counted(len(l.Keys), "key", "keys"))
	keys := newTable("KEY", "SENT")
	for i, key := range l.Keys {
		sent := ""
		if at := l.SentAtOf(i); at != 0 {
			sent = time.UnixMilli(at).Format("2006-01-02 15:04:05 MST")
		}
		keys.row(key, sent)
	}
	keys.dropEmpty()
	return keys.write(w)
}
