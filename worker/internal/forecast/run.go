package forecast

import (
	"container/heap"
	"math"
	"sort"
	"time"
)

// tiny is less than any part of a call that matters, and more than what sums of floats are wrong by.
const tiny = 1e-6

// lane names the keys of a robot in a class: they are called in the order of their deadlines.
type lane struct {
	class int
	robot string
}

// queue is the lots of a lane that may be called now, and how far the first of them is. The lanes of a class take turns, so all
// have had the same number of calls since they joined: the class's round counts them.
type queue struct {
	lane
	lots    []*lot
	joined  float64 // the round at which it had something to call for
	began   float64 // the round from which on its first lot is called for
	finish  float64 // the round at which its first lot is done
	version int     // of its entry in the heap that counts
}

// run is a forecast that is being made. Times are seconds from Input.Now.
type run struct {
	in     Input
	pace   float64
	t      float64
	used   float64 // calls of the month so far
	calls  float64 // in all
	left   float64 // keys that are not recalled and have not missed their windows
	spent  float64 // when the budget first kept keys waiting; -1: it did not
	missed float64 // the first deadline that was missed; -1: none was
	// missedKeys is how many keys missed their windows so far.
	missedKeys float64
	budget     [Classes]float64
	next       [Classes]float64 // the same of the next month
	turns      float64
	rounds     [Classes]float64
	heaps      [Classes]order
	busy       [Classes]int // queues that have lots
	queues     map[lane]*queue
	closing    []queued // by deadline
	arriving   []queued // by the moment from which they may be called
	tally      map[string]*total
}

// queued is a lot and where it belongs.
type queued struct {
	*lot
	lane
}

// total is what is known of an incident so far.
type total struct{ keys, missed, calls, end float64 }

func newRun(in Input) *run {
	r := &run{in: in, pace: in.Pace(), spent: -1, missed: -1, turns: math.Inf(1), queues: map[lane]*queue{}, tally: map[string]*total{}}
	for c := range Classes {
		r.budget[c], r.next[c] = math.Inf(1), math.Inf(1)
		if b := in.Budget; b != nil {
			reserve, keep := b.Reserve, b.Keep
			if c == 0 {
				reserve, keep = 0, 0
			}
			r.budget[c] = float64(max(0, b.Left-reserve))
			if b.Next > 0 {
				r.next[c] = float64(max(0, b.Next-keep))
			}
			if !b.Turns.IsZero() {
				r.turns = r.seconds(b.Turns)
			}
		}
	}
	for at, list := range lots(in, r.seconds) {
		for _, l := range list {
			r.left += l.keys
			r.closing = append(r.closing, queued{l, at})
			if l.notBefore > 0 {
				r.arriving = append(r.arriving, queued{l, at})
			} else {
				r.join(at, l)
			}
			for _, s := range l.shares {
				if r.tally[s.incident] == nil {
					r.tally[s.incident] = &total{}
				}
				r.tally[s.incident].keys += s.keys
			}
		}
	}
	sort.Slice(r.closing, func(i, j int) bool { return r.closing[i].deadline < r.closing[j].deadline })
	sort.Slice(r.arriving, func(i, j int) bool { return r.arriving[i].notBefore < r.arriving[j].notBefore })
	return r
}

func (r *run) seconds(t time.Time) float64 { return t.Sub(r.in.Now).Seconds() }

// step goes on to the next thing that happens. True: nothing waits any more.
func (r *run) step() bool {
	if r.left < tiny {
		return true
	}
	c := r.serving()
	at := r.nextEvent()
	if c < 0 {
		if math.IsInf(at, 1) { // nothing is left but what sums of floats are wrong by
			return true
		}
		r.t = max(r.t, at)
	} else {
		r.call(c, at)
	}
	r.arrivals()
	r.closings()
	if r.t >= r.turns {
		r.budget, r.used, r.turns = r.next, 0, math.Inf(1)
	}
	return false
}

// serving gives the class whose turn it is, -1 for none.
func (r *run) serving() int {
	if r.t < r.start() {
		return -1
	}
	for c := range Classes {
		if r.busy[c] == 0 {
			continue
		}
		if r.budget[c]-r.used > tiny {
			return c
		}
		if r.spent < 0 {
			r.spent = r.t
		}
	}
	return -1
}

func (r *run) start() float64 {
	if r.in.Start.IsZero() {
		return 0
	}
	return r.seconds(r.in.Start)
}

// nextEvent is the next moment at which something happens by itself.
func (r *run) nextEvent() float64 {
	at := r.turns
	if s := r.start(); s > r.t {
		at = min(at, s)
	}
	if len(r.closing) > 0 {
		at = min(at, r.closing[0].deadline)
	}
	if len(r.arriving) > 0 {
		at = min(at, r.arriving[0].notBefore)
	}
	return at
}

// call makes the calls of a class until a lot is done, the budget is, or the moment has come.
func (r *run) call(c int, until float64) {
	q := r.first(c)
	n := float64(r.busy[c])
	done := (q.finish - r.rounds[c]) * n
	afford := r.budget[c] - r.used
	room := 0.0
	if until > r.t {
		room = (until - r.t) * r.pace
	}
	calls := max(0, min(done, afford, room))
	r.used += calls
	r.calls += calls
	switch {
	case room <= calls: // also where both are the same: what is done is done at this moment
		r.t = max(r.t, until)
		r.rounds[c] += calls / n
	case done <= calls:
		r.t += calls / r.pace
	default:
		r.t += calls / r.pace
		r.rounds[c] += calls / n
	}
	if done > calls {
		return
	}
	r.rounds[c] = q.finish
	for r.busy[c] > 0 { // all that are done in this round: there may be no calls left for another step
		if q = r.first(c); q.finish > r.rounds[c]+tiny {
			return
		}
		r.done(q)
	}
}

// first gives the queue of a class whose first lot is done next. There is one.
func (r *run) first(c int) *queue {
	h := &r.heaps[c]
	for {
		e := (*h)[0]
		if e.version == e.queue.version {
			return e.queue
		}
		heap.Pop(h)
	}
}

// join puts a lot into its queue.
func (r *run) join(at lane, l *lot) {
	q := r.queues[at]
	if q == nil {
		q = &queue{lane: at}
		r.queues[at] = q
	}
	if len(q.lots) == 0 {
		q.joined, q.began = r.rounds[at.class], r.rounds[at.class]
		r.busy[at.class]++
	} else {
		r.sync(q)
	}
	i := sort.Search(len(q.lots), func(i int) bool { return q.lots[i].deadline > l.deadline })
	q.lots = append(q.lots, nil)
	copy(q.lots[i+1:], q.lots[i:])
	q.lots[i] = l
	r.schedule(q)
}

// sync writes down how far the first lot of a queue is.
func (r *run) sync(q *queue) {
	round := r.rounds[q.class]
	if len(q.lots) == 0 || round <= q.began {
		return
	}
	l, part := q.lots[0], 1.0
	if q.finish > q.began {
		part = min(1, (round-q.began)/(q.finish-q.began))
	}
	r.book(l, l.keys*part, round-q.began, r.t+r.in.Latency.Seconds(), false)
	q.began = round
}

// schedule says when the first lot of a queue is done. The last one ends with a call, be it full or not.
func (r *run) schedule(q *queue) {
	q.version++
	if len(q.lots) == 0 {
		r.busy[q.class]--
		return
	}
	q.finish = q.began + q.lots[0].keys/KeysPerCall
	if len(q.lots) == 1 {
		q.finish = max(q.began, q.joined+math.Ceil(q.finish-q.joined-tiny))
	}
	heap.Push(&r.heaps[q.class], entry{q.finish, q.version, q})
}

// done takes the first lot of a queue, which is called for, out of it.
func (r *run) done(q *queue) {
	l := q.lots[0]
	full := l.keys / KeysPerCall
	spare := q.finish - q.began - full
	r.book(l, l.keys, q.finish-q.began, r.t+r.in.Latency.Seconds(), false)
	q.lots, q.began = q.lots[1:], q.finish
	r.schedule(q)
	if len(q.lots) == 0 && spare > tiny {
		r.fill(q.lane, spare*KeysPerCall)
	}
}

// fill gives the room that the last call of a queue has left to the robot's keys in the classes behind.
func (r *run) fill(at lane, room float64) {
	for c := at.class + 1; c < Classes && room > tiny; c++ {
		q := r.queues[lane{c, at.robot}]
		if q == nil {
			continue
		}
		for len(q.lots) > 0 && room > tiny {
			r.sync(q)
			l := q.lots[0]
			keys := min(room, l.keys)
			room -= keys
			r.book(l, keys, 0, r.t+r.in.Latency.Seconds(), false)
			if l.keys < tiny {
				q.lots = q.lots[1:]
			}
			r.schedule(q)
		}
	}
}

// arrivals lets join what was to wait for later.
func (r *run) arrivals() {
	for len(r.arriving) > 0 && r.arriving[0].notBefore <= r.t {
		a := r.arriving[0]
		r.arriving = r.arriving[1:]
		if a.keys > 0 && a.deadline > r.t {
			r.join(a.lane, a.lot)
		}
	}
}

// closings lets go what misses its window.
func (r *run) closings() {
	for len(r.closing) > 0 && r.closing[0].deadline <= r.t {
		l := r.closing[0]
		r.closing = r.closing[1:]
		if l.keys < tiny {
			continue
		}
		q := r.queues[l.lane]
		at := -1
		if q != nil {
			for i := range q.lots { // the earliest deadlines are in front
				if q.lots[i] == l.lot {
					at = i
					break
				}
			}
			if at == 0 {
				r.sync(q)
			}
		}
		if r.missed < 0 || r.missedKeys < 0.5-tiny {
			r.missed = max(0, l.deadline) // less than half a key is how exact this is, unless it stays with that
		}
		r.missedKeys += l.keys
		r.book(l.lot, l.keys, 0, max(0, l.deadline), true)
		if at < 0 {
			continue
		}
		q.lots = append(q.lots[:at], q.lots[at+1:]...)
		r.schedule(q)
	}
}

// book writes down that keys of a lot are recalled, or have missed their windows.
func (r *run) book(l *lot, keys, calls, at float64, missed bool) {
	if l.keys <= 0 {
		return
	}
	sum := 0.0
	for _, s := range l.shares {
		sum += s.keys
	}
	for _, s := range l.shares {
		part, t := s.keys/sum, r.tally[s.incident]
		t.calls += calls * part
		if missed {
			t.missed += keys * part
		}
		if !missed && keys > 0 || keys >= 0.5 { // less than half a key is how exact this is
			t.end = max(t.end, at)
		}
	}
	l.keys -= keys
	r.left -= keys
}

func (r *run) result() Result {
	out := Result{Calls: whole(r.calls)}
	moment := func(s float64) time.Time { return r.in.Now.Add(time.Duration(s * float64(time.Second))) }
	for name, t := range r.tally {
		i := Incident{Incident: name, Keys: int(math.Round(t.keys)), Missed: int(math.Round(t.missed)), Calls: whole(t.calls), End: moment(t.end)}
		out.Keys += i.Keys
		out.Missed += i.Missed
		if i.End.After(out.End) {
			out.End = i.End
		}
		out.Incidents = append(out.Incidents, i)
	}
	sort.Slice(out.Incidents, func(i, j int) bool { return out.Incidents[i].Incident < out.Incidents[j].Incident })
	if out.Missed > 0 && r.missed > -1 {
		out.FirstMiss = moment(r.missed)
	}
	if r.spent >= 0 {
		out.Spent = moment(r.spent)
	}
	return out
}

// whole rounds calls up, but for what sums of floats are wrong by.
func whole(calls float64) int { return int(math.Ceil(calls - 1e-3)) }

// order is the queues of a class, by the round at which their first lots are done.
type order []entry

type entry struct {
	finish  float64
	version int
	queue   *queue
}

func (o order) Len() int           { return len(o) }
func (o order) Less(i, j int) bool { return o[i].finish < o[j].finish }
func (o order) Swap(i, j int)      { o[i], o[j] = o[j], o[i] }
func (o *order) Push(x any)        { *o = append(*o, x.(entry)) }
func (o *order) Pop() any {
	old := *o
	e := old[len(old)-1]
	*o = old[:len(old)-1]
	return e
}
