package economy

import (
	"math/rand/v2"
	"slices"
	"time"

	"dingrecall/upstream/simulator"
)

// incident is a broadcast to be recalled, and a service with its ways.
type incident struct {
	name    string
	failure simulator.Failure
	bad     simulator.Kind // of the keys that cannot be recalled
	share   float64        // of them
	oldest  bool           // they are those sent first; else they are anywhere
	named   bool           // the service names the bad key when it fails a whole call
	fault   simulator.FaultRule
	rush    float64 // > 0: there is time for this share of the keys only
	most    float64 // the goal: calls, as a multiple of the least; 0 = none
	loses   float64 // the share of the savable keys that may be lost, where calls that are spent on bad keys are missing in the end
}

// rate is the service's: calls a second.
const rate = 20

const robot = "dingrobotone"

// broadcast is the keys of an incident, in the order in which they were sent.
type broadcast struct {
	keys []string
	sent []time.Time // as the producer tells
	good []int       // the places of those that can be recalled
}

func (in incident) broadcast(n int, now time.Time) broadcast {
	rng := rand.New(rand.NewPCG(*seed, uint64(n))) //nolint:gosec // an example, the same each time
	isBad := make([]bool, n)
	count := int(in.share * float64(n))
	if in.oldest {
		for i := range count {
			isBad[i] = true
		}
	} else {
		for _, i := range rng.Perm(n)[:count] {
			isBad[i] = true
		}
	}
	b := broadcast{}
	for i := range n {
		told := now.Add(-20*time.Hour + time.Duration(i)*16*time.Hour/time.Duration(n))
		if in.rush > 0 { // the last window closes when the last of that share could have been called
			took := time.Duration(float64(n) / 20 / rate * float64(time.Second))
			told = now.Add(-life + time.Duration(float64(took)*in.rush*float64(i+1)/float64(n)) + time.Second).Truncate(time.Second)
		}
		kind := simulator.Good
		if isBad[i] {
			kind = in.bad
		} else {
			b.good = append(b.good, i)
		}
		b.keys = append(b.keys, simulator.MakeKey(1, uint64(i), kind, told)) //nolint:gosec // i is not negative
		b.sent = append(b.sent, told)
	}
	return b
}

// window is the service's. life is what of it is used: a key is called so long after it was sent at most, by either scheduler.
const (
	window = 24 * time.Hour
	life   = window - 2*time.Minute
)

// savable is how many keys somebody saves who knows which are good: at each moment at which a call may be made, the 20 good keys whose windows
// close first, of those that are open. No other order saves more: where one does, exchanging a later deadline for an earlier one in it
// loses nothing.
func (b broadcast) savable(now time.Time) int {
	var ends []time.Time
	for _, i := range b.good {
		ends = append(ends, b.sent[i].Add(life))
	}
	slices.SortFunc(ends, time.Time.Compare)
	saved := 0
	for at := now; len(ends) > 0; at = at.Add(time.Second / rate) {
		for len(ends) > 0 && !ends[0].After(at) {
			ends = ends[1:]
		}
		k := min(20, len(ends))
		saved, ends = saved+k, ends[k:]
	}
	return saved
}
