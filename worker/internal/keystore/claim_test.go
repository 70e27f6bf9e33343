package keystore

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

// claimAll settles one batch after the other as recalled, until nothing is ready, and gives the batches in their order. Each
// takes a millisecond, as robots take turns by the moment of their last claim.
func (b *bundle) claimAll(t tb) (batches []*flow.Batch) {
	t.Helper()
	for {
		r := b.wake(t)
		if len(r.Due) == 0 {
			return batches
		}
		d := r.Due[0]
		for r = b.attach(t, d, 0); r.Status == StatusBatch; r = b.settle(t, d, r.Batch, recalled(len(r.Batch.Keys))) {
			batches = append(batches, r.Batch)
			b.advance(time.Millisecond)
		}
		if r.Status != StatusIdle && r.Status != StatusDue {
			t.Fatalf("slot %d ends as %s", d.Slot, r.Status)
		}
	}
}

// finish does the same until nothing waits for anything any more.
func (b *bundle) finish(t tb) (batches []*flow.Batch) {
	t.Helper()
	for range 1000 {
		batches = append(batches, b.claimAll(t)...)
		r := b.wake(t)
		if r.Next.IsZero() && len(r.Due) == 0 {
			return batches
		}
		if r.Next.After(*b.clock) {
			*b.clock = r.Next
		}
	}
	t.Fatalf("there is no end to it: %+v", b.status(t))
	return nil
}

func sizes(batches []*flow.Batch) []int {
	out := make([]int, len(batches))
	for i, b := range batches {
		out[i] = len(b.Keys)
	}
	return out
}

func keysOf(batches []*flow.Batch) (keys []string) {
	for _, b := range batches {
		keys = append(keys, names(b)...)
	}
	return keys
}

func TestUrgentGoesFirstAndIsFilledUp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		b.admit(t, Admission{Keys: testKeys(0, 30), Class: flow.Bulk})
		b.admit(t, Admission{Keys: testKeys(100, 30), Class: flow.Default})
		b.admit(t, Admission{Keys: testKeys(200, 5), Class: flow.Urgent})
		b.admit(t, Admission{RobotCode: "ding-other", Keys: testKeys(300, 2), Class: flow.Urgent})
		b.advance(time.Minute)
		got := b.claimAll(t)
		want := slices.Concat(testKeys(200, 5), testKeys(100, 15), testKeys(300, 2), testKeys(115, 15), testKeys(0, 5), testKeys(5, 25))
		if !slices.Equal(keysOf(got), want) {
			t.Errorf("sizes %v, keys in another order than urgent, default, bulk", sizes(got))
		}
		if s := fmt.Sprint(sizes(got)); s != "[20 2 20 20 5]" {
			t.Errorf("sizes %s", s)
		}
		b.check(t)
	})
}

func TestEarliestDeadlineFirst(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		// Sent in an order that is not the one of their deadlines, an hour apart.
		for _, i := range []int{3, 0, 4, 1, 2} {
			b.admit(t, Admission{Keys: testKeys(100*i, 20), Class: flow.Bulk, SentAt: b.clock.Add(time.Duration(i-10) * time.Hour)})
		}
		// Others share the first one's five minutes and come after it.
		b.admit(t, Admission{Keys: testKeys(50, 20), Class: flow.Bulk, SentAt: b.clock.Add(-10 * time.Hour)})
		want := slices.Concat(testKeys(0, 20), testKeys(50, 20), testKeys(100, 20), testKeys(200, 20), testKeys(300, 20), testKeys(400, 20))
		if got := keysOf(b.claimAll(t)); !slices.Equal(got, want) {
			t.Errorf("claimed in another order: %v", got)
		}
	})
}

func TestRobotsTakeTurns(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		for i, code := range []string{"ding-c", "ding-a", "ding-b"} {
			b.admit(t, Admission{RobotCode: code, Keys: testKeys(1000*i, 100), Class: flow.Bulk})
			b.advance(time.Millisecond)
		}
		got := b.claimAll(t)
		if len(got) != 15 {
			t.Fatalf("%d batches", len(got))
		}
		for i := 3; i < len(got); i++ {
			if got[i].RobotCode != got[i-3].RobotCode || got[i].RobotCode == got[i-1].RobotCode {
				t.Fatalf("batch %d is %s's, after %s and %s", i, got[i].RobotCode, got[i-1].RobotCode, got[i-3].RobotCode)
			}
		}
	})
}

func TestLinger(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		n     int
		class flow.Class
		sent  time.Duration // ago
		wait  time.Duration // until a slot is due
	}{
		{"few wait for company", 19, flow.Default, 0, time.Second},
		{"one waits for company", 1, flow.Bulk, 0, time.Second},
		{"a full call waits for nobody", 20, flow.Bulk, 0, 0},
		{"urgent waits for nobody", 1, flow.Urgent, 0, 0},
		{"near its deadline a key waits for nobody", 1, flow.Bulk, 24*time.Hour - 2*time.Minute - time.Second, 0},
		{"not far from its deadline a key waits for less", 1, flow.Bulk, 24*time.Hour - 2*time.Minute - 2500*time.Millisecond, 500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, b *bundle) {
				b.advance(500 * time.Millisecond) // sentAt is told in whole seconds
				_, r := b.admit(t, Admission{Keys: testKeys(0, c.n), Class: c.class, SentAt: b.clock.Add(-c.sent)})
				if c.wait == 0 {
					if len(r.Due) != 1 {
						t.Fatalf("nothing is due: %+v", *r)
					}
					return
				}
				if len(r.Due) != 0 || !r.Next.Equal(b.clock.Add(c.wait)) {
					t.Fatalf("due %v, next in %v", r.Due, r.Next.Sub(*b.clock))
				}
				b.advance(c.wait - time.Millisecond)
				if r := b.wake(t); len(r.Due) != 0 {
					t.Fatalf("due too early: %v", r.Due)
				}
				b.advance(time.Millisecond)
				if got := b.claimAll(t); len(got) != 1 || len(got[0].Keys) != c.n {
					t.Errorf("batches of %v", sizes(got))
				}
			})
		})
	}
	t.Run("without linger nobody waits", func(t *testing.T) {
		t.Parallel()
		each(t, func(t *testing.T, b *bundle) {
			b.params.Linger = 0
			if _, r := b.admit(t, Admission{Keys: testKeys(0, 1), Class: flow.Bulk}); len(r.Due) != 1 {
				t.Errorf("nothing is due: %+v", *r)
			}
		})
	})
}

// Whatever others do, a key is claimed within its linger while a slot is free.
func TestNobodyLingersLongerBecauseOfOthers(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(t *testing.T, b *bundle){
		"those that come later": func(t *testing.T, b *bundle) {
			b.admit(t, Admission{Keys: testKeys(1, 5), Class: flow.Default})
		},
		"one in front that became urgent": func(t *testing.T, b *bundle) {
			b.admit(t, Admission{Keys: testKeys(500, 1), Class: flow.Urgent})
			b.claimAll(t)
		},
		"one that is given back": func(t *testing.T, b *bundle) {
			_, r := b.admit(t, Admission{Keys: testKeys(1, 19), Class: flow.Urgent})
			d, batch := b.attachFirst(t, r) // takes the key at stake along
			b.settle(t, d, batch, flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateWait}), Next: flow.NextYield})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, b *bundle) {
				b.admit(t, Admission{Keys: testKeys(500, 1), Class: flow.Default}) // in front of it
				b.admit(t, Admission{Keys: testKeys(0, 1), Class: flow.Default})
				for range 4 {
					b.advance(200 * time.Millisecond)
					disturb(t, b)
				}
				b.advance(200 * time.Millisecond)
				b.claimAll(t)
				if rec := b.lookup(t, testKey(0))[0]; rec.State != flow.Recalled {
					t.Errorf("after its linger it is %v", rec.State)
				}
				b.check(t)
			})
		})
	}
}

func TestLaterIsNotBefore(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		d, batch := b.start(t, 0, 20)
		o := recalled(20)
		for i := range 5 {
			o.Outcomes[i] = flow.Outcome{Fate: flow.FateLater, Delay: time.Duration(10+i) * time.Second}
		}
		r := b.settle(t, d, batch, o)
		if r.Status != StatusIdle || !r.Next.Equal(b.clock.Add(10*time.Second)) {
			t.Fatalf("%+v", *r)
		}
		b.advance(10*time.Second - time.Millisecond)
		if r := b.wake(t); len(r.Due) != 0 || b.status(t).Later != 5 {
			t.Fatalf("due before their time: %+v", *r)
		}
		b.advance(time.Millisecond)
		if r := b.wake(t); len(r.Due) != 1 || b.status(t).Later != 4 || !r.Next.Equal(b.clock.Add(time.Second)) {
			t.Fatalf("at its time: %+v", *r)
		}
		b.advance(time.Minute)
		if got := b.claimAll(t); fmt.Sprint(sizes(got)) != "[5]" || got[0].Keys[0].Attempts != 1 {
			t.Errorf("afterwards: %v", sizes(got))
		}
		b.check(t)
	})
}

func TestManyComeLaterAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		b.admit(t, Admission{Keys: testKeys(0, 500)})
		d := b.wake(t).Due[0]
		r := b.attach(t, d, 0)
		for ; r.Status == StatusBatch; r = b.settle(t, d, r.Batch, flow.Settlement{Next: flow.NextClaim,
			Outcomes: all(len(r.Batch.Keys), flow.Outcome{Fate: flow.FateLater, Delay: time.Second})}) {
		}
		if b.status(t).Later != 500 {
			t.Fatalf("%+v", b.status(t))
		}
		b.advance(time.Second)
		r = b.wake(t) // moves a part of them, and says that somebody has to look again at once
		if b.status(t).Later == 0 || r.Next.IsZero() || r.Next.After(*b.clock) {
			t.Fatalf("%d later, next %v", b.status(t).Later, r.Next)
		}
		if got := b.claimAll(t); len(keysOf(got)) != 500 {
			t.Errorf("%d keys came", len(keysOf(got)))
		}
		b.check(t)
	})
}

func TestSoloGoesAlone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		d, batch := b.start(t, 0, 20)
		o := recalled(20)
		for i := range 3 {
			o.Outcomes[i] = flow.Outcome{Fate: flow.FateSolo, Delay: time.Second}
		}
		b.settle(t, d, batch, o)
		b.advance(2 * time.Second)
		b.admit(t, Admission{Keys: testKeys(100, 30)}) // behind them: promoted keys go to the front
		b.advance(2 * time.Second)
		got := b.claimAll(t)
		if fmt.Sprint(sizes(got)) != "[1 1 1 20 10]" {
			t.Errorf("batches of %v", sizes(got))
		}
		for i := range 3 {
			if k := got[i].Keys[0]; !k.Solo || k.Attempts != 1 {
				t.Errorf("batch %d: %+v", i, k)
			}
		}
		b.check(t)
	})
}

func TestGivenBackKeysKeepTheirOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		d, batch := b.start(t, 0, 30)
		r := b.settle(t, d, batch, flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateWait}), Next: flow.NextClaim})
		if r.Status != StatusBatch || !slices.Equal(names(r.Batch), testKeys(0, 20)) {
			t.Fatalf("claimed again: %v", names(r.Batch))
		}
		b.check(t)
	})
}

// The version of a record has one byte, so it comes round after 256 turns.
func TestVersionsComeRound(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		b.admit(t, Admission{Keys: testKeys(0, 2), Class: flow.Bulk})
		_, r := b.admit(t, Admission{Keys: testKeys(0, 1), Class: flow.Urgent}) // its first entry stays in the list of bulk
		for i := range 270 {
			d := r.Due[0]
			if r = b.attach(t, d, 0); r.Status != StatusBatch || r.Batch.Keys[0].Key != testKey(0) {
				t.Fatalf("turn %d: %+v", i, *r)
			}
			r = b.settle(t, d, r.Batch, flow.Settlement{Outcomes: all(len(r.Batch.Keys), flow.Outcome{Fate: flow.FateWait}), Next: flow.NextYield})
			if i > 250 && i < 258 {
				b.check(t)
			}
		}
		d := r.Due[0]
		for r = b.attach(t, d, 0); r.Status == StatusBatch; r = b.settle(t, d, r.Batch, recalled(len(r.Batch.Keys))) {
		}
		b.finish(t)
		if got := b.status(t).Total; got != (Counts{Accepted: 2, Recalled: 2}) {
			t.Errorf("%+v", got)
		}
		b.check(t)
	})
}

func TestClosedWindowsCostNoCall(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		life := b.params.Life
		_, r := b.admit(t, Admission{Keys: testKeys(0, 45), SentAt: b.clock.Add(-life)})
		b.admit(t, Admission{Keys: testKeys(100, 20), SentAt: b.clock.Add(-life + time.Minute)})
		r = b.attach(t, r.Due[0], 0)
		if r.Status != StatusBatch || !slices.Equal(names(r.Batch), testKeys(100, 20)) {
			t.Fatalf("claimed: %+v", *r)
		}
		if got := b.status(t).Total; got.Dead != 45 || got.Bound != 20 {
			t.Errorf("%+v", got)
		}
		n := 0
		for _, l := range b.letters(t) {
			n += len(l.Keys)
			if l.Reason.Code != "window.closed" || l.Reason.Message == "" || l.Attempts != 0 || len(l.Keys) > b.params.Letter || !l.DiedAt.Equal(*b.clock) {
				t.Errorf("%+v", l)
			}
		}
		if n != 45 {
			t.Errorf("%d keys have letters", n)
		}
		b.check(t)
	})
}

func TestWindowThatClosesWhileBound(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		sent := make([]time.Time, 20)
		for i := range sent {
			sent[i] = b.clock.Add(-b.params.Life + time.Minute + time.Duration(i)*time.Minute)
		}
		_, r := b.admit(t, Admission{Keys: testKeys(0, 20), SentAts: sent})
		d, batch := b.attachFirst(t, r)
		if r := b.settle(t, d, batch, keep(20, 10, flow.NextHeld)); r.Status != StatusHeld {
			t.Fatal(r.Status)
		}
		b.advance(5 * time.Minute) // of five keys the window closes
		r = b.attach(t, d, 1)
		if r.Status != StatusBatch || !slices.Equal(names(r.Batch), testKeys(5, 15)) || r.Batch.Cut != 5 {
			t.Fatalf("%+v %+v", *r, r.Batch)
		}
		if l := b.letters(t); len(l) != 1 || !slices.Equal(l[0].Keys, testKeys(0, 5)) || l[0].Attempts != 1 || l[0].Reason.Code != "window.closed" {
			t.Errorf("letters: %+v", l)
		}
		b.check(t)
		b.settle(t, d, r.Batch, keep(15, 15, flow.NextHeld))
		b.advance(time.Hour) // and of all others
		if r = b.attach(t, d, 2); r.Status != StatusIdle {
			t.Errorf("%+v", *r)
		}
		if got := b.status(t).Total; got.Dead != 20 {
			t.Errorf("%+v", got)
		}
		b.check(t)
	})
}

// More keys than one script lets die: the slot goes on in further tasks, and Redis is never kept from others for long.
func TestManyClosedWindows(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 1
		const n = 2100
		b.admit(t, Admission{Keys: testKeys(0, n), SentAt: b.clock.Add(-b.params.Life - time.Hour)})
		b.admit(t, Admission{Keys: testKeys(n, 20)})
		r := b.wake(t)
		rounds := 0
		for ; len(r.Due) > 0; rounds++ {
			if dead := b.status(t).Total.Dead; dead > int64(rounds+1)*1200 {
				t.Errorf("%d keys died in %d scripts", dead, rounds+1)
			}
			r = b.attach(t, r.Due[0], 0)
		}
		if r.Status != StatusBatch || !slices.Equal(names(r.Batch), testKeys(n, 20)) || rounds < 2 {
			t.Errorf("after %d rounds: %+v", rounds, *r)
		}
		if got := b.status(t).Total; got.Dead != n {
			t.Errorf("%+v", got)
		}
		b.check(t)
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		if ok, _, err := b.Cancel(ctx, "storm"); ok || err != nil {
			t.Errorf("an incident that nobody knows: %v %v", ok, err)
		}
		b.params.Slots = 1
		_, r := b.admit(t, Admission{Keys: testKeys(0, 25), Class: flow.Default, Incident: "storm"})
		d, batch := b.attachFirst(t, r)
		b.admit(t, Admission{Keys: testKeys(100, 3), Class: flow.Default, Incident: "flood"})
		ok, _, err := b.Cancel(ctx, "storm")
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		b.advance(time.Second)
		o := recalled(20)
		o.Outcomes[0] = flow.Outcome{Fate: flow.FateLater, Delay: time.Second}
		o.Outcomes[1] = flow.Outcome{Fate: flow.FateWait}
		for r = b.settle(t, d, batch, o); r.Status == StatusBatch; r = b.settle(t, d, r.Batch, recalled(len(r.Batch.Keys))) {
		}
		b.finish(t)
		var storm, flood Counts
		for _, g := range b.status(t).Groups {
			if g.Incident == "storm" {
				storm = g.Counts
			} else {
				flood = g.Counts
			}
		}
		// What was in a call is recalled, what came back from it is not called again.
		if storm != (Counts{Accepted: 25, Recalled: 18, Cancelled: 7}) {
			t.Errorf("storm: %+v", storm)
		}
		if flood != (Counts{Accepted: 3, Recalled: 3}) {
			t.Errorf("flood: %+v", flood)
		}
		if rec := b.lookup(t, testKey(22))[0]; rec.State != flow.Cancelled || rec.At.IsZero() || rec.Incident != "storm" {
			t.Errorf("%+v", rec)
		}
		if len(b.letters(t)) != 0 {
			t.Error("cancelled keys have dead letters")
		}
		b.check(t)
	})
}
