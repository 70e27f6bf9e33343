package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dingrecall/upstream/simulator"
)

// simulateFlags are what simulate is told.
type simulateFlags struct {
	addr      string
	config    simulator.Config
	style     string
	reasons   string
	already   string
	oldTokens string
	faults    []string
	statsFile string
	list      bool
}

func newSimulateCmd(a *app) *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Serve a stand-in for the service, to try recall without recalling anything",
		Long: `simulate answers as the service is documented to, so that the program can be tried against something that
recalls nothing: token endpoints, batchRecall and its likes for groups and private chats, with limits and error codes,
and readStatus. It knows every app key, every robot and every key, unless flags or the keys of examples/makekeys say
otherwise. It serves until it is stopped, and then says what it was asked, in one line.

A fault is NAME (always), NAME=PROBABILITY, or NAME with fields after commas: api= (batchRecall unless it says
readStatus or token), robot=, from=, to=, every=, times=. --list-faults names them all.

While it runs, http://ADDR/_sim/stats tells what it has seen so far.`,
		Example: `  recall simulate
  recall simulate --rate 20 --latency 80ms --jitter 40ms
  recall simulate --style whole --fault lost-answer=0.01 --fault qps,from=10,to=20
  recall simulate --fault permission,robot=dingrobot`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.list {
				return a.listFaults()
			}
			return a.simulate(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.addr, "addr", "127.0.0.1:8099", "listen on `HOST:PORT`; port 0 takes a free one")
	flags.IntVar(&f.config.Rate, "rate", 0, "refuse more than `N` calls a second of an app, as the real service does with 20; 0: no limit")
	flags.DurationVar(&f.config.Latency, "latency", 0, "answer after `DURATION`")
	flags.DurationVar(&f.config.Jitter, "jitter", 0, "answer up to `DURATION` later than that")
	flags.StringVar(&f.style, "style", "single", "what a bad key does: single (only it fails), whole (its call fails) or random")
	flags.StringVar(&f.reasons, "reason-style", "code", "how a key's failure is worded: code, prose, mixed or vague")
	flags.BoolVar(&f.config.NameKey, "name-key", false, "with a failed call, name the bad key in its message")
	flags.StringVar(&f.already, "already", "success", "what becomes of a key recalled before: success, notRevoke or invalid")
	flags.StringArrayVar(&f.faults, "fault", nil, "go wrong on purpose, as in `NAME=PROBABILITY`; may be given again")
	flags.StringSliceVar(&f.config.Robots, "robots", nil, "know only the robots `CODE,CODE`; without it, all")
	flags.Uint64Var(&f.config.Seed, "seed", 0, "decides all that is random: the same `N` and the same calls give the same answers")
	flags.DurationVar(&f.config.Window, "window", 24*time.Hour, "keys can be recalled for `DURATION` after sending")
	flags.DurationVar(&f.config.TokenLifetime, "token-life", 2*time.Hour, "access tokens live for `DURATION`")
	flags.StringVar(&f.oldTokens, "old-tokens", "live", "a third-party app's older tokens `HOW` when it asks again: live or die")
	flags.StringVar(&f.config.SuiteTicket, "suite-ticket", "", "take only `TEXT` for a suite ticket; without it, any")
	flags.Int64Var(&f.config.MonthlyCalls, "monthly", 0, "refuse more than `N` calls in a month; 0: no limit")
	flags.StringVar(&f.statsFile, "stats-json", "", "at the end, write all that was counted to `FILE` as JSON")
	flags.BoolVar(&f.list, "list-faults", false, "list the faults and what they do, and end")
	return cmd
}

// listFaults prints every fault there is.
func (a *app) listFaults() error {
	t := newTable("FAULT", "WHAT IT DOES")
	for _, fault := range simulator.Faults() {
		t.row(string(fault.Fault), fault.About)
	}
	return t.write(a.Out)
}

// simulate serves until ctx ends, which is how it is meant to end.
func (a *app) simulate(ctx context.Context, f simulateFlags) error {
	cfg := f.config
	cfg.Failure, cfg.Reasons, cfg.AlreadyRecalled = simulator.Failure(f.style), simulator.Reasons(f.reasons), simulator.Already(f.already)
	cfg.OldTokens = simulator.OldTokens(f.oldTokens)
	for _, text := range f.faults {
		rule, err := simulator.ParseFaultRule(text)
		if err != nil {
			return badInput(fmt.Errorf("--fault: %w", err))
		}
		cfg.Faults = append(cfg.Faults, rule)
	}
	if _, _, err := net.SplitHostPort(f.addr); err != nil {
		return badInput(fmt.Errorf("--addr: %q is not host:port; write it like 127.0.0.1:8099", f.addr))
	}
	if err := cfg.WithDefaults().Validate(); err != nil {
		return badInput(inFlags(err))
	}
	sim, err := simulator.New(cfg)
	if err != nil {
		return badInput(err)
	}
	save, err := openStatsFile(f.statsFile)
	if err != nil {
		return badInput(err)
	}
	server, err := sim.Listen(f.addr)
	if err != nil {
		return errors.Join(fmt.Errorf("%w; choose another with --addr", err), save(nil))
	}
	a.introduceSimulator(server.BaseURL())
	<-ctx.Done()
	err = server.Close()
	stats := sim.Stats()
	if _, printErr := fmt.Fprintln(a.Out, simulatorLine(stats)); printErr != nil {
		err = errors.Join(err, fmt.Errorf("printing the counts: %w", printErr))
	}
	return errors.Join(err, save(&stats))
}

// inFlags words the simulator's complaints about its settings with the names of the flags.
func inFlags(err error) error {
	flags := map[string]string{"failure": "style", "reasons": "reason-style", "alreadyRecalled": "already", "monthlyCalls": "monthly", "tokenLifetime": "token-life",
		"oldTokens": "old-tokens"}
	var all []error
	for line := range strings.Lines(err.Error()) {
		name, complaint, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if flag, ok := flags[name]; ok {
			name = flag
		}
		all = append(all, fmt.Errorf("--%s: %s", name, complaint))
	}
	return errors.Join(all...)
}

// introduceSimulator says where it is and how it is used.
func (a *app) introduceSimulator(baseURL string) {
	fmt.Fprintf(a.Out, `The simulator answers at %s. It takes any app key, secret, robotCode and key. In another terminal:

  export RECALL_UPSTREAM_BASE_URL=%s RECALL_APP_KEY=any RECALL_APP_SECRET=any
  recall run keys.txt --robot dingrobot

Ctrl-C ends it.
`, baseURL, baseURL)
}

// openStatsFile makes sure at once that the file can be written, since at the end it would be too late. save(nil) writes nothing.
func openStatsFile(path string) (save func(*simulator.Stats) error, err error) {
	if path == "" {
		return func(*simulator.Stats) error { return nil }, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--stats-json: %s; name a file that can be written", strings.TrimPrefix(err.Error(), "open "))
	}
	return func(s *simulator.Stats) error {
		var writeErr error
		if s != nil {
			enc := json.NewEncoder(file)
			enc.SetIndent("", "  ")
			writeErr = enc.Encode(s)
		}
		if err := errors.Join(writeErr, file.Close()); err != nil {
			return fmt.Errorf("--stats-json %s: %w", path, err)
		}
		return nil
	}, nil
}
