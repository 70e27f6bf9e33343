package dispatch

import (
	"fmt"
	"math/bits"

	"dingrecall/worker/internal/flow"
)

// forEver are the codes that a key is said to be bad with once and for all. Only of these may a key die that no call had to itself:
// where a call failed with one of them and all its other keys were recalled since, nothing but this key can have been meant, for what they
// say does not pass, and the others have shown that it was not said of them.
var forEver = map[string]bool{"invalid.processQueryKey": true, "robot.processQueryKey.expired": true, "not.allowed.robotCode": true}

// groups gives what is known of the batch from its earlier calls.
func (d *decider) groups() []group { return d.note.groupsOf(d.batch) }

// places gives the first n places of the batch.
func places(n int) uint32 { return 1<<n - 1 }

// split goes on after a call of several keys failed: at least one of the called is bad.
func (d *decider) split(out *decision, g group) {
	g.Keys = places(d.batch.Cut)
	d.pursue(out, failedTogether(d.groups(), g))
}

// pursue decides about all keys whose fate is still open: whom the search has come down to, what is called next, what stays bound
// meanwhile, and what waits again since nothing is known of it.
func (d *decider) pursue(out *decision, groups []group) {
	d.behindFront(out)
	open, groups := d.settled(out, groups)
	for i := 0; i < len(groups); i++ {
		if g := groups[i]; bits.OnesCount32(g.Keys) == 1 {
			out.Outcomes[bits.TrailingZeros32(g.Keys)] = d.cameDownTo(g)
			open &^= g.Keys
			groups, i = without(groups, 0, g.Keys), -1
		}
	}
	bound := groupKeys(groups)
	next := part{}
	switch witness := d.witness(groups); {
	case witness >= 0:
		next.keys = 1 << witness
		d.note.Probed++
	case len(groups) > 0:
		next = choose(groups, flow.MaxBatch-bits.OnesCount32(bound), d.rate)
		if next == (part{}) { // what is known cannot be: any part of it will do
			next.keys = bound & -bound
		}
	case open != 0 && d.front.edge() == 0 && newChances(nil, d.rate).succeeds(places(flow.MaxBatch)) < hopeless:
		next.fresh, bound = choose(nil, bits.OnesCount32(open), d.rate).fresh, open
	}
	// Of the batch's own keys those of which nothing is known come first: they were in front of what waits.
	for left := open &^ groupKeys(groups); left != 0 && next.fresh > 0; left &= left - 1 {
		next.keys |= left & -left
		next.fresh--
	}
	d.goOn(out, groups, open, bound, next)
}

// hopeless is the chance of success below which a full call is not tried while keys of a smaller one are at hand.
const hopeless = 0.2

// settled gives the keys whose fate is open, and what the groups know when the others are out of them.
func (d *decider) settled(out *decision, groups []group) (uint32, []group) {
	var open, good, gone uint32
	for i, o := range out.Outcomes {
		switch o.Fate {
		case 0:
			open |= 1 << i
		case flow.FateRecalled:
			good |= 1 << i
		default:
			gone |= 1 << i
		}
	}
	return open, without(groups, good, gone)
}

// cameDownTo is the fate of the one key that a group has left, when all others of it were recalled.
func (d *decider) cameDownTo(g group) flow.Outcome {
	if !g.Soft && forEver[g.Code] {
		return flow.Outcome{Fate: flow.FateDead, Code: g.Code, Request: g.RequestID,
			Message: fmt.Sprintf("%s (said of a call with several keys; the others were recalled)", g.Message)}
	}
	return flow.Outcome{Fate: flow.FateSolo, Delay: d.policy.backoff(1)}
}

// goOn has next called, keeps what else is in a group bound behind it, and gives the rest back.
func (d *decider) goOn(out *decision, groups []group, open, bound uint32, next part) {
	var order []int
	give := func(from uint32, fate flow.Fate) {
		for left := from; left != 0; left &= left - 1 {
			i := bits.TrailingZeros32(left)
			out.Outcomes[i].Fate = fate
			if fate != flow.FateWait {
				order = append(order, i)
			}
		}
	}
	give(next.keys, flow.FateKeep)
	give(bound&^next.keys, flow.FatePark)
	give(open&^(bound|next.keys), flow.FateWait)
	if len(order) == 0 {
		return
	}
	n := note{FirstFail: d.note.FirstFail, Isolating: d.note.Isolating, Probed: d.note.Probed}
	n.remember(d.batch, groups, order)
	out.Next, out.Cut, out.Fill, out.Note = flow.NextCall, bits.OnesCount32(next.keys), next.fresh, n.String()
}

// remember notes the groups for a batch that holds these keys in this order.
func (n *note) remember(b *flow.Batch, groups []group, order []int) {
	keys := make([]flow.BoundKey, len(order))
	for to, from := range order {
		keys[to] = b.Keys[from]
	}
	for _, g := range groups {
		moved := uint32(0)
		for to, from := range order {
			moved |= g.Keys >> from & 1 << to
		}
		g.Keys = moved
		n.Groups = append(n.Groups, g)
	}
	n.Bound, n.Sum = len(keys), fingerprint(keys)
}
