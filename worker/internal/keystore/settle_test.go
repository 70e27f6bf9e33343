package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/proctest"
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

// Where the first of them cannot be settled the script fails before it wrote anything, and each is settled alone.
func TestOneThatCannotBeSettled(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		h := b.bindAll(t, 2)
		first, second := unsettleable(h[0]), settled(h[1], recalled(20))
		second.done = make(chan struct{})
		b.settling.scripts, b.settling.waiting = 1, []*settlement{second}
		b.settleWaiting(context.Background(), first)
		<-second.done
		if first.err == nil || second.err != nil || second.reply.Status != StatusIdle {
			t.Errorf("the first: %v; the second: %v, %+v", first.err, second.err, second.reply)
		}
		if got := b.status(t).Total; got.Recalled != 20 || b.settling.scripts != 0 {
			t.Errorf("%+v, %d scripts on their way", got, b.settling.scripts)
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

// Whoever was told to settle, and goes away at that moment, hands on.
func TestATurnIsHandedOn(t *testing.T) {
	t.Parallel()
	var w settling
	made := make([]*settlement, settleAtOnce+2)
	for i := range made {
		made[i] = &settlement{lead: make(chan struct{})}
		w.add(made[i])
	}
	told := func() (n int) {
		for _, s := range made {
			select {
			case <-s.lead:
				n++
			default:
			}
		}
		return n
	}
	for i, s := range made {
		if want := min(settleAtOnce+i, len(made)); told() != want {
			t.Fatalf("%d were told to settle, not %d", told(), want)
		}
		w.leave(s)
	}
	if w.scripts != 0 || len(w.waiting) != 0 {
		t.Errorf("%d scripts on their way, %d wait", w.scripts, len(w.waiting))
	}
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

// settleGate has settlements wait on their way to Redis, as many at a time as are let through.
type settleGate struct {
	mu      sync.Mutex
	batches []int // of each script, in the order in which they went
	open    chan struct{}
	panics  bool
}

func (g *settleGate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g *settleGate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (g *settleGate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		if args[0] != "evalsha" || args[1] != settleScript.Hash() {
			return next(ctx, cmd)
		}
		n, at := 0, 4+len((&Store{params: func() Params { return testParams() }, now: time.Now}).scriptArgs())
		for ; at < len(args); n++ {
			at += 1 + args[at].(int)
		}
		g.mu.Lock()
		g.batches = append(g.batches, n)
		g.mu.Unlock()
		select {
		case <-g.open:
		case <-ctx.Done():
			return ctx.Err()
		}
		if g.panics {
			panic("a bug")
		}
		return next(ctx, cmd)
	}
}

func (g *settleGate) sent() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.batches)
}

func (b *bundle) untilSettling(t *testing.T, g *settleGate, scripts, waiting int) {
	t.Helper()
	proctest.Until(t, 10*time.Second, fmt.Sprintf("%d scripts went and %d batches wait", scripts, waiting), func() bool {
		b.settling.mu.Lock()
		defer b.settling.mu.Unlock()
		return len(g.sent()) == scripts && len(b.settling.waiting) == waiting
	})
}

// result is what a Settle in a goroutine of its own came to.
type result struct {
	reply *Reply
	err   error
}

func (b *bundle) settleSoon(ctx context.Context, h held) <-chan result {
	got := make(chan result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				got <- result{err: fmt.Errorf("%v", p)}
			}
		}()
		r, err := b.Settle(ctx, h.at(), h.ID, recalled(20))
		got <- result{r, err}
	}()
	return got
}

func gated(t *testing.T, b *bundle) *settleGate {
	t.Helper()
	b.settle(t, flow.DueSlot{Slot: 200, Generation: 1}, &flow.Batch{ID: 1, Run: 1}, recalled(0)) // so that the script is loaded
	g := &settleGate{open: make(chan struct{})}
	b.rdb.AddHook(g)
	return g
}

// What waits while other scripts are on their way goes in one; whoever goes away meanwhile does not keep the others from it.
func TestWhatWaitsIsSettledTogether(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		g := gated(t, b)
		h := b.bindAll(t, 6)
		ctx, leave := context.WithCancel(context.Background())
		defer leave()
		var got []<-chan result
		for i, c := range []context.Context{context.Background(), context.Background(), ctx, context.Background(), context.Background(), context.Background()} {
			got = append(got, b.settleSoon(c, h[i]))
			b.untilSettling(t, g, min(i+1, settleAtOnce), max(0, i+1-settleAtOnce))
		}
		leave()
		if r := <-got[2]; !errors.Is(r.err, context.Canceled) {
			t.Errorf("whose caller went away: %+v", r)
		}
		b.untilSettling(t, g, 2, 3)
		close(g.open)
		for i, c := range got {
			if i == 2 {
				continue
			}
			if r := <-c; r.err != nil || r.reply.Status != StatusIdle {
				t.Errorf("settlement %d: %+v", i, r)
			}
		}
		if sent := g.sent(); !slices.Equal(sent[:2], []int{1, 1}) || sent[2] < 1 || sum(sent) != 5 || len(sent) > 4 {
			t.Errorf("scripts of %v batches", sent)
		}
		if got := b.status(t).Total; got.Recalled != 100 || got.Bound != 20 || b.settling.scripts != 0 {
			t.Errorf("%+v, %d scripts on their way", got, b.settling.scripts)
		}
	})
}

func sum(of []int) (n int) {
	for _, x := range of {
		n += x
	}
	return n
}

// Whoever was to settle for others and is gone, or ends in a panic, leaves them to settle themselves.
func TestWhoSettlesForOthersGoesAway(t *testing.T) {
	t.Parallel()
	for _, panics := range []bool{false, true} {
		t.Run(fmt.Sprintf("panics %v", panics), func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, b *bundle) {
				g := gated(t, b)
				h := b.bindAll(t, 2)
				ctx, leave := context.WithCancel(context.Background())
				b.settling.scripts = settleAtOnce // others are on their way
				first := b.settleSoon(ctx, h[0])
				b.untilSettling(t, g, 0, 1)
				second := b.settleSoon(context.Background(), h[1])
				b.untilSettling(t, g, 0, 2)
				g.panics = panics
				b.settling.next() // one of them is done
				b.untilSettling(t, g, 1, 0)
				if panics {
					g.open <- struct{}{}
				} else {
					leave()
				}
				if r := <-first; r.err == nil {
					t.Errorf("whose caller went away: %+v", r)
				}
				b.untilSettling(t, g, 2, 0)
				g.panics = false
				close(g.open)
				if r := <-second; r.err != nil || r.reply.Status != StatusIdle {
					t.Errorf("the other: %+v", r)
				}
				if sent := g.sent(); !slices.Equal(sent, []int{2, 1}) {
					t.Errorf("scripts of %v batches", sent)
				}
				leave()
			})
		})
	}
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

// Whatever becomes of the script that was to settle a batch with others, its caller gets a reply, an error, or settles it itself.
func TestNobodyIsLeftWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		for what, c := range map[string]struct {
			first func(held) *settlement
			fails func(script int, leave func()) error
			left  bool // the other is to be settled by its own caller
		}{
			"the network": {func(h held) *settlement { return settled(h, recalled(20)) }, func(int, func()) error { return errors.New("no route") }, false},
			"a panic while each is settled alone": {unsettleable, func(script int, _ func()) error {
				if script == 2 {
					panic("a bug")
				}
				return nil
			}, true},
			"who settles goes away meanwhile": {unsettleable, func(script int, leave func()) error {
				if script == 2 {
					leave()
					return context.Canceled
				}
				return nil
			}, true},
		} {
			b.rdb.FlushDB(context.Background())
			h := b.bindAll(t, 2)
			b.settle(t, flow.DueSlot{Slot: 200, Generation: 1}, &flow.Batch{ID: 1, Run: 1}, recalled(0)) // so that the script is loaded
			ctx, leave := context.WithCancel(context.Background())
			own := newBundle(redis.NewClient(b.rdb.Options()))
			own.clock = b.clock
			hook := &failingScripts{fails: func(n int) error { return c.fails(n, leave) }}
			own.rdb.AddHook(hook)
			first, second := c.first(h[0]), settled(h[1], recalled(20))
			second.done = make(chan struct{})
			own.settling.scripts, own.settling.waiting = 1, []*settlement{second}
			func() {
				defer func() { _ = recover() }()
				own.settleWaiting(ctx, first)
			}()
			<-second.done
			if second.err == nil || c.left != errors.Is(second.err, errLeft) || own.settling.scripts != 0 {
				t.Errorf("%s: %+v, %v, %d scripts on their way", what, second.reply, second.err, own.settling.scripts)
			}
			leave()
			_ = own.rdb.Close()
		}
	})
}

// failingScripts has the settlements of a client fail, by the number of the script.
type failingScripts struct {
	settleGate
	n     int
	fails func(n int) error
}

func (f *failingScripts) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); args[0] == "evalsha" && args[1] == settleScript.Hash() {
			f.n++
			if err := f.fails(f.n); err != nil {
				return err
			}
		}
		return next(ctx, cmd)
	}
}

// No more than so many go in one script, and none is forgotten.
func TestMoreThanAScriptSettles(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		g := gated(t, b)
		n := settleTogether + 4
		h := b.bindAll(t, n)
		b.settling.scripts = settleAtOnce // others are on their way
		var got []<-chan result
		for i := range h {
			got = append(got, b.settleSoon(context.Background(), h[i]))
			b.untilSettling(t, g, 0, i+1)
		}
		close(g.open)
		b.settling.next()
		for i := range got {
			if r := <-got[i]; r.err != nil {
				t.Error(r.err)
			}
		}
		if sent := g.sent(); !slices.Equal(sent, []int{settleTogether, n - settleTogether}) {
			t.Errorf("scripts of %v batches", sent)
		}
	})
}
