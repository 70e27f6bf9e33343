package keystore

import (
	"context"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

// sums adds up waiting keys by what name makes of each.
func sums(all []WaitingKeys, name func(WaitingKeys) string) map[string]int {
	out := map[string]int{}
	for _, w := range all {
		out[name(w)] += w.Keys
	}
	return out
}

func (b *bundle) waitingKeys(t tb) []WaitingKeys {
	t.Helper()
	all, err := b.Waiting(context.Background(), b.status(t))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestWaiting: a robot with one incident is told exactly; one with several by what its packs show, and the sums are right.
func TestWaiting(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		if got := b.waitingKeys(t); len(got) != 0 {
			t.Fatalf("of nothing: %+v", got)
		}
		early, late := b.clock.Add(-20*time.Hour), b.clock.Add(-time.Hour)
		b.admit(t, Admission{RobotCode: "one", Keys: testKeys(0, 130), Class: flow.Bulk, Incident: "a", SentAt: early})
		b.admit(t, Admission{RobotCode: "one", Keys: testKeys(200, 70), Class: flow.Bulk, Incident: "a", SentAt: late})
		b.admit(t, Admission{RobotCode: "two", Keys: testKeys(0, 400), Class: flow.Bulk, Incident: "a", SentAt: early})
		b.admit(t, Admission{RobotCode: "two", Keys: testKeys(1000, 100), Class: flow.Urgent, Incident: "b", SentAt: late})
		b.admit(t, Admission{RobotCode: "two", Keys: testKeys(2000, 200), Class: flow.Bulk, SentAt: late})
		all := b.waitingKeys(t)
		got := sums(all, func(w WaitingKeys) string {
			age := "early"
			if w.From.After(b.clock.Add(12 * time.Hour)) {
				age = "late"
			}
			return w.Target + " " + w.Class.String() + " " + w.Incident + " " + age
		})
		want := map[string]int{"one bulk a early": 130, "one bulk a late": 70, "two bulk a early": 400, "two urgent b late": 100, "two bulk  late": 200}
		for name, n := range want {
			if d := got[name] - n; d > 1 || d < -1 { // what no sample showed is not taken to be nothing
				t.Errorf("%s: %d keys, want %d", name, got[name], n)
			}
		}
		for incident, n := range sums(all, func(w WaitingKeys) string { return w.Target + " " + w.Incident }) {
			if want := map[string]int{"one a": 200, "two a": 400, "two b": 100, "two ": 200}[incident]; n != want {
				t.Errorf("%s: %d keys, want %d", incident, n, want)
			}
		}
		for _, w := range all {
			if !w.From.Truncate(BucketSize).Equal(w.From) || w.From.Before(*b.clock) {
				t.Errorf("%+v", w)
			}
		}
	})
}

func TestWaitingForLater(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		_, r := b.admit(t, Admission{Keys: testKeys(0, 40), Incident: "a"})
		d, batch := b.attachFirst(t, r)
		b.settle(t, d, batch, flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateLater, Delay: time.Minute}), Next: flow.NextYield})
		got := sums(b.waitingKeys(t), func(w WaitingKeys) string {
			if w.From.IsZero() {
				return "later"
			}
			return "now"
		})
		if got["later"] != 20 || got["now"] != 20 {
			t.Errorf("%+v", got)
		}
	})
}

// TestBucketOfSeveralIncidents: incidents of one class and deadline are told apart by what is seen of the list.
func TestBucketOfSeveralIncidents(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		at := b.clock.Add(-time.Hour)
		for i, incident := range []string{"a", "b", "c"} {
			b.admit(t, Admission{Keys: testKeys(1000*i, 60*(i+1)), Class: flow.Bulk, Incident: incident, SentAt: at})
		}
		got := sums(b.waitingKeys(t), func(w WaitingKeys) string { return w.Incident })
		for incident, n := range map[string]int{"a": 60, "b": 120, "c": 180} {
			if got[incident] != n {
				t.Errorf("%s: %d, want %d", incident, got[incident], n)
			}
		}
	})
}

func TestSaidOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		if said, err := b.Said(ctx); err != nil || said != (Said{}) {
			t.Fatalf("%+v %v", said, err)
		}
		want := Said{Keys: 7, At: time.UnixMilli(b.clock.UnixMilli()), Budget: CodeBudgetSpent}
		if err := b.Say(ctx, want); err != nil {
			t.Fatal(err)
		}
		if said, err := b.Said(ctx); err != nil || said != want {
			t.Errorf("%+v %v", said, err)
		}
	})
}

// TestWaitingInConversations: keys of a conversation are not mixed up with the robot's others.
func TestWaitingInConversations(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		chat := flow.Conversation{Chat: "group", OpenConversationID: "cid"}
		b.admit(t, Admission{RobotCode: "one", Keys: testKeys(0, 30), Class: flow.Bulk, Incident: "a"})
		b.admit(t, Admission{RobotCode: "one", Conversation: chat, Keys: testKeys(0, 50), Class: flow.Bulk, Incident: "b"})
		all := b.waitingKeys(t)
		if len(all) != 2 {
			t.Fatalf("%+v", all)
		}
		for _, w := range all {
			want := WaitingKeys{Class: flow.Bulk, Target: "one", Incident: "a", From: w.From, Keys: 30}
			if w.Incident == "b" {
				want = WaitingKeys{Class: flow.Bulk, Target: flow.Target{RobotCode: "one", Conversation: chat}.Name(), Incident: "b", From: w.From, Keys: 50}
			}
			if w != want || w.From.IsZero() {
				t.Errorf("%+v, want %+v", w, want)
			}
		}
	})
}
