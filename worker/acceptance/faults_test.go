package acceptance

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"dingrecall/worker/internal/proctest"
)

// Redis dies under load and comes back with what it had written; the workers are not restarted.
func TestRedisRestartLosesNothing(t *testing.T) {
	t.Parallel()
	const n = 10_000
	b := setup(t, settings{rate: 100, redisArgs: []string{"--appendonly", "yes", "--appendfsync", "always", "--save", ""}, simArgs: []string{"--latency", "50ms"}})
	b.worker("worker 1")
	b.worker("worker 2")
	b.submit(n)
	b.untilCalled(n / 20 / 4)
	if err := b.redis.Kill(); err != nil {
		t.Fatal(err)
	}
	// What was under way ends, and is then tried to be settled.
	calls := int64(-1)
	until(t, 30*time.Second, "no more calls are made", func() bool {
		before := calls
		calls = b.stats().Calls
		pauseFor(300 * time.Millisecond)
		return calls == before
	})
	if err := b.redis.Restart(); err != nil {
		t.Fatal(err)
	}
	c := b.untilSettled(n, 3*time.Minute)
	s := b.checkAllRecalled(n, c)
	// The outcomes of the calls that were under way are kept until Redis is back.
	if s.KeysAskedAgain != 0 || s.Overlaps != 0 {
		t.Errorf("%d keys were asked again, %d in two calls at once", s.KeysAskedAgain, s.Overlaps)
	}
	t.Logf("%d calls", s.Calls)
}

// Connections to Redis are cut, and replies are lost of what Redis did: nothing is done twice, nothing is lost.
func TestCutConnectionsToRedisLoseNothing(t *testing.T) {
	t.Parallel()
	const n = 10_000
	b := setup(t, settings{rate: 100, simArgs: []string{"--latency", "20ms"}})
	p := proctest.NewProxy(t, b.redis.Addr, 1)
	b.writeConfig(p.Addr())
	b.worker("worker 1")
	b.worker("worker 2")
	b.submit(n)
	for i := range 6 {
		b.untilCalled(int64((i + 1) * n / 20 / 10))
		if i%2 == 1 {
			p.Behave(proctest.Manner{Deaf: true})
			pauseFor(100 * time.Millisecond)
		}
		p.Cut()
		p.Behave(proctest.Manner{})
	}
	if c, err := b.total(); err != nil || c.Waiting == 0 {
		t.Errorf("the work was over before the last cut: %+v, %v", c, err)
	}
	c := b.untilSettled(n, 3*time.Minute)
	s := b.checkAllRecalled(n, c)
	// A settle that is sent again is recognised, so that not even a lost reply costs a call; and a run that cannot reach
	// Redis for longer than the client tries makes none.
	if s.KeysAskedAgain != 0 || s.Overlaps != 0 {
		t.Errorf("%d keys were asked again, %d in two calls at once", s.KeysAskedAgain, s.Overlaps)
	}
	t.Logf("%d calls", s.Calls)
}

// The service cannot be reached for some seconds: no key dies of it, and all are recalled afterwards.
func TestServiceThatIsDownCostsNoKey(t *testing.T) {
	t.Parallel()
	const n = 4_000
	b := setup(t, settings{rate: 100, simArgs: []string{"--latency", "20ms"}, worker: "  maxAttempts: 3\n  splitAfter: 2\n  unknownAttempts: 2\n  backoffBase: 200ms\n  backoffMax: 1s\n"})
	first := b.worker("worker 1")
	b.submit(n)
	b.untilCalled(50)
	b.sim.Signal(syscall.SIGTERM)
	if status := b.sim.Status(20 * time.Second); status != 0 {
		t.Errorf("the simulator ended with status %d", status)
	}
	seen := b.recalled()
	pauseFor(6 * time.Second) // many more tries than a key has attempts
	if c, err := b.total(); err != nil || c.Dead != 0 || c.Recalled >= n {
		t.Errorf("while the service is down: %+v, %v", c, err)
	}
	b.startSimulator(strings.TrimPrefix(b.simURL, "http://"), "--latency", "20ms")
	c := b.untilSettled(n, time.Minute)
	if c.Recalled != n || c.Dead != 0 {
		t.Errorf("%+v", c)
	}
	// The second simulator knows nothing of the first one's: all that was not recalled by that one was by this.
	if s := b.stats(); s.KeysRecalled < int64(n)-seen {
		t.Errorf("%d keys were recalled before, and %d after", seen, s.KeysRecalled)
	}
	if first.Ended() {
		t.Error("the worker has ended")
	}
}

// recalled gives how many keys the workers know to be recalled.
func (b *bundle) recalled() int64 {
	b.t.Helper()
	c, err := b.total()
	if err != nil {
		b.t.Fatal(err)
	}
	return c.Recalled
}

// pauseFor lets time pass in which something must not happen, or go on.
func pauseFor(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}
