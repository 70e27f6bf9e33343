package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/cmd/internal/plan"
	"dingrecall/config"
	"dingrecall/tasks"
)

// keyFlags are the flags of the commands that read a file of keys. They fill what the file does not say.
type keyFlags struct {
	robot, sentAt, incident, class, format, skipBad string
	chat, conversation                              string
	dryRun                                          bool
}

func (f *keyFlags) register(cmd *cobra.Command, incidentDefault string) {
	flags := cmd.Flags()
	flags.StringVar(&f.robot, "robot", "", "`ROBOTCODE` of the rows that name no robot")
	flags.StringVar(&f.chat, "chat", "", "group or private: `CHAT` of the rows that have an openConversationId and do not say")
	flags.StringVar(&f.conversation, "conversation", "", "openConversationId of the rows that have none; without it, those were sent one-to-one")
	flags.StringVar(&f.sentAt, "sent-at", "", "`WHEN` the rows that do not say were sent: RFC 3339, epoch milliseconds, or how long ago (90m)")
	flags.StringVar(&f.incident, "incident", "", "`NAME` under which the keys are counted together (default: "+incidentDefault+")")
	flags.StringVar(&f.class, "class", string(tasks.ClassDefault), "urgent, default or bulk: `CLASS` of the keys among others of the app")
	flags.StringVar(&f.format, "format", "auto", "`FORMAT` of the file: plain, csv, ndjson or auto")
	flags.StringVar(&f.skipBad, "skip-bad", "", "set bad lines aside in `FILE`, and go on with the others")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what it would take, and send nothing")
}

// oneFile is for commands that take the name of one file of keys.
func oneFile(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		return nil
	case 0:
		return badInput(fmt.Errorf("name a file of keys, or - for standard input: %s FILE; see \"%s --help\"", cmd.CommandPath(), cmd.CommandPath()))
	}
	return badInput(fmt.Errorf("%s takes one file, but got %d; see \"%s --help\"", cmd.CommandPath(), len(args), cmd.CommandPath()))
}

// keyInput is a file of keys that was read and checked once.
type keyInput struct {
	path     string // as it was typed
	file     *keyfile.File
	summary  keyfile.Summary
	class    tasks.Class
	incident string
}

// robots says of how many robots the keys are, and of how many conversations.
func (in *keyInput) robots() string {
	text := counted(len(in.summary.Robots()), "robot", "robots")
	if n := in.summary.Conversations(); n > 0 {
		text += " in " + counted(n, "group or private chat", "groups and private chats")
	}
	return text
}

func (in *keyInput) Close() { _ = in.file.Close() }

// openKeys opens a file of keys and checks the whole of it; bad lines are listed on standard error. Those are an error, unless
// they are set aside, or this is a dry run, whose plan tells of them. The caller closes the input.
func (a *app) openKeys(ctx context.Context, path string, f keyFlags, incident string, skip func(of keyfile.Target, key string) bool) (_ *keyInput, err error) {
	in := &keyInput{path: path, incident: incident}
	where := tasks.Conversation{Chat: strings.ToLower(f.chat), OpenConversationID: f.conversation}
	opts := keyfile.Options{Robot: f.robot, Conversation: where, Now: a.Now, Stdin: a.In, Skip: skip}
	if f.incident != "" {
		in.incident = f.incident
	}
	if err := tasks.CheckIncident(in.incident); err != nil {
		return nil, badInput(fmt.Errorf("--incident: %q %w", in.incident, err))
	}
	if in.class, err = tasks.ParseClass(f.class); err != nil {
		return nil, badInput(fmt.Errorf("--class: %w", err))
	}
	if opts.Format, err = keyfile.ParseFormat(f.format); err != nil {
		return nil, badInput(fmt.Errorf("--format: %w", err))
	}
	if opts.SentAt, err = parseSentAt(f.sentAt, a.Now()); err != nil {
		return nil, badInput(fmt.Errorf("--sent-at: %w", err))
	}
	if in.file, err = keyfile.Open(path, opts); err != nil {
		return nil, badInput(err)
	}
	if err := a.checkKeys(ctx, in, f); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// checkKeys makes the first pass over the file.
func (a *app) checkKeys(ctx context.Context, in *keyInput, f keyFlags) error {
	var aside *keyfile.BadWriter
	var each func(keyfile.Bad) error
	if f.skipBad != "" && !f.dryRun { // a dry run leaves nothing behind that would be in the way of the real one
		aside = keyfile.NewBadWriter(f.skipBad, in.file)
		each = aside.Write
	}
	var err error
	in.summary, err = keyfile.Check(ctx, in.file, each)
	if aside != nil {
		err = errors.Join(err, aside.Close())
	}
	var trouble *keyfile.Error
	if errors.As(err, &trouble) {
		return badInput(err)
	}
	if err != nil {
		return err
	}
	if in.summary.BadLines == 0 {
		return nil
	}
	listBad(a.Err, in.summary)
	switch {
	case f.dryRun:
		return nil
	case aside != nil:
		fmt.Fprintf(a.Err, "recall: %s set aside in %s; mend them there and give that file to recall afterwards\n", counted(in.summary.BadLines, "bad line", "bad lines"), f.skipBad)
		return nil
	}
	return badInput(fmt.Errorf("%s of %s of %s: nothing was sent; mend them, or set them aside with --skip-bad FILE", counted(in.summary.BadLines, "bad line", "bad lines"),
		thousands(in.summary.Rows+in.summary.Skipped+in.summary.BadLines), in.summary.Name))
}

// listBad shows the first bad lines.
func listBad(w io.Writer, s keyfile.Summary) {
	for _, b := range s.Bad {
		fmt.Fprintf(w, "recall: %s line %d: %s\n", s.Name, b.Line, b.Reason)
		if b.Text != "" {
			fmt.Fprintf(w, "        %s\n", b.Text)
		}
	}
	if more := s.BadLines - len(s.Bad); more > 0 {
		fmt.Fprintf(w, "recall: ... and %s more\n", thousands(more))
	}
}

// robotsWithoutApp lists the robots of a file that no app is configured for, sorted.
func robotsWithoutApp(cfg *config.Config, s keyfile.Summary) []string {
	var missing []string
	for _, robot := range s.Robots() {
		if _, ok := cfg.AppOf(robot); !ok {
			missing = append(missing, robot)
		}
	}
	return missing
}

// explainMissing puts robots without an app into a sentence.
func explainMissing(missing []string, name string) string {
	const most = 10
	shown := strings.Join(missing[:min(most, len(missing))], ", ")
	if len(missing) > most {
		shown += ", ..."
	}
	return fmt.Sprintf("no app is configured for %s of %s (%s); name %s under robots of an app, or give one app robots: [\"*\"]",
		counted(len(missing), "robot", "robots"), name, shown, pick(len(missing) == 1, "it", "them"))
}

// makePlan foretells what a file takes. A configuration without apps is planned with what a new one would have.
func (a *app) makePlan(cfg *config.Config, s keyfile.Summary) plan.Plan {
	return plan.Make(plan.Input{
		Summary: s, Now: a.Now(), Window: cfg.Worker.Window, Margin: cfg.Worker.Margin,
		AppOf: func(robot string) (plan.App, bool) {
			if len(cfg.Apps) == 0 {
				return planOf(config.App{Name: config.DefaultAppName, Rate: config.DefaultRate}), true
			}
			app, ok := cfg.AppOf(robot)
			return planOf(app), ok
		},
	})
}

// planOf is what the plan needs to know of an app. Without a limit of its own its month is compared with the standard edition's.
func planOf(app config.App) plan.App {
	if app.MonthlyCalls == 0 {
		return plan.App{Name: app.Name, Rate: app.Rate, MonthlyCalls: config.StandardMonthlyCalls, Assumed: true}
	}
	return plan.App{Name: app.Name, Rate: app.Rate, MonthlyCalls: app.MonthlyCalls}
}

// printPlan ends a dry run. Its exit status is that which the check of the file would give.
func (a *app) printPlan(cfg *config.Config, in *keyInput, skipBad bool) error {
	if len(cfg.Apps) == 0 {
		fmt.Fprintf(a.Err, "recall: warning: no app is configured; the plan takes %d calls a second and %s a month, as the standard edition has\n",
			config.DefaultRate, thousands(config.StandardMonthlyCalls))
	}
	if err := a.makePlan(cfg, in.summary).Render(a.Out); err != nil {
		return err
	}
	if in.summary.BadLines > 0 && !skipBad {
		return exitOnly(ExitBadInput)
	}
	return nil
}

// parseSentAt reads a moment of sending: RFC 3339, epoch milliseconds, or a length of time before now. Empty is the zero time.
func parseSentAt(s string, now time.Time) (time.Time, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if err := tasks.CheckSentAt(n, now); err != nil {
			return time.Time{}, err
		}
		return time.UnixMilli(n), nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	ago, err := time.ParseDuration(strings.ReplaceAll(strings.TrimSpace(strings.TrimSuffix(s, "ago")), " ", ""))
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("%q is neither RFC 3339 (2026-11-23T09:30:00+08:00), nor epoch milliseconds, nor how long ago (90m, 2h30m)", s)
	}
	return now.Add(-ago), nil
}

// pick returns one of two words.
func pick(first bool, one, other string) string {
	if first {
		return one
	}
	return other
}
