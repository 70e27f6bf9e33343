package keystore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

// oddKeys are keys of every shape that is stored in a way of its own.
func oddKeys() []string {
	canonical := testKey(7)
	return []string{
		"k", strings.Repeat("a", 31), strings.Repeat("a", 32), strings.Repeat("a", 33), canonical, canonical[:43], canonical + "=",
		canonical[:42] + "B=", // 44 characters whose last bits are not zero: another key than its canonical twin
		strings.ToLower(canonical[:20]) + canonical[20:], "+/" + canonical[2:], "-_" + canonical[2:],
		strings.Repeat("键", 14) + "aa", "ключ", strings.Repeat("x", 512), "a b", "\u00e9", "e\u0301", `"quoted",`, "1", "01", "1e3",
	}
}

func TestAdmitIsIdempotent(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.admit(t, Admission{Keys: testKeys(100, 1), Class: flow.Bulk, Incident: "flood"}) // which is known by its name from then on
		a := Admission{Keys: testKeys(0, 30), Class: flow.Bulk, Incident: "storm"}
		if n, _ := b.admit(t, a); n != (Admitted{Accepted: 30}) {
			t.Fatalf("%+v", n)
		}
		b.unchanged(t, "the same again", func() *Reply {
			n, r := b.admit(t, a)
			if n != (Admitted{Known: 30}) {
				t.Errorf("again: %+v", n)
			}
			return r
		})
		b.unchanged(t, "the same under another incident and time", func() *Reply {
			other := a
			other.Incident, other.SentAt = "flood", b.clock.Add(-time.Hour)
			n, r := b.admit(t, other)
			if n != (Admitted{Known: 30}) {
				t.Errorf("under another incident: %+v", n)
			}
			return r
		})
		if n, _ := b.admit(t, Admission{Keys: []string{"twice", "twice"}, Class: flow.Bulk}); n != (Admitted{Accepted: 1, Known: 1}) {
			t.Errorf("a key twice in one call: %+v", n)
		}
		if n, _ := b.admit(t, Admission{RobotCode: "ding-other", Keys: testKeys(0, 30)}); n != (Admitted{Accepted: 30}) {
			t.Errorf("the same keys of another robot: %+v", n)
		}
		if _, _, err := b.Admit(context.Background(), Admission{RobotCode: robot, Keys: testKeys(0, 2), SentAts: make([]time.Time, 1)}); err == nil {
			t.Error("two keys with one time were admitted")
		}
		b.check(t)
	})
}

func TestAdmitInParts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		keys, sent := testKeys(0, 1201), make([]time.Time, 1201)
		for i := range sent {
			sent[i] = b.clock.Add(-time.Duration(i) * time.Second)
		}
		sent[1200] = time.Time{} // not told: now
		if n, _ := b.admit(t, Admission{Keys: keys, SentAts: sent}); n.Accepted != 1201 {
			t.Fatalf("%+v", n)
		}
		for i, rec := range b.lookup(t, keys...) {
			want := b.clock.Add(b.params.Life - time.Duration(i)*time.Second)
			if i == 1200 {
				want = b.clock.Add(b.params.Life)
			}
			if !rec.Deadline.Equal(want) {
				t.Fatalf("key %d has its deadline at %v, not %v", i, rec.Deadline, want)
			}
		}
		b.check(t)
	})
}

func TestOddKeysTravelWhole(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		keys := oddKeys()
		if n, _ := b.admit(t, Admission{Keys: keys, Class: flow.Bulk}); n.Accepted != len(keys) {
			t.Fatalf("%+v of %d", n, len(keys))
		}
		for _, rec := range b.lookup(t, keys...) {
			if rec.State != flow.Waiting {
				t.Errorf("%q: %+v", rec.Key, rec)
			}
		}
		b.check(t)
		b.advance(time.Second)
		if got := keysOf(b.claimAll(t)); !slices.Equal(got, keys) {
			t.Errorf("claimed: %q", got)
		}
		b.check(t)
	})
}

func TestRaise(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		_, r := b.admit(t, Admission{Keys: testKeys(0, 40), Class: flow.Bulk, Incident: "storm"})
		d, batch := b.attachFirst(t, r) // 0 to 19 are bound
		o := recalled(20)
		o.Outcomes[0] = flow.Outcome{Fate: flow.FateLater, Delay: 10 * time.Second}
		o.Outcomes[1] = flow.Outcome{Fate: flow.FateDead, Code: "c"}
		o.Outcomes[2] = flow.Outcome{Fate: flow.FateWait, Ambiguous: true}
		r = b.settle(t, d, batch, o)
		if r.Status != StatusBatch {
			t.Fatalf("%+v", *r)
		}
		second := r.Batch // 2, 20 to 38; 39 waits, 0 waits for later
		b.check(t)
		n, r := b.admit(t, Admission{Keys: testKeys(0, 40), Class: flow.Urgent, Incident: "other"})
		if n != (Admitted{Known: 39, Raised: 1}) || len(r.Due) != 0 {
			t.Errorf("raised: %+v, due %v", n, r.Due)
		}
		b.check(t)
		r = b.settle(t, d, second, flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateWait}), Counted: true, Next: flow.NextYield})
		if n, _ := b.admit(t, Admission{Keys: testKeys(0, 40), Class: flow.Default}); n != (Admitted{Known: 20, Raised: 20}) {
			t.Errorf("raised once they were given back: %+v", n)
		}
		if n, _ := b.admit(t, Admission{Keys: testKeys(0, 40), Class: flow.Bulk}); n != (Admitted{Known: 40}) {
			t.Errorf("lowered: %+v", n)
		}
		b.check(t)
		rec := b.lookup(t, testKey(2), testKey(39))
		if rec[0].Attempts != 2 || !rec[0].Ambiguous || rec[0].Class != flow.Default || rec[0].Incident != "storm" || rec[1].Class != flow.Urgent {
			t.Errorf("what is known of a key that was raised: %+v", rec)
		}
		got := b.attach(t, r.Due[0], 0)
		if got.Status != StatusBatch || got.Batch.Keys[0].Key != testKey(39) || len(got.Batch.Keys) != 20 {
			t.Errorf("the urgent one goes first, filled up: %+v", got.Batch)
		}
		b.settle(t, r.Due[0], got.Batch, recalled(20))
		b.finish(t)
		if got := b.status(t).Total; got != (Counts{Accepted: 40, Recalled: 39, Dead: 1}) {
			t.Errorf("%+v", got)
		}
		c := b.check(t)
		if len(c.lists) != 0 || len(c.strs["n"]) != 0 {
			t.Errorf("left over: %v %v", c.lists, c.strs["n"])
		}
	})
}

// Every key raised, to the last: the entries that they leave behind must not stay, nor keep others waiting.
func TestRaiseLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.admit(t, Admission{Keys: testKeys(0, 300), Class: flow.Bulk})
		b.admit(t, Admission{Keys: testKeys(0, 299), Class: flow.Default})
		if n, _ := b.admit(t, Admission{Keys: testKeys(0, 300), Class: flow.Urgent}); n.Raised != 300 {
			t.Errorf("%+v", n)
		}
		c := b.check(t)
		for l := range c.lists {
			if !strings.HasPrefix(l, "w:0:") {
				t.Errorf("%s is left with %d entries", l, len(c.lists[l]))
			}
		}
	})
}

func TestReplay(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		dead := func(batch *flow.Batch) flow.Settlement {
			o := recalled(len(batch.Keys))
			for i := range o.Outcomes[:len(batch.Keys)/2] {
				o.Outcomes[i] = flow.Outcome{Fate: flow.FateDead, Code: "system.error", Message: "m"}
			}
			return o
		}
		d, batch := b.start(t, 0, 20)
		b.settle(t, d, batch, dead(batch))
		letter := b.letters(t)[0]
		replay := Admission{RobotCode: letter.RobotCode, Keys: letter.Keys, SentAts: letter.SentAts, Class: flow.Bulk, Incident: letter.Incident, Force: true, Fence: letter.Batch}
		if len(letter.Keys) != 10 || letter.Batch != batch.ID {
			t.Fatalf("%+v", letter)
		}
		wrong := replay
		wrong.Fence++
		if n, _ := b.admit(t, wrong); n != (Admitted{Known: 10}) {
			t.Errorf("behind another fence: %+v", n)
		}
		unforced := replay
		unforced.Force = false
		if n, _ := b.admit(t, unforced); n != (Admitted{Known: 10}) {
			t.Errorf("without force: %+v", n)
		}
		everything := replay
		everything.Keys, everything.SentAts = testKeys(0, 20), nil
		if n, _ := b.admit(t, everything); n != (Admitted{Known: 10, Revived: 10}) {
			t.Errorf("recalled keys stay recalled: %+v", n)
		}
		if n, _ := b.admit(t, replay); n != (Admitted{Known: 10}) {
			t.Errorf("twice: %+v", n)
		}
		b.check(t)
		b.advance(time.Second)
		d = b.wake(t).Due[0]
		batch = b.attach(t, d, 0).Batch
		if len(batch.Keys) != 10 || batch.Keys[0].Attempts != 0 || batch.Keys[0].Class != flow.Bulk {
			t.Fatalf("%+v", batch)
		}
		b.settle(t, d, batch, dead(batch))
		if n, _ := b.admit(t, replay); n != (Admitted{Known: 10}) {
			t.Errorf("the first letter, after some died again: %+v", n)
		}
		replay.Fence = 0
		if n, _ := b.admit(t, replay); n != (Admitted{Known: 5, Revived: 5}) {
			t.Errorf("without a fence: %+v", n)
		}
		b.finish(t)
		if got := b.status(t).Total; got != (Counts{Accepted: 20, Recalled: 20}) {
			t.Errorf("%+v", got)
		}
		b.check(t)
	})
}

func TestLettersHaveItAll(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots, b.params.Letter = 1, 3
		keys := oddKeys()[:20]
		sent := make([]time.Time, 20)
		for i := range sent {
			sent[i] = b.clock.Add(-time.Duration(i) * time.Second)
		}
		const code, message, request, incident = "invalid.processQueryKey", "消息: 3:abc, \n second line\x00", "req 1:2", "буря 7:"
		_, r := b.admit(t, Admission{Keys: keys, SentAts: sent, Class: flow.Default, Incident: incident})
		d, batch := b.attachFirst(t, r)
		o := flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateDead, Code: code, Message: message}), Counted: true, RequestID: request, Next: flow.NextClaim}
		o.Outcomes[4].Ambiguous = true
		o.Outcomes[5].Message = ""
		if r = b.settle(t, d, batch, o); r.Outbox != 6+1+1 { // 18 by threes, and one each
			t.Errorf("%d letters", r.Outbox)
		}
		got := map[string]bool{}
		ids := map[string]bool{}
		for _, l := range b.letters(t) {
			ids[l.ID] = true
			if len(l.Keys) > 3 || len(l.Keys) != len(l.SentAts) {
				t.Errorf("%+v", l)
			}
			for i, k := range l.Keys {
				sentAt, at := sent[slices.Index(keys, k)], slices.Index(names(batch), k) // not in their old order where a five minutes ends among them
				want := Letter{ID: l.ID, RobotCode: robot, Reason: flow.Reason{Code: code, Message: o.Outcomes[at].Message}, RequestID: request, Incident: incident,
					Class: flow.Default, Attempts: 1, Ambiguous: at == 4, Batch: batch.ID, DiedAt: l.DiedAt}
				got[k] = l.SentAts[i].Equal(sentAt) && l.DiedAt.Equal(*b.clock)
				l := l
				l.Keys, l.SentAts = nil, nil
				if fmt.Sprintf("%+v", l) != fmt.Sprintf("%+v", want) {
					t.Errorf("key %d: %+v, want %+v", at, l, want)
				}
			}
		}
		for _, k := range keys {
			if !got[k] {
				t.Errorf("key %q has no letter, or a wrong time", k)
			}
		}
		if len(ids) != 8 {
			t.Errorf("%d names for 8 letters", len(ids))
		}
		if left := b.letters(t); len(left) != 0 {
			t.Errorf("delivered letters are still there: %v", left)
		}
		b.check(t)
	})
}

// A big outbox is a hash table, of which a scan gives a part at a time, perhaps none.
func TestOutboxIsDrainedToTheEnd(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		b.params.Letter = 1
		const n = 1200
		b.admit(t, Admission{Keys: testKeys(0, n), SentAt: b.clock.Add(-25 * time.Hour)})
		for b.status(t).Total.Dead < n {
			b.wake(t)
		}
		seen := map[string]bool{}
		for {
			letters, err := b.Outbox(ctx, 100)
			if err != nil {
				t.Fatal(err)
			}
			if len(letters) == 0 {
				break
			}
			if len(letters) > 100 {
				t.Fatalf("%d letters at once", len(letters))
			}
			var ids []string
			for _, l := range letters {
				ids = append(ids, l.ID)
				seen[l.Keys[0]] = true
			}
			if err := b.Delivered(ctx, ids); err != nil {
				t.Fatal(err)
			}
		}
		if st := b.status(t); len(seen) != n || st.Outbox != 0 {
			t.Errorf("%d of %d, %d are left", len(seen), n, st.Outbox)
		}
		if err := b.Delivered(ctx, nil); err != nil {
			t.Error(err)
		}
	})
}
