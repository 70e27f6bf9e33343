package keystore

import (
	"context"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

var testTargets = []flow.Target{
	{RobotCode: robot},
	{RobotCode: robot, Conversation: flow.Conversation{Chat: flow.ChatGroup, OpenConversationID: "cid"}},
	{RobotCode: robot, Conversation: flow.Conversation{Chat: flow.ChatPrivate, OpenConversationID: "cid"}},
	{RobotCode: "another", Conversation: flow.Conversation{Chat: flow.ChatGroup, OpenConversationID: "cid"}},
}

// TestTargetsAreApart: the same keys in four places are four times as many keys, none of which shares a batch with another.
func TestTargetsAreApart(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		for range 2 { // twice is once
			for _, to := range testTargets {
				b.admit(t, Admission{RobotCode: to.RobotCode, Conversation: to.Conversation, Keys: testKeys(0, 25), Class: flow.Urgent, Incident: "storm"})
			}
		}
		st, err := b.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if st.Total.Accepted != 100 || len(st.Groups) != len(testTargets) {
			t.Fatalf("%d accepted in %d groups", st.Total.Accepted, len(st.Groups))
		}
		_, r := b.admit(t, Admission{RobotCode: robot, Keys: testKeys(0, 1), Class: flow.Urgent})
		batches := map[flow.Target]int{}
		for _, d := range r.Due {
			b.advance(time.Millisecond) // turns are by the clock
			r, err := b.Attach(context.Background(), d.Slot, d.Generation, 0)
			if err != nil {
				t.Fatal(err)
			}
			if r.Batch == nil {
				t.Fatalf("slot %d: %s", d.Slot, r.Status)
			}
			batches[r.Batch.Target()]++
		}
		for _, to := range testTargets {
			if batches[to] != 1 {
				t.Errorf("%d of the first 4 batches are of %s: the targets do not take turns", batches[to], to)
			}
			recs, err := b.Lookup(context.Background(), to.Name(), testKeys(0, 25))
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range recs {
				if rec.Target() != to || rec.State == flow.Unknown {
					t.Errorf("looked up under %s: %+v", to, rec)
				}
			}
		}
		if recs, err := b.Lookup(context.Background(), "", testKeys(0, 1)); err != nil || len(recs) != len(testTargets) {
			t.Errorf("under whatever target: %d records, %v", len(recs), err)
		}
		unknown := flow.Target{RobotCode: robot, Conversation: flow.Conversation{Chat: flow.ChatGroup, OpenConversationID: "nobody"}}
		if recs, err := b.Lookup(context.Background(), unknown.Name(), testKeys(0, 1)); err != nil || len(recs) != 1 || recs[0].State != flow.Unknown || recs[0].Target() != unknown {
			t.Errorf("under a target that nobody knows: %+v, %v", recs, err)
		}
	})
}

// TestNamesOfOtherVersionsAreNotCalled: what this version cannot read stays for one that can.
func TestNamesOfOtherVersionsAreNotCalled(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		_, r := b.admit(t, Admission{RobotCode: "robot\x1fthread\x1fcid", Keys: testKeys(0, 3), Class: flow.Urgent})
		if r, err := b.Attach(context.Background(), r.Due[0].Slot, r.Due[0].Generation, 0); err == nil {
			t.Errorf("attached: %+v", r.Batch)
		}
		st, err := b.Status(context.Background())
		if err != nil || st.Groups[0].RobotCode != `"robot\x1fthread\x1fcid"` {
			t.Errorf("the status shows %+v, %v", st.Groups, err)
		}
		if st.Total.Bound != 3 {
			t.Errorf("%+v", st.Total)
		}
	})
}
