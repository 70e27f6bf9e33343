package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"dingrecall/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is what a run of the program left behind.
type result struct {
	code     int
	out, err string
}

// run runs the program as a shell would.
func run(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := Run(t.Context(), Env{Out: &out, Err: &errs, Args: args, Environ: environ, Version: "v0.0.0-test"})
	return result{code, out.String(), errs.String()}
}

var oneApp = []string{"RECALL_APP_KEY=dingx", "RECALL_APP_SECRET=hunter22"}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recall.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOneLineErrors: what a person does wrong gives one line that says what to do, and status 2.
func TestOneLineErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown command": {[]string{"chek"}, `there is no command "chek". Did you mean "check"? See "recall --help" for those there are`},
		"strange command": {[]string{"zzzzzzzz"}, `there is no command "zzzzzzzz". See "recall --help" for those there are`},
		"unknown flag":    {[]string{"check", "--onlin"}, `unknown flag: --onlin; did you mean --online? Otherwise see "recall check --help"`},
		"persistent flag": {[]string{"check", "--log-levle", "x"}, `unknown flag: --log-levle; did you mean --log-level? Otherwise see "recall check --help"`},
		"strange flag":    {[]string{"check", "--zzzzzzz"}, `unknown flag: --zzzzzzz; see "recall check --help"`},
		"shorthand":       {[]string{"check", "-z"}, `unknown shorthand flag: 'z' in -z; see "recall check --help"`},
		"flag, no value":  {[]string{"check", "--redis"}, `flag needs an argument: --redis; see "recall check --help"`},
		"bad bool":        {[]string{"check", "--online=maybe"}, `invalid argument "maybe" for "--online" flag`},
		"argument":        {[]string{"check", "recall.yaml"}, `recall check takes no arguments, but got "recall.yaml"; see "recall check --help"`},
		"no file":         {[]string{"check", "-c", "/nowhere.yaml"}, "/nowhere.yaml: cannot read the configuration: no such file; name another with --config"},
		"empty file name": {[]string{"check", "-c", ""}, "--config: the name of a file is missing"},
		"bad flag value":  {[]string{"check", "--log-level", "loud"}, `--log-level: log.level: "loud" is not known; choose one of debug, info, warn, error`},
		"bad address":     {[]string{"check", "--redis", "nowhere"}, `--redis: redis.addr: "nowhere" is not host:port; write it like 127.0.0.1:6379`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := run(t, oneApp, c.args...)
			if got.code != ExitBadInput || got.out != "" || !strings.HasPrefix(got.err, "recall: "+c.want) || strings.Count(got.err, "\n") != 1 {
				t.Errorf("status %d, output %q, error\n%s want\nrecall: %s", got.code, got.out, got.err, c.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--help"}, {"help"}} {
		got := run(t, nil, args...)
		if got.code != ExitOK || got.err != "" {
			t.Errorf("%v: status %d, error %q", args, got.code, got.err)
		}
		for _, want := range []string{"24 hours", "recall [command]", "check", "version", "--config FILE", "RECALL_CONFIG", "--redis ADDR"} {
			if !strings.Contains(got.out, want) {
				t.Errorf("%v: no %q in\n%s", args, want, got.out)
			}
		}
	}
}

// TestEveryCommandHasHelp holds each command, whoever adds it, to the manners of the others.
func TestEveryCommandHasHelp(t *testing.T) {
	t.Parallel()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || (cmd.RunE == nil && cmd.Name() != "help") || strings.HasSuffix(cmd.Short, ".") == cmd.HasParent() {
			t.Errorf("%s: wants a one-line Short without a full stop, and RunE", cmd.CommandPath())
		}
		if cmd.HasParent() && cmd.Args == nil && cmd.Name() != "help" {
			t.Errorf("%s: wants Args (noArgs, say), or it takes anything", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	root := newRoot(&app{Env: Env{}.withDefaults()})
	if len(root.Commands()) <= len(commands) {
		t.Fatal("not every command is there")
	}
	visit(root)
}

func TestVersion(t *testing.T) {
	t.Parallel()
	got := run(t, nil, "version")
	if got.code != ExitOK || !strings.HasPrefix(got.out, "recall v0.0.0-test\ngo1.") || !strings.Contains(got.out, "\nasynq ") {
		t.Errorf("%+v", got)
	}
	if got = run(t, nil, "--version"); got.out != "recall v0.0.0-test\n" {
		t.Errorf("%+v", got)
	}
	if buildVersion() == "" {
		t.Error("the build has no version")
	}
}

// withCommand runs the program with one more command, whose code is given.
func withCommand(ctx context.Context, body func(a *app, cmd *cobra.Command) error, args ...string) result {
	var out, errs bytes.Buffer
	a := &app{Env: Env{Out: &out, Err: &errs, Args: append([]string{"extra"}, args...)}.withDefaults()}
	code := a.execute(ctx, func(a *app) *cobra.Command {
		cmd := &cobra.Command{Use: "extra", Short: "Extra", RunE: func(cmd *cobra.Command, _ []string) error { return body(a, cmd) }}
		cmd.Flags().String("linger", "", "")
		cmd.Flags().String("needed", "", "")
		bindConfig(cmd.Flags(), "linger", "worker.linger")
		if err := cmd.MarkFlagRequired("needed"); err != nil {
			panic(err)
		}
		return cmd
	})
	return result{code, out.String(), errs.String()}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		code int
		text string
	}{
		"ok":              {t.Context(), nil, ExitOK, ""},
		"failure":         {t.Context(), errors.New("no disk"), ExitFailure, "recall: no disk\n"},
		"bad input":       {t.Context(), badInput(errors.New("bad line")), ExitBadInput, "recall: bad line\n"},
		"wrapped":         {t.Context(), fmt.Errorf("reading: %w", badInput(errors.New("bad line"))), ExitBadInput, "recall: reading: bad line\n"},
		"nil stays nil":   {t.Context(), withExit(ExitHeld, nil), ExitOK, ""},
		"dead, said":      {t.Context(), exitOnly(ExitSomeDead), ExitSomeDead, ""},
		"held":            {t.Context(), withExit(ExitHeld, errors.New("on hold")), ExitHeld, "recall: on hold\n"},
		"problems":        {t.Context(), config.Problems{{Path: "a", Message: "is bad"}, {Path: "b", Message: "too"}}, ExitBadInput, "recall: a: is bad\nrecall: b: too\n"},
		"two failures":    {t.Context(), errors.Join(errors.New("one"), errors.New("two")), ExitFailure, "recall: one\nrecall: two\n"},
		"interrupted":     {cancelled, fmt.Errorf("waiting: %w", context.Canceled), ExitInterrupted, "recall: interrupted (waiting: context canceled)\n"},
		"cancelled, own":  {t.Context(), fmt.Errorf("waiting: %w", context.Canceled), ExitFailure, "recall: waiting: context canceled\n"},
		"interrupted, ok": {cancelled, nil, ExitOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := withCommand(c.ctx, func(*app, *cobra.Command) error { return c.err }, "--needed=1")
			if got.code != c.code || got.err != c.text {
				t.Errorf("status %d, error %q; want %d, %q", got.code, got.err, c.code, c.text)
			}
		})
	}
}

func TestMissingFlagIsBadInput(t *testing.T) {
	t.Parallel()
	got := withCommand(t.Context(), func(*app, *cobra.Command) error { t.Error("the command ran"); return nil })
	if got.code != ExitBadInput || got.err != "recall: required flag(s) \"needed\" not set\n" {
		t.Errorf("%+v", got)
	}
}

func TestPanicDoesNotReachTheUser(t *testing.T) {
	t.Parallel()
	got := withCommand(t.Context(), func(*app, *cobra.Command) error { panic("boom\nboom") }, "--needed=1")
	if got.code != ExitFailure || !strings.HasPrefix(got.err, "recall: this is a bug in recall, please report it: boom boom (dingrecall/cmd/internal/cli.") ||
		strings.Count(got.err, "\n") != 1 {
		t.Errorf("%+v", got)
	}
}

func TestBoundFlagsOverrideTheConfiguration(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"3s": 3 * time.Second, "": time.Second} {
		args := []string{"--needed=1"}
		if value != "" {
			args = append(args, "--linger", value)
		}
		var got time.Duration
		r := withCommand(t.Context(), func(a *app, cmd *cobra.Command) error {
			cfg, err := a.loadConfig(cmd, needRedis)
			if err == nil {
				got = cfg.Worker.Linger
			}
			return err
		}, args...)
		if r.code != ExitOK || got != want {
			t.Errorf("--linger %q: %v, want %v (%+v)", value, got, want, r)
		}
	}
}

// TestSecretsOnlyWhereNeeded: a host that only submits can share the file without being able to read the apps' secrets.
func TestSecretsOnlyWhereNeeded(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "apps:\n  - {name: main, appKey: k, appSecretFile: nowhere}\n")
	for what, code := range map[need]int{needRedis: ExitOK, needApps: ExitBadInput} {
		got := withCommand(t.Context(), func(a *app, cmd *cobra.Command) error {
			_, err := a.loadConfig(cmd, what)
			return err
		}, "--needed=1", "--config", file)
		if got.code != code || (code != ExitOK) != strings.Contains(got.err, "apps[0].appSecretFile") {
			t.Errorf("need %d: %+v", what, got)
		}
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	env := Env{Environ: []string{"A=1", "AB=2", "A=3"}}.withDefaults()
	if env.Getenv("A") != "3" || env.Getenv("B") != "" {
		t.Errorf("A=%q B=%q", env.Getenv("A"), env.Getenv("B"))
	}
	if n, err := env.In.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("an input that is not given is not empty: %d %v", n, err)
	}
	if env.IsTerminal(os.Stdout) || env.Version == "" || env.Now().IsZero() {
		t.Errorf("%+v", env)
	}
	if file, err := os.CreateTemp(t.TempDir(), ""); err != nil || FromOS().IsTerminal(file) || FromOS().IsTerminal(&bytes.Buffer{}) {
		t.Errorf("a file is taken for a terminal, or %v", err)
	} else if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
