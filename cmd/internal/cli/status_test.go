package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestStatusOfNothing: an empty Redis is no error, and no secrets are needed to look.
func TestStatusOfNothing(t *testing.T) {
	t.Parallel()
	_, environ := queueOnly(t)
	got := run(t, environ, "status")
	if got.code != ExitOK || got.err != "" || !strings.HasPrefix(got.out, "no keys yet\n\nQUEUE ") || !strings.HasSuffix(got.out, "\nno worker is running\n") {
		t.Errorf("%+v", got)
	}
	got = run(t, environ, "status", "--json")
	var view struct {
		At      time.Time
		Workers *int
		Apps    []any
		Queues  []struct{ Queue string }
	}
	if err := json.Unmarshal([]byte(got.out), &view); err != nil || view.At.IsZero() || view.Workers == nil || view.Apps == nil || len(view.Queues) != 5 {
		t.Errorf("%v in\n%s", err, got.out)
	}
	got = run(t, environ, "status", "--key", "K", "--key", "L", "--json")
	if got.out != `{"key":"K","robotCode":"","state":"unknown","attempts":0}`+"\n"+`{"key":"L","robotCode":"","state":"unknown","attempts":0}`+"\n" {
		t.Errorf("%+v", got)
	}
	got = run(t, environ, "status", "--key", "K")
	if got.code != ExitOK || !strings.HasPrefix(got.out, "key    K\nstate  unknown\n") {
		t.Errorf("%+v", got)
	}
}

func TestStatusErrors(t *testing.T) {
	t.Parallel()
	_, environ := queueOnly(t)
	for name, c := range map[string]struct {
		environ []string
		args    []string
		code    int
		want    string
	}{
		"no redis":         {[]string{"RECALL_REDIS_ADDR=127.0.0.1:1"}, nil, ExitFailure, "start it or pass --redis"},
		"unknown app":      {environ, []string{"--app", "nope"}, ExitBadInput, `this Redis has no app "nope"`},
		"hectic":           {environ, []string{"--watch", "--interval", "1ms"}, ExitBadInput, "--interval: 1ms is less than 100ms"},
		"key and incident": {environ, []string{"--key", "K", "--incident", "i"}, ExitBadInput, "leave out --app and --incident"},
		"argument":         {environ, []string{"inc"}, ExitBadInput, "takes no arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := run(t, c.environ, append([]string{"status"}, c.args...)...)
			if got.code != c.code || !strings.Contains(got.err, c.want) || strings.Count(got.err, "\n") != 1 || got.out != "" {
				t.Errorf("%+v, want %d and %q", got, c.code, c.want)
			}
		})
	}
}

// TestStatusWatch: it looks again and again until it is stopped, outlives a Redis that goes away, and says so.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	_, environ := queueOnly(t)
	w := launch(t, environ, "status", "--watch", "--json", "--interval", "100ms")
	eventually(t, "three views", func() bool { return strings.Count(w.out.String(), "\n") >= 3 })
	if code := w.stop(); code != ExitOK || w.err.String() != "" {
		t.Errorf("status %d, %s", code, w.err.String())
	}
	for line := range strings.Lines(w.out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func rateOf(f float64) *float64 { return &f }

func TestStatusView(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	view := statusView{
		At: now, Workers: 2,
		Apps: []statusApp{
			{App: "main", Rate: rateOf(20), RateShare: 0.5, Slots: 7, Backoff: 2, Later: 1, Outbox: 3, LastRecall: timeAt(now.Add(-2 * time.Second)),
				Total: statusCounts{12_350, 2345, 20, 9900, 84, 1},
				Groups: []statusGroup{
					{Incident: "", RobotCode: "dingone", statusCounts: statusCounts{1000, 995, 0, 5, 0, 0}},
					{Incident: "coupon", RobotCode: "dingone", statusCounts: statusCounts{350, 350, 0, 0, 0, 0}},
					{Incident: "coupon", RobotCode: "dingue4kfzdxbyn0pjqd", statusCounts: statusCounts{11_000, 1000, 20, 9895, 84, 1}},
				}},
			{App: "held", RateShare: 1, Hold: &statusHold{"invalid.client", "check the key", now.Add(-90 * time.Second), now.Add(25 * time.Second)}},
			{App: "free", Rate: rateOf(0), RateShare: 1,
				Robots: []robotHold{{RobotCode: "dingbad", statusHold: statusHold{"no.permission", "ask for it", now.Add(-time.Minute), now.Add(-time.Second)}}}},
			{App: "resting", Rate: rateOf(20), RateShare: 0.5, RestUntil: timeAt(now.Add(40 * time.Second))},
		},
		Queues: []statusQueue{{Queue: "recall", Pending: 1234, Paused: true}, {Queue: "recall-dead", Scheduled: 7}},
	}
	var b bytes.Buffer
	if err := view.print(&b); err != nil {
		t.Fatal(err)
	}
	const want = `app main: throttled to 50% of 20 calls/s, 7 slots busy (2 backing off), 1 key waits for later, last recall 2 s ago
  3 dead letters on the way to the queue recall-dead

INCIDENT AND ROBOT      WAITING  BOUND  RECALLED  DEAD  CANCELLED   TOTAL   DONE
(no incident)
  dingone                   995      0         5     0          0   1,000   0.5%
coupon
  dingone                   350      0         0     0          0     350   0.0%
  dingue4kfzdxbyn0pjqd    1,000     20     9,895    84          1  11,000  90.7%
all                       2,345     20     9,900    84          1  12,350  80.8%

app held: ON HOLD for 1 min 30 s: invalid.client: check the key (next try in 25 s)
app free: no rate limit, idle
  robot dingbad: ON HOLD for 1 min 0 s: no.permission: ask for it (the next try is due)
app resting: rests for 40 s, the service said that it was too much, throttled to 50% of 20 calls/s, idle

QUEUE        PENDING  ACTIVE  SCHEDULED  RETRY  ARCHIVED
recall         1,234       0          0      0         0  paused
recall-dead        0       0          7      0         0

2 workers are running
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func timeAt(t time.Time) *time.Time { return &t }

// TestDoneRoundsDown: 100 % is said only when nothing is left.
func TestDoneRoundsDown(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]statusCounts{
		"-": {}, "99.9%": {Total: 1_000_000, Waiting: 1, Recalled: 999_999}, "100.0%": {Total: 3, Recalled: 1, Dead: 1, Cancelled: 1}, "0.0%": {Total: 1, Bound: 1},
	} {
		if cells := c.cells(); cells[len(cells)-1] != want {
			t.Errorf("%+v: %v, want %s", c, cells, want)
		}
	}
}

func TestClipView(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		view          string
		height, width int
		want          string
	}{
		"fits":         {"a\nb\n", 24, 80, "a\nb\n"},
		"wide table":   {"one  two  three\n", 24, 10, "one  two …\n"},
		"wide words":   {"one two three four\n", 24, 9, "one two\nthree\nfour\n"},
		"one word":     {"onetwothreefour\n", 24, 5, "onetwothreefour\n"},
		"exact":        {"one two\n", 24, 7, "one two\n"},
		"not ASCII":    {"ééé ééé ééé\n", 24, 7, "ééé ééé\nééé\n"},
		"too many":     {"1\n2\n3\n4\n5\n", 5, 80, "1\n2\n3\n... and 2 lines; look closer with --app, --incident, --robot or --conversation\n"},
		"just enough":  {"1\n2\n3\n", 5, 80, "1\n2\n3\n"},
		"no such size": {"1\n2\n3\n", 0, 80, "1\n2\n3\n"},
	} {
		if got := clipView(c.view, c.height, c.width); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
