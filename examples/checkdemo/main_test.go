package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dingrecall/upstream/simulator"
)

// made is a run that is as it should be: 40 good keys, and one of each that cannot be recalled.
type made struct {
	file, report, output []string
}

func newMade() *made {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	m := &made{
		file:   []string{"processQueryKey,robotCode,sentAt"},
		report: []string{"processQueryKey,robotCode,state,code,message"},
		output: []string{
			"40 of 44 keys recalled", "simulator: calls=3 keys=43 distinct=43 repeated=0 overlapping=0 max_batch=20 max_calls_per_second=3 throttled=0",
		},
	}
	add := func(n int, kind simulator.Kind, sentAt, state, code string) {
		k := simulator.MakeKey(1, uint64(n), kind, now)
		m.file = append(m.file, k+",ding1,"+sentAt)
		m.report = append(m.report, fmt.Sprintf("%s,ding1,%s,%s,", k, state, code))
	}
	for n := range 40 {
		add(n, simulator.Good, "2026-11-20T12:00:00Z", "recalled", "")
	}
	add(40, simulator.Expired, "2026-11-19T11:00:00Z", "dead", "window.closed")
	add(41, simulator.Expired, "", "dead", "robot.processQueryKey.expired")
	add(42, simulator.Unknown, "2026-11-20T12:00:00Z", "dead", "invalid.processQueryKey")
	add(43, simulator.Foreign, "2026-11-20T12:00:00Z", "dead", "not.allowed.robotCode")
	m.file = append(m.file, m.file[1]) // a duplicate
	return m
}

func (m *made) check(t *testing.T) (string, error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, lines []string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var out strings.Builder
	err := run([]string{"-file", write("file.csv", m.file), "-report", write("report.csv", m.report), "-output", write("output.txt", m.output), "-rate", "50"}, &out)
	return out.String(), err
}

func TestGoodRun(t *testing.T) {
	t.Parallel()
	out, err := newMade().check(t)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "in all                                   44         44\n") || !strings.Contains(out, "Every key is accounted for") {
		t.Errorf("it says:\n%s", out)
	}
}

// Each case spoils the run in one way, and must be caught.
func TestSpoiledRun(t *testing.T) {
	t.Parallel()
	line := func(old, with string) func(*made) {
		return func(m *made) { m.output[1] = strings.Replace(m.output[1], old, with, 1) }
	}
	cases := map[string]struct {
		spoil func(*made)
		want  string
	}{
		"a row missing":    {func(m *made) { m.report = m.report[:len(m.report)-1] }, "has no row in the report"},
		"a row twice":      {func(m *made) { m.report = append(m.report, m.report[1]) }, "has 2 rows in the report"},
		"a wrong code":     {func(m *made) { m.report[44] = strings.Replace(m.report[44], "not.allowed", "other", 1) }, `came to "other.robotCode"`},
		"a good key dead":  {func(m *made) { m.report[1] = strings.Replace(m.report[1], "recalled,", "dead,system.error", 1) }, `came to "system.error"`},
		"a key waiting":    {func(m *made) { m.report[1] = strings.Replace(m.report[1], "recalled", "waiting", 1) }, `came to "waiting"`},
		"a foreign row":    {func(m *made) { m.report = append(m.report, "abc,ding1,recalled,,") }, "is in the report and not in the file"},
		"no report":        {func(m *made) { m.report = m.report[:1] }, "and 39 more"},
		"no file":          {func(m *made) { m.file = m.file[:1] }, "has no keys"},
		"not a made key":   {func(m *made) { m.file[1] = "abc,ding1," }, "is not foretold"},
		"a column missing": {func(m *made) { m.report[0] = "processQueryKey,robotCode,status,code,message" }, `no column "state"`},
		"no line":          {func(m *made) { m.output = m.output[:1] }, `no line that begins with "simulator:"`},
		"no number":        {line("calls=3", "calls=many"), `"calls=many"`},
		"no rate":          {line("max_calls_per_second=3 ", ""), "no max_calls_per_second"},
		"too many calls":   {line("calls=3", "calls=4"), "calls is 4, and not 3 to 3"},
		"too few calls":    {line("calls=3", "calls=2"), "calls is 2, and not 3 to 3"},
		"a call in vain":   {line("distinct=43", "distinct=44"), "distinct is 44"},
		"a key twice":      {line("repeated=0", "repeated=1"), "repeated is 1"},
		"overlapping":      {line("overlapping=0", "overlapping=1"), "overlapping is 1"},
		"a large call":     {line("max_batch=20", "max_batch=21"), "max_batch is 21"},
		"too fast":         {line("max_calls_per_second=3", "max_calls_per_second=61"), "max_calls_per_second is 61, and not 1 to 60"},
		"throttled":        {line("throttled=0", "throttled=2"), "throttled is 2"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMade()
			c.spoil(m)
			_, err := m.check(t)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, and not one that says %q", err, c.want)
			}
		})
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	const needed = "-file, -report, -output and -rate are all needed, and nothing else"
	for args, want := range map[string]string{
		"":                                      needed,
		"-report b -output c -rate 1":           needed,
		"-file a -output c -rate 1":             needed,
		"-file a -report b -rate 1":             needed,
		"-file a -report b -output c":           needed,
		"-file a -report b -output c -rate 0":   needed,
		"-file a -report b -output c -rate 1 d": needed,
		"-nonsense":                             "not defined",
	} {
		if err := run(strings.Fields(args), &strings.Builder{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, and not one that says %q", args, err, want)
		}
	}
}
