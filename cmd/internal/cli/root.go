// Package cli is the command line of recall: the root command in root.go, then one file for each subcommand.
//
// Everything from outside (streams, arguments, environment, clock) comes in through Env, and Run returns the exit status, so
// the whole program can be run in a test.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Env is what the program is given from outside.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Args are the arguments without the program's name.
	Args []string
	// Environ is the environment, as os.Environ gives it.
	Environ []string
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// IsTerminal says whether a stream is a terminal. Default: none is.
	IsTerminal func(stream any) bool
	// Version is the program's version. Default: what the build says.
	Version string
}

// FromOS returns the Env of this process.
func FromOS() Env {
	return Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Args: os.Args[1:], Environ: os.Environ(), Now: time.Now,
		IsTerminal: func(stream any) bool {
			f, ok := stream.(*os.File)
			return ok && term.IsTerminal(int(f.Fd()))
		},
	}
}

func (e Env) withDefaults() Env {
	if e.In == nil {
		e.In = strings.NewReader("")
	}
	if e.Out == nil {
		e.Out = io.Discard
	}
	if e.Err == nil {
		e.Err = io.Discard
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.IsTerminal == nil {
		e.IsTerminal = func(any) bool { return false }
	}
	if e.Version == "" {
		e.Version = buildVersion()
	}
	return e
}

// Getenv returns the value of an environment variable, or "".
func (e Env) Getenv(name string) string {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(e.Environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// app is what subcommands share: the Env and the persistent flags.
type app struct {
	Env
	configFile string
	// running is set once a command's own code runs: an error before that is one of flags or arguments.
	running bool
}

// commands lists the subcommands in the order of the help text. A new one is a file with a function of this shape and one line here.
var commands = []func(*app) *cobra.Command{
	newRunCmd,
	newSubmitCmd,
	newWorkerCmd,
	newStatusCmd,
	newDeadCmd,
	newReleaseCmd,
	newCancelCmd,
	newVerifyCmd,
	newSimulateCmd,
	newCheckCmd,
	newVersionCmd,
}

// Run runs the program and returns its exit status. It does not exit, and writes only to the streams of env.
func Run(ctx context.Context, env Env) int {
	return (&app{Env: env.withDefaults()}).execute(ctx)
}

// execute runs the command that the arguments name, and puts its error into words and into a status. Tests add commands of their own.
func (a *app) execute(ctx context.Context, more ...func(*app) *cobra.Command) (code int) {
	defer func() {
		if p := recover(); p != nil {
			printError(a.Err, fmt.Errorf("this is a bug in recall, please report it: %s%s", strings.Join(strings.Fields(fmt.Sprint(p)), " "), panicSite()))
			code = ExitFailure
		}
	}()
	err := newRoot(a, more...).ExecuteContext(ctx)
	if err != nil && !a.running {
		err = badInput(err)
	}
	code = exitCode(ctx, err)
	if code == ExitInterrupted && isBare(err) {
		err = fmt.Errorf("interrupted (%w)", err)
	}
	if err != nil {
		printError(a.Err, err)
	}
	return code
}

// isBare says whether an error has no exit status of its own: no command has put it into words.
func isBare(err error) bool {
	var exit *exitError
	return !errors.As(err, &exit)
}

// markRunning makes every command note that its own code has begun.
func (a *app) markRunning(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.running = true
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		a.markRunning(sub)
	}
}

func newRoot(a *app, more ...func(*app) *cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "recall",
		Short: "Recall messages that DingTalk robots have sent, in bulk, before their 24 hours are over.",
		Long: `recall takes the processQueryKeys of messages that a DingTalk robot has sent and recalls them:
up to 20 keys a call, within the app's rate, those first whose 24 hours end first.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       a.Version,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(a.Args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetVersionTemplate("recall {{.Version}}\n")
	// A command that only holds others is not run by itself: its usage is that of its subcommands.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	root.SetFlagErrorFunc(flagError)
	asGroup(root)

	flags := root.PersistentFlags()
	flags.StringVarP(&a.configFile, "config", "c", "", "configuration `FILE` (environment: RECALL_CONFIG)")
	flags.String("redis", "", "Redis `ADDR`: host:port or redis://host:port/db")
	flags.String("log-level", "", "log `LEVEL`: debug, info, warn or error")
	flags.String("log-format", "", "log `FORMAT`: auto, console or json")
	bindConfig(flags, "redis", "redis.addr")
	bindConfig(flags, "log-level", "log.level")
	bindConfig(flags, "log-format", "log.format")

	for _, newCmd := range slices.Concat(commands, more) {
		root.AddCommand(newCmd(a))
	}
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" {
			cmd.Short = "Say more about a command"
		}
	}
	a.markRunning(root)
	return root
}

// asGroup makes a command that only holds others: alone it shows its help, and an unknown name is an error that suggests the
// nearest one.
func asGroup(cmd *cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf(" Did you mean %q?", near[0])
		}
		return badInput(fmt.Errorf("there is no command %q.%s See \"%s --help\" for those there are", args[0], hint, cmd.CommandPath()))
	}
	return cmd
}

// noArgs is for commands that take no arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return badInput(fmt.Errorf("%s takes no arguments, but got %q; see \"%s --help\"", cmd.CommandPath(), args[0], cmd.CommandPath()))
	}
	return nil
}

// printError writes an error for a person: one line, or one line for each problem of a configuration.
func printError(w io.Writer, err error) {
	var exit *exitError
	if errors.As(err, &exit) && exit.err == nil {
		return
	}
	for line := range strings.Lines(strings.TrimSpace(err.Error())) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintf(w, "recall: %s\n", line)
		}
	}
}

// panicSite names the line that panicked, so that a report of a bug is worth something.
func panicSite() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		frame, more := frames.Next()
		if strings.Contains(frame.Function, "dingrecall/") {
			return fmt.Sprintf(" (%s, line %d)", frame.Function, frame.Line)
		}
		if !more {
			return ""
		}
	}
}
