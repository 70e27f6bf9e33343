package dispatch

import (
	"hash/fnv"
	"math"
	"math/bits"

	"dingrecall/worker/internal/flow"
)

// The search for a bad key. A call that fails as a whole with a code that is about a key says that at least one of its keys is
// bad. What is known of the bound keys is a few such groups; a call of some of them makes a group smaller, or adds one:
//
//	the call fails     the called are a group. A group that has them all and more knows nothing any more: its others wait again
//	the call succeeds  the called are no longer in any group; a group that is down to one key has named it
//
// What is called next is the part that tells most: whether it fails should be as uncertain as can be, for an answer is worth
// at most one bit. How likely a part is to fail follows from the groups and from the share of bad keys seen so far.

// group is some of the bound keys, at least one of which is bad, and the answer that said so.
type group struct {
	Keys      uint32 `json:"k"`           // by their places
	Soft      bool   `json:"s,omitempty"` // the answer blamed nobody: whom it comes down to is called alone before it dies
	Code      string `json:"c,omitempty"`
	Message   string `json:"m,omitempty"`
	RequestID string `json:"i,omitempty"`
}

// mostGroups bounds the groups of a batch: the choice of a part weighs all combinations of them.
const mostGroups = 4

// fingerprint tells whether the places of a note's groups still mean the same keys: where a key died between two calls, they do not.
func fingerprint(keys []flow.BoundKey) uint32 {
	h := fnv.New32a()
	for _, k := range keys {
		_, _ = h.Write([]byte(k.Key)) // it never fails
		_, _ = h.Write([]byte{0})
	}
	return h.Sum32()
}

// groupsOf gives a note's groups by the places of the batch. Keys that came to the batch since the note stand in front of those that it knows.
func (n note) groupsOf(b *flow.Batch) []group {
	more := len(b.Keys) - n.Bound
	if len(n.Groups) == 0 || n.Bound < 1 || more < 0 || fingerprint(b.Keys[more:]) != n.Sum {
		return nil
	}
	groups := make([]group, 0, len(n.Groups)+1)
	for _, g := range n.Groups {
		if g.Keys >= 1<<n.Bound {
			return nil
		}
		g.Keys <<= more
		groups = append(groups, g)
	}
	return groups
}

// failedTogether adds the group of the called. Groups that hold it all know nothing more than it does, so they go.
func failedTogether(groups []group, g group) []group {
	kept := groups[:0]
	for _, old := range groups {
		if old.Keys&g.Keys != g.Keys {
			kept = append(kept, old)
		}
	}
	kept = append(kept, g)
	return kept[max(0, len(kept)-mostGroups):]
}

// without gives the groups when the keys good are good, and nothing more can be learnt of those in gone.
func without(groups []group, good, gone uint32) []group {
	var kept []group
	for _, g := range groups {
		g.Keys &^= good
		if g.Keys != 0 && g.Keys&gone == 0 {
			kept = append(kept, g)
		}
	}
	return kept
}

// chances weighs what may be the case, given the groups and the share of bad keys.
type chances struct {
	groups []group
	clean  [2*flow.MaxBatch + 1]float64 // that so many keys, of which nothing is known, are all good
	all    float64                      // of all that is in keeping with the groups
}

func newChances(groups []group, rate float64) *chances {
	c := &chances{groups: groups}
	c.clean[0] = 1
	for i := 1; i < len(c.clean); i++ {
		c.clean[i] = c.clean[i-1] * (1 - rate)
	}
	c.all = c.joint(0)
	return c
}

// joint is the chance that each group has a bad key and none of the keys in part is one: inclusion and exclusion over the
// groups that would be all good.
func (c *chances) joint(part uint32) float64 {
	sum := 0.0
	for pick := range 1 << len(c.groups) {
		union, sign := part, 1.0
		for i, g := range c.groups {
			if pick>>i&1 == 1 {
				union |= g.Keys
				sign = -sign
			}
		}
		sum += sign * c.clean[bits.OnesCount32(union)]
	}
	return sum
}

// succeeds is the chance that a call of these keys succeeds.
func (c *chances) succeeds(part uint32) float64 {
	if c.all <= 0 {
		return 0
	}
	return min(1, max(0, c.joint(part)/c.all))
}

// bit is the information in an answer that has this chance, in bits.
func bit(p float64) float64 {
	if p <= 0 || p >= 1 {
		return 0
	}
	return -p*math.Log2(p) - (1-p)*math.Log2(1-p)
}

// perKey is what a key that is recalled is worth, in bits: it need not be called again, in a call that tells less than a bit. The number is
// that which cost the fewest calls where one key in a hundred was bad.
const perKey = 0.04

// part is what is to be called next: bound keys, and how many with them of which nothing is known.
type part struct {
	keys  uint32
	fresh int
}

// choose gives the part of a batch whose call tells most. Keys that are in the same groups are alike, so that of each kind only
// their number is tried; those that came first go first. Up to room keys of which nothing is known may join in.
func choose(groups []group, room int, rate float64) part {
	c := newChances(groups, rate)
	best, found := -1.0, part{}
	kinds := kindsOf(groups)
	var try func(i int, chosen uint32)
	try = func(i int, chosen uint32) {
		if i < len(kinds) {
			try(i+1, chosen)
			for _, k := range kinds[i] {
				chosen |= k
				try(i+1, chosen)
			}
			return
		}
		n := bits.OnesCount32(chosen)
		p := c.succeeds(chosen)
		last := -1.0
		for fresh := range min(room, flow.MaxBatch-n) + 1 {
			if n == 0 && (fresh == 0 || len(groups) > 0) || !c.allowed(chosen, fresh) { // without a key that is bound there may be none to call
				continue
			}
			p := p * c.clean[fresh]
			worth := bit(p) + perKey*p*float64(n+fresh)
			if worth < last { // it only falls from here
				break
			}
			last = worth
			if worth > best {
				best, found = worth, part{chosen, fresh}
			}
		}
	}
	try(0, 0)
	return found
}

// allowed keeps to calls that tell something, since where one fails that has all of a group, nothing is learnt of where in it; and to
// groups that can be remembered.
func (c *chances) allowed(chosen uint32, fresh int) bool {
	inside := len(c.groups) < mostGroups
	for _, g := range c.groups {
		if g.Keys&^chosen == 0 {
			return false
		}
		inside = inside || fresh == 0 && chosen&^g.Keys == 0
	}
	return inside
}

// kindsOf sorts the keys of groups by the groups that they are in; each key as its bit, in their order.
func kindsOf(groups []group) [][]uint32 {
	var kinds [1 << mostGroups][]uint32
	for left := groupKeys(groups); left != 0; left &= left - 1 {
		k, in := left&-left, 0
		for i, g := range groups {
			if g.Keys&k != 0 {
				in |= 1 << i
			}
		}
		kinds[in] = append(kinds[in], k)
	}
	var used [][]uint32
	for _, k := range kinds {
		if len(k) > 0 {
			used = append(used, k)
		}
	}
	return used
}

func groupKeys(groups []group) uint32 {
	keys := uint32(0)
	for _, g := range groups {
		keys |= g.Keys
	}
	return keys
}
