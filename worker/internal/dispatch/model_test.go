package dispatch

import (
	"slices"
	"testing"
	"time"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
)

// world is a small model of the key store and the queue: some slots of one robot that take batches, call, and do what was decided.
// Its time passes by itself.
type world struct {
	t       testing.TB
	policy  Policy
	now     time.Time
	lastOK  time.Time
	lore    lore
	slots   []*modelSlot
	waiting []*modelKey
	all     map[string]*modelKey
	serve   func(w *world, keys []string) ([]upstream.Verdict, *upstream.Error)
	calls   int
	splits  int // calls with fewer keys than were bound
	sizes   []int
}

type modelKey struct {
	flow.BoundKey
	fate  flow.Fate // 'w' until it is over
	code  string
	after time.Time // not before
	sent  int       // calls that carried it
}

type modelSlot struct {
	keys  []*modelKey
	cut   int
	tries int
	note  string
	at    time.Time // of its next call
	fresh []*modelKey
}

// fill takes up to n waiting keys, and no more than there is room for, to go along with a slot's bound ones, and gives how many it took.
func (w *world) fill(s *modelSlot, n, room int) int {
	s.fresh = nil
	for i := 0; i < len(w.waiting) && len(s.fresh) < min(n, room); {
		k := w.waiting[i]
		if k.Solo {
			break
		}
		if k.after.After(w.now) {
			i++
			continue
		}
		s.fresh = append(s.fresh, k)
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
	return len(s.fresh)
}

func newWorld(t testing.TB, slots int, keys []string, serve func(w *world, keys []string) ([]upstream.Verdict, *upstream.Error)) *world {
	t.Helper()
	w := &world{t: t, policy: testPolicy(), now: testNow, all: map[string]*modelKey{}, serve: serve}
	for range slots {
		w.slots = append(w.slots, &modelSlot{})
	}
	for _, k := range keys {
		m := &modelKey{BoundKey: flow.BoundKey{Key: k}, fate: flow.FateWait}
		w.all[k] = m
		w.waiting = append(w.waiting, m)
	}
	return w
}

// run makes calls until no key waits, at most so many.
func (w *world) run(most int) {
	w.t.Helper()
	for w.step() {
		if w.calls > most {
			w.t.Fatalf("still not done after %d calls", w.calls)
		}
	}
	for _, k := range w.all {
		if k.fate != flow.FateRecalled && k.fate != flow.FateDead {
			w.t.Errorf("%s was forgotten: %c", k.Key, k.fate)
		}
	}
}

func (w *world) step() bool {
	for _, s := range w.slots {
		if len(s.keys) == 0 {
			w.claim(s)
		}
	}
	var next *modelSlot
	for _, s := range w.slots {
		if len(s.keys) > 0 && (next == nil || s.at.Before(next.at)) {
			next = s
		}
	}
	sleepers := time.Time{}
	for _, k := range w.waiting {
		if k.after.After(w.now) && (sleepers.IsZero() || k.after.Before(sleepers)) {
			sleepers = k.after
		}
	}
	switch {
	case next == nil && sleepers.IsZero():
		return false
	case next == nil || !sleepers.IsZero() && sleepers.Before(next.at):
		w.now = sleepers
	default:
		if next.at.After(w.now) {
			w.now = next.at
		}
		w.call(next)
	}
	return true
}

func (w *world) claim(s *modelSlot) {
	for i := 0; i < len(w.waiting) && len(s.keys) < flow.MaxBatch; {
		k := w.waiting[i]
		if k.after.After(w.now) || k.Solo && len(s.keys) > 0 {
			i++
			continue
		}
		s.keys = append(s.keys, k)
		w.waiting = slices.Delete(w.waiting, i, i+1)
		if k.Solo {
			break
		}
	}
	s.cut, s.tries, s.note, s.at = len(s.keys), 0, "", w.now
}

func (w *world) call(s *modelSlot) {
	b := &flow.Batch{RobotCode: "robot", Cut: s.cut, Tries: s.tries, Note: s.note, LastOK: w.lastOK}
	for _, k := range s.keys {
		b.Keys = append(b.Keys, k.BoundKey)
	}
	w.now = w.now.Add(10 * time.Millisecond)
	w.calls++
	w.sizes = append(w.sizes, b.Cut)
	if b.Cut < len(b.Keys) {
		w.splits++
	}
	for _, k := range s.keys[:b.Cut] {
		k.sent++
	}
	verdicts, e := w.serve(w, b.Called())
	d := newDecider(w.policy, b, w.now)
	d.rate, d.front = w.lore.rate(b.RobotCode), w.lore.front(b)
	var dec decision
	if e != nil {
		dec = d.failed(e)
	} else {
		dec = d.answered("rid", verdicts)
	}
	w.lore.learn(b, dec)
	w.apply(s, dec)
}

// apply does what settle.lua does.
func (w *world) apply(s *modelSlot, dec decision) {
	if len(dec.Outcomes) != len(s.keys) {
		w.t.Fatalf("%d outcomes for %d keys", len(dec.Outcomes), len(s.keys))
	}
	var kept, parked, back []*modelKey
	for i, k := range s.keys {
		o := dec.Outcomes[i]
		if i < s.cut && dec.Counted {
			k.Attempts = min(255, k.Attempts+1)
		}
		switch o.Fate {
		case flow.FateRecalled:
			k.fate, w.lastOK = o.Fate, w.now
		case flow.FateDead:
			k.fate, k.code = o.Fate, o.Code
		case flow.FateLater, flow.FateSolo:
			k.Solo = k.Solo || o.Fate == flow.FateSolo
			k.after = w.now.Add(o.Delay)
			back = append(back, k)
		case flow.FateWait:
			back = append(back, k)
		case flow.FateKeep:
			kept = append(kept, k)
		case flow.FatePark:
			parked = append(parked, k)
		default:
			w.t.Fatalf("no fate: %d", o.Fate)
		}
	}
	w.waiting = append(back, w.waiting...)
	kept = append(kept, parked...)
	fresh := 0
	if dec.Next == flow.NextCall && len(kept) > 0 {
		fresh = w.fill(s, dec.Fill, flow.MaxBatch-len(kept))
		kept = append(s.fresh, kept...)
	}
	s.keys, s.cut, s.tries, s.note, s.at = kept, dec.Cut+fresh, dec.Tries, dec.Note, w.now.Add(max(dec.delay, dec.Rest))
}

func (w *world) dead() []string {
	var out []string
	for k, m := range w.all {
		if m.fate == flow.FateDead {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}
