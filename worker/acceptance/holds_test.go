package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/proctest"
)

const permissionCode = "Forbidden.AccessDenied.AccessTokenPermissionDenied"

// An app without the permission, and a hundred thousand keys: hardly a call is spent, and all are recalled once it has it.
func TestMissingPermissionCostsAFewCalls(t *testing.T) {
	t.Parallel()
	const n, probe = 100_000, 5 * time.Second
	b := setup(t, settings{rate: 600, simArgs: []string{"--latency", "20ms", "--fault", "permission"}, worker: "  probeBase: 5s\n  probeMax: 10s\n"})
	workers := []*proctest.Process{b.worker("worker 1"), b.worker("worker 2")}
	began := time.Now()
	b.submit(n)
	b.untilHeld()
	if calls := b.stats().Calls; calls > 5 {
		t.Errorf("%d calls were spent before the app was held", calls)
	}
	// All come in and wait, while a probe now and then is all that is spent.
	until(t, time.Minute, "all keys wait, and a probe was refused", func() bool {
		c, err := b.total()
		return err == nil && c.Waiting == n && time.Since(began) > 3*probe
	})
	calls, most := b.stats().Calls, 5+int64(time.Since(began)/probe)
	if calls > most {
		t.Errorf("%d calls in %v, with probes %v apart", calls, time.Since(began), probe)
	}
	said, lines := 0, ""
	for _, w := range workers {
		for line := range strings.Lines(w.Out.String()) {
			if strings.Contains(line, "ERROR") {
				said++
				lines += line
			}
		}
	}
	if said != 1 || !strings.Contains(lines, "qyapi_robot_sendmsg") || !strings.Contains(lines, permissionCode) {
		t.Errorf("it is to be said once which permission is missing, and it was said %d times:\n%s", said, lines)
	}
	b.faults()
	c := b.untilSettled(n, 2*time.Minute)
	b.checkAllRecalled(n, c)
	if all := b.stats().Calls; all > n/20+calls+5 {
		t.Errorf("%d calls in all, %d of them before it was mended, and %d are enough", all, calls, n/20)
	}
	b.checkAttempts(500)
	t.Logf("%d calls while the permission was missing", calls)
}

// The operator does not wait for the probe.
func TestReleaseByCommand(t *testing.T) {
	t.Parallel()
	const n = 2_000
	b := setup(t, settings{simArgs: []string{"--fault", "permission"}, worker: "  probeBase: 1h\n  probeMax: 1h\n"})
	b.worker("worker")
	b.submit(n)
	b.untilHeld()
	b.faults()
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"no-such-app"}, 2, "there is no app and no robot of that name: no-such-app"},
		{nil, 2, "say which app or robot"},
		{[]string{"main"}, 0, "app main is released, it was on hold for " + permissionCode},
		{[]string{"main"}, 0, "app main is not on hold: nothing to release"},
	} {
		p := run(t, "release", append([]string{"release", "-c", b.config}, c.args...)...)
		if status := p.Status(20 * time.Second); status != c.status || !strings.Contains(p.Out.String(), c.says) {
			t.Errorf("recall release %v ended with status %d: %s", c.args, status, p.Out)
		}
	}
	b.checkAllRecalled(n, b.untilSettled(n, 30*time.Second))
	b.checkAttempts(n)
	if held := b.app(); held.Hold != nil || len(held.Robots) != 0 {
		t.Errorf("still held: %+v, %+v", held.Hold, held.Robots)
	}
}

// What an operator cancels while its app is held is never called, and the rest goes on with the app.
func TestCancelByCommand(t *testing.T) {
	t.Parallel()
	const n, others = 2_000, 400
	b := setup(t, settings{simArgs: []string{"--fault", "permission"}, worker: "  probeBase: 1h\n  probeMax: 1h\n"})
	b.worker("worker")
	b.submit(n)
	b.untilHeld()
	for i := range others {
		b.keys[i] = simulator.MakeKey(2, uint64(i), simulator.Good, time.Now().Add(-time.Hour))
	}
	file := filepath.Join(b.dir, "others.txt")
	b.write(file, strings.Join(b.keys[:others], "\n"))
	if p := run(t, "submit", "submit", file, "-c", b.config, "--robot", robot, "--incident", "flood", "--sent-at", "1h"); p.Status(time.Minute) != 0 {
		t.Fatalf("recall submit failed: %s", p.Out)
	}
	until(t, time.Minute, "all are in", func() bool {
		c, err := b.total()
		return err == nil && c.Waiting == n+others
	})
	b.faults()
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"cancel", "no-such-incident", "--yes"}, 2, "no app has keys of an incident of that name: no-such-incident"},
		{[]string{"cancel", "storm"}, 2, "this would cancel incident storm, of which 2,000 keys wait, in 1 app; add --yes if that is meant"},
		{[]string{"cancel", "storm", "--yes"}, 0, "app main: incident storm is cancelled; 2,000 keys were still waiting, to end as cancelled, " +
			"without a call, once the hold ends (" + permissionCode + ") or windows close"},
		{[]string{"release", "main"}, 0, "app main is released"},
	} {
		p := run(t, c.args[0], append(c.args, "-c", b.config)...)
		if status := p.Status(20 * time.Second); status != c.status || !strings.Contains(p.Out.String(), c.says) {
			t.Errorf("recall %v ended with status %d: %s", c.args, status, p.Out)
		}
	}
	c := b.untilSettled(n+others, 30*time.Second)
	if c.Cancelled != n || c.Recalled != others || c.Dead != 0 {
		t.Errorf("%+v", c)
	}
	b.checkAttempts(others)
}

// Two workers and a service that allows less than is configured. The figures have room for a busy machine: the tight ones are those of
// the key store's test, which goes by a clock of its own.
func TestTwoWorkersSettleAtWhatTheServiceAllows(t *testing.T) {
	t.Parallel()
	const n, rate, allowed, settle, measure = 80_000, 100, 60, 20 * time.Second, 25 * time.Second
	b := setup(t, settings{rate: rate, simArgs: []string{"--rate", "60", "--latency", "20ms", "--jitter", "20ms"}})
	b.worker("worker 1")
	b.worker("worker 2")
	b.submit(n)
	b.untilCalled(100)
	pauseFor(settle)
	from, began := b.stats(), time.Now()
	pauseFor(measure)
	to, took := b.stats(), time.Since(began)
	calls, refused := float64(to.Calls-from.Calls), float64(to.Throttled-from.Throttled)
	used := (calls - refused) / took.Seconds() / allowed
	t.Logf("%.3f of what is allowed, %.2f %% of the calls refused", used, 100*refused/calls)
	if used < 0.8 || used > 1.01 || refused/calls > 0.03 {
		t.Errorf("%.3f of what is allowed, %.2f %% of the calls refused", used, 100*refused/calls)
	}
	b.checkAttempts(2000)
}

// app gives how the app stands.
func (b *bundle) app() worker.AppStatus {
	b.t.Helper()
	st, err := b.insp.Status(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, a := range st.Apps {
		if a.App == "main" {
			return a
		}
	}
	return worker.AppStatus{}
}

func (b *bundle) untilHeld() {
	b.t.Helper()
	until(b.t, 30*time.Second, "the app is held", func() bool {
		h := b.app().Hold
		return h != nil && h.Code == permissionCode
	})
}

// faults replaces all that goes wrong on purpose.
func (b *bundle) faults(rules ...simulator.FaultRule) {
	b.t.Helper()
	body, err := json.Marshal(append([]simulator.FaultRule{}, rules...))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := http.Post(b.simURL+"/_sim/faults", "application/json", bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("the simulator's faults could not be set: %s", resp.Status)
	}
}

// checkAttempts looks at the first n keys of the file: those that are recalled have had one attempt, the others none.
func (b *bundle) checkAttempts(n int) {
	b.t.Helper()
	recs, err := b.insp.Keys(context.Background(), robot, b.keys[:n])
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range recs {
		want := 0
		if r.State == worker.KeyRecalled {
			want = 1
		}
		if r.Attempts != want {
			b.t.Fatalf("%+v", r)
		}
	}
}
