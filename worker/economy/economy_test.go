package economy

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dingrecall/upstream/simulator"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

var (
	full  = flag.Bool("full", false, "incidents of 20,000 keys, and a table of them")
	table = flag.String("table", "", "write the table to this `file`")
	seed  = flag.Uint64("seed", 1, "which keys are bad")
)

// The ways of a service are in the rows; the goals too.
var incidents = []incident{
	{name: "clean", most: 1},
	{name: "1 % expired, anywhere", failure: simulator.FailSingle, bad: simulator.Expired, share: 0.01, most: 1.01},
	{name: "1 % expired, anywhere", failure: simulator.FailWhole, bad: simulator.Expired, share: 0.01, most: 1.9},
	{name: "1 % expired, anywhere", failure: simulator.FailRandom, bad: simulator.Expired, share: 0.01, most: 1.9},
	{name: "30 % expired, the oldest", failure: simulator.FailSingle, bad: simulator.Expired, share: 0.3, oldest: true, most: 1.1},
	{name: "30 % expired, the oldest", failure: simulator.FailWhole, bad: simulator.Expired, share: 0.3, oldest: true, most: 1.1},
	{name: "30 % expired, the oldest", failure: simulator.FailRandom, bad: simulator.Expired, share: 0.3, oldest: true, most: 1.1},
	{name: "1 % invalid", failure: simulator.FailSingle, bad: simulator.Unknown, share: 0.01, most: 1.01},
	{name: "1 % invalid", failure: simulator.FailWhole, bad: simulator.Unknown, share: 0.01, most: 1.9},
	{name: "1 % invalid", failure: simulator.FailRandom, bad: simulator.Unknown, share: 0.01, most: 1.9},
	{name: "1 % invalid, named in the message", failure: simulator.FailWhole, named: true, bad: simulator.Unknown, share: 0.01, most: 1.3},
	{name: "1 % of another robot", failure: simulator.FailSingle, bad: simulator.Foreign, share: 0.01, most: 1.01},
	{name: "1 % of another robot", failure: simulator.FailWhole, bad: simulator.Foreign, share: 0.01, most: 1.9},
	{name: "1 % of another robot", failure: simulator.FailRandom, bad: simulator.Foreign, share: 0.01, most: 1.9},
	{name: "5 % of calls: system.error", fault: simulator.FaultRule{Fault: simulator.FaultSystemError, Probability: 0.05}, most: 1.1},
	{name: "10 % of answers lost", fault: simulator.FaultRule{Fault: simulator.FaultLostAnswer, Probability: 0.1}, most: 1.2},
	{name: "clean, time for 70 %", rush: 0.7, most: 1.05},
	{name: "1 % invalid, time for 70 %", failure: simulator.FailSingle, bad: simulator.Unknown, share: 0.01, rush: 0.7, most: 1.05, loses: 0.02},
	{name: "1 % invalid, time for 70 %", failure: simulator.FailWhole, bad: simulator.Unknown, share: 0.01, rush: 0.7, loses: 1},
}

// result is what an incident came to.
type result struct {
	incident
	good, calls, least, saved, savable int
	dead                               int
}

func (r result) ratio() float64 { return float64(r.calls) / float64(r.least) }

func TestEconomy(t *testing.T) {
	n, slack := 2000, 1.6 // what an incident costs once weighs more in a small one
	if *full {
		n, slack = 20_000, 1
	}
	results := make([]result, len(incidents))
	t.Run("incidents", func(t *testing.T) {
		for i, in := range incidents {
			if !*full && in.likeAnother() {
				continue
			}
			t.Run(in.name+" "+string(in.failure), func(t *testing.T) {
				t.Parallel()
				results[i] = measure(t, in, n)
				for _, what := range results[i].missed(n, slack) {
					t.Error(what)
				}
			})
		}
	})
	if *full {
		text := markdown(results)
		fmt.Print(text)
		if *table != "" {
			if err := os.WriteFile(*table, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// likeAnother is true of incidents that differ little from others, as far as the dispatch is concerned: they are run with -full only.
func (in incident) likeAnother() bool {
	return in.failure == simulator.FailRandom || in.bad == simulator.Foreign || in.bad == simulator.Expired && !in.oldest
}

// measure runs an incident of n keys to its end.
func measure(t *testing.T, in incident, n int) (r result) {
	t.Helper()
	rdb := openRedis(t)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		sim := newSimulator(t, in)
		e := newEngine(t, rdb, sim, keystore.Params{Slots: 4, SlotsCap: 12, Linger: time.Second, Life: life, LedgerTTL: 48 * time.Hour,
			Interval: time.Second / rate, Letter: 200, ProbeMax: time.Hour})
		b := in.broadcast(n, began)
		_, reply, err := e.store.Admit(e.ctx, keystore.Admission{RobotCode: robot, Keys: b.keys, SentAts: b.sent, Class: 1})
		if err == nil {
			err = e.after(e.ctx, "main", reply)
		}
		if err != nil {
			t.Fatal(err)
		}
		counts := e.untilSettled()
		r = result{incident: in, good: len(b.good), calls: int(sim.Stats().Calls), saved: int(counts.Recalled), savable: b.savable(began), dead: int(counts.Dead)}
		r.least = int(math.Ceil(float64(r.savable) / flow.MaxBatch))
		t.Logf("%d calls, %.3f, saved %d of %d, %v", r.calls, r.ratio(), r.saved, r.savable, time.Since(began))
	})
	return r
}

func newSimulator(t *testing.T, in incident) *simulator.Simulator {
	t.Helper()
	c := simulator.Config{Seed: 1, AnyToken: true, Failure: in.failure, NameKey: in.named, Latency: 100 * time.Millisecond, Jitter: 50 * time.Millisecond, Window: window}
	if in.fault.Fault != "" {
		c.Faults = []simulator.FaultRule{in.fault}
	}
	sim, err := simulator.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return sim
}

// goal gives the goal, in a small incident with slack where there is something to search for.
func (r result) goal(slack float64) float64 {
	if r.most < 1.05 {
		return r.most
	}
	return r.most * slack
}

// missed tells which goals a result misses. Ratios are compared to two decimals.
func (r result) missed(n int, slack float64) []string {
	var out []string
	if goal := r.goal(slack); r.most > 0 && math.Round(100*r.ratio()) > math.Round(100*goal) {
		out = append(out, fmt.Sprintf("%d calls where %d are the least: %.3f, and the goal is %.3f", r.calls, r.least, r.ratio(), goal))
	}
	if least := int(float64(r.savable) * (1 - r.loses*slack*slack)); r.saved < least {
		out = append(out, fmt.Sprintf("%d keys saved of %d that could have been", r.saved, r.savable))
	}
	if r.saved+r.dead != n {
		out = append(out, fmt.Sprintf("%d keys saved and %d dead of %d", r.saved, r.dead, n))
	}
	return out
}

func TestAGoalCanBeMissed(t *testing.T) {
	good := result{incident: incident{most: 1.9}, calls: 190, least: 100, saved: 2000, savable: 2000}
	if m := good.missed(2000, 1); len(m) > 0 {
		t.Errorf("%q", m)
	}
	for what, spoil := range map[string]func(*result){
		"a call too many":     func(r *result) { r.calls = 191 },
		"a key not saved":     func(r *result) { r.saved, r.dead = 1999, 1 },
		"a key unaccounted":   func(r *result) { r.savable, r.saved = 1999, 1999 },
		"more than are there": func(r *result) { r.dead = 1 },
	} {
		r := good
		spoil(&r)
		if len(r.missed(2000, 1)) != 1 {
			t.Errorf("%s: %q", what, r.missed(2000, 1))
		}
	}
}

func markdown(results []result) string {
	var b strings.Builder
	b.WriteString("| incident | service fails | calls | least | calls/least | goal | saved | could be |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, r := range results {
		how := string(r.failure)
		if how == "" {
			how = "-"
		}
		goal := "-"
		if r.most > 0 {
			goal = fmt.Sprintf("%.2f", r.most)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %.3f | %s | %d | %d |\n", r.name, how, r.calls, r.least, r.ratio(), goal, r.saved, r.savable)
	}
	return b.String()
}
