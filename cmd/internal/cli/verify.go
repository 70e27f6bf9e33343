package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/config"
	"dingrecall/tasks"
	"dingrecall/worker"
)

// askAbove is how many calls verify makes without asking whether that is meant.
const askAbove = 20

// verifyFlags are what verify is told.
type verifyFlags struct {
	filter    worker.DeadFilter
	file      string
	dead      bool
	yes, json bool
}

func newVerifyCmd(a *app) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [KEY...]",
		Short: "Ask the service whether messages are recalled of which an answer was lost, and settle it",
		Long: `A call whose answer never came may have recalled its messages. Its keys are tried again like others; one that then dies
is marked as ambiguous, since the later failure does not prove that its message still stands. verify asks the service what became of
such messages (readStatus), and writes it down: a key whose message is recalled counts as recalled from then on and leaves its dead letter;
one whose message stands stays dead, and is certain to.

The keys are those given, those of a file (--file; a report is one), or those of the dead letters that are ambiguous (--dead, fewer with
--app, --robot, --incident and --code). Of a file and of dead letters only the ambiguous are asked about.

Each key costs one call of the month, and the calls take turns with those of the workers. Over 20 are made only after a question, or
with --yes. Nothing is asked where the answer would tell nothing: of keys that wait or are recalled, that were sent over 24 hours ago, or
to a group or private chat, for which the service has no such call. Where five calls in a row come to nothing, it ends. It needs the
app's credentials and no running worker, and the Redis whose key store has the keys, also with --file. After "recall run" without --redis
there is none: run again with --resume REPORT and --redis ADDR, which tries once more what is not recalled, then verify by KEY what is dead.

Exit status: 0 all messages are recalled, 3 some stand or it is not known, 2 flags or configuration are wrong, 4 interrupted, 5 the
app is on hold, 1 anything else failed.`,
		Example: `  recall verify --dead --incident 2026-03-02-coupon
  recall verify Kna29Ra5pdJznx1ghavbumkQKwDzgfxZLapw55G7x0Q= --robot dingue4kfzdxbyn0pjqd
  recall verify --file out.csv --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, keys []string) error {
			if err := f.validate(keys); err != nil {
				return badInput(err)
			}
			return a.verify(cmd, f, keys)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.dead, "dead", false, "the keys of all dead letters that are ambiguous")
	flags.StringVar(&f.file, "file", "", "the keys of `FILE`, as of run and submit; - for standard input")
	flags.StringVar(&f.filter.App, "app", "", "with --dead, only of the app `NAME`")
	flags.StringVar(&f.filter.RobotCode, "robot", "", "only of the robot `CODE`; in a file, that of the rows that name none")
	flags.StringVar(&f.filter.Incident, "incident", "", "with --dead, only of the incident `NAME`")
	flags.StringVar(&f.filter.Code, "code", "", "with --dead, only those that died of `CODE`")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask whether the calls are meant")
	flags.BoolVar(&f.json, "json", false, "print one JSON object a line")
	return cmd
}

func (f verifyFlags) validate(keys []string) error {
	ways := 0
	for _, given := range []bool{len(keys) > 0, f.file != "", f.dead} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("say which keys: KEY..., --file FILE or --dead, one of the three")
	}
	if !f.dead && (f.filter.App != "" || f.filter.Incident != "" || f.filter.Code != "") {
		return errors.New("--app, --incident and --code choose among the dead letters: add --dead")
	}
	for i, key := range keys {
		if err := tasks.CheckKey(key); err != nil {
			return fmt.Errorf("key %d %w", i+1, err)
		}
	}
	return nil
}

// verify is the command, from its flags to its exit status.
func (a *app) verify(cmd *cobra.Command, f verifyFlags, keys []string) error {
	ctx := cmd.Context()
	cfg, err := a.loadConfig(cmd, needApps)
	if err != nil {
		return err
	}
	if names := appNames(cfg); f.filter.App != "" && !slices.Contains(names, f.filter.App) {
		return badInput(fmt.Errorf("--app: no configured app is called %q; there is %s", f.filter.App, strings.Join(names, ", ")))
	}
	rdb, err := openRedis(ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	log := cfg.Log
	log.Level = "warn"
	v, err := worker.NewVerifier(workerConfig(cfg), worker.Deps{Redis: rdb, Log: a.newLogger(log, a.Err)})
	if err != nil {
		return fmt.Errorf("setting up: %w", err)
	}
	defer v.Close()
	plan := &worker.VerifyPlan{}
	switch {
	case f.dead:
		err = planDead(ctx, v, plan, worker.NewInspector(rdb, appNames(cfg)), f.filter)
	case f.file != "":
		err = a.planFile(ctx, v, plan, f)
	default:
		err = v.Plan(ctx, plan, f.filter.RobotCode, slices.Compact(slices.Sorted(slices.Values(keys))), false)
	}
	if err != nil {
		return err
	}
	if len(plan.Keys()) == 0 {
		return a.say("no key of that kind has lost an answer: there is nothing to verify")
	}
	if err := a.confirmCalls(ctx, cfg, plan, f); err != nil {
		return err
	}
	return a.runVerify(ctx, v, plan, f.json)
}

// planDead plans the keys of ambiguous dead letters.
func planDead(ctx context.Context, v *worker.Verifier, plan *worker.VerifyPlan, insp *worker.Inspector, filter worker.DeadFilter) error {
	filter.Ambiguous = true
	return insp.DeadLetters(ctx, filter, func(d worker.DeadTask) error { return v.PlanLetter(ctx, plan, d.Letter) })
}

// verifyRows is how many keys of a file are looked up together.
const verifyRows = 1000

// planFile plans the keys of a file.
func (a *app) planFile(ctx context.Context, v *worker.Verifier, plan *worker.VerifyPlan, f verifyFlags) error {
	file, err := keyfile.Open(f.file, keyfile.Options{Robot: f.filter.RobotCode, Now: a.Now, Stdin: a.In})
	if err != nil {
		return badInput(err)
	}
	defer func() { _ = file.Close() }()
	pending := map[keyfile.Target][]string{}
	flush := func(of keyfile.Target) error {
		keys := pending[of]
		delete(pending, of)
		return v.PlanOf(ctx, plan, worker.Target{RobotCode: of.RobotCode, Conversation: worker.Conversation(of.Conversation)}, keys, true)
	}
	var seen keyfile.Set
	err = file.Scan(ctx, func(r keyfile.Row) error {
		of := r.Target()
		if !seen.Add(of, r.Key) {
			return nil
		}
		if pending[of] = append(pending[of], r.Key); len(pending[of]) < verifyRows {
			return nil
		}
		return flush(of)
	}, func(b keyfile.Bad) error {
		return badInput(fmt.Errorf("%s line %d: %s", file.Name(), b.Line, b.Reason))
	})
	for of := range pending {
		if err == nil {
			err = flush(of)
		}
	}
	return err
}

// confirmCalls says what the plan costs, and asks where that is much.
func (a *app) confirmCalls(ctx context.Context, cfg *config.Config, plan *worker.VerifyPlan, f verifyFlags) error {
	calls := plan.Calls()
	total := 0
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		total += calls[name]
		part := counted(calls[name], "call", "calls") + " of app " + name
		for _, app := range cfg.Apps {
			if app.Name != name {
				continue
			}
			if app.MonthlyCalls > 0 {
				part += fmt.Sprintf(", of %s a month", thousands(app.MonthlyCalls))
			} else {
				part += ", which the month counts"
			}
			if app.Rate > 0 {
				part += fmt.Sprintf(", at %s a second about %s", decimal(app.Rate), roughly(time.Duration(float64(calls[name])/app.Rate*float64(time.Second))))
			}
		}
		parts = append(parts, part)
	}
	if total == 0 {
		return nil
	}
	cost := strings.Join(parts, "; ")
	if f.yes || total <= askAbove {
		fmt.Fprintf(a.Err, "recall: verifying takes %s\n", cost)
		return nil
	}
	if !a.IsTerminal(a.In) {
		return badInput(fmt.Errorf("verifying takes %s; add --yes if that is meant", cost))
	}
	yes, err := a.askYes(ctx, "Verifying takes "+cost+". Go on?")
	if err == nil && !yes {
		err = withExit(ExitInterrupted, errors.New("nothing was asked"))
	}
	return err
}

// verifiedView is what came of a key, in the shape of --json.
type verifiedView struct {
	Key       string `json:"key"`
	App       string `json:"app,omitempty"`
	RobotCode string `json:"robotCode,omitempty"`
	tasks.Conversation
	State  string `json:"state"` // before
	Result string `json:"result"`
	Why    string `json:"why,omitempty"`
	Code   string `json:"code,omitempty"`
}

// runVerify runs a plan and prints what comes of it, key by key.
func (a *app) runVerify(ctx context.Context, v *worker.Verifier, plan *worker.VerifyPlan, asJSON bool) error {
	n := map[worker.VerifyResult]int{}
	recalled, done := 0, 0
	err := v.Run(ctx, plan, func(k worker.Verified) error {
		done++
		n[k.Result]++
		if k.Result == worker.VerifyRecalled || k.Key.State == worker.KeyRecalled {
			recalled++
		}
		if asJSON {
			return writeJSON(a.Out, verifiedView{k.Key.Key, k.App, k.Key.RobotCode, tasks.Conversation(k.Key.Conversation), k.Key.State.String(),
				string(k.Result), k.Why, k.Code}, false)
		}
		return a.say("%s  %-10s %s", k.Key.Key, k.Result, strings.Join(nonEmpty(k.Code, k.Why), ": "))
	})
	if !asJSON && done > 0 {
		a.summariseVerify(n)
	}
	left := len(plan.Keys()) - done
	switch {
	case errors.Is(err, worker.ErrAppHeld):
		return withExit(ExitHeld, err)
	case ctx.Err() != nil:
		return withExit(ExitInterrupted, fmt.Errorf("interrupted with %s left; what was heard is written", counted(left, "key", "keys")))
	case err != nil && left > 0:
		return fmt.Errorf("%w; %s left, and the same command goes on with them", err, counted(left, "key is", "keys are"))
	case err != nil:
		return err
	case recalled < done:
		return exitOnly(ExitSomeDead)
	}
	return nil
}

func (a *app) summariseVerify(n map[worker.VerifyResult]int) {
	var parts []string
	for _, p := range []struct {
		result worker.VerifyResult
		what   string
	}{
		{worker.VerifyRecalled, "recalled after all"}, {worker.VerifyStands, "not recalled: the message stands"}, {worker.VerifyProcessing, "still in work over there: ask again"},
		{worker.VerifyFailed, "without an answer"}, {worker.VerifySkipped, "not asked about"},
	} {
		if n[p.result] > 0 {
			parts = append(parts, thousands(n[p.result])+" "+p.what)
		}
	}
	fmt.Fprintf(a.Out, "\n%s\n", strings.Join(parts, ", "))
}
