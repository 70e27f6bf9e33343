package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

var progressStart = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// onScreen plays what was written on a terminal that is wide enough, and returns the lines that stand there at the end.
func onScreen(t *testing.T, text string) []string {
	t.Helper()
	lines, row, col := []string{""}, 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\r':
			col = 0
		case '\n':
			row, col = row+1, 0
			if row == len(lines) {
				lines = append(lines, "")
			}
		case 0x1b:
			var n int
			if strings.HasPrefix(text[i:], "\x1b[J") {
				lines = append(lines[:row], lines[row][:col])
				i += 2
			} else if _, err := fmt.Sscanf(text[i:], "\x1b[%dA", &n); err == nil && n <= row {
				row -= n
				i += len(fmt.Sprintf("\x1b[%dA", n)) - 1
			} else {
				t.Fatalf("not a sequence that belongs here: %q", text[i:min(len(text), i+8)])
			}
		default:
			if col != len(lines[row]) {
				t.Fatalf("%q is written over %q", text[i:min(len(text), i+8)], lines[row])
			}
			lines[row] += string(c)
			col++
		}
	}
	return lines
}

func shot(n int64, after time.Duration) snapshot {
	now := progressStart.Add(after)
	return snapshot{total: 20_000, recalled: n, dead: n / 100, calls: n / 20, now: now, closes: now.Add(90 * time.Minute)}
}

func TestBarFitsEveryWidth(t *testing.T) {
	t.Parallel()
	s := shot(10_000, 0)
	s.rate = 400
	for width := 12; width <= 200; width++ {
		text := ""
		for _, line := range s.frame(width) {
			if len(line) >= width {
				t.Errorf("%d columns: a line of %d: %q", width, len(line), line)
			}
			text += line + ", "
		}
		if width >= 60 {
			for _, want := range []string{" 50% [==", "10,100 of 20,000, 25 s left", "10,000 recalled", "100 dead", "9,900 waiting", "500 calls", "400 keys/s", "first window closes in 1 h 30 min"} {
				if !strings.Contains(text, want) {
					t.Errorf("%d columns: no %q in %q", width, want, text)
				}
			}
		}
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	for done, want := range map[int64]string{
		0: "  0% [          ]", 5: "  5% [          ]", 50: " 50% [====>     ]", 99: " 99% [========> ]", 100: "100% [==========]", 120: "100% [==========]",
	} {
		if got := barOf(done, 100, 10); got != want {
			t.Errorf("%d: %q, want %q", done, got, want)
		}
	}
	if got := barOf(1, 3, 2); got != " 33%" {
		t.Errorf("without room: %q", got)
	}
	if got := barOf(0, 0, 10); got != "  0% [          ]" {
		t.Errorf("of nothing: %q", got)
	}
}

// TestLinesAboveTheBar: whatever is written meanwhile stands above the bar, whole, and the bar once.
func TestLinesAboveTheBar(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &progress{w: &out, mode: progressBar, width: func() int { return 60 }}
	p.note("begins")
	for i := range 10 {
		p.update(shot(int64(i)*2000, time.Duration(i)*time.Second))
		if i%3 == 0 {
			if _, err := fmt.Fprintf(p, "a warning %d\n", i); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.finish()
	p.note("ends")
	got := onScreen(t, out.String())
	want := []string{
		"recall: begins", "a warning 0", "a warning 3", "a warning 6", "a warning 9",
		" 90% [=====================>   ] 18,180 of 20,000, 1 s left",
		"18,000 recalled, 180 dead, 1,820 waiting, 900 calls",
		"2,020 keys/s, first window closes in 1 h 30 min",
		"recall: ends", "",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("on the screen:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestBarOnANarrowedTerminal: the terminal has broken the lines that stood there, and each piece is erased.
func TestBarOnANarrowedTerminal(t *testing.T) {
	t.Parallel()
	width := 100
	p := &progress{w: &bytes.Buffer{}, mode: progressBar, width: func() int { return width }}
	p.update(shot(1000, 0))
	rows := len(p.drawn)
	if got, want := p.eraser(), fmt.Sprintf("\r\x1b[%dA\x1b[J", rows-1); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	width = 20
	broken := 0
	for _, line := range p.drawn {
		broken += (len(line) + 19) / 20
	}
	if got, want := p.eraser(), fmt.Sprintf("\r\x1b[%dA\x1b[J", broken-1); got != want || broken <= rows {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPlainLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &progress{w: &out, mode: progressPlain, width: func() int { return 80 }}
	for i := range 120 { // a minute, twice a second
		p.update(shot(int64(i)*100, time.Duration(i)*500*time.Millisecond))
	}
	p.finish()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 12 {
		t.Fatalf("%d lines in a minute, want one every 5 s and one at the end:\n%s", len(lines), &out)
	}
	if want := "recall: 1,010 of 20,000 keys done, 1,000 recalled, 10 dead, 18,990 waiting, 50 calls, 202 keys/s, first window closes in 1 h 30 min, 1 min 35 s left"; lines[0] != want {
		t.Errorf("%q\nwant\n%q", lines[0], want)
	}
	p.finish()
	if n := strings.Count(out.String(), "\n"); n != 12 {
		t.Errorf("%d lines after a second end", n)
	}
}

func TestProgressModes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode, term string
		terminal   bool
		want       string
	}{
		{progressAuto, "xterm", true, progressBar}, {progressAuto, "dumb", true, progressPlain}, {progressAuto, "xterm", false, progressPlain},
		{progressBar, "", false, progressBar}, {progressPlain, "xterm", true, progressPlain}, {progressNone, "xterm", true, progressNone},
	} {
		a := &app{Env: Env{Environ: []string{"TERM=" + c.term}, IsTerminal: func(any) bool { return c.terminal }}.withDefaults()}
		if p, err := a.newProgress(c.mode); err != nil || p.mode != c.want {
			t.Errorf("%+v: %v, %v", c, p, err)
		}
	}
	var out bytes.Buffer
	p := &progress{w: &out, mode: progressNone, width: func() int { return 80 }}
	p.update(shot(5, time.Minute))
	p.finish()
	if out.Len() != 0 {
		t.Errorf("none, but %q", out.String())
	}
}

func TestSnapshotSaysOnlyWhatItKnows(t *testing.T) {
	t.Parallel()
	s := snapshot{total: 1000, dead: 10, calls: -1, rate: 5, now: progressStart}
	if got := s.plain(); got != "10 of 1,000 keys done, 0 recalled, 10 dead, 990 waiting, 5 keys/s" {
		t.Errorf("%q", got)
	}
	s.closes = progressStart.Add(-time.Second)
	if got := s.plain(); !strings.Contains(got, "the first window has closed") {
		t.Errorf("%q", got)
	}
	s = snapshot{total: 1000, submitted: 500, submitting: true, calls: -1, rate: 100}
	if got := s.plain(); got != "500 of 1,000 keys are in the queue, 5 s left" {
		t.Errorf("%q", got)
	}
}

func TestNumbersForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0 s", time.Millisecond: "1 s", 59 * time.Second: "59 s", time.Minute: "1 min 0 s", 90 * time.Minute: "1 h 30 min", 49 * time.Hour: "2 d 1 h",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%v: %q", d, got)
		}
	}
	for in, want := range map[string]string{"keys.csv": "keys.csv", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$x": "'$x'"} {
		if got := quoteArg(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
