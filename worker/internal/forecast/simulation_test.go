package forecast

import (
	"fmt"
	"math"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// simKey is a key of the simulation.
type simKey struct {
	incident            string
	deadline, notBefore float64
}

// simulation makes the calls one by one, as dispatch does: what Make says is held against it.
type simulation struct {
	in      Input
	lanes   map[lane][]simKey // the earliest deadlines first
	turn    [Classes][]string // robots, the next in front
	t       float64
	used    int
	calls   int
	turned  bool
	results map[string]*Incident
}

func simulate(in Input) (calls int, results map[string]*Incident) {
	s := &simulation{in: in, lanes: map[lane][]simKey{}, results: map[string]*Incident{}}
	for _, p := range in.Piles {
		if s.results[p.Incident] == nil {
			s.results[p.Incident] = &Incident{Incident: p.Incident, End: in.Now}
		}
		s.results[p.Incident].Keys += p.Keys
		at := lane{p.Class, p.Robot}
		for range p.Keys {
			s.lanes[at] = append(s.lanes[at], simKey{p.Incident, s.seconds(p.Deadline), s.seconds(p.NotBefore)})
		}
	}
	for at, keys := range s.lanes {
		sort.SliceStable(keys, func(i, j int) bool { return keys[i].deadline < keys[j].deadline })
		s.turn[at.class] = append(s.turn[at.class], at.robot)
	}
	for c := range s.turn {
		sort.Strings(s.turn[c])
	}
	for s.next() {
		continue
	}
	return s.calls, s.results
}

func (s *simulation) seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return t.Sub(s.in.Now).Seconds()
}

// next makes the next call, or passes the time until there can be one. False: no key waits any more.
func (s *simulation) next() bool {
	if b := s.in.Budget; b != nil && !s.turned && !b.Turns.IsZero() && s.t >= s.seconds(b.Turns) {
		s.turned, s.used = true, 0
	}
	s.close()
	left := 0
	for _, keys := range s.lanes {
		left += len(keys)
	}
	if left == 0 {
		return false
	}
	if s.t < s.seconds(s.in.Start) {
		s.t = s.nextMoment()
		return true
	}
	for c := range Classes {
		if s.allowed(c) && s.class(c) {
			return true
		}
	}
	s.t = s.nextMoment()
	return true
}

// nextMoment is when something changes while nobody may call.
func (s *simulation) nextMoment() float64 {
	at := math.Inf(1)
	sooner := func(t float64) {
		if t > s.t {
			at = min(at, t)
		}
	}
	sooner(s.seconds(s.in.Start))
	if s.in.Budget != nil {
		sooner(s.seconds(s.in.Budget.Turns))
	}
	for _, keys := range s.lanes {
		for _, k := range keys {
			sooner(k.deadline)
			sooner(k.notBefore)
		}
	}
	return at
}

func (s *simulation) allowed(c int) bool {
	b := s.in.Budget
	if b == nil {
		return true
	}
	limit, reserve := b.Left, b.Reserve
	if s.turned {
		if b.Next == 0 {
			return true
		}
		limit, reserve = b.Next, b.Keep
	}
	if c == 0 {
		reserve = 0
	}
	return s.used < limit-reserve
}

// class makes a call for the robot whose turn it is.
func (s *simulation) class(c int) bool {
	for i, robot := range s.turn[c] {
		got := s.take(lane{c, robot}, KeysPerCall)
		if len(got) == 0 {
			continue
		}
		for behind := c + 1; behind < Classes && len(got) < KeysPerCall; behind++ {
			got = append(got, s.take(lane{behind, robot}, KeysPerCall-len(got))...)
		}
		s.turn[c] = append(append(append([]string{}, s.turn[c][:i]...), s.turn[c][i+1:]...), robot)
		s.calls++
		s.used++
		for _, k := range got {
			s.ends(k, s.t+s.in.Latency.Seconds())
		}
		s.t += 1 / s.in.Pace()
		return true
	}
	return false
}

func (s *simulation) ends(k simKey, at float64) {
	r := s.results[k.incident]
	if end := s.in.Now.Add(time.Duration(at * float64(time.Second))); end.After(r.End) {
		r.End = end
	}
}

func (s *simulation) take(at lane, n int) (got []simKey) {
	var rest []simKey
	for _, k := range s.lanes[at] {
		if len(got) < n && k.notBefore <= s.t {
			got = append(got, k)
		} else {
			rest = append(rest, k)
		}
	}
	s.lanes[at] = rest
	return got
}

// close lets the keys go whose windows have closed.
func (s *simulation) close() {
	for at, keys := range s.lanes {
		var open []simKey
		for _, k := range keys {
			if k.deadline > s.t {
				open = append(open, k)
				continue
			}
			s.results[k.incident].Missed++
			s.ends(k, max(0, k.deadline))
		}
		s.lanes[at] = open
	}
}

// drawInput draws what waits, and what there is to recall it with, so that about half of all cases miss something.
func drawInput(t *rapid.T) Input {
	in := Input{
		Now:     t0,
		Rate:    rapid.SampledFrom([]float64{0.5, 1, 3, 20}).Draw(t, "rate"),
		Latency: time.Duration(rapid.IntRange(0, 2000).Draw(t, "latency")) * time.Millisecond,
		Slots:   rapid.SampledFrom([]int{0, 2, 10}).Draw(t, "slots"),
	}
	seconds := func(name string, most int) time.Time {
		return after(time.Duration(rapid.IntRange(1, most).Draw(t, name)) * time.Second)
	}
	if rapid.Bool().Draw(t, "held") {
		in.Start = seconds("start", 100)
	}
	if rapid.Bool().Draw(t, "budgeted") {
		left := rapid.IntRange(0, 60).Draw(t, "left")
		in.Budget = &Budget{Left: left, Reserve: rapid.IntRange(0, left).Draw(t, "reserve"), Turns: seconds("turns", 400),
			Next: rapid.SampledFrom([]int{0, 20, 1000}).Draw(t, "next")}
		in.Budget.Keep = rapid.IntRange(0, in.Budget.Next/2).Draw(t, "keep")
	}
	later := rapid.Bool().Draw(t, "some wait for later")
	for i := range rapid.IntRange(1, 12).Draw(t, "piles") {
		p := Pile{Class: rapid.IntRange(0, 2).Draw(t, "class"), Robot: fmt.Sprint("r", rapid.IntRange(0, 3).Draw(t, "robot")),
			Keys: rapid.IntRange(1, 600).Draw(t, "keys"), Deadline: seconds("deadline", 600)}
		// Incidents that share robot, class and deadline share what happens, which the simulation has no notion of.
		p.Incident = fmt.Sprint("i", i)
		p.Deadline = p.Deadline.Add(time.Duration(i) * time.Millisecond)
		if later && rapid.IntRange(0, 2).Draw(t, "later") == 0 {
			p.NotBefore = seconds("not before", 60)
		}
		in.Piles = append(in.Piles, p)
	}
	return in
}

// TestAgainstSimulation holds the forecast against a simulation that makes each call. It may be wrong by what it leaves out: the
// calls that were begun when something ended, one for each robot and class, and one more.
func TestAgainstSimulation(t *testing.T) {
	t.Parallel()
	late, inTime, compared := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		in := drawInput(rt)
		got := Make(in)
		calls, want := simulate(in)
		lanes, later := map[lane]bool{}, false
		for _, p := range in.Piles {
			later = later || !p.NotBefore.IsZero()
			lanes[lane{p.Class, p.Robot}] = true
		}
		slack := len(lanes) + 1
		if d := got.Calls - calls; d > slack || d < -slack {
			rt.Errorf("%d calls, the simulation made %d: more than %d apart", got.Calls, calls, slack)
		}
		missed, keys := 0, 0
		for _, g := range got.Incidents {
			w := want[g.Incident]
			missed += w.Missed
			keys += w.Keys
			if d := g.Missed - w.Missed; d > slack*KeysPerCall || d < -slack*KeysPerCall {
				rt.Errorf("%s: %d missed, in the simulation %d of %d: more than %d apart", g.Incident, g.Missed, w.Missed, w.Keys, slack*KeysPerCall)
			}
			// Where some are missed and some not, the end is that of the window, or of the last call before it. Where the budget ends, or
			// keys come in between, a single call decides whether the last keys are before or after it.
			by := time.Duration(float64(slack) / in.Pace() * float64(time.Second))
			if w.Missed == 0 && g.Missed == 0 && got.Spent.IsZero() && !later && w.Keys > slack*KeysPerCall {
				compared++
				if !near(g.End, w.End, by+time.Second) {
					rt.Errorf("%s ends after %v, in the simulation after %v: more than %v apart", g.Incident, g.End.Sub(t0), w.End.Sub(t0), by)
				}
			}
			if g.Keys != w.Keys {
				rt.Errorf("%s: %d keys, want %d", g.Incident, g.Keys, w.Keys)
			}
		}
		if d := got.Missed - missed; d > slack*KeysPerCall || d < -slack*KeysPerCall {
			rt.Errorf("%d missed, in the simulation %d of %d: more than %d apart", got.Missed, missed, keys, slack*KeysPerCall)
		}
		if missed > 0 {
			late++
		} else {
			inTime++
		}
		if (got.Missed > 0) == got.FirstMiss.IsZero() {
			rt.Errorf("%d missed, the first at %v", got.Missed, got.FirstMiss)
		}
	})
	if late < 10 || inTime < 10 || compared < 20 {
		t.Errorf("%d cases missed something, %d did not, and %d ends were compared: the test shows little", late, inTime, compared)
	}
}
