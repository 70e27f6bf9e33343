package worker

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

// crashTally counts what cases have seen, so that they cannot pass without having tried anything.
type crashTally struct {
	Steps, Calls, Again, Lost, Late, Replays, Recalled, Dead int
	Broken                                                   [sentAgain + 1]int // by kind
}

func (t *crashTally) add(o crashTally) {
	t.Steps += o.Steps
	t.Calls += o.Calls
	t.Again += o.Again
	t.Lost += o.Lost
	t.Late += o.Late
	t.Replays += o.Replays
	t.Recalled += o.Recalled
	t.Dead += o.Dead
	for i := range t.Broken {
		t.Broken[i] += o.Broken[i]
	}
}

func (t *crashTally) vacuous() error {
	if slices.Contains(append(t.Broken[:], t.Steps, t.Calls, t.Again, t.Late, t.Replays, t.Recalled, t.Dead), 0) {
		return fmt.Errorf("something was never tried: %+v", *t)
	}
	return nil
}

// crashService is the service as a model: it knows which keys it has recalled, and which calls are under way.
type crashService struct {
	w        *crashWorld
	recalled map[string]bool // by robot and key
	told     map[string]bool // likewise, and a process has been told so
	flying   map[string]int  // keys of calls under way
	depth    int
}

func newCrashService(w *crashWorld) *crashService {
	return &crashService{w: w, recalled: map[string]bool{}, told: map[string]bool{}, flying: map[string]int{}}
}

// crashCaller is a process's way to the service.
type crashCaller struct {
	*crashService
	c *crashProcess
}

type crashTokens struct{}

func (crashTokens) Get(context.Context) (string, error) { return "token", nil }

func (crashTokens) Renew(context.Context, string) (string, error) { return "token", nil }

func isBad(key string) bool { return key[len(key)-1] == '7' }

// Recall answers, and while the call is under way other things happen.
func (s crashCaller) Recall(_ context.Context, _ string, to upstream.Target, keys []string) (upstream.Answer, error) {
	w := s.w
	w.Calls++
	s.look(to.RobotCode, keys)
	mishap := ""
	if !w.quiet {
		mishap = rapid.SampledFrom([]string{"", "", "", "", "503", "lost", "refused"}).Draw(w.t, "mishap")
		s.meanwhile()
	}
	for _, k := range keys {
		s.flying[to.RobotCode+" "+k]--
	}
	if mishap == "refused" {
		return upstream.Answer{}, &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassNotSent}
	}
	if mishap == "503" {
		return upstream.Answer{}, &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassService, Status: 503, Message: "words", RequestID: "rid"}
	}
	a := upstream.Answer{RequestID: "rid", Failed: map[string]string{}}
	for _, k := range keys {
		if isBad(k) {
			a.Failed[k] = "invalid.processQueryKey"
			continue
		}
		a.Recalled = append(a.Recalled, k)
		s.recalled[to.RobotCode+" "+k] = true
		s.told[to.RobotCode+" "+k] = mishap != "lost"
	}
	if mishap == "lost" {
		w.Lost++
		return upstream.Answer{}, &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassCut, Lost: true}
	}
	return a, nil
}

// look checks the shape of a call, and that none of its keys is in another, or was told to be recalled, unless somebody has died, was cut
// off or has lost a lease.
func (s crashCaller) look(robot string, keys []string) {
	w := s.w
	if len(keys) < 1 || len(keys) > flow.MaxBatch {
		w.t.Fatalf("a call of %d keys", len(keys))
	}
	never := [len(w.Broken)]int{}
	excused := w.Broken != never || s.c.broken != never || w.Late > 0 || w.stolen()
	for i, k := range keys {
		id := robot + " " + k
		if slices.Contains(keys[:i], k) {
			w.t.Fatalf("%s is twice in a call", id)
		}
		if s.flying[id]++; s.flying[id] > 1 && !w.stolen() {
			w.t.Fatalf("%s is in two calls", id)
		}
		if s.told[id] {
			w.Again++
			if !excused {
				w.t.Fatalf("%s is called again, and nobody died", id)
			}
		}
	}
}

// stolen says whether a process is under way with a task that was given to another.
func (w *crashWorld) stolen() bool { return w.service.depth > len(w.running)-1 }

// meanwhile has other things happen while a call is under way.
func (s crashCaller) meanwhile() {
	w := s.w
	if s.depth > 0 {
		return
	}
	s.crashService.depth++
	defer func() { s.crashService.depth-- }()
	other := w.processes[0]
	if other == s.c {
		other = w.processes[1]
	}
	switch rapid.SampledFrom([]string{"", "", "", "", "dispatch", "lease", "intake", "reconcile", "drain", "wake"}).Draw(w.t, "meanwhile") {
	case "dispatch":
		w.dispatchOn(w.t, other)
	case "lease":
		w.loseLease(w.t, other)
	case "intake":
		w.takeInOn(w.t, other, rapid.SampledFrom(w.submissions).Draw(w.t, "submission"))
	case "reconcile":
		w.reconcileOn(w.t, other)
	case "drain":
		w.on(w.t, other, func(p *pipeline) error { return p.drain(context.Background(), "main") })
	case "wake":
		w.on(w.t, other, func(p *pipeline) error { return p.wake(context.Background(), "main") })
	}
}

// records gives what the key store knows of each key that was handed over, by robot and key.
func (w *crashWorld) records() map[string]keystore.KeyRecord {
	out := map[string]keystore.KeyRecord{}
	for _, robot := range []string{"ding-a", "ding-b"} {
		keys := map[string]bool{}
		for _, s := range w.submissions {
			for _, k := range s.keys {
				if s.robot == robot {
					keys[k] = true
				}
			}
		}
		recs, err := w.store.Lookup(context.Background(), robot, slices.Sorted(maps.Keys(keys)))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range recs {
			out[robot+" "+r.Key] = r
		}
	}
	return out
}

// check compares, after each step, what is known of each key with what it was, with the counters, and with the service.
func (w *crashWorld) check(t *rapid.T) {
	recs := w.records()
	var n keystore.Counts
	for id, r := range recs {
		switch r.State {
		case flow.Waiting:
			n.Waiting++
		case flow.Bound:
			n.Bound++
		case flow.Recalled:
			n.Recalled++
		case flow.Dead:
			n.Dead++
		}
		if r.State != flow.Unknown {
			n.Accepted++
		} else if w.last[id] != flow.Unknown {
			t.Fatalf("%s is forgotten", id)
		}
		if w.last[id] == flow.Recalled && r.State != flow.Recalled {
			t.Fatalf("%s was recalled and is %v", id, r.State)
		}
		if r.State == flow.Recalled && !w.service.recalled[id] {
			t.Fatalf("%s counts as recalled, and the service did not", id)
		}
		if r.State == flow.Dead && w.service.recalled[id] && !r.Ambiguous {
			t.Fatalf("%s is dead of %s, and the service has recalled it", id, r.Code)
		}
		w.last[id] = r.State
	}
	for _, s := range w.submissions {
		for _, k := range s.keys {
			if s.acked && recs[s.robot+" "+k].State == flow.Unknown {
				t.Fatalf("%s of %s, which is acknowledged, is not there", k, s.ID)
			}
		}
	}
	if st := w.status(); st.Total != n {
		t.Fatalf("Status says %+v in all, there are %+v", st.Total, n)
	}
}

// checkEnd: every key that was handed over has an end, each dead one its letter, and nothing keeps anybody at work.
func (w *crashWorld) checkEnd() {
	st := w.status()
	if st.Outbox != 0 || st.Slots != 0 || st.Later != 0 {
		w.t.Fatalf("in the end: %+v", st)
	}
	letters := map[string]int{} // by robot, key and batch
	for _, info := range w.pending(tasks.QueueDead, tasks.TypeDead) {
		l, err := tasks.DecodeDeadLetter(info.Payload)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, k := range l.Keys {
			letters[fmt.Sprintf("%s %s %d", l.RobotCode, k, l.Batch)]++
		}
	}
	for id, r := range w.records() {
		switch r.State {
		case flow.Recalled:
			w.Recalled++
		case flow.Dead:
			w.Dead++
			if n := letters[fmt.Sprintf("%s %d", id, r.Batch)]; n != 1 {
				w.t.Fatalf("%s is dead of %s in batch %d, and has %d letters", id, r.Code, r.Batch, n)
			}
		default:
			w.t.Fatalf("in the end %s is %v", id, r.State)
		}
	}
}
