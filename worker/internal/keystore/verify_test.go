package keystore

import (
	"context"
	"slices"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

// dieAmbiguous has the keys of a target die of a code after an answer was lost, all in one batch, and gives their records.
func (b *bundle) dieAmbiguous(t *testing.T, to flow.Target, keys []string) []KeyRecord {
	t.Helper()
	_, r := b.admit(t, Admission{RobotCode: to.RobotCode, Conversation: to.Conversation, Keys: keys, Class: flow.Urgent, Incident: "storm"})
	d := r.Due[len(r.Due)-1]
	r = b.attach(t, d, 0)
	b.settle(t, d, r.Batch, flow.Settlement{Outcomes: all(len(r.Batch.Keys), flow.Outcome{Fate: flow.FateDead, Code: "call.cut", Message: "words", Ambiguous: true}),
		Counted: true, RequestID: "lost", Next: flow.NextClaim})
	recs := b.lookupAll(t, to, keys)
	for _, rec := range recs {
		if rec.State != flow.Dead || !rec.Ambiguous || rec.Batch == 0 {
			t.Fatalf("before: %+v", rec)
		}
	}
	return recs
}

func (b *bundle) lookupAll(t *testing.T, to flow.Target, keys []string) []KeyRecord {
	t.Helper()
	recs, err := b.Lookup(context.Background(), to.Name(), keys)
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

func (b *bundle) find(t *testing.T, to flow.Target, recalled bool, recs ...KeyRecord) []bool {
	t.Helper()
	findings := make([]Finding, len(recs))
	for i, r := range recs {
		findings[i] = Finding{Key: r.Key, Batch: r.Batch, Recalled: recalled}
	}
	written, _, err := b.Verify(context.Background(), to, "asked", findings)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

func TestVerifySettlesWhatIsAmbiguous(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		to := flow.Target{RobotCode: robot}
		keys := testKeys(0, 4)
		recs := b.dieAmbiguous(t, to, keys)
		b.advance(time.Minute)
		for i, want := range [][]bool{{true, true}, {false, false}} { // twice is once
			if got := b.find(t, to, true, recs[:2]...); !slices.Equal(got, want) {
				t.Errorf("round %d, recalled: %v", i, got)
			}
			if got := b.find(t, to, false, recs[2]); !slices.Equal(got, want[:1]) {
				t.Errorf("round %d, stands: %v", i, got)
			}
		}
		after := b.lookupAll(t, to, keys)
		for _, r := range after[:2] {
			if r.State != flow.Recalled || r.Ambiguous || r.RequestID != "asked" || !r.At.Equal(*b.clock) || r.Code != "" || r.Attempts != 1 || r.Incident != "storm" || r.Batch != 0 {
				t.Errorf("recalled: %+v", r)
			}
		}
		if r := after[2]; r.State != flow.Dead || r.Ambiguous || r.Code != "call.cut" || r.RequestID != "lost" || r.Batch != recs[2].Batch {
			t.Errorf("stands: %+v", r)
		}
		if after[3] != recs[3] {
			t.Errorf("nobody asked of %+v, was %+v", after[3], recs[3])
		}
		st := b.status(t)
		if st.Total.Recalled != 2 || st.Total.Dead != 2 || st.Total.Waiting != 0 || st.Total.Accepted != 4 || len(st.Groups) != 1 || st.Groups[0].Incident != "storm" {
			t.Errorf("counts %+v", st)
		}
		// The word of the service goes before what was thought before, whichever it was.
		if got := b.find(t, to, true, recs[2]); !got[0] || b.lookupAll(t, to, keys)[2].State != flow.Recalled {
			t.Errorf("a key that stood and is recalled now: %v", got)
		}
		b.check(t)
	})
}

// TestVerifyIsFenced: what has gone another way since it was looked up is left alone.
func TestVerifyIsFenced(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		to := flow.Target{RobotCode: robot, Conversation: flow.Conversation{Chat: flow.ChatGroup, OpenConversationID: "cid"}}
		recs := b.dieAmbiguous(t, to, testKeys(0, 2))
		for name, other := range map[string]flow.Target{"another conversation": {RobotCode: robot}, "a target that nobody knows": {RobotCode: "nobody"}} {
			if got := b.find(t, other, true, recs...); slices.Contains(got, true) {
				t.Errorf("%s: %v", name, got)
			}
		}
		// Replayed: it waits; then it dies again, of another batch.
		b.admit(t, Admission{RobotCode: to.RobotCode, Conversation: to.Conversation, Keys: testKeys(0, 1), Class: flow.Urgent, Force: true, Fence: recs[0].Batch})
		if got := b.find(t, to, true, recs[0]); got[0] {
			t.Error("a key that waits became recalled")
		}
		again := b.dieAmbiguous(t, to, testKeys(0, 1))
		if again[0].Batch == recs[0].Batch {
			t.Fatal("one batch")
		}
		if got := b.find(t, to, true, recs[0]); got[0] {
			t.Error("the finding of an earlier death was written")
		}
		if got := b.find(t, to, true, again[0]); !got[0] {
			t.Error("the finding of this death was not written")
		}
		if _, _, err := b.Verify(context.Background(), to, "asked", nil); err != nil {
			t.Errorf("nothing to write: %v", err)
		}
		b.check(t)
	})
}

// TestSpendIsInTurnWithAllCalls: the permits of calls without a batch are the app's own.
func TestSpendIsInTurnWithAllCalls(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Interval = 100 * time.Millisecond
		// spend takes a permit, which has to be so far away, reckoned from some moment in the call.
		spend := func(rest, want time.Duration) {
			t.Helper()
			before := time.Now()
			from, held, err := b.Spend(context.Background(), rest)
			if err != nil || held {
				t.Fatal(held, err)
			}
			if least, most := time.Until(from), from.Sub(before); want < least || want > most {
				t.Errorf("the permit comes after %v to %v, not after %v", least, most, want)
			}
		}
		spend(0, 0)
		spend(0, 100*time.Millisecond)
		_, r := b.admit(t, Admission{Keys: testKeys(0, 20), Class: flow.Urgent})
		if wait := b.attach(t, r.Due[0], 0).Batch.Wait; wait != 200*time.Millisecond {
			t.Errorf("a batch's permit comes after %v: not behind the others", wait)
		}
		b.advance(time.Hour)
		spend(2*time.Second, 2*time.Second)
		if st := b.status(t); st.Share >= 1 {
			t.Errorf("throttled, and the share is %v", st.Share)
		}
	})
}

func TestNothingIsSpentOnAHeldApp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		_, r := b.admit(t, Admission{Keys: testKeys(0, 20), Class: flow.Urgent})
		d := r.Due[0]
		r = b.attach(t, d, 0)
		b.settle(t, d, r.Batch, flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateWait}), Next: flow.NextClaim,
			Hold: &flow.Hold{Reason: flow.Reason{Code: "invalid.client"}, Probe: time.Minute}})
		for range 2 {
			if _, held, err := b.Spend(context.Background(), 0); err != nil || !held {
				t.Errorf("held %v, %v", held, err)
			}
			b.advance(2 * time.Minute) // a probe is due, and is not for this
		}
		if _, _, err := b.Release(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
		if _, held, err := b.Spend(context.Background(), 0); err != nil || held {
			t.Errorf("released: held %v, %v", held, err)
		}
	})
}
