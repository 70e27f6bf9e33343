package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dingrecall/cmd/internal/report"
	"dingrecall/config"
	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
)

// runFlags are the flags of run beside those of its file.
type runFlags struct {
	keys     keyFlags
	report   string
	resume   string
	progress string
	rate     float64
	rateSet  bool
	// budget is how many calls each app may make in this month; budgetSet: it is given.
	budget    int
	budgetSet bool
	holdWait  time.Duration
	redisSet  bool
	// logLevelSet: --log-level is given. Else only warnings are logged.
	logLevelSet bool
	simulate    bool
	sim         simFlags
}

// simFlags say how the simulator in this process behaves.
type simFlags struct {
	latency time.Duration
	rate    int
	style   string
	seed    uint64
	faults  []string
}

// simulatedApp is the name of the app that --simulate works with.
const simulatedApp = "simulated"

func newRunCmd(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run FILE",
		Short: "Recall all keys of a file, and wait until each has come to its end",
		Long: `run does the whole job in this process: it reads a file of keys (- for standard input), checks all of it, recalls the
messages, and says what became of each key. It keeps its state in memory, so that it needs no Redis; what lasts is the
report, with which a later run goes on (--resume). With --redis the state is there instead, and other workers help.

An interrupt (Ctrl-C) ends it: the calls in flight are finished, and the report is written.

Exit status: 0 all keys are recalled, 3 some could not be, 2 the file, a flag or the configuration is wrong and nothing was
sent, 4 interrupted, 5 an app is on hold and keys are left, 1 anything else failed.`,
		Example: `  recall run keys.csv --dry-run
  recall run keys.csv --report out.csv
  recall run keys.csv --resume out.csv --report next.csv
  recall run keys.txt --robot dingue4kfzdxbyn0pjqd --sent-at 2h
  recall run keys.csv --simulate`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.rateSet = cmd.Flags().Changed("rate")
			f.budgetSet = cmd.Flags().Changed("budget")
			f.redisSet = cmd.Flags().Changed("redis")
			f.logLevelSet = cmd.Flags().Changed("log-level")
			return a.run(cmd, args[0], f)
		},
	}
	f.keys.register(cmd, "run- and the time")
	flags := cmd.Flags()
	flags.StringVar(&f.report, "report", "", "write what became of each key to `FILE`, as CSV")
	flags.StringVar(&f.resume, "resume", "", "leave out the keys that the earlier report `FILE` has as recalled")
	flags.StringVar(&f.progress, "progress", progressAuto, "`HOW` to show progress: auto, bar, plain or none")
	flags.Float64Var(&f.rate, "rate", 0, "calls a second of each app, instead of the configured rate; 0: no limit")
	flags.IntVar(&f.budget, "budget", 0, "calls of each app in this month, instead of the configured ones (monthlyCalls); 0: no limit")
	flags.DurationVar(&f.holdWait, "hold-wait", 0, "how long to wait on when all that is left waits for an app on hold; negative: for ever")
	flags.BoolVar(&f.simulate, "simulate", false, "call a simulator in this process instead of the service; needs no credentials")
	flags.DurationVar(&f.sim.latency, "sim-latency", 50*time.Millisecond, "simulator: `TIME` that an answer takes")
	flags.IntVar(&f.sim.rate, "sim-rate", 0, "simulator: calls a second above which it throttles; 0: never")
	flags.StringVar(&f.sim.style, "sim-style", "", "simulator: what a bad key does to its call: single, whole or random")
	flags.Uint64Var(&f.sim.seed, "sim-seed", 1, "simulator: seed of all that is random")
	flags.StringArrayVar(&f.sim.faults, "sim-fault", nil, "simulator: `FAULT` to strike, as system-error=0.05; may be repeated")
	return cmd
}

// run is the command, from its flags to its exit status.
func (a *app) run(cmd *cobra.Command, path string, f runFlags) error {
	ctx := cmd.Context()
	cfg, err := a.runConfig(cmd, f)
	if err != nil {
		return err
	}
	view, err := a.newProgress(f.progress)
	if err != nil {
		return err
	}
	earlier, err := a.readEarlier(f.resume)
	if err != nil {
		return err
	}
	in, err := a.openKeys(ctx, path, f.keys, "run-"+a.Now().UTC().Format("20060102T150405Z"), earlier.skip())
	if err != nil {
		return err
	}
	defer in.Close()
	if f.keys.dryRun {
		return a.printPlan(cfg, in, f.keys.skipBad != "")
	}
	if missing := robotsWithoutApp(cfg, in.summary); len(missing) > 0 {
		return badInput(errors.New(explainMissing(missing, in.summary.Name)))
	}
	j := &job{app: a, cfg: cfg, flags: f, in: in, earlier: earlier, progress: view}
	if f.report != "" {
		if j.report, err = report.Create(f.report); err != nil {
			return badInput(err)
		}
		defer j.report.Abort()
	}
	return j.do(ctx)
}

// runConfig is the configuration of a run: with --simulate that of an app of its own, and no secrets are read.
func (a *app) runConfig(cmd *cobra.Command, f runFlags) (*config.Config, error) {
	what := needApps
	if f.simulate || f.keys.dryRun {
		what = needRedis
	}
	cfg, err := a.loadConfig(cmd, what)
	if err != nil {
		return nil, err
	}
	if f.simulate {
		cfg.Apps = []config.App{{Name: simulatedApp, Kind: upstream.KindInternal, AppKey: "simulated", AppSecret: "simulated", Rate: config.DefaultRate, BudgetZone: config.DefaultBudgetZone, Robots: []string{config.AnyRobot}}}
	}
	if f.rateSet {
		if f.rate < 0 || math.IsNaN(f.rate) || math.IsInf(f.rate, 0) {
			return nil, badInput(fmt.Errorf("--rate: %v is no rate; give calls a second, or 0 for no limit", f.rate))
		}
		for i := range cfg.Apps {
			cfg.Apps[i].Rate = f.rate
		}
		if problems := cfg.Validate(); len(problems) > 0 {
			return nil, badInput(fmt.Errorf("--rate: %w", problems.Err()))
		}
	}
	if f.budgetSet {
		for i := range cfg.Apps {
			cfg.Apps[i].MonthlyCalls, cfg.Apps[i].UrgentReserve = f.budget, min(cfg.Apps[i].UrgentReserve, max(0, f.budget))
		}
		if problems := cfg.Validate(); len(problems) > 0 {
			return nil, badInput(fmt.Errorf("--budget: %w", problems.Err()))
		}
	}
	return cfg, nil
}

// startSimulator serves a simulator and points the configuration to it.
func startSimulator(f simFlags, cfg *config.Config) (*simulator.Simulator, *simulator.Server, error) {
	sc := simulator.Config{Seed: f.seed, Latency: f.latency, Rate: f.rate, Failure: simulator.Failure(f.style)}
	for _, text := range f.faults {
		rule, err := simulator.ParseFaultRule(text)
		if err != nil {
			return nil, nil, badInput(fmt.Errorf("--sim-fault %s: %w", text, err))
		}
		sc.Faults = append(sc.Faults, rule)
	}
	sim, err := simulator.New(sc)
	if err != nil {
		return nil, nil, badInput(fmt.Errorf("--sim-...: %s", strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	server, err := sim.Listen("")
	if err != nil {
		return nil, nil, fmt.Errorf("starting the simulator: %w", err)
	}
	cfg.Upstream.BaseURL = server.BaseURL()
	return sim, server, nil
}

// checkCredentials fetches a token for each app that the file needs, so that a wrong secret or a dead network shows before anything
// is handed over. Nothing is recalled by it.
func checkCredentials(ctx context.Context, cfg *config.Config, in *keyInput, w *worker.Worker) error {
	client, err := upstream.New(cfg.Upstream)
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	defer client.Close()
	needed := map[string]bool{}
	for _, robot := range in.summary.Robots() {
		if app, ok := cfg.AppOf(robot); ok {
			needed[app.Name] = true
		}
	}
	for _, app := range cfg.Apps {
		if !needed[app.Name] {
			continue
		}
		_, err := tryToken(ctx, app, client, w)
		var answer *upstream.Error
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return err
		case errors.As(err, &answer) && answer.Verdict(1).Scope == upstream.AppHold:
			return badInput(fmt.Errorf("app %q at %s: %w", app.Name, cfg.Upstream.BaseURL, err))
		default:
			return fmt.Errorf("app %q at %s: %w", app.Name, cfg.Upstream.BaseURL, err)
		}
	}
	return nil
}
