package dispatch

import (
	"fmt"
	"time"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
)

// codeExpired is said of keys whose window has closed by the service's clock.
const codeExpired = "robot.processQueryKey.expired"

// witnesses is how many keys the service must have said one by one to be expired before any dies unasked.
const witnesses = 5

// front is how far the windows of an incident's keys turned out to be closed though their producer told another time of sending. What
// was sent before an expired key has expired too, so that keys die unasked where all this holds:
//
//   - the service said of five keys or more, each by itself, that they have expired; of a first batch they are its youngest, its
//     oldest and some between;
//   - the key lies between the oldest and the youngest of them, by what the producer told. As old as the youngest is not enough:
//     then nothing is told;
//   - no key of the incident that is as old as the youngest of them, or older, was recalled. One that was shows that the told times
//     are not even in order, and ends all of this for the incident.
type front struct {
	Expired  int64 // deadline of the youngest key that was said to have expired, s
	Oldest   int64 // deadline of the oldest such key
	Said     int   // of how many keys it was said
	Good     int64 // deadline of the oldest key that was recalled, s; 0 = none
	Disorder bool  // a recalled key is as old as an expired one
	Message  string
	Request  string
}

// edge is the deadline below which keys die unasked; 0 = none do.
func (f front) edge() int64 {
	if f.Disorder || f.Said < witnesses {
		return 0
	}
	return f.Expired
}

// behind says whether a key with this deadline dies unasked.
func (f front) behind(deadline int64) bool { return deadline >= f.Oldest && deadline < f.edge() }

// mayReach says whether keys with this deadline can lie behind the front.
func (f front) mayReach(deadline int64) bool {
	return !f.Disorder && (f.Good == 0 || deadline < f.Good)
}

// see adds what a call said of the keys that it carried, each by itself.
func (f front) see(keys []flow.BoundKey, outcomes []flow.Outcome, called int, request string) front {
	for i, k := range keys[:called] {
		deadline := k.Deadline.Unix()
		switch o := outcomes[i]; {
		case o.Fate == flow.FateRecalled && (f.Good == 0 || deadline < f.Good):
			f.Good = deadline
		case o.Fate == flow.FateDead && o.Code == codeExpired && !o.Unasked:
			f.Said++
			if f.Oldest == 0 || deadline < f.Oldest {
				f.Oldest = deadline
			}
			if deadline >= f.Expired {
				f.Expired, f.Message, f.Request = deadline, o.Message, request
			}
		}
	}
	f.Disorder = f.Disorder || f.Said > 0 && f.Good != 0 && f.Good <= f.Expired
	return f
}

// unasked is the fate of a key that is older than the front.
func (f front) unasked() flow.Outcome {
	return flow.Outcome{Fate: flow.FateDead, Unasked: true, Code: codeExpired, Request: f.Request,
		Message: fmt.Sprintf("%s (said of %d keys, one of them sent later; not asked about this one)", f.Message, f.Said)}
}

// sameIncident says whether all keys of a batch are of one incident: only then their told times are taken to be wrong alike.
func sameIncident(b *flow.Batch) bool {
	for _, k := range b.Keys {
		if k.Incident != b.Keys[0].Incident {
			return false
		}
	}
	return true
}

// behindFront has the open keys die that are older than the front.
func (d *decider) behindFront(out *decision) {
	d.front = d.front.see(d.batch.Keys, out.Outcomes, d.batch.Cut, out.RequestID)
	if !sameIncident(d.batch) {
		return
	}
	for i, k := range d.batch.Keys {
		if out.Outcomes[i].Fate == 0 && d.front.behind(k.Deadline.Unix()) {
			out.Outcomes[i] = d.front.unasked()
		}
	}
}

// witness gives the key that is called alone to find how far the front reaches, -1 where there is no use for one: the youngest first, since
// it may settle the fate of all others.
func (d *decider) witness(groups []group) int {
	if len(groups) != 1 || groups[0].Soft || groups[0].Code != codeExpired || !sameIncident(d.batch) {
		return -1
	}
	oldest, youngest := -1, -1
	var all []int
	for i, k := range d.batch.Keys {
		if groups[0].Keys>>i&1 == 0 || !d.front.mayReach(k.Deadline.Unix()) {
			continue
		}
		all = append(all, i)
		if oldest < 0 || k.Deadline.Before(d.batch.Keys[oldest].Deadline) {
			oldest = i
		}
		if youngest < 0 || !k.Deadline.Before(d.batch.Keys[youngest].Deadline) {
			youngest = i
		}
	}
	if len(all) == 0 || d.front.Good != 0 && d.front.Said == 0 && d.note.Probed != 1 { // two in vain, and it is no front
		return -1
	}
	if d.batch.Keys[oldest].Deadline.Equal(d.batch.Keys[youngest].Deadline) {
		return -1
	}
	switch said := d.front.Said; {
	case d.front.Good != 0 && len(d.note.Groups) > 0: // its end is in this batch
		return all[len(all)/2]
	case said == 1:
		return oldest
	case said > 1 && said < witnesses:
		return all[len(all)*(said-1)/witnesses]
	}
	return youngest
}

// hurry is how near the end of its window a key is not passed over any more.
const hurry = time.Minute

// closed decides about a batch that was just claimed and that need not be called as it is: keys behind the front die without a call, one that
// is older than every key that was asked is called alone, since it may settle the fate of all up to there, and the others are claimed again, in
// other company. ok is false where there are no such keys.
func (d *decider) closed() (out decision, ok bool) {
	out = d.begin("")
	out.scope = upstream.Done
	if d.front.edge() == 0 || !sameIncident(d.batch) {
		return out, false
	}
	first := -1
	for i, k := range d.batch.Keys {
		out.Outcomes[i].Fate = flow.FateWait
		if d.front.behind(k.Deadline.Unix()) {
			out.Outcomes[i], ok = d.front.unasked(), true
		}
		if k.Deadline.Unix() < d.front.Oldest && (first < 0 || k.Deadline.Before(d.batch.Keys[first].Deadline)) {
			first = i
		}
	}
	if first >= 0 && len(d.batch.Keys) > 1 {
		out.Outcomes[first].Fate = flow.FateKeep
		out.Next, out.Cut, out.Note = flow.NextCall, 1, note{Probed: 1}.String()
		return out, true
	}
	return out, ok
}

// passOver has all keys of a batch wait for a moment.
func (d *decider) passOver() decision {
	out := d.begin("")
	out.scope = upstream.Done
	for i := range out.Outcomes {
		out.Outcomes[i] = flow.Outcome{Fate: flow.FateLater, Delay: passFor}
	}
	return out
}

// hurries says whether a key of the batch has little time left.
func (d *decider) hurries() bool {
	for _, k := range d.batch.Keys {
		if k.Deadline.Sub(d.now) <= hurry {
			return true
		}
	}
	return false
}
