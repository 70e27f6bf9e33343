package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Ways to show progress, as --progress names them.
const (
	progressAuto  = "auto" // bar on a terminal, plain elsewhere
	progressBar   = "bar"
	progressPlain = "plain"
	progressNone  = "none"
)

// Pauses between two views.
const (
	plainEvery = 5 * time.Second
	frameEvery = 200 * time.Millisecond
)

// progress shows how a job stands, on standard error. It is also the writer for everything else that goes there meanwhile, so
// that a line of a log never lands in the middle of the bar. It is safe for concurrent use.
type progress struct {
	w     io.Writer
	mode  string // never auto
	width func() int

	mu      sync.Mutex // guards what follows, and the order of writes
	drawn   []string   // the frame that stands on the terminal
	last    snapshot
	fresh   bool // last was not shown yet
	shownAt time.Time
	meter   meter
}

// newProgress makes the view that a --progress flag asks for.
func (a *app) newProgress(mode string) (*progress, error) {
	switch mode {
	case progressAuto:
		mode = progressPlain
		if a.IsTerminal(a.Err) && a.Getenv("TERM") != "dumb" {
			mode = progressBar
		}
	case progressBar, progressPlain, progressNone:
	default:
		return nil, badInput(fmt.Errorf("--progress: %q is not known; choose one of auto, bar, plain, none", mode))
	}
	return &progress{w: a.Err, mode: mode, width: func() int { return terminalWidth(a.Err) }}, nil
}

// terminalWidth is the width of the terminal that w is, or 80.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// update shows a snapshot, if it is time to.
func (p *progress) update(s snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.rate = p.meter.add(s.now, s.done())
	p.last, p.fresh = s, true
	switch p.mode {
	case progressBar:
		if s.now.Sub(p.shownAt) >= frameEvery {
			p.shownAt = s.now
			p.draw()
		}
	case progressPlain:
		if p.shownAt.IsZero() {
			p.shownAt = s.now // the first line comes after a pause, when there is something to tell
		}
		if s.now.Sub(p.shownAt) >= plainEvery {
			p.shownAt = s.now
			p.line()
		}
	}
}

// finish shows the last snapshot for good; later updates begin a new view.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.last.total == 0:
	case p.mode == progressBar:
		p.draw()
		_, _ = io.WriteString(p.w, "\n")
	case p.mode == progressPlain && p.fresh:
		p.line()
	}
	p.drawn, p.last, p.shownAt, p.meter = nil, snapshot{}, time.Time{}, meter{}
}

// note writes a line above the bar.
func (p *progress) note(format string, args ...any) {
	_, _ = fmt.Fprintf(p, "recall: "+format+"\n", args...)
}

// Write passes on whole lines, with the bar out of their way.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.drawn) == 0 {
		return p.w.Write(b)
	}
	p.erase()
	n, err := p.w.Write(b)
	p.draw()
	return n, err
}

// Sync is for the logger.
func (p *progress) Sync() error { return nil }

func (p *progress) line() {
	_, _ = fmt.Fprintf(p.w, "recall: %s\n", p.last.plain())
	p.fresh = false
}

// draw puts the frame in the place of the one before it.
func (p *progress) draw() {
	frame := p.last.frame(p.width())
	_, _ = io.WriteString(p.w, p.eraser()+strings.Join(frame, "\n"))
	p.drawn = frame
}

func (p *progress) erase() {
	_, _ = io.WriteString(p.w, p.eraser())
	p.drawn = nil
}

// eraser takes the cursor to the beginning of the frame and clears all below. A terminal that has become narrower has broken the
// lines meanwhile, so that they are counted anew.
func (p *progress) eraser() string {
	if len(p.drawn) == 0 {
		return ""
	}
	width := max(p.width(), 1)
	rows := -1
	for _, line := range p.drawn {
		rows += max(1, (len(line)+width-1)/width)
	}
	if rows == 0 {
		return "\r\x1b[J"
	}
	return fmt.Sprintf("\r\x1b[%dA\x1b[J", rows)
}
