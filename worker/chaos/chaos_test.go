package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dingrecall/worker/internal/proctest"
)

var (
	duration = flag.Duration("duration", 0, "break things for so long, every fault at least once; 0: a few faults once, for every day")
	seed     = flag.Uint64("seed", 1, "decides moments, victims and sizes; 0: another one each time")
	only     = flag.String("fault", "", "only faults whose name matches this `regexp`")
	worlds   = flag.Int("worlds", 6, "trials at once")
	table    = flag.String("table", "", "write the table to this `file`")
)

func TestMain(m *testing.M) { os.Exit(proctest.Main(m)) }

// nextSeed is between the seeds of two trials of a fault.
const nextSeed = 1_000_003

// TestChaos tries the faults, some at once, each in a world of its own. It begins with those that take longest.
func TestChaos(t *testing.T) {
	pattern := regexp.MustCompile(*only)
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano() % 1_000_000) //nolint:gosec // not negative
	}
	s := &schedule{seed: *seed, results: map[string]*result{}}
	for _, f := range faults {
		if pattern.MatchString(f.name) && (*duration > 0 || *only != "" || f.short) {
			s.faults = append(s.faults, f)
		}
	}
	if len(s.faults) == 0 {
		t.Fatalf("no fault matches %q", *only)
	}
	slices.SortStableFunc(s.faults, func(a, b fault) int { return int(b.takes - a.takes) })
	proctest.Recall(t) // before the clock of any trial runs, like the other one
	if slices.ContainsFunc(s.faults, func(f fault) bool { return f.skewed }) {
		skewedRecall(t)
	}
	s.end = time.Now().Add(*duration)
	began := time.Now()
	var all sync.WaitGroup
	for range *worlds {
		all.Go(func() {
			for f, n, ok := s.take(); ok; f, n, ok = s.take() {
				t.Run(fmt.Sprintf("%s/%d", f.name, n+1), func(t *testing.T) { trial(t, f, s, s.seed+uint64(n)*nextSeed) })
			}
		})
	}
	all.Wait()
	text := s.table()
	fmt.Printf("seed %d, %d trials at once, %v\n\n%s", s.seed, *worlds, time.Since(began).Round(time.Second), text)
	if *table != "" {
		if err := os.WriteFile(*table, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// schedule hands out the trials and gathers what they came to.
type schedule struct {
	seed   uint64
	end    time.Time
	faults []fault

	mu      sync.Mutex // guards all below
	results map[string]*result
	handed  int
}

// take gives the next trial: each fault once, and then in turn those that still have the time.
func (s *schedule) take() (f fault, n int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.faults {
		f = s.faults[s.handed%len(s.faults)]
		n = s.handed / len(s.faults)
		s.handed++
		if n == 0 || time.Now().Add(f.takes).Before(s.end) {
			return f, n, true
		}
	}
	return fault{}, 0, false
}

// result is what the trials of a fault came to.
type result struct {
	trials, keys, lost, forgot, violations int
	twice                                  []int
	resumed, tookOver, waited, ended       []time.Duration
}

// trial lets one fault strike one world.
func trial(t *testing.T, f fault, s *schedule, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Logf("again: go test -count=1 ./worker/chaos -run TestChaos -v -fault '^%s$' -seed %d", regexp.QuoteMeta(f.name), seed)
		}
	}()
	w := newWorld(t, seed, f.redis...)
	w.producers.start(context.Background(), backlog)
	t.Cleanup(w.producers.abandon)
	proctest.Until(t, time.Minute, "the world goes round", func() bool { return w.service.count(time.Time{}) > 10 })
	w.pause(w.between(0, 1500*time.Millisecond))
	w.struckAt = time.Now()
	w.over = time.Time{}
	f.do(w)
	if w.over.IsZero() {
		w.over = time.Now()
	}
	if !proctest.WaitFor(quietAfter, func() bool { return w.service.count(w.over) > 0 }) {
		t.Errorf("no key was recalled within %v after the fault", quietAfter)
	}
	w.pause(w.between(time.Second, 3*time.Second))
	w.producers.end()
	if !proctest.WaitFor(quietAfter, w.quiet) {
		st, err := w.insp.Status(context.Background())
		t.Errorf("something still moves %v after the fault: %+v, %v", quietAfter, st, err)
	}
	j := w.judge(f)
	for _, what := range j.faults {
		t.Error(what)
	}
	w.measure(f, s, j)
}

// takenOverIn is how long after the death of a worker the last of the keys in its calls is called again, at most.
const takenOverIn = 45 * time.Second

// measure adds a trial to the results, and fails it where others took too long to take over.
func (w *world) measure(f fault, s *schedule, j judged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.results[f.name]
	if r == nil {
		r = &result{}
		s.results[f.name] = r
	}
	r.trials++
	r.keys += j.keys
	r.lost += j.lost
	r.forgot += j.forgot
	r.twice = append(r.twice, j.twice)
	r.ended = append(r.ended, w.ended...)
	if first, _ := w.service.firstGood(w.over); first != nil {
		r.resumed = append(r.resumed, first.start.Sub(w.over))
		w.Logf("%d keys, %d called twice, %d forgotten by Redis, resumed after %v", j.keys, j.twice, j.forgot, first.start.Sub(w.over))
	}
	took, waited := w.takeover()
	if f.takesOver || f.waits {
		r.waited = append(r.waited, waited)
	}
	if f.takesOver {
		r.tookOver = append(r.tookOver, took)
		if took > takenOverIn {
			w.Errorf("the last key of the dead worker was called again %v after its death", took)
		}
		w.Logf("the last key of the struck was called again %v after it, a new key waited %v at most", took, waited)
	}
	if w.Failed() {
		r.violations++
	}
}

// takeover gives how long after the fault struck the last of the keys was called again that were bound to those who died, and how long
// at most a key that came after it waited for its first call.
func (w *world) takeover() (last, waited time.Duration) {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	for _, a := range w.agents {
		for k := range a.excused {
			calls := w.service.byKey[k]
			last = max(last, calls[len(calls)-1].start.Sub(w.struckAt))
		}
	}
	for k, e := range w.producers.ledger {
		if calls := w.service.byKey[k]; len(calls) > 0 && e.accepted.After(w.struckAt) && e.accepted.Before(w.struckAt.Add(15*time.Second)) {
			waited = max(waited, calls[0].start.Sub(e.accepted))
		}
	}
	return last, waited
}

// table shows the results, in the order of the faults.
func (s *schedule) table() string {
	var b strings.Builder
	b.WriteString("| fault | trials | keys | lost | called twice: most, all | goes on after: median | most |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	var notes strings.Builder
	for _, f := range faults {
		r := s.results[f.name]
		if r == nil {
			continue
		}
		sum := 0
		for _, n := range r.twice {
			sum += n
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d, %d | %s | %s |\n", f.name, r.trials, r.keys, r.lost, slices.Max(r.twice), sum, median(r.resumed), most(r.resumed))
		note := func(format string, d []time.Duration) {
			if len(d) > 0 {
				fmt.Fprintf(&notes, "- %s: "+format+" %s, at most %s.\n", f.name, median(d), most(d))
			}
		}
		note("the keys in the calls of the struck worker were called again after a median of", r.tookOver)
		note("keys that came after it waited for their first call, in the worst case of a trial, a median of", r.waited)
		note("a worker took to end a median of", r.ended)
		if r.forgot > 0 {
			fmt.Fprintf(&notes, "- %s: Redis forgot %d keys that it had acknowledged, within what its settings promise.\n", f.name, r.forgot)
		}
		if r.violations > 0 {
			fmt.Fprintf(&notes, "- %s: **%d trials failed**.\n", f.name, r.violations)
		}
	}
	return b.String() + "\n" + notes.String()
}

func median(d []time.Duration) string {
	if len(d) == 0 {
		return "-"
	}
	d = slices.Sorted(slices.Values(d))
	return seconds((d[(len(d)-1)/2] + d[len(d)/2]) / 2)
}

func most(d []time.Duration) string {
	if len(d) == 0 {
		return "-"
	}
	return seconds(slices.Max(d))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
