package dispatch

import (
	"sync"
	"time"

	"dingrecall/worker/internal/flow"
)

// Of a robot nothing is known at first: as if of 20 keys one in five had been bad. It is soon outweighed by what is seen.
const (
	priorBad  = 0.4
	priorGood = 39.6
	// oldest is how many keys of the past count, so that an incident is not judged by the one before it.
	oldest = 20_000
	// mostKnown bounds what is remembered of robots, and of incidents; more than that are strangers again.
	mostKnown = 10_000
)

// usualRate is the share of bad keys that is expected of a robot of which nothing is known.
const usualRate = priorBad / (priorBad + priorGood)

// lore is what this process has seen of robots and incidents. Losing it costs a few calls. It is safe for concurrent use.
type lore struct {
	mu     sync.Mutex
	robots map[string]seen      // guarded by mu
	fronts map[incident]*passed // guarded by mu, like what it points to
}

type seen struct{ bad, good float64 }

// incident is what of keys is taken to be alike: they come from one producer.
type incident struct {
	robot  string
	number int
}

// passed is the front of an incident, and the search for where it ends.
type passed struct {
	front
	skipped int       // batches that were passed over since the last probe
	since   time.Time // the first of them was
	probing time.Time // when a probe was begun that is not over; zero = none is
}

func incidentOf(b *flow.Batch) incident { return incident{b.RobotCode, b.Keys[0].Incident} }

// rate gives the share of bad keys to be expected of a robot.
func (l *lore) rate(robot string) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.robots[robot]
	return (priorBad + s.bad) / (priorBad + priorGood + s.bad + s.good)
}

// noneGood says whether keys of a robot turned out to be bad, witnesses of them at least, and none to be good.
func (l *lore) noneGood(robot string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.robots[robot]
	return s.good == 0 && s.bad >= witnesses
}

// front gives the front of the incident of a batch.
func (l *lore) front(b *flow.Batch) front {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.fronts[incidentOf(b)]; p != nil {
		return p.front
	}
	return front{}
}

const (
	// passFor is how long keys wait that are passed over while it is found how far the front reaches.
	passFor = 3 * time.Second
	// mostPassed bounds how many batches are passed over between two calls. Each of them used up a permit, so that more would not be
	// through before the first are back.
	mostPassed = 40
	// longestProbe is when a probe is given up of which nothing was heard.
	longestProbe = 30 * time.Second
)

// pass says whether a batch that was just claimed is to be passed over, since the front may reach beyond it. It lies between the youngest key
// that has expired and the oldest that was recalled, or the end of all windows: what is called next lies in the middle.
func (l *lore) pass(b *flow.Batch, now, last time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, deadline := l.fronts[incidentOf(b)], b.Keys[0].Deadline.Unix()
	if p == nil || p.edge() == 0 || deadline <= p.edge() || !p.mayReach(deadline) || !sameIncident(b) {
		return false
	}
	if !p.probing.IsZero() && now.Sub(p.probing) < longestProbe {
		return true
	}
	end := p.Good
	if end == 0 {
		end = last.Unix()
	}
	if p.skipped == 0 {
		p.since = now
	}
	if deadline < p.Expired+(end-p.Expired)/2 && p.skipped < mostPassed && now.Sub(p.since) < passFor {
		p.skipped++
		return true
	}
	p.probing, p.skipped = now, 0
	return false
}

// learn adds what a call said of the keys that it carried.
func (l *lore) learn(b *flow.Batch, dec decision) {
	good, bad := 0, 0
	for _, o := range dec.Outcomes {
		switch {
		case o.Fate == flow.FateRecalled:
			good++
		case o.Fate == flow.FateDead && !o.Unasked:
			bad++
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.robots == nil || len(l.robots) >= mostKnown {
		l.robots = map[string]seen{}
	}
	s := l.robots[b.RobotCode]
	s.good, s.bad = s.good+float64(good), s.bad+float64(bad)
	if n := s.good + s.bad; n > oldest {
		s.good, s.bad = s.good*oldest/n, s.bad*oldest/n
	}
	l.robots[b.RobotCode] = s
	if !sameIncident(b) {
		return
	}
	p := l.fronts[incidentOf(b)]
	if p == nil {
		if l.fronts == nil || len(l.fronts) >= mostKnown {
			l.fronts = map[incident]*passed{}
		}
		p = &passed{}
		l.fronts[incidentOf(b)] = p
	}
	p.front = p.see(b.Keys, dec.Outcomes, b.Cut, dec.RequestID)
	if dec.Next != flow.NextCall {
		p.probing = time.Time{}
	}
}
