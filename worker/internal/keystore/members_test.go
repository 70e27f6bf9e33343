package keystore

import (
	"strings"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

// members gives how many keys have no record of their own, and how many have one.
func (b *bundle) members(t tb) (members, own int) {
	t.Helper()
	for _, k := range b.check(t).keys {
		if k.pack > 0 {
			members++
		} else {
			own++
		}
	}
	return members, own
}

func (b *bundle) wantMembers(t tb, members, own int) {
	t.Helper()
	if m, o := b.members(t); m != members || o != own {
		t.Fatalf("%d keys are members of packs and %d have records of their own, want %d and %d", m, o, members, own)
	}
}

func (b *bundle) wantStates(t tb, from, n int, want flow.State) {
	t.Helper()
	for _, r := range b.lookup(t, testKeys(from, n)...) {
		if r.State != want {
			t.Fatalf("key %s is %v, want %v", r.Key, r.State, want)
		}
	}
}

// TestKeysThatComeTogetherAreMembersOfPacks: one write ends all of a pack that was recalled whole, and whoever fares otherwise
// has a record of its own.
func TestKeysThatComeTogetherAreMembersOfPacks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		d, batch := b.start(t, 0, 100)
		b.wantMembers(t, 100, 0)
		b.wantStates(t, 0, 20, flow.Bound)

		batch = b.settle(t, d, batch, recalled(20)).Batch
		b.wantMembers(t, 100, 0)
		b.wantStates(t, 0, 20, flow.Recalled)
		b.wantStates(t, 20, 20, flow.Bound)
		b.wantStates(t, 40, 60, flow.Waiting)
		if r := b.lookup(t, testKey(0))[0]; r.RequestID != "req" || r.Attempts != 1 {
			t.Errorf("the record of a member says %+v", r)
		}

		one := recalled(20)
		one.Outcomes[7] = flow.Outcome{Fate: flow.FateDead, Code: "c", Message: "m"}
		batch = b.settle(t, d, batch, one).Batch
		b.wantMembers(t, 80, 20)
		b.wantStates(t, 27, 1, flow.Dead)
		b.wantStates(t, 28, 12, flow.Recalled)

		part := recalled(20) // the call had ten of the keys, the others go on
		for i := 10; i < 20; i++ {
			part.Outcomes[i] = flow.Outcome{Fate: flow.FateWait}
		}
		batch = b.settle(t, d, batch, part).Batch
		b.wantStates(t, 40, 10, flow.Recalled)
		b.wantMembers(t, 60, 40)
		if got, _ := b.admit(t, Admission{Keys: testKeys(0, 100)}); got.Known != 100 {
			t.Errorf("admitted again: %+v", got)
		}
		for r := b.settle(t, d, batch, recalled(20)); r.Status == StatusBatch; {
			r = b.settle(t, d, r.Batch, recalled(len(r.Batch.Keys)))
		}
		b.finish(t)
		b.wantStates(t, 0, 27, flow.Recalled)
		b.wantStates(t, 28, 72, flow.Recalled)
		b.wantMembers(t, 40, 60) // what went on took ten of the next pack along
	})
}

// TestACallThatCarriedLessThanAPackEndsNoPack: what was not in the call is not recalled by it, and the attempt is not its own.
func TestACallThatCarriedLessThanAPackEndsNoPack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		d, batch := b.start(t, 0, 20)
		batch = b.settle(t, d, batch, keep(20, 5, flow.NextCall)).Batch
		b.settle(t, d, batch, recalled(20))
		b.check(t)
		for i, r := range b.lookup(t, testKeys(0, 20)...) {
			if want := map[bool]int{true: 2, false: 1}[i < 5]; r.State != flow.Recalled || r.Attempts != want {
				t.Errorf("key %d: %v after %d attempts, want %d", i, r.State, r.Attempts, want)
			}
		}
	})
}

// TestWhoIsNoMember: keys that come alone or in small numbers, at times of their own, or in another form.
func TestWhoIsNoMember(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.admit(t, Admission{Keys: testKeys(0, 19)})
		b.wantMembers(t, 0, 19)

		long := testKeys(100, 60)
		long[30] = strings.Repeat("k", 50)
		b.admit(t, Admission{Keys: long})
		b.wantMembers(t, 59, 20)

		// One that becomes more urgent stands between two packs, and not inside of one.
		b.admit(t, Admission{Class: flow.Bulk, Keys: testKeys(200, 1)})
		b.admit(t, Admission{Class: flow.Default, Keys: append(testKeys(210, 10), append(testKeys(200, 1), testKeys(220, 10)...)...)})
		b.wantMembers(t, 79, 21)
		n := 0
		for _, batch := range b.finish(t) {
			n += len(batch.Keys)
		}
		if n != 100 {
			t.Errorf("%d keys were called, want 100", n)
		}
		b.wantStates(t, 200, 1, flow.Recalled)
		b.check(t)
	})
}

// TestTheRestOfACutPackGoesBehind: in front it would have all packs behind it cut, and each key settled by itself.
func TestTheRestOfACutPackGoesBehind(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		b.admit(t, Admission{Keys: testKeys(0, 7)})
		b.admit(t, Admission{Keys: testKeys(100, 100)})
		b.finish(t)
		// The first call takes seven keys and thirteen of a pack; the seven that are left of it go last.
		b.wantMembers(t, 80, 27)
	})
}

// TestTheRestOfACutPackStaysBeforeLaterWindows: behind the others it may go only where their windows close with its own.
func TestTheRestOfACutPackStaysBeforeLaterWindows(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		day := b.clock.Truncate(24 * time.Hour) // all of it lies in one bucket of five minutes
		b.admit(t, Admission{Keys: testKeys(0, 7), SentAt: day})
		b.admit(t, Admission{Keys: testKeys(100, 20), SentAt: day})
		b.admit(t, Admission{Keys: testKeys(200, 60), SentAt: day.Add(time.Minute)})
		batches := b.finish(t)
		b.wantMembers(t, 40, 47) // it takes thirteen of the next pack along, whose seven go behind their like
		for i, k := range batches[1].Keys[:7] {
			if want := testKey(113 + i); k.Key != want {
				t.Errorf("key %d of the second call is %s, want %s", i, k.Key, want)
			}
		}
	})
}
