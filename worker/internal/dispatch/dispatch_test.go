package dispatch

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

func TestRunGoesOnUntilNothingIsReady(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(45)
		if err := b.run(at, 0); err != nil {
			t.Fatal(err)
		}
		var sizes []int
		for _, c := range b.service.seen() {
			sizes = append(sizes, len(c.keys))
			if c.token != "t1" || c.robot != "robot" {
				t.Errorf("called for robot %q with token %q", c.robot, c.token)
			}
		}
		if !slices.Equal(sizes, []int{20, 20, 5}) || b.service.mostOften() != 1 {
			t.Errorf("calls of %v keys, one of them called %d times", sizes, b.service.mostOften())
		}
		if got := b.states(45); got[flow.Recalled] != 45 {
			t.Errorf("states %v", got)
		}
		if b.observer.recalled != 45 || b.observer.dead != 0 || b.observer.calls[upstream.Done] != 3 {
			t.Errorf("observed %+v", b.observer)
		}
		if len(b.replies) != 4 || b.last().Status != keystore.StatusIdle {
			t.Errorf("%d replies, the last %s", len(b.replies), b.last().Status)
		}
		if b.app.Latency.Average() <= 0 {
			t.Error("no latency was seen")
		}
	})
}

func TestRunMakesRoomWhenItsSliceIsOver(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, func(p *keystore.Params) { p.Slots, p.SlotsCap = 1, 1 })
		at := b.admit(50)
		d := b.dispatcher(1) // a nanosecond
		for i := range 3 {
			if err := d.Run(context.Background(), testApp, at.Slot, at.Generation, 0); err != nil {
				t.Fatal(err)
			}
			if len(b.service.seen()) != i+1 {
				t.Fatalf("%d calls in %d slices", len(b.service.seen()), i+1)
			}
			r := b.last()
			if r.Status != keystore.StatusDue || len(r.Due) != 1 || r.Due[0].Generation != at.Generation+1 {
				t.Fatalf("after a slice the slot is %s, due %v", r.Status, r.Due)
			}
			at = r.Due[0]
		}
		if err := d.Run(context.Background(), testApp, at.Slot, at.Generation, 0); err != nil || b.last().Status != keystore.StatusIdle {
			t.Errorf("then %s, %v", b.last().Status, err)
		}
		if got := b.states(50); got[flow.Recalled] != 50 || b.service.mostOften() != 1 {
			t.Errorf("states %v", got)
		}
	})
}

func TestStoppingBeforeTheCallHandsTheBatchOn(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, func(p *keystore.Params) { p.Slots, p.SlotsCap, p.Interval = 1, 1, time.Second })
		at := b.admit(40)
		b.nextPermitIn(time.Hour)
		b.onAfter = func(int, *keystore.Reply) error {
			close(b.stopping)
			b.onAfter = nil
			return nil
		}
		if err := b.run(at, 0); err != nil {
			t.Fatal(err)
		}
		if n := len(b.service.seen()); n != 0 || b.last().Status != keystore.StatusDue {
			t.Errorf("%d calls, then %s", n, b.last().Status)
		}
		if got := b.states(40); got[flow.Bound] != 20 || got[flow.Waiting] != 20 {
			t.Errorf("states %v", got)
		}
		// A worker that starts now finds the batch, and no attempt was counted.
		b.deps.Stopping, b.p.Interval = nil, 0
		b.nextPermitIn(0)
		if err := b.run(b.last().Due[0], 0); err != nil {
			t.Fatal(err)
		}
		if got := b.states(40); got[flow.Recalled] != 40 || b.service.mostOften() != 1 {
			t.Errorf("states %v, a key was called %d times", got, b.service.mostOften())
		}
		for _, r := range b.records(40) {
			if r.Attempts != 1 {
				t.Errorf("%s was called once, and has %d attempts", r.Key, r.Attempts)
			}
		}
	})
}

func TestStoppingDuringTheCallSettlesIt(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(40)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		b.service.answer = func(_ int, c fakeCall) (upstream.Answer, error) {
			close(b.stopping)
			cancel() // the queue's lease is lost at the same time
			return allRecalled(c.keys), nil
		}
		if err := b.dispatcher(time.Minute).Run(ctx, testApp, at.Slot, at.Generation, 0); err != nil {
			t.Fatal(err)
		}
		if got := b.states(40); got[flow.Recalled] != 20 || len(b.service.seen()) != 1 || b.last().Status != keystore.StatusDue {
			t.Errorf("states %v, %d calls, then %s", got, len(b.service.seen()), b.last().Status)
		}
	})
}

func TestSettleIsTriedUntilItIsWritten(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		for _, c := range []struct {
			name          string
			before, after int
		}{{"not written", 3, 0}, {"written, and the reply is lost", 0, 2}} {
			b := setup(t, rdb, nil)
			if err := rdb.FlushDB(context.Background()).Err(); err != nil { // the test's own
				t.Fatal(err)
			}
			at := b.admit(30)
			b.service.answer = func(n int, c2 fakeCall) (upstream.Answer, error) {
				if n == 1 {
					b.faults.set(c.before, c.after)
				}
				return allRecalled(c2.keys), nil
			}
			if err := b.run(at, 0); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if b.faults.before+b.faults.after != 0 {
				t.Fatalf("%s: the fault did not happen", c.name)
			}
			if got := b.states(30); got[flow.Recalled] != 30 || b.service.mostOften() != 1 || len(b.service.seen()) != 2 {
				t.Errorf("%s: states %v, %d calls, a key was called %d times", c.name, got, len(b.service.seen()), b.service.mostOften())
			}
		}
	})
}

func TestRedisThatBlinksBeforeTheCall(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(20)
		b.faults.set(1, 0)
		l := later(t, b.run(at, 0))
		if l.Blame || l.Delay != soon || !errors.Is(l, errBlink) || len(b.service.seen()) != 0 {
			t.Errorf("%+v, %d calls", l, len(b.service.seen()))
		}
		b.faults.set(0, 1) // attached, and nobody heard of it: a second delivery goes on
		if l := later(t, b.run(at, 0)); l.Blame {
			t.Errorf("%+v", l)
		}
		if err := b.run(at, 0); err != nil {
			t.Fatal(err)
		}
		if got := b.states(20); got[flow.Recalled] != 20 || b.service.mostOften() != 1 {
			t.Errorf("states %v", got)
		}
	})
}

func TestWhatIsOwedIsEnqueuedOrTheTaskRunsAgain(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(20)
		b.onAfter = func(int, *keystore.Reply) error { return errBlink }
		l := later(t, b.run(at, 0))
		if l.Blame || l.Delay != soon || !errors.Is(l, errBlink) {
			t.Errorf("%+v", l)
		}
		if got := b.states(20); got[flow.Recalled] != 20 {
			t.Errorf("states %v: a wake-up that failed must not keep keys from being called", got)
		}
		b.onAfter = nil
		if err := b.run(at, 0); err != nil || b.last().Status != keystore.StatusStale {
			t.Errorf("the second time: %s, %v", b.last().Status, err)
		}
	})
}

func TestAnOldGenerationIsDone(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(20)
		for _, old := range []flow.DueSlot{{Slot: at.Slot, Generation: at.Generation - 1}, {Slot: at.Slot, Generation: at.Generation + 1}, {Slot: 99, Generation: 1}, {Slot: -1, Generation: -1}} {
			if err := b.run(old, 5); err != nil || len(b.service.seen()) != 0 {
				t.Errorf("%+v: %v, %d calls", old, err, len(b.service.seen()))
			}
			if !slices.Contains(b.last().Due, at) {
				t.Errorf("%+v: the reply does not name the slot that is due: %v", old, b.last().Due)
			}
		}
	})
}

func TestAnUnknownAppWaits(t *testing.T) {
	t.Parallel()
	b := setup(t, redistest.Mini(t), nil)
	l := later(t, b.dispatcher(time.Minute).Run(context.Background(), "other", 1, 1, 0))
	if l.Blame || l.Delay < time.Second || !strings.Contains(l.Error(), `"other"`) {
		t.Errorf("%+v", l)
	}
}

// TestARunThatIsFencedOffChangesNothing: another delivery of the task attaches while the first one calls.
func TestARunThatIsFencedOffChangesNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(20)
		var second *keystore.Reply
		b.service.answer = func(_ int, c fakeCall) (upstream.Answer, error) {
			var err error
			second, err = b.store.Attach(context.Background(), at.Slot, at.Generation, 1)
			if err != nil || second.Status != keystore.StatusBatch {
				t.Errorf("the second delivery: %v, %v", second, err)
			}
			return allRecalled(c.keys), nil
		}
		l := later(t, b.run(at, 0))
		if b.last().Status != keystore.StatusRefused || l.Delay <= 0 {
			t.Errorf("%s, %+v", b.last().Status, l)
		}
		if got := b.states(20); got[flow.Bound] != 20 {
			t.Errorf("states %v", got)
		}
		if b.observer.recalled != 0 {
			t.Errorf("%d keys were counted as recalled by a run that settled nothing", b.observer.recalled)
		}
		// And one that finds out before its call does not call.
		b.service.answer = nil
		if l := later(t, b.run(at, 0)); b.last().Status != keystore.StatusRefused || l.Delay <= 0 || len(b.service.seen()) != 1 {
			t.Errorf("an old delivery: %s, %d calls", b.last().Status, len(b.service.seen()))
		}
	})
}

// TestATaskMadeAnewComesToRun: somebody deletes the task of a slot whose batch was tried before; the one that takes its place counts
// its retries from zero.
func TestATaskMadeAnewComesToRun(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(20)
		b.service.answer = func(n int, c fakeCall) (upstream.Answer, error) {
			if n <= 4 {
				return upstream.Answer{}, serviceError(500, "system.error")
			}
			return allRecalled(c.keys), nil
		}
		for retry := range 4 {
			if l := later(t, b.run(at, retry)); !l.Blame || b.last().Status != keystore.StatusHeld {
				t.Fatalf("try %d: %s, %+v", retry, b.last().Status, l)
			}
		}
		retry, runs := 0, 0
		for err := b.run(at, retry); err != nil; err = b.run(at, retry) {
			if later(t, err).Blame {
				retry++
			}
			if runs++; runs > 10 {
				t.Fatal("the task is refused for ever")
			}
		}
		if got := b.states(20); got[flow.Recalled] != 20 || runs != 3 {
			t.Errorf("states %v after %d more runs", got, runs)
		}
	})
}

func TestGarbageIsNoPanic(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		answers := []func(c fakeCall) (upstream.Answer, error){
			func(fakeCall) (upstream.Answer, error) { return upstream.Answer{}, nil },
			func(fakeCall) (upstream.Answer, error) { return upstream.Answer{}, errors.New("no error of upstream") },
			func(fakeCall) (upstream.Answer, error) { return upstream.Answer{}, &upstream.Error{} },
			func(c fakeCall) (upstream.Answer, error) {
				return upstream.Answer{Recalled: append(c.keys, "foreign"), Both: c.keys, Failed: map[string]string{"foreign": "x", c.keys[0]: strings.Repeat("\x00", 10_000)}}, nil
			},
			func(c fakeCall) (upstream.Answer, error) {
				return upstream.Answer{}, &upstream.Error{Op: upstream.OpRecall, Code: "\xff\n\x00", Message: "\xff", Keys: append(c.keys, "foreign"), Partial: &upstream.Answer{Recalled: []string{"foreign"}}}
			},
		}
		for i, answer := range answers {
			b := setup(t, rdb, nil)
			if err := rdb.FlushDB(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			at := b.admit(3)
			b.service.answer = func(_ int, c fakeCall) (upstream.Answer, error) { return answer(c) }
			err := b.run(at, 0)
			if got := b.states(3); got[flow.Unknown] > 0 || got[flow.Recalled] > 0 {
				t.Errorf("answer %d: states %v, %v", i, got, err)
			}
		}
		b := setup(t, rdb, nil)
		if err := rdb.FlushDB(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		at := b.admit(3)
		for _, junk := range []string{"", "x", strings.Repeat("\xff", 40)} {
			if err := rdb.HSet(ctx, keystore.Prefix(testApp)+"slot:"+strconv.Itoa(at.Slot), "batch", 7, "rid", 1, "cut", 3, "keys", junk).Err(); err != nil {
				t.Fatal(err)
			}
			if err := b.run(at, 1000); err != nil && len(err.Error()) > 2000 {
				t.Errorf("a very long error: %v", err)
			}
		}
	})
}

func TestNewChecks(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{Policy: testPolicy()}, Deps{}, nil); err == nil || !strings.Contains(err.Error(), "slice") {
		t.Errorf("no slice: %v", err)
	}
	if _, err := New(Config{Slice: time.Second}, Deps{}, nil); err == nil {
		t.Error("no policy, and no error")
	}
}
