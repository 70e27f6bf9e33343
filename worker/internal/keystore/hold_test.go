package keystore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

// deniedFor is the settlement of a call that lacked a permission, which may be the robot's own.
func deniedFor(n int, probe time.Duration) flow.Settlement {
	o := heldFor(n, probe)
	o.Hold.Code, o.Hold.PerhapsRobot = "AccessTokenPermissionDenied", true
	return o
}

// next runs the slot that is due first.
func (b *bundle) next(t *testing.T) (flow.DueSlot, *flow.Batch) {
	t.Helper()
	r := b.wake(t)
	if len(r.Due) == 0 {
		t.Fatalf("no slot is due: %+v, %+v", *r, b.status(t))
	}
	d := r.Due[0]
	if r = b.attach(t, d, 0); r.Status != StatusBatch {
		t.Fatalf("%+v", *r)
	}
	return d, r.Batch
}

func (b *bundle) heldRobots(t *testing.T) map[string]time.Duration {
	t.Helper()
	out := map[string]time.Duration{}
	for _, h := range b.status(t).Robots {
		out[h.RobotCode] = h.NextProbe.Sub(*b.clock)
	}
	return out
}

// Of two robots one is refused after the other succeeded: only it is held, is skipped until its probe, and goes on after one that
// succeeds.
func TestRobotHold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 2
		b.admit(t, Admission{RobotCode: "bad", Keys: testKeys(0, 60), Class: flow.Urgent})
		d1, bad := b.next(t)
		b.admit(t, Admission{RobotCode: "good", Keys: testKeys(100, 400), Class: flow.Bulk})
		b.advance(10 * time.Millisecond)
		var d2 flow.DueSlot
		var good *flow.Batch
		for d2, good = b.next(t); good.RobotCode != "good"; { // bad is urgent: its other batches are in the way
			good = b.settle(t, d2, good, keepNone(20)).Batch
		}
		good = b.settle(t, d2, good, recalled(20)).Batch
		r := b.settle(t, d1, bad, deniedFor(20, time.Minute))
		if st := b.status(t); st.Hold != nil || len(st.Robots) != 1 || st.Robots[0].RobotCode != "bad" || st.Robots[0].Code != "AccessTokenPermissionDenied" ||
			st.Robots[0].Message != "words" || !st.Robots[0].Since.Equal(*b.clock) || !st.Robots[0].NextProbe.Equal(b.clock.Add(time.Minute)) {
			t.Fatalf("%+v, %+v", st.Hold, st.Robots)
		}
		if told, alone, err := b.ToldHold(context.Background(), bad.ID); err != nil || !told || !alone {
			t.Errorf("the hold is no news, or not of the robot alone: %v, %v, %v", told, alone, err)
		}
		if r.Status != StatusBatch || r.Batch.RobotCode != "good" {
			t.Fatalf("after the hold: %+v", *r)
		}
		other := r.Batch
		// Both slots pause until the moment of a probe, and go on.
		paused := recalled(20)
		paused.Next = flow.NextYield
		untilProbe := func() {
			b.settle(t, d1, other, paused)
			b.settle(t, d2, good, paused)
			b.advance(b.heldRobots(t)["bad"])
			if d1, bad = b.next(t); bad.RobotCode != "bad" { // urgent goes first
				t.Fatalf("when its time has come: %+v", bad)
			}
			if d2, good = b.next(t); good.RobotCode != "good" {
				t.Error("a second probe")
			}
		}
		for _, want := range []time.Duration{2 * time.Minute, 4 * time.Minute} {
			untilProbe()
			r = b.settle(t, d1, bad, deniedFor(20, time.Minute))
			if got := b.heldRobots(t)["bad"]; got != want {
				t.Errorf("the next probe is in %v, not %v", got, want)
			}
			if told, _, err := b.ToldHold(context.Background(), bad.ID); err != nil || told {
				t.Errorf("a probe that fails is news: %v, %v", told, err)
			}
			other = r.Batch
		}
		b.check(t)
		untilProbe()
		if r = b.settle(t, d1, bad, recalled(20)); len(b.heldRobots(t)) != 0 || r.Batch.RobotCode != "bad" {
			t.Errorf("after a probe that succeeded: %v, %+v", b.heldRobots(t), *r)
		}
		b.check(t)
	})
}

// keepNone is a settlement that settles all keys, without telling anything of the app.
func keepNone(n int) flow.Settlement {
	return flow.Settlement{Outcomes: all(n, flow.Outcome{Fate: flow.FateLater, Delay: 2 * time.Second}), Next: flow.NextClaim}
}

// The app is held for a robot; its probe is another robot's. Where that succeeds the app goes on, and the robot is tried again.
func TestProbeOfAnotherRobot(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		b.admit(t, Admission{RobotCode: "bad", Keys: testKeys(0, 40), Class: flow.Urgent}) // it would go first
		d, batch := b.next(t)
		b.admit(t, Admission{RobotCode: "good", Keys: testKeys(100, 100), Class: flow.Default})
		b.settle(t, d, batch, deniedFor(20, time.Minute))
		if st := b.status(t); st.Hold == nil || st.Hold.NextProbe.Sub(*b.clock) != time.Second || b.heldRobots(t)["bad"] != time.Minute {
			t.Fatalf("%+v, %+v", st.Hold, st.Robots)
		}
		b.advance(time.Second)
		d, batch = b.next(t)
		if batch.RobotCode != "good" {
			t.Fatalf("the probe is of %s", batch.RobotCode)
		}
		r := b.settle(t, d, batch, recalled(20))
		if b.status(t).Hold != nil {
			t.Fatal("the app is still held")
		}
		for r.Batch.RobotCode == "good" {
			r = b.settle(t, d, r.Batch, recalled(20))
		}
		r = b.settle(t, d, r.Batch, deniedFor(20, time.Minute))
		if st := b.status(t); st.Hold != nil || b.heldRobots(t)["bad"] != 2*time.Minute {
			t.Errorf("%+v, %+v", st.Hold, st.Robots)
		}
		b.check(t)
		for r.Status == StatusBatch {
			r = b.settle(t, d, r.Batch, recalled(20))
		}
		b.advance(2 * time.Minute)
		d, batch = b.next(t)
		b.settle(t, d, batch, recalled(20))
		if len(b.heldRobots(t)) != 0 {
			t.Errorf("%v", b.heldRobots(t))
		}
		b.check(t)
	})
}

// Where another robot may not call either, the probes go on as with one robot.
func TestNoRobotMayCall(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 2
		for i, robot := range []string{"one", "two", "three"} {
			b.admit(t, Admission{RobotCode: robot, Keys: testKeys(1000*i, 100)})
		}
		d, batch := b.next(t)
		b.settle(t, d, batch, deniedFor(20, time.Minute))
		calls := 1
		for _, want := range []time.Duration{time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute} {
			if left := b.status(t).Hold.NextProbe.Sub(*b.clock); left != want {
				t.Fatalf("after %d calls the next probe is in %v, not %v", calls, left, want)
			}
			b.advance(want)
			d, batch = b.next(t)
			b.settle(t, d, batch, deniedFor(20, time.Minute))
			calls++
		}
		b.check(t)
	})
}

// With one robot a probe is the robot's and the app's.
func TestOneProbeForTheOnlyRobotAndTheApp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		d, batch := b.start(t, 0, 60)
		b.settle(t, d, batch, deniedFor(20, time.Minute))
		for _, want := range []time.Duration{2 * time.Minute, 4 * time.Minute} {
			*b.clock = b.status(t).Hold.NextProbe
			d, batch = b.next(t)
			if more := b.wake(t); len(more.Due) != 0 {
				t.Errorf("a second probe: %v", more.Due)
			}
			b.settle(t, d, batch, deniedFor(20, time.Minute))
			if st := b.status(t); st.Hold.NextProbe.Sub(*b.clock) != want || b.heldRobots(t)[robot] != want {
				t.Errorf("the next probes are in %v and %v, not %v", st.Hold.NextProbe.Sub(*b.clock), b.heldRobots(t)[robot], want)
			}
		}
		*b.clock = b.status(t).Hold.NextProbe
		d, batch = b.next(t)
		r := b.settle(t, d, batch, recalled(20))
		if st := b.status(t); st.Hold != nil || len(st.Robots) != 0 || r.Status != StatusBatch {
			t.Errorf("%+v, %+v, %s", st.Hold, st.Robots, r.Status)
		}
		b.check(t)
	})
}

// A call that was made before the hold and ends well afterwards proves nothing; and a batch that waits for its permit gets none.
func TestOnlyTheProbeEndsAHold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Interval = 10 * time.Millisecond
		_, r := b.admit(t, Admission{Keys: testKeys(0, 100)})
		d1, d2, d3 := r.Due[0], r.Due[1], r.Due[2]
		one, two, three := b.attach(t, d1, 0).Batch, b.attach(t, d2, 0).Batch, b.attach(t, d3, 0).Batch
		b.settle(t, d1, one, deniedFor(20, time.Minute))
		b.advance(time.Millisecond)
		second := b.settle(t, d2, two, recalled(20))
		if st := b.status(t); st.Hold == nil || second.Status != StatusIdle {
			t.Errorf("a call that was under way ended the hold: %s", second.Status)
		}
		if told, _, err := b.ToldHold(context.Background(), two.ID); told || err != nil {
			t.Errorf("it is said twice that the app is held: %v", err)
		}
		if told, alone, err := b.ToldHold(context.Background(), one.ID); !told || alone || err != nil {
			t.Errorf("it is not said that the app is held: %v, alone %v, %v", told, alone, err)
		}
		if _, ok, err := b.Permit(context.Background(), flow.SlotRun{Slot: d3.Slot, Generation: d3.Generation, Run: three.Run}, three.ID, 1); ok || err != nil {
			t.Errorf("a permit for a held app: %v, %v", ok, err)
		}
		b.takeover(t, d3, three.Run)
		if r = b.attach(t, flow.DueSlot{Slot: d3.Slot, Generation: d3.Generation + 1}, 0); r.Status != StatusIdle || b.status(t).Total.Waiting != 80 {
			t.Errorf("%s, %+v", r.Status, b.status(t).Total)
		}
		// The probe meets trouble that says nothing of the app, and goes on: it is still the probe.
		*b.clock = b.status(t).Hold.NextProbe
		d, batch := b.next(t)
		batch = b.settle(t, d, batch, keep(20, 20, flow.NextCall)).Batch
		if _, ok, err := b.Permit(context.Background(), flow.SlotRun{Slot: d.Slot, Generation: d.Generation, Run: batch.Run}, batch.ID, 1); !ok || err != nil {
			t.Errorf("no permit for the probe: %v", err)
		}
		b.settle(t, d, batch, recalled(20))
		if st := b.status(t); st.Hold != nil || len(st.Robots) != 0 {
			t.Errorf("%+v %+v", st.Hold, st.Robots)
		}
		b.check(t)
	})
}

func TestReleaseOfARobot(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 60)
		b.settle(t, d, batch, deniedFor(20, 24*time.Hour))
		if held, robots, err := b.IsHeld(context.Background()); !held || robots != 1 || err != nil {
			t.Errorf("held: %v, %d robots, %v", held, robots, err)
		}
		for _, of := range []string{"unheard-of", ""} {
			if was, _, err := b.Release(context.Background(), of); was != (of == "") || err != nil {
				t.Errorf("release of %q: %v, %v", of, was, err)
			}
		}
		// The robot that the app was held for is tried once more, at once.
		if left := b.heldRobots(t); len(left) != 1 || left[robot] != 0 {
			t.Fatalf("held robots: %v", left)
		}
		if held, robots, err := b.IsHeld(context.Background()); held || robots != 1 || err != nil {
			t.Errorf("held: %v, %d robots, %v", held, robots, err)
		}
		if was, r, err := b.Release(context.Background(), robot); !was || err != nil || len(r.Due) == 0 {
			t.Errorf("release: %v, %v", was, err)
		}
		if held, robots, err := b.IsHeld(context.Background()); held || robots != 0 || err != nil {
			t.Errorf("held: %v, %d robots, %v", held, robots, err)
		}
		b.check(t)
	})
}

// Another robot's success that may be older than the refusal proves nothing: the app is held.
func TestAnEarlierSuccessProvesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 2
		b.admit(t, Admission{RobotCode: "good", Keys: testKeys(0, 20)})
		d1, good := b.next(t)
		b.advance(10 * time.Millisecond)
		b.admit(t, Admission{RobotCode: "bad", Keys: testKeys(100, 40)})
		d2, bad := b.next(t)
		b.settle(t, d1, good, recalled(20))
		b.settle(t, d2, bad, deniedFor(20, time.Minute))
		if st := b.status(t); st.Hold == nil {
			t.Errorf("only robots are held: %+v", st.Robots)
		}
		b.check(t)
	})
}

// untilRecalled runs slots, a step of 50 ms after the other, until so many keys are recalled; calls of other robots than the good one are refused. It
// gives how long that took by the clock, and how many were refused.
func (b *bundle) untilRecalled(t *testing.T, n int64) (took time.Duration, refused int) {
	t.Helper()
	began := *b.clock
	for b.status(t).Total.Recalled < n {
		if took = b.clock.Sub(began); took > 2*time.Minute {
			t.Fatalf("%d of %d keys are recalled after two minutes, %d calls were refused: %+v", b.status(t).Total.Recalled, n, refused, b.status(t).Hold)
		}
		for _, d := range b.wake(t).Due {
			for r := b.attach(t, d, 0); r.Status == StatusBatch; {
				o := recalled(len(r.Batch.Keys))
				if r.Batch.RobotCode != "good" {
					o = deniedFor(len(r.Batch.Keys), time.Minute)
					refused++
				}
				o.Next = flow.NextYield
				r = b.settle(t, d, r.Batch, o)
			}
		}
		b.advance(50 * time.Millisecond)
	}
	return took, refused
}

// TestManyThatMayNotCall: where many robots or conversations are refused, the app is held for a second for each few of them, and not for each, longer
// each time: the robot that may call goes on.
func TestManyThatMayNotCall(t *testing.T) {
	t.Parallel()
	const bad = 30
	conversation := func(i int) flow.Target {
		return flow.Target{RobotCode: "bad", Conversation: flow.Conversation{Chat: flow.ChatGroup, OpenConversationID: fmt.Sprint("cid", i)}}
	}
	robot := func(i int) flow.Target { return flow.Target{RobotCode: fmt.Sprint("bad", i)} }
	for name, c := range map[string]struct {
		bad       func(int) flow.Target
		class     flow.Class
		goodFirst int // so many keys are recalled before any call is refused
	}{
		"conversations of a robot":                  {conversation, flow.Default, 100},
		"urgent ones, and nobody has succeeded yet": {conversation, flow.Urgent, 0},
		"urgent robots":                             {robot, flow.Urgent, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, b *bundle) {
				b.params.Slots, b.params.SlotsCap = 4, 4
				b.admit(t, Admission{RobotCode: "good", Keys: testKeys(0, 1000), Class: flow.Default})
				b.untilRecalled(t, int64(c.goodFirst))
				for i := range bad {
					target := c.bad(i)
					b.admit(t, Admission{RobotCode: target.RobotCode, Conversation: target.Conversation, Keys: testKeys(10_000+100*i, 40), Class: c.class})
				}
				took, refused := b.untilRecalled(t, 1000)
				if took > 15*time.Second || refused > bad+5 {
					t.Errorf("it took %v, and %d calls were refused", took, refused)
				}
				if st := b.status(t); st.Hold != nil || len(st.Robots) != bad {
					t.Errorf("%+v, %d are held", st.Hold, len(st.Robots))
				}
				b.check(t)
			})
		})
	}
}

// spared leaves an app that was held for a robot, and let go by the probe of another: what is refused for that reason is a robot's own.
func (b *bundle) spared(t *testing.T) {
	t.Helper()
	b.params.Slots = 1
	b.admit(t, Admission{RobotCode: "bad", Keys: testKeys(0, 40), Class: flow.Urgent})
	d, batch := b.next(t)
	b.admit(t, Admission{RobotCode: "good", Keys: testKeys(100, 40), Class: flow.Bulk})
	b.settle(t, d, batch, deniedFor(20, time.Minute))
	b.advance(time.Second)
	d, batch = b.next(t)
	good := recalled(20)
	good.Next = flow.NextYield
	b.settle(t, d, batch, good)
	if st := b.status(t); batch.RobotCode != "good" || st.Hold != nil || len(st.Robots) != 1 {
		t.Fatalf("after a probe of %s: %+v, %+v", batch.RobotCode, st.Hold, st.Robots)
	}
}

// others admits keys of further robots.
func (b *bundle) others(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		b.admit(t, Admission{RobotCode: fmt.Sprint("other", i), Keys: testKeys(1000+100*i, 20), Class: flow.Urgent})
	}
}

// refuseNext refuses the next call.
func (b *bundle) refuseNext(t *testing.T, code string) {
	t.Helper()
	d, batch := b.next(t)
	o := deniedFor(len(batch.Keys), time.Minute)
	o.Hold.Code, o.Next = code, flow.NextYield
	b.settle(t, d, batch, o)
}

// TestTheAppMayBeRefusedAgain: a few robots are held alone, and when none succeeds in between it is the app. Another reason is nobody's own.
func TestTheAppMayBeRefusedAgain(t *testing.T) {
	t.Parallel()
	const denied = "AccessTokenPermissionDenied"
	each(t, func(t *testing.T, b *bundle) {
		b.spared(t)
		b.others(t, 0, 8)
		calls := 0
		for ; b.status(t).Hold == nil; calls++ {
			if calls > 20 {
				t.Fatal("20 calls were refused, and the app goes on")
			}
			b.refuseNext(t, denied)
		}
		if calls != 7 { // bad once more, which is held already; five others; the one for which the app is held
			t.Errorf("%d calls were refused before the app was held, want 7", calls)
		}
	})
	each(t, func(t *testing.T, b *bundle) { // one succeeds in between
		b.spared(t)
		b.others(t, 0, 4)
		for range 5 {
			b.refuseNext(t, denied)
		}
		b.advance(50 * time.Millisecond)
		d, batch := b.next(t)
		good := recalled(len(batch.Keys))
		good.Next = flow.NextYield
		b.settle(t, d, batch, good)
		b.others(t, 4, 8)
		for range 4 {
			b.refuseNext(t, denied)
		}
		if st := b.status(t); st.Hold != nil || len(st.Robots) != 9 {
			t.Errorf("%+v, and %d robots are held", st.Hold, len(st.Robots))
		}
	})
	each(t, func(t *testing.T, b *bundle) {
		b.spared(t)
		b.others(t, 0, 1)
		for range 2 { // the second is the first of a robot that is not held yet
			b.refuseNext(t, "AnotherCode")
		}
		if b.status(t).Hold == nil {
			t.Error("a refusal for another reason held a robot alone")
		}
	})
}
