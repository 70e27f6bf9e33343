package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/proctest"
)

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
