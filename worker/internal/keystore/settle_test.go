package keystore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

// held is a slot with the batch that it holds.
type held struct {
	flow.DueSlot
	*flow.Batch
}

func (h held) at() flow.SlotRun {
	return flow.SlotRun{Slot: h.Slot, Generation: h.Generation, Run: h.Run}
}

// bindAll admits keys for so many batches, and binds each to a slot.
func (b *bundle) bindAll(t *testing.T, n int) []held {
	t.Helper()
	b.params.Slots, b.params.SlotsCap = n, n
	_, r := b.admit(t, Admission{Keys: testKeys(0, 20*n)})
	var all []held
	for _, d := range r.Due {
		all = append(all, held{d, b.attach(t, d, 0).Batch})
	}
	if len(all) != n {
		t.Fatalf("%d slots are due, not %d", len(all), n)
	}
	return all
}

func settled(h held, o flow.Settlement) *settlement {
	return &settlement{args: settleArgs(h.at(), h.ID, o)}
}

// unsettleable is a settlement that a bug would make: its keys die of a reason that it does not tell.
func unsettleable(h held) *settlement {
	s := settled(h, recalled(20))
	s.args[5] = strings.Repeat("dz", 20)
	return s
}

// Each of several settlements in a script is fenced and answered for itself, and what one of them dies of is told of it alone.
func TestSettledTogether(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		h := b.bindAll(t, 6)
		b.admit(t, Admission{Keys: testKeys(1000, 20)}) // for the first that is free
		dies := flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateDead, Code: "invalid.processQueryKey", Message: "no such key"}),
			Counted: true, RequestID: "the same", Next: flow.NextClaim}
		stale, refused := h[3], h[4]
		stale.Generation++
		other := *refused.Batch
		other.Run++
		refused.Batch = &other
		wrong := unsettleable(h[5])
		together := []*settlement{settled(h[0], recalled(20)), settled(h[1], dies), settled(h[2], dies), settled(stale, recalled(20)),
			settled(refused, recalled(20)), wrong}
		if err := b.settleAll(context.Background(), together); err != nil {
			t.Fatal(err)
		}
		for i, want := range []Status{StatusBatch, StatusIdle, StatusIdle, StatusStale, StatusRefused} {
			if s := together[i]; s.err != nil || s.reply.Status != want {
				t.Errorf("settlement %d: %+v, %v; want %s", i, s.reply, s.err, want)
			}
		}
		if got := together[0].reply.Batch; got == nil || got.Keys[0].Key != testKey(1000) {
			t.Errorf("the first did not claim what waited: %+v", got)
		}
		if wrong.err == nil || wrong.reply != nil {
			t.Errorf("the one that cannot be settled: %v", wrong.err)
		}
		if got := b.status(t).Total; got.Recalled != 20 || got.Dead != 40 || got.Bound != 80 || got.Waiting != 0 {
			t.Errorf("%+v", got)
		}
		letters, err := b.Outbox(context.Background(), 10)
		if err != nil || len(letters) != 2 {
			t.Fatalf("%d letters, %v: one for each batch", len(letters), err)
		}
		for _, l := range letters {
			if l.Batch != h[1].ID && l.Batch != h[2].ID {
				t.Errorf("a letter of batch %d, and %d and %d died", l.Batch, h[1].ID, h[2].ID)
			}
			n, _ := b.admit(t, Admission{Keys: l.Keys, Force: true, Fence: l.Batch})
			if n.Revived != 20 {
				t.Errorf("%d keys of letter %s can be replayed", n.Revived, l.ID)
			}
		}
		b.check(t)
	})
}

// What one settlement of a script changes the next one sees: which classes have nothing ready, and which calls go on for long.
func TestOneSettlementSeesTheOther(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		h := b.bindAll(t, 2)
		first, second := settled(h[0], recalled(20)), settled(h[1], flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateWait}), Next: flow.NextClaim})
		if err := b.settleAll(context.Background(), []*settlement{first, second}); err != nil || second.err != nil {
			t.Fatal(err, second.err)
		}
		if first.reply.Status != StatusIdle || second.reply.Status != StatusBatch {
			t.Errorf("%s and %s: what the second gave back is not claimed by it", first.reply.Status, second.reply.Status)
		}
		b.check(t)
	})
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots, b.params.SlotsCap = 2, 8
		_, r := b.admit(t, Admission{Keys: testKeys(0, 400)})
		slow, other := held{r.Due[0], b.attach(t, r.Due[0], 0).Batch}, held{r.Due[1], b.attach(t, r.Due[1], 0).Batch}
		b.advance(b.params.stuck())
		if _, ok, err := b.Permit(context.Background(), other.at(), other.ID, 1); !ok || err != nil { // its call begins only now
			t.Fatal(ok, err)
		}
		first, second := settled(slow, recalled(20)), settled(other, recalled(20))
		if err := b.settleAll(context.Background(), []*settlement{first, second}); err != nil || first.err != nil || second.err != nil {
			t.Fatal(err, first.err, second.err)
		}
		if st := b.status(t); first.reply.Status != StatusBatch || second.reply.Status != StatusBatch || st.Slots != 2 {
			t.Errorf("%s and %s, %d slots", first.reply.Status, second.reply.Status, st.Slots)
		}
		b.check(t)
	})
}

// Where the slot of one of them has nothing to do, the reply tells when somebody must look again.
func TestTheNextMomentIsTold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		h := b.bindAll(t, 2)
		b.admit(t, Admission{Keys: testKeys(1000, 20)})
		first, second := settled(h[0], keepNone(20)), settled(h[1], keepNone(20))
		if err := b.settleAll(context.Background(), []*settlement{first, second}); err != nil || first.err != nil || second.err != nil {
			t.Fatal(err, first.err, second.err)
		}
		if want := b.clock.Add(2 * time.Second); first.reply.Status != StatusBatch || second.reply.Status != StatusIdle || !second.reply.Next.Equal(want) {
			t.Errorf("%s and %s, next %v; want %v", first.reply.Status, second.reply.Status, second.reply.Next, want)
		}
	})
}

// What Redis refuses is told as Redis told it: the client then looks for another one, as after a failover.
func TestWhatRedisRefuses(t *testing.T) {
	t.Parallel()
	server, err := redistest.Start("--save", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { _ = rdb.Close() })
	b := newBundle(rdb)
	h := b.bindAll(t, 2)
	first, second := settled(h[0], recalled(20)), settled(h[1], recalled(20))
	if err := rdb.ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.settleAll(context.Background(), []*settlement{first, second}); !redis.IsReadOnlyError(err) {
		t.Errorf("a replica: %v", err)
	}
	if err := rdb.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.settleAll(context.Background(), []*settlement{first, second}); err != nil || first.err != nil || second.err != nil {
		t.Error(err, first.err, second.err)
	}
	b.check(t)
}

// bindWhatIsDue binds a batch to each slot that is due.
func (b *bundle) bindWhatIsDue(t *testing.T) (all []held) {
	t.Helper()
	for _, d := range b.wake(t).Due {
		all = append(all, held{d, b.attach(t, d, 0).Batch})
	}
	return all
}

// settleAllOf settles batches together, and takes over what their slots do next.
func (b *bundle) settleAllOf(t *testing.T, h []held, o func(int) flow.Settlement) []*settlement {
	t.Helper()
	var together []*settlement
	for i := range h {
		together = append(together, settled(h[i], o(i)))
	}
	if err := b.settleAll(context.Background(), together); err != nil {
		t.Fatal(err)
	}
	for i, s := range together {
		if s.err != nil {
			t.Fatal(s.err)
		}
		if s.reply.Batch != nil {
			h[i].Batch = s.reply.Batch
		}
	}
	return together
}

func allRecalled(int) flow.Settlement { return recalled(20) }

// Robots take turns also within a script, in which the clock stands still.
func TestTurnsWithinAScript(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots, b.params.SlotsCap = settleTogether, settleTogether
		for i := range 4 {
			b.admit(t, Admission{RobotCode: fmt.Sprint("ding-", i), Keys: testKeys(10_000*i, 1000)})
			b.advance(time.Millisecond)
		}
		h := b.bindWhatIsDue(t)
		for range 3 {
			b.advance(5 * time.Millisecond)
			b.settleAllOf(t, h, allRecalled)
			turns := map[string]int{}
			for _, x := range h {
				turns[x.RobotCode]++
			}
			for code, n := range turns {
				if n != settleTogether/4 {
					t.Errorf("%s had %d of %d turns", code, n, settleTogether)
				}
			}
		}
		b.check(t)
	})
}

// Keys whose later has come do not pile up where a script has more of them made than it looks for at once.
func TestLaterDoesNotPileUp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots, b.params.SlotsCap = settleTogether, settleTogether
		for i := range 4 {
			b.admit(t, Admission{Keys: testKeys(1000*i, 1000)})
		}
		h := b.bindWhatIsDue(t)
		for range 8 {
			b.settleAllOf(t, h, func(int) flow.Settlement { return keepNone(20) })
			b.advance(2 * time.Second)
		}
		b.settleAllOf(t, h, allRecalled)
		due, err := b.rdb.ZCount(context.Background(), name(b.app, "later"), "-inf", fmt.Sprint(b.clock.UnixMilli())).Result()
		if err != nil || due != 0 {
			t.Errorf("%d keys whose later has come were not looked for, %v", due, err)
		}
		b.check(t)
	})
}

// After a throttle answer the others of the script find the slots that the lower rate needs, and the fence is the permit that is given next.
func TestThrottledInAScript(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots, b.params.SlotsCap, b.params.Interval = settleTogether, 2*settleTogether, 50*time.Millisecond
		b.admit(t, Admission{Keys: testKeys(0, 1000)})
		h := b.bindWhatIsDue(t)
		b.advance(2 * time.Second)
		goOn := 0
		for _, s := range b.settleAllOf(t, h, func(i int) flow.Settlement {
			if i == 0 {
				return throttledFor(20, time.Second)
			}
			return recalled(20)
		}) {
			if s.reply.Status == StatusBatch {
				goOn++
			}
		}
		if goOn > settleTogether/2 {
			t.Errorf("%d slots go on at half the rate", goOn)
		}
		b.check(t)
	})
	each(t, func(t *testing.T, b *bundle) {
		for extra := range 8 {
			b.rdb.FlushDB(context.Background())
			b.params.Slots, b.params.Interval = 4, 50*time.Millisecond+time.Duration(extra)*time.Microsecond
			b.admit(t, Admission{Keys: testKeys(0, 1000)})
			meta, now := name(b.app, "meta"), b.clock.UnixMilli()
			// A throttle answer was a while ago: permits are at fractions of a microsecond.
			b.rdb.HSet(context.Background(), meta, "pace", fmt.Sprintf("0.5000 0.9700 %d 3000 3600000 %d 0", now-3001, (now-4000)*1000))
			h := b.bindWhatIsDue(t)[:2]
			b.rdb.HSet(context.Background(), meta, "tat", (now+3000)*1000)
			got := b.settleAllOf(t, h, func(i int) flow.Settlement {
				if i == 1 {
					return throttledFor(20, time.Second)
				}
				return recalled(20)
			})
			b.advance(got[1].reply.Batch.Wait + 10*time.Millisecond)
			b.settle(t, h[1].DueSlot, h[1].Batch, throttledFor(20, time.Second))
			if p := b.rdb.HGet(context.Background(), meta, "pace").Val(); !strings.HasSuffix(p, " 1") {
				t.Errorf("interval %v: the first call after a rest was refused, and that is not counted: %s", b.params.Interval, p)
			}
		}
	})
}

// Two robots that are refused together are two lines in a log.
func TestHoldsOfAScriptAreTold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		for i, code := range []string{"bad", "worse", "good"} {
			b.admit(t, Admission{RobotCode: code, Keys: testKeys(1000*i, 20)})
			b.advance(time.Millisecond)
		}
		h := b.bindWhatIsDue(t)
		b.advance(time.Millisecond)
		slices.SortFunc(h, func(x, y held) int { return strings.Compare(x.RobotCode, y.RobotCode) })
		good, bad := h[1], []held{h[0], h[2]}
		if _, ok, err := b.Permit(context.Background(), good.at(), good.ID, 1); !ok || err != nil { // after those of the others
			t.Fatal(ok, err)
		}
		b.settle(t, good.DueSlot, good.Batch, recalled(20))
		ids := []int64{bad[0].ID, bad[1].ID}
		b.settleAllOf(t, bad, func(int) flow.Settlement { return deniedFor(20, time.Minute) })
		for _, id := range ids {
			if told, alone, err := b.ToldHold(context.Background(), id); !told || !alone || err != nil {
				t.Errorf("batch %d: told %v, of the robot alone %v, %v", id, told, alone, err)
			}
		}
		b.check(t)
	})
}

// A settlement that fails half-way has nobody buried: it is sent again.
func TestHalfASettlementBuriesNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		h := b.bindAll(t, 2)
		o := flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateDead, Code: "c", Message: "m"}), Counted: true, RequestID: "q", Next: flow.NextClaim}
		for range 3 {
			bad := settled(h[1], o)
			bad.args[5] = strings.Repeat("d0", 10) + strings.Repeat("dz", 10)
			if err := b.settleAll(context.Background(), []*settlement{settled(h[0], recalled(20)), bad}); err != nil || bad.err == nil {
				t.Fatal(err, bad.err)
			}
		}
		b.settle(t, h[1].DueSlot, h[1].Batch, o)
		if got := b.status(t).Total; got.Recalled != 20 || got.Dead != 20 || got.Waiting != 0 || got.Bound != 0 {
			t.Errorf("%+v", got)
		}
		letters, err := b.Outbox(context.Background(), 10)
		if err != nil || len(letters) != 1 || len(letters[0].Keys) != 20 {
			t.Errorf("%+v, %v", letters, err)
		}
		b.check(t)
	})
}
