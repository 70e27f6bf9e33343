package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/tasks"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// robot makes a summary of keys by their age.
func robot(unknown int, byAge map[time.Duration]int) *keyfile.TargetSummary {
	r := &keyfile.TargetSummary{Keys: unknown, WithoutSentAt: unknown, Sent: map[int64]int{}}
	for age, n := range byAge {
		r.Sent[now.Add(-age).Unix()] += n
		r.Keys += n
	}
	return r
}

func summary(robots map[string]*keyfile.TargetSummary) keyfile.Summary {
	s := keyfile.Summary{Targets: map[keyfile.Target]*keyfile.TargetSummary{}}
	for name, r := range robots {
		s.Targets[targetOf(name)] = r
		s.Distinct += r.Keys
		s.WithoutSentAt += r.WithoutSentAt
	}
	s.Rows = s.Distinct
	return s
}

// targetOf reads "robot", or "robot group id".
func targetOf(name string) keyfile.Target {
	part := append(strings.Split(name, " "), "", "")
	return keyfile.Target{RobotCode: part[0], Conversation: tasks.Conversation{Chat: part[1], OpenConversationID: part[2]}}
}

func one(a App) func(string) (App, bool) { return func(string) (App, bool) { return a, true } }

func TestMake(t *testing.T) {
	t.Parallel()
	const h, m = time.Hour, time.Minute
	type keys = map[time.Duration]int
	type robots = map[string]*keyfile.TargetSummary
	tests := []struct {
		name   string
		app    App
		margin time.Duration
		robots robots

		calls, closed, late int
		seconds, percent    float64
		over                int
		deadline            time.Duration // from now; 0: none
	}{
		{name: "one full call", app: App{Rate: 20, MonthlyCalls: 5000}, robots: robots{"r": robot(0, keys{h: 20})},
			calls: 1, seconds: 0.05, percent: 0.02, deadline: 23 * h},
		{name: "one key more", app: App{Rate: 20, MonthlyCalls: 5000}, robots: robots{"r": robot(0, keys{h: 21})},
			calls: 2, seconds: 0.1, percent: 0.04, deadline: 23 * h},
		{name: "a call is of one robot", app: App{Rate: 20}, robots: robots{"r1": robot(0, keys{h: 10}), "r2": robot(0, keys{h: 10})},
			calls: 2, seconds: 0.1, deadline: 23 * h},
		{name: "a call is of one conversation", app: App{Rate: 20},
			robots: robots{"r": robot(0, keys{h: 10}), "r group c": robot(0, keys{h: 25}), "r group d": robot(0, keys{h: 1}), "r private c": robot(0, keys{h: 1})},
			calls:  5, seconds: 0.25, deadline: 23 * h},
		{name: "a call may hold keys of several moments", app: App{Rate: 20}, robots: robots{"r": robot(5, keys{h: 10, 2 * h: 3, 3 * h: 2})},
			calls: 1, seconds: 0.05, deadline: 21 * h},
		{name: "the demo", app: App{Rate: 20, MonthlyCalls: 5000}, robots: robots{"r": robot(20000, nil)},
			calls: 1000, seconds: 50, percent: 20, deadline: 24 * h},
		{name: "closed ones cost no call", app: App{Rate: 20}, robots: robots{"r": robot(0, keys{24 * h: 50, 30 * h: 7, 24*h - 5*m: 20})},
			calls: 1, closed: 57, seconds: 0.05, deadline: 5 * m},
		{name: "the margin closes them earlier", app: App{Rate: 20}, margin: 5 * m, robots: robots{"r": robot(0, keys{24*h - 5*m: 20})},
			closed: 20},
		// 1 call a second, 5 minutes: 300 calls, 6,000 keys; 1,000 keys come too late; the others follow after.
		{name: "too many for the time left", app: App{Rate: 1}, robots: robots{"r": robot(0, keys{24*h - 5*m: 7000, h: 40})},
			calls: 302, late: 1000, seconds: 302, deadline: 5 * m},
		// The first robot's keys take all of the five minutes, so that the second's, of the next bucket, have only the next five.
		{name: "one robot holds up another", app: App{Rate: 1}, robots: robots{"a": robot(0, keys{24*h - 5*m: 6000}), "b": robot(0, keys{24*h - 10*m: 6020})},
			calls: 600, late: 20, seconds: 600, deadline: 5 * m},
		{name: "earliest first, whatever the robot's name", app: App{Rate: 1}, robots: robots{"b": robot(0, keys{24*h - 5*m: 6000}), "a": robot(0, keys{24*h - 10*m: 6000})},
			calls: 600, seconds: 600, deadline: 5 * m},
		{name: "no rate", app: App{}, robots: robots{"r": robot(0, keys{24*h - 5*m: 1_000_000})}, calls: 50_000, deadline: 5 * m},
		{name: "over the month", app: App{Rate: 20, MonthlyCalls: 5000}, robots: robots{"r": robot(0, keys{h: 100_020})},
			calls: 5001, seconds: 250.05, percent: 100.02, over: 1, deadline: 23 * h},
		{name: "nothing", app: App{Rate: 20, MonthlyCalls: 5000}, robots: robots{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.app.Name = "app"
			p := Make(Input{Summary: summary(tt.robots), AppOf: one(tt.app), Now: now, Margin: tt.margin})
			var a AppPlan
			if len(p.Apps) == 1 {
				a = p.Apps[0]
			}
			if p.Calls != tt.calls || p.Closed != tt.closed || p.TooLate != tt.late || a.OverBudget != tt.over {
				t.Errorf("calls %d, closed %d, late %d, over %d; want %d, %d, %d, %d", p.Calls, p.Closed, p.TooLate, a.OverBudget, tt.calls, tt.closed, tt.late, tt.over)
			}
			if !near(p.Seconds, tt.seconds) || !near(a.BudgetPercent, tt.percent) {
				t.Errorf("%v s, %v %%; want %v, %v", p.Seconds, a.BudgetPercent, tt.seconds, tt.percent)
			}
			want := time.Time{}
			if tt.deadline > 0 {
				want = now.Add(tt.deadline)
			}
			if !p.Deadline.Equal(want) {
				t.Errorf("deadline %v, want %v", p.Deadline, want)
			}
			if a.Calls != p.Calls || a.Closed != p.Closed || a.TooLate != p.TooLate || a.Keys != p.Keys {
				t.Errorf("the one app's part is not the whole: %+v of %+v", a, p)
			}
		})
	}
}

func near(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }

// two apps, and a robot of none.
func several() Plan {
	s := summary(map[string]*keyfile.TargetSummary{
		"r1": robot(0, map[time.Duration]int{time.Hour: 12_345, 25 * time.Hour: 17}),
		"r2": robot(30, nil),
		"x1": robot(0, map[time.Duration]int{24*time.Hour - 5*time.Minute: 6020}),
		"s1": robot(1, nil),
	})
	s.Rows, s.Duplicates, s.BadLines, s.Skipped = s.Distinct+5, 5, 1, 8
	return Make(Input{Summary: s, Now: now, AppOf: func(r string) (App, bool) {
		switch r[0] {
		case 'r':
			return App{Name: "main", Rate: 20, MonthlyCalls: 500}, true
		case 'x':
			return App{Name: "events", Rate: 1}, true
		}
		return App{}, false
	}})
}

func TestRender(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	if err := several().Render(&buf); err != nil {
		t.Fatal(err)
	}
	want := `Dry run: nothing was sent, no call was made.

keys        18,413 different ones in 18,418 rows; 5 rows are there more than once and asked for once
left out    8 rows that the earlier report has as recalled
robots      4
calls       920 (up to 20 keys a call, one robot a call)
time        about 5 min 0 s at the configured rate
windows     the first one still open closes at 2026-11-23T12:05:00Z, in 5 min 0 s
app events  6,020 keys of 1 robot: 300 calls at 1 a second, about 5 min 0 s
app main    12,392 keys of 2 robots: 620 calls at 20 a second, about 31 s; 124% of the month's 500 calls

! 17 keys: the window is closed already. No call is spent on them; they go to the dead letters.
! 20 keys: the window will close before their turn comes. A higher rate would help.
! 31 keys: the file does not say when they were sent; they are taken as sent now. Give --sent-at if you know it.
! 1 bad line: nothing will be sent unless they are mended, or set aside with --skip-bad FILE.
! 1 key: no app is configured for 1 robot (s1).
! app main: the calls are 120 more than its month has.
`
	if got := buf.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	if err := several().JSON(&buf); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"keys": 18413.0, "calls": 920.0, "windowClosed": 17.0, "windowTooLate": 20.0, "withoutSentAt": 31.0, "withoutApp": 1.0,
		"duplicates": 5.0, "badLines": 1.0, "skipped": 8.0, "robots": 4.0, "seconds": 300.0, "deadline": "2026-11-23T12:05:00Z",
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	buf.Reset()
	if err := (Plan{}).JSON(&buf); err != nil || strings.Contains(buf.String(), "0001") {
		t.Errorf("the empty plan: %v %s", err, buf.String())
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWriteFails(t *testing.T) {
	t.Parallel()
	for _, err := range []error{several().Render(full{}), several().JSON(full{})} {
		if err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("got %v", err)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "0 s", 59 * time.Second: "59 s", 59*time.Second + 1e6: "1 min 0 s", time.Hour: "1 h 0 min",
		23*time.Hour + 59*time.Minute + 59*time.Second: "23 h 59 min", 49 * time.Hour: "2 d 1 h", 50 * time.Millisecond: "1 s"} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) is %q, want %q", d, got, want)
		}
	}
	for f, want := range map[float64]string{0: "0.0", 0.02: "0.1", 0.1: "0.1", 9.99: "10.0", 10: "10", 100.02: "101"} {
		if got := percent(f); got != want {
			t.Errorf("percent(%v) is %q, want %q", f, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := group3(n); got != want {
			t.Errorf("group3(%d) is %q, want %q", n, got, want)
		}
	}
}

func TestConversationsAreTold(t *testing.T) {
	t.Parallel()
	s := summary(map[string]*keyfile.TargetSummary{
		"r": robot(0, map[time.Duration]int{time.Hour: 30}), "r group c": robot(0, map[time.Duration]int{time.Hour: 3}), "r private c": robot(0, map[time.Duration]int{time.Hour: 1}),
	})
	p := Make(Input{Summary: s, Now: now, AppOf: one(App{Name: "main", Rate: 20})})
	if p.Robots != 1 || p.Conversations != 2 || p.Calls != 4 || p.Apps[0].Robots != 1 || p.Apps[0].Conversations != 2 {
		t.Errorf("%+v", p)
	}
	var buf bytes.Buffer
	if err := p.Render(&buf); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"robots      1, in 2 groups and private chats\n", "one robot a call, and one conversation", "34 keys of 1 robot, in 2 groups and private chats: 4 calls"} {
		if !strings.Contains(buf.String(), want) {
			t.Errorf("%q is not in\n%s", want, buf.String())
		}
	}
}
