package admin

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, nil)
	want := `
# HELP dingrecall_app_held Whether the app is on hold (1) and makes no calls.
# TYPE dingrecall_app_held gauge
dingrecall_app_held{app="main"} 0
dingrecall_app_held{app="other"} 1
# HELP dingrecall_app_held_since_timestamp_seconds Since when the app is on hold; missing while it is not.
# TYPE dingrecall_app_held_since_timestamp_seconds gauge
dingrecall_app_held_since_timestamp_seconds{app="other"} 1.7e+09
# HELP dingrecall_app_next_probe_timestamp_seconds When the next call is spent on an app that is on hold; missing while it is not.
# TYPE dingrecall_app_next_probe_timestamp_seconds gauge
dingrecall_app_next_probe_timestamp_seconds{app="other"} 1.70000006e+09
# HELP dingrecall_app_rest_until_timestamp_seconds Until when the app rests after a throttle answer; missing while it does not.
# TYPE dingrecall_app_rest_until_timestamp_seconds gauge
dingrecall_app_rest_until_timestamp_seconds{app="other"} 1.70000003e+09
# HELP dingrecall_robots_held Robots of the app that are on hold.
# TYPE dingrecall_robots_held gauge
dingrecall_robots_held{app="main"} 0
dingrecall_robots_held{app="other"} 1
# HELP dingrecall_app_last_recall_timestamp_seconds When the app last had a key recalled; missing before the first.
# TYPE dingrecall_app_last_recall_timestamp_seconds gauge
dingrecall_app_last_recall_timestamp_seconds{app="main"} 1.7000000005e+09
# HELP dingrecall_keys Keys by what has become of them so far.
# TYPE dingrecall_keys gauge
dingrecall_keys{app="main",state="bound"} 20
dingrecall_keys{app="main",state="cancelled"} 1
dingrecall_keys{app="main",state="dead"} 7
dingrecall_keys{app="main",state="recalled"} 3000
dingrecall_keys{app="main",state="waiting"} 1.234567e+06
dingrecall_keys{app="other",state="bound"} 0
dingrecall_keys{app="other",state="cancelled"} 0
dingrecall_keys{app="other",state="dead"} 0
dingrecall_keys{app="other",state="recalled"} 0
dingrecall_keys{app="other",state="waiting"} 0
# HELP dingrecall_outbox Dead letters that are on their way to the queue recall-dead.
# TYPE dingrecall_outbox gauge
dingrecall_outbox{app="main"} 4
dingrecall_outbox{app="other"} 0
# HELP dingrecall_queue_paused Whether the queue is paused (1).
# TYPE dingrecall_queue_paused gauge
dingrecall_queue_paused{queue="recall"} 0
dingrecall_queue_paused{queue="recall-dead"} 1
# HELP dingrecall_queue_tasks Tasks by queue and state.
# TYPE dingrecall_queue_tasks gauge
dingrecall_queue_tasks{queue="recall",state="active"} 2
dingrecall_queue_tasks{queue="recall",state="archived"} 5
dingrecall_queue_tasks{queue="recall",state="pending"} 1
dingrecall_queue_tasks{queue="recall",state="retry"} 4
dingrecall_queue_tasks{queue="recall",state="scheduled"} 3
dingrecall_queue_tasks{queue="recall-dead",state="active"} 0
dingrecall_queue_tasks{queue="recall-dead",state="archived"} 0
dingrecall_queue_tasks{queue="recall-dead",state="pending"} 0
dingrecall_queue_tasks{queue="recall-dead",state="retry"} 0
dingrecall_queue_tasks{queue="recall-dead",state="scheduled"} 6
# HELP dingrecall_slots Slots of the app that are not idle: with a call in flight or due, or backing off.
# TYPE dingrecall_slots gauge
dingrecall_slots{app="main",state="backoff"} 2
dingrecall_slots{app="main",state="busy"} 3
dingrecall_slots{app="other",state="backoff"} 0
dingrecall_slots{app="other",state="busy"} 0
`
	names := []string{"dingrecall_app_held", "dingrecall_app_held_since_timestamp_seconds", "dingrecall_app_next_probe_timestamp_seconds",
		"dingrecall_app_rest_until_timestamp_seconds", "dingrecall_robots_held", "dingrecall_app_last_recall_timestamp_seconds", "dingrecall_keys", "dingrecall_outbox", "dingrecall_queue_paused", "dingrecall_queue_tasks", "dingrecall_slots"}
	if err := testutil.GatherAndCompare(b.reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(b.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// TestMetricsWithoutRedis: what cannot be read is missing and counted; the rest is served.
func TestMetricsWithoutRedis(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	b := setup(t, Config{}, func(d *Deps) {
		d.Status = func(context.Context) (Status, error) {
			if broken.Load() {
				return Status{}, errors.New("refused")
			}
			return someStatus, nil
		}
	})
	for n, want := range []string{"dingrecall_status_errors_total 1\n", "dingrecall_status_errors_total 2\n"} {
		w := b.ask("GET", "/metrics")
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) || strings.Contains(w.Body.String(), "dingrecall_keys{") {
			t.Errorf("scrape %d: status %d\n%s", n, w.Code, w.Body)
		}
	}
	broken.Store(false)
	if body := b.ask("GET", "/metrics").Body.String(); !strings.Contains(body, "dingrecall_keys{") || !strings.Contains(body, "dingrecall_status_errors_total 2\n") {
		t.Errorf("after recovery:\n%s", body)
	}
}

// TestStuckStatus: a read that does not end holds up no more than its time, and there is never a second one beside it.
func TestStuckStatus(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var reads atomic.Int64
	c := newCollector(func(context.Context) (Status, error) { reads.Add(1); <-release; return Status{}, nil })
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // stands for the end of the time allowed
	var failed int
	for reads.Load() == 0 { // select may take either of two ready cases
		if _, err := c.read(ctx); err == nil {
			t.Fatal("a stuck read gave an answer")
		}
		failed++
	}
	for range 10 {
		if _, err := c.read(ctx); err == nil || reads.Load() != 1 {
			t.Fatalf("%d reads, %v", reads.Load(), err)
		}
	}
	close(release)
	c.wait()
	if _, err := c.read(context.Background()); err != nil || reads.Load() != 2 || failed == 0 {
		t.Errorf("%d reads, %v", reads.Load(), err)
	}
}
