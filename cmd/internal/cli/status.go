package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"dingrecall/config"
	"dingrecall/worker"
)

// statusFlags are what status is told.
type statusFlags struct {
	app, incident, robot, conversation string
	keys                               []string
	json, watch                        bool
	interval                           time.Duration
}

func newStatusCmd(a *app) *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what waits, is recalled and is dead, by incident and robot, or what became of a key",
		Long: `status reads from Redis how everything stands; no worker and no credentials are needed for it.

WAITING keys wait for their turn, BOUND ones are in a call or between two tries, RECALLED, DEAD and CANCELLED ones are
done with. A submission's keys are counted once a worker has taken it; until then it is a pending task of its queue.

With --json the output is one JSON object, whose fields docs/operations.md describes; with --watch as well, one a line.`,
		Example: `  recall status
  recall status --incident 2026-03-02-coupon --watch
  recall status --key Kna29Ra5pdJznx1ghavbumkQKwDzgfxZLapw55G7x0Q=`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return badInput(err)
			}
			return a.withRedis(cmd, func(ctx context.Context, cfg *config.Config, rdb *redis.Client) error {
				return a.status(ctx, cfg, rdb, f)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.app, "app", "", "only the app `NAME`")
	flags.StringVar(&f.incident, "incident", "", "only the incident `NAME`")
	flags.StringVar(&f.robot, "robot", "", "only the robot `CODE`")
	flags.StringVar(&f.conversation, "conversation", "", "only the group or private chat with this openConversationId")
	flags.StringArrayVar(&f.keys, "key", nil, "say what became of `KEY` instead; may be given again")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	flags.BoolVarP(&f.watch, "watch", "w", false, "go on until stopped")
	flags.DurationVar(&f.interval, "interval", 2*time.Second, "with --watch, look every `DURATION`")
	return cmd
}

func (f statusFlags) validate() error {
	switch {
	case f.interval < 100*time.Millisecond:
		return fmt.Errorf("--interval: %v is less than 100ms; raise it", f.interval)
	case len(f.keys) > 0 && (f.app != "" || f.incident != ""):
		return errors.New("--key looks everywhere: leave out --app and --incident, or use --robot")
	}
	return nil
}

// status looks once, or again and again.
func (a *app) status(ctx context.Context, cfg *config.Config, rdb *redis.Client, f statusFlags) error {
	insp := worker.NewInspector(rdb, appNames(cfg))
	look := func(w io.Writer) error {
		if len(f.keys) > 0 {
			return a.printKeys(ctx, w, insp, f)
		}
		view, err := a.readStatus(ctx, cfg, rdb, insp, f)
		if err != nil {
			return err
		}
		if f.json {
			return writeJSON(w, view, !f.watch)
		}
		return view.print(w)
	}
	if !f.watch {
		return look(a.Out)
	}
	ticker := time.NewTicker(f.interval)
	defer ticker.Stop()
	for {
		var b bytes.Buffer
		err := look(&b)
		if ctx.Err() != nil {
			return nil // stopping is how a watch ends
		}
		if err != nil && f.json {
			return err
		}
		if err != nil { // a Redis that is gone comes back: say so, and go on looking
			b.Reset()
			fmt.Fprintf(&b, "%s: %s\n", a.Now().Format(time.TimeOnly), explainRedis(err, cfg.Redis))
		}
		if err := a.redraw(b.String(), f.json); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// redraw shows one view of a watch: in the place of the last one on a terminal, below it elsewhere.
func (a *app) redraw(view string, raw bool) error {
	if !raw && a.IsTerminal(a.Out) {
		var b strings.Builder
		b.WriteString("\x1b[H")
		for line := range strings.Lines(clipView(view, terminalHeight(a.Out), terminalWidth(a.Out))) {
			b.WriteString(strings.TrimSuffix(line, "\n") + "\x1b[K\n")
		}
		view = b.String() + "\x1b[J"
	} else if !raw {
		view += "\n"
	}
	if _, err := io.WriteString(a.Out, view); err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	return nil
}

// clipView fits a view to a terminal, so that redrawing it does not scroll: sentences are wrapped, and tables, which are what has two
// blanks in a row, are cut.
func clipView(view string, height, width int) string {
	var lines []string
	for line := range strings.Lines(view) {
		line = strings.TrimSuffix(line, "\n")
		runes := []rune(line)
		if len(runes) > width && strings.Contains(line, "  ") {
			line, runes = string(runes[:width-1])+"…", nil
		}
		for len(runes) > width {
			cut := strings.LastIndexByte(string(runes[:width+1]), ' ')
			if cut <= 0 {
				break
			}
			lines = append(lines, line[:cut])
			line = line[cut+1:]
			runes = []rune(line)
		}
		lines = append(lines, line)
	}
	if room := height - 2; len(lines) > room && room > 0 {
		hidden := len(lines) - room
		lines = append(lines[:room:room], fmt.Sprintf("... and %s; look closer with --app, --incident, --robot or --conversation", counted(hidden, "line", "lines")))
	}
	return strings.Join(lines, "\n") + "\n"
}

// terminalHeight is the height of the terminal that w is, or 24.
func terminalHeight(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if _, height, err := term.GetSize(int(f.Fd())); err == nil && height > 0 {
			return height
		}
	}
	return 24
}

// writeJSON writes a value as JSON, indented for a person or on a line of its own.
func writeJSON(w io.Writer, v any, indent bool) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("printing JSON: %w", err)
	}
	return nil
}
