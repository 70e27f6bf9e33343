package cli

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

// snapshot is how a job stands at one moment.
type snapshot struct {
	total          int // distinct keys to be recalled
	submitted      int
	recalled, dead int64
	calls          int64     // -1: not known here
	rate           float64   // keys a second lately
	closes         time.Time // when the first window closes among the keys that wait, as far as the file tells; zero: not known
	now            time.Time
	submitting     bool // the job is to hand keys over, not to recall them
}

func (s snapshot) done() int64 {
	if s.submitting {
		return int64(s.submitted)
	}
	return s.recalled + s.dead
}

func (s snapshot) waiting() int64 { return max(0, int64(s.total)-s.done()) }

// left says how long the rest takes at the present rate; empty where nothing moves.
func (s snapshot) left() string {
	if s.rate <= 0 || s.waiting() == 0 || (!s.submitting && s.recalled == 0) {
		return ""
	}
	seconds := float64(s.waiting()) / s.rate
	if seconds > 30*24*3600 {
		return ""
	}
	return roughly(time.Duration(seconds*float64(time.Second))) + " left"
}

// segments are the parts of what is said beside the bar, the more important first.
func (s snapshot) segments() []string {
	if s.submitting {
		return nil
	}
	parts := []string{
		thousands(s.recalled) + " recalled",
		thousands(s.dead) + " dead",
		thousands(s.waiting()) + " waiting",
	}
	if s.calls >= 0 {
		parts = append(parts, counted(s.calls, "call", "calls"))
	}
	parts = append(parts, counted(int64(math.Round(s.rate)), "key/s", "keys/s"))
	if !s.closes.IsZero() && s.waiting() > 0 {
		if d := s.closes.Sub(s.now); d > 0 {
			parts = append(parts, "first window closes in "+roughly(d))
		} else {
			parts = append(parts, "the first window has closed")
		}
	}
	return parts
}

// plain is one line that says everything, for logs.
func (s snapshot) plain() string {
	if s.submitting {
		return strings.Join(nonEmpty(fmt.Sprintf("%s of %s keys are in the queue", thousands(s.submitted), thousands(s.total)), s.left()), ", ")
	}
	parts := append([]string{fmt.Sprintf("%s of %s keys done", thousands(s.done()), thousands(s.total))}, s.segments()...)
	return strings.Join(nonEmpty(append(parts, s.left())...), ", ")
}

// frame is what stands on a terminal of this width: the bar, and below it as many lines as the rest needs. No line is as wide as
// the terminal, so that none wraps.
func (s snapshot) frame(width int) []string {
	width = max(width-1, 10)
	tail := strings.Join(nonEmpty(fmt.Sprintf(" %s of %s", thousands(s.done()), thousands(s.total)), s.left()), ", ")
	bar := barOf(s.done(), int64(s.total), min(50, width-len(tail)-7))
	lines := []string{clipTo(bar+tail, width)}
	line := ""
	for _, part := range s.segments() {
		switch {
		case line == "":
			line = part
		case len(line)+2+len(part) <= width:
			line += ", " + part
		default:
			lines = append(lines, clipTo(line, width))
			line = part
		}
	}
	if line != "" {
		lines = append(lines, clipTo(line, width))
	}
	return lines
}

// barOf draws the percentage and a bar of this many cells, 7 characters more. Where there is no room, it leaves the bar away.
func barOf(done, total int64, cells int) string {
	total = max(total, 1)
	done = min(done, total)
	percent := fmt.Sprintf("%3d%%", done*100/total)
	if cells < 5 {
		return percent
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(io.Discard),
		progressbar.OptionSetWidth(cells),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}),
	)
	// The first view of a bar is always drawn, later ones where the percentage has changed.
	if err := bar.RenderBlank(); err != nil {
		return percent
	}
	if err := bar.Set64(done); err != nil {
		return percent
	}
	// Only the bar itself is taken: what stands around it depends on the terminal that the library believes to write to.
	drawn := bar.String()
	from, to := strings.Index(drawn, "["), strings.LastIndex(drawn, "]")
	if from < 0 || to < from {
		return percent
	}
	return percent + " " + drawn[from:to+1]
}

func clipTo(s string, width int) string {
	if len(s) > width {
		return s[:width]
	}
	return s
}

func nonEmpty(parts ...string) []string {
	out := parts[:0:0]
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

type integer interface{ ~int | ~int64 }

// thousands writes a number with a comma at each thousand.
func thousands[N integer](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted writes a number with its noun.
func counted[N integer](n N, one, more string) string {
	return thousands(n) + " " + pick(n == 1, one, more)
}

// roughly writes a length of time with the two units that matter, rounded up.
func roughly(d time.Duration) string {
	s := int64(math.Ceil(d.Seconds() - 1e-9))
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
}

// meter measures keys a second over the last moments.
type meter struct {
	at   []time.Time
	done []int64
}

// meterSpan is how far back the rate looks: long enough to be calm, short enough to show a stop.
const meterSpan = 10 * time.Second

// meterWarmUp is how long it says nothing at first, rather than something wild.
const meterWarmUp = time.Second

func (m *meter) add(now time.Time, done int64) float64 {
	m.at, m.done = append(m.at, now), append(m.done, done)
	for len(m.at) > 2 && now.Sub(m.at[1]) >= meterSpan {
		m.at, m.done = m.at[1:], m.done[1:]
	}
	span := now.Sub(m.at[0])
	if span < meterWarmUp {
		return 0
	}
	return float64(done-m.done[0]) / span.Seconds()
}
