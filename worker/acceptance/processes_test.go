package acceptance

import (
	"syscall"
	"testing"
	"time"

	"dingrecall/worker"
)

func TestTwoWorkersRecallEachKeyOnce(t *testing.T) {
	t.Parallel()
	const n, rate = 20_000, 300
	b := setup(t, settings{rate: rate, simArgs: []string{"--rate", "300", "--latency", "20ms", "--jitter", "20ms"}})
	b.worker("worker 1")
	b.worker("worker 2")
	b.submit(n)
	c := b.untilSettled(n, 90*time.Second)
	s := b.checkAllRecalled(n, c)
	if s.KeysAskedAgain != 0 || s.Overlaps != 0 {
		t.Errorf("%d keys were asked again, %d were in two calls at once", s.KeysAskedAgain, s.Overlaps)
	}
	if s.MaxCallsPerSecond > rate || s.Throttled != 0 {
		t.Errorf("%d calls in one second, %d refused, with a rate of %d", s.MaxCallsPerSecond, s.Throttled, rate)
	}
	if s.Calls > n/20*105/100 {
		t.Errorf("%d calls, and %d are enough", s.Calls, n/20)
	}
	t.Logf("%d calls in %v", s.Calls, s.LastCall.Sub(s.FirstCall))
}

func TestTerminatedWorkerFinishesItsCalls(t *testing.T) {
	t.Parallel()
	const n = 12_000
	b := setup(t, settings{rate: 150, simArgs: []string{"--latency", "150ms"}})
	first := b.worker("worker 1")
	b.worker("worker 2")
	b.submit(n)
	b.untilCalled(150)
	began := time.Now()
	first.Signal(syscall.SIGTERM)
	if status := first.Status(25 * time.Second); status != 0 {
		t.Errorf("the terminated worker ended with status %d", status)
	}
	took := time.Since(began)
	if c, err := b.total(); err != nil || c.Waiting == 0 {
		t.Errorf("the work was over before: %+v, %v", c, err)
	}
	b.worker("worker 3")
	c := b.untilSettled(n, 45*time.Second) // too soon for the queue's own recovery: all was handed on
	s := b.checkAllRecalled(n, c)
	if s.KeysAskedAgain != 0 || s.Overlaps != 0 || s.Calls != n/20 {
		t.Errorf("%d keys were asked again, %d in two calls at once, %d calls", s.KeysAskedAgain, s.Overlaps, s.Calls)
	}
	t.Logf("it took %v to end", took)
}

func TestKilledWorkerLosesNothing(t *testing.T) {
	t.Parallel()
	const n, rate = 20_000, 200
	b := setup(t, settings{rate: rate, simArgs: []string{"--latency", "100ms"}})
	first := b.worker("worker 1")
	b.worker("worker 2")
	b.submit(n)
	b.untilCalled(n / 20 / 2)
	killed := time.Now()
	first.Signal(syscall.SIGKILL)
	before, err := b.total()
	if err != nil || before.Waiting == 0 {
		t.Fatalf("the work was over before: %+v, %v", before, err)
	}
	// All keys but those that the killed worker held go on at once.
	var c worker.Counts
	until(t, 30*time.Second, "no key waits", func() bool {
		c, err = b.total()
		return err == nil && c.Accepted == n && c.Waiting == 0
	})
	t.Logf("%v after the kill no key waits, %+v", time.Since(killed), c)
	// Those of the killed one are taken over: after its lease of 30 s, and long before asynq would give them to others.
	c = b.untilSettled(n, 45*time.Second-time.Since(killed))
	t.Logf("%v after the kill all is done", time.Since(killed))
	s := b.checkAllRecalled(n, c)
	if most := int64(20 * s.MaxConcurrent); s.KeysAskedAgain > most {
		t.Errorf("%d keys were asked again, and at most %d were in calls at one moment", s.KeysAskedAgain, most)
	}
	if s.Overlaps != 0 {
		t.Errorf("%d keys were in two calls at once", s.Overlaps)
	}
	t.Logf("%d calls, %d keys asked again, %d calls at once", s.Calls, s.KeysAskedAgain, s.MaxConcurrent)
}
