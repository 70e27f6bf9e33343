// Package forecast tells when what waits will be recalled, and how many keys will miss their windows. It is arithmetic on
// counts and asks nobody, so that it can be made as often as somebody looks.
//
// It goes by the order of dispatch: urgent before default before bulk, robots of a class in turn, the earliest deadlines of a
// robot first, 20 keys a call, the last call of a robot filled up from its classes behind. What it cannot foresee, it leaves out:
// keys that come later, calls that fail, keys that wait for company. So it is the best case at the pace that it is given.
//
// Calls are a flow in it and not single events: its cost grows with the number of piles and not with the number of keys.
package forecast

import (
	"math"
	"sort"
	"time"
)

// KeysPerCall is how many keys the service takes in one call (official documentation).
const KeysPerCall = 20

// Classes is how many classes there are; class 0 goes first, and is the one that the reserve is for.
const Classes = 3

// Pile is keys that share class, robot, incident and, as far as is known, the deadline.
type Pile struct {
	Class     int // 0 urgent, 1 default, 2 bulk
	Robot     string
	Incident  string // "" = none
	Keys      int
	Deadline  time.Time // no call carries them after it
	NotBefore time.Time // they wait for later; zero: their turn may come at once
}

// Input is what a forecast is made from.
type Input struct {
	Now     time.Time
	Start   time.Time     // no call is made before it: the app is held until then; zero: at once
	Rate    float64       // calls a second that the app may make; 0: no limit
	Slots   int           // calls in flight at once, at most; 0: no limit
	Latency time.Duration // that a call takes; 0: not known, and then Slots limits nothing
	Budget  *Budget       // nil: none
	Piles   []Pile
}

// Budget is the calls of the month.
type Budget struct {
	Left    int       // calls until nobody may call
	Reserve int       // of those, the calls that only urgent keys may have
	Turns   time.Time // when the next month begins
	Next    int       // the calls of the next month; 0: no limit
	Keep    int       // of those, the reserve
}

// Result is what is to be expected.
type Result struct {
	Keys      int       // that wait
	Missed    int       // of those, how many will miss their windows
	Calls     int       // that will be made
	End       time.Time // when the last key has its answer or has missed its window; zero: nothing waits
	FirstMiss time.Time // the first deadline that is missed: until then something can be done for some; zero: none is
	Spent     time.Time // when the budget keeps keys waiting for the first time; zero: it does not before the end
	Incidents []Incident
}

// Incident is what is to be expected of the keys of one incident.
type Incident struct {
	Incident string
	Keys     int
	Missed   int
	Calls    int       // its share of the calls, rounded up: keys of several incidents can share one
	End      time.Time // as in Result
}

// Pace gives how many calls a second the input allows: by the rate, and by the slots that each call occupies for its latency.
// +Inf: any number.
func (in Input) Pace() float64 {
	pace := math.Inf(1)
	if in.Rate > 0 {
		pace = in.Rate
	}
	if in.Slots > 0 && in.Latency > 0 {
		pace = min(pace, float64(in.Slots)/in.Latency.Seconds())
	}
	return pace
}

// Make makes the forecast.
func Make(in Input) Result {
	r := newRun(in)
	for !r.step() {
		continue
	}
	return r.result()
}

// share is the keys of one incident in a lot.
type share struct {
	incident string
	keys     float64
}

// lot is the keys of a robot and class that have one deadline and may be called from one moment on. Whose turn comes first within
// a lot is not known, so its incidents share what happens to it.
type lot struct {
	deadline, notBefore float64
	keys                float64
	shares              []share
}

// lots sorts piles into lots, by class and robot, the earliest deadlines first.
func lots(in Input, seconds func(time.Time) float64) map[lane][]*lot {
	type place struct {
		lane
		deadline, notBefore float64
	}
	found := map[place]*lot{}
	out := map[lane][]*lot{}
	for _, p := range in.Piles {
		if p.Keys <= 0 {
			continue
		}
		at := place{lane: lane{min(max(p.Class, 0), Classes-1), p.Robot}, deadline: seconds(p.Deadline)}
		if p.NotBefore.After(in.Now) {
			at.notBefore = seconds(p.NotBefore)
		}
		l := found[at]
		if l == nil {
			l = &lot{deadline: at.deadline, notBefore: at.notBefore}
			found[at] = l
			out[at.lane] = append(out[at.lane], l)
		}
		l.keys += float64(p.Keys)
		l.add(p.Incident, float64(p.Keys))
	}
	for _, list := range out {
		sort.Slice(list, func(i, j int) bool { return list[i].deadline < list[j].deadline })
	}
	return out
}

func (l *lot) add(incident string, keys float64) {
	for i := range l.shares {
		if l.shares[i].incident == incident {
			l.shares[i].keys += keys
			return
		}
	}
	l.shares = append(l.shares, share{incident, keys})
}
