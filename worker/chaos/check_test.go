package chaos

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/proctest"
)

// judged is what the judgement of a world counted.
type judged struct {
	keys   int // accepted
	lost   int // accepted, and not as they should be
	forgot int // of those that are unknown: Redis itself forgot them, as its settings say that it may
	twice  int // called again after a call that had recalled them
	faults []string
}

func (j *judged) fault(format string, args ...any) {
	if len(j.faults) < 20 {
		j.faults = append(j.faults, fmt.Sprintf(format, args...))
	}
}

// judge holds what became of the keys against the ledger, once nothing moves any more.
func (w *world) judge(f fault) judged {
	w.Helper()
	var j judged
	records := w.records(&j)
	w.judgeKeys(&j, records)
	w.judgeLetters(&j, records)
	w.judgeCounters(&j, records)
	w.judgeCalls(&j)
	w.judgeAttempts(&j, f, records)
	if out, err := recount(w, w.redis.Addr); err != nil {
		j.fault("the recount of the raw data: %v\n%s", err, out)
	}
	return j
}

// records asks the program what became of all keys of the ledger.
func (w *world) records(j *judged) map[string]worker.KeyRecord {
	w.Helper()
	byTarget := map[worker.Target][]string{}
	for k, e := range w.producers.ledger {
		byTarget[e.target] = append(byTarget[e.target], k)
	}
	out := map[string]worker.KeyRecord{}
	for target, keys := range byTarget {
		for part := range slices.Chunk(keys, 200) {
			recs, err := w.insp.KeysOf(context.Background(), target, part)
			if err != nil {
				w.Fatal(err)
			}
			for _, r := range recs {
				if old, ok := out[r.Key]; ok {
					j.fault("key %s has two records: %+v and %+v", r.Key, old, r)
				}
				out[r.Key] = r
			}
		}
	}
	return out
}

func (w *world) judgeKeys(j *judged, records map[string]worker.KeyRecord) {
	for k, e := range w.producers.ledger {
		j.keys++
		r := records[k]
		why := ""
		switch {
		case r.State == worker.KeyUnknown:
			if slices.ContainsFunc(w.forgot, func(s span) bool { return e.accepted.After(s.from) && e.accepted.Before(s.to) }) {
				j.forgot++
				continue
			}
			why = "is not known"
		case r.State == worker.KeyDead && e.kind != simulator.Good:
		case r.State != worker.KeyRecalled:
			why = fmt.Sprintf("is %v: %s %s", r.State, r.Code, r.Message)
		case e.kind != simulator.Good:
			why = "is said to be recalled, and cannot be"
		case !w.service.recalled(k):
			why = "is said to be recalled, and the service never did"
		}
		if why != "" {
			j.lost++
			j.fault("the %v key %s, accepted %v after the fault struck, %s; %d attempts; its calls:%s", e.kind, k,
				e.accepted.Sub(w.struckAt).Round(time.Millisecond), why, r.Attempts, w.history(k))
		}
	}
}

// history tells of the calls of a key: when after the fault struck, by whom, with how many keys, and what came of it.
func (w *world) history(key string) string {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	var b strings.Builder
	for _, c := range w.service.byKey[key] {
		fmt.Fprintf(&b, " %v %s %d %s%s;", c.start.Sub(w.struckAt).Round(time.Millisecond), c.by.name, len(c.keys), c.outcome, c.fault)
	}
	return b.String()
}

// judgeLetters: each dead key is in one dead letter, and nothing else is in any.
func (w *world) judgeLetters(j *judged, records map[string]worker.KeyRecord) {
	letters := map[string]int{}
	err := w.insp.DeadLetters(context.Background(), worker.DeadFilter{}, func(d worker.DeadTask) error {
		for _, k := range d.Letter.Keys {
			letters[k]++
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	for k, r := range records {
		want := 0
		if r.State == worker.KeyDead {
			want = 1
		}
		if letters[k] != want && j.forgot == 0 { // with keys, letters of the same moment are forgotten
			j.lost++
			j.fault("key %s is %v and in %d dead letters", k, r.State, letters[k])
		}
		delete(letters, k)
	}
	for k := range letters {
		j.fault("key %s is in a dead letter, and nobody handed it over", k)
	}
}

// judgeCounters: what the program counts is what its records say, for all keys and for each target and incident.
func (w *world) judgeCounters(j *judged, records map[string]worker.KeyRecord) {
	st, err := w.insp.Status(context.Background())
	if err != nil || len(st.Apps) != 1 {
		w.Fatalf("%+v, %v", st, err)
	}
	type group struct {
		target   worker.Target
		incident string
	}
	want := map[group]worker.Counts{}
	var total worker.Counts
	for k, r := range records {
		g := group{w.producers.ledger[k].target, w.producers.ledger[k].incident}
		if r.State == worker.KeyUnknown {
			continue
		}
		want[g] = tallied(want[g], r.State)
		total = tallied(total, r.State)
	}
	if st.Apps[0].Total != total {
		j.fault("the counters say %+v, the records %+v", st.Apps[0].Total, total)
	}
	for _, g := range st.Apps[0].Groups {
		of := group{g.Target(), g.Incident}
		if got := want[of]; got != g.Counts {
			j.fault("the counters say %+v of %v in %q, the records %+v", g.Counts, g.Target(), g.Incident, got)
		}
		delete(want, of)
	}
	for of, n := range want {
		j.fault("no counter tells of %v in %q, the records say %+v", of.target, of.incident, n)
	}
}

func tallied(c worker.Counts, s worker.KeyState) worker.Counts {
	c.Accepted++
	switch s {
	case worker.KeyWaiting:
		c.Waiting++
	case worker.KeyBound:
		c.Bound++
	case worker.KeyRecalled:
		c.Recalled++
	case worker.KeyDead:
		c.Dead++
	case worker.KeyCancelled:
		c.Cancelled++
	}
	return c
}

// judgeCalls: no key in two calls at once, none called again without need.
func (w *world) judgeCalls(j *judged) {
	s := w.service
	st := s.sim.Stats()
	if st.MaxKeysInCall > simulator.MaxKeys || st.KeysRepeated > 0 {
		j.fault("up to %d keys in a call, %d twice in one", st.MaxKeysInCall, st.KeysRepeated)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.overlaps {
		j.fault("in two calls at once: %s", o)
	}
	for k, calls := range s.byKey {
		if w.producers.ledger[k] == nil {
			j.fault("key %s was called, and nobody handed it over", k)
			continue
		}
		again := false
		for i, c := range calls[:len(calls)-1] {
			again = again || c.applied() && w.producers.ledger[k].kind == simulator.Good
			if c.told() && !w.mayRepeat(k, c) {
				j.fault("key %s was told by %s as %q %v after the fault struck, and called again by %s %v later", k, c.by.name, c.outcome,
					c.end.Sub(w.struckAt).Round(time.Millisecond), calls[i+1].by.name, calls[i+1].start.Sub(c.end).Round(time.Millisecond))
			}
		}
		if again {
			j.twice++
		}
	}
}

// mayRepeat says whether a key may be called again though a call told its fate, since the fault kept that from being written down.
func (w *world) mayRepeat(key string, c *call) bool {
	if w.replayed && w.producers.ledger[key].kind != simulator.Good {
		return true
	}
	for _, s := range w.windows {
		if c.end.After(s.from) && c.start.Before(s.to) {
			return true
		}
	}
	c.by.mu.Lock()
	defer c.by.mu.Unlock()
	return c.by.excused[key]
}

// judgeAttempts: a fault that loses no attempt leaves good keys with the one that recalled them.
func (w *world) judgeAttempts(j *judged, f fault, records map[string]worker.KeyRecord) {
	for k, r := range records {
		if f.oneAttempt && r.State == worker.KeyRecalled && r.Attempts != 1 {
			j.fault("key %s took %d attempts", k, r.Attempts)
		}
	}
}

// recalled says whether some call recalled a good key.
func (s *service) recalled(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.byKey[key], (*call).applied)
}

// recount has the key store's own tests count the raw data of a Redis and compare.
func recount(w *world, addr string) (string, error) {
	args := []string{"test", "-c", "-o"}
	if raceDetector {
		args = []string{"test", "-race", "-c", "-o"} // what is compiled already for the other tests
	}
	bin := proctest.Build(w, "keystore.test", args, "dingrecall/worker/internal/keystore")
	out, err := exec.Command(bin, "-test.run", "^TestRecount$", "-test.v", "-recount", addr, "-recount.app", app).CombinedOutput()
	if err == nil && !strings.Contains(string(out), "--- PASS: TestRecount") {
		err = fmt.Errorf("it did not run")
	}
	return string(out), err
}
