package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// JSON writes the plan as one indented JSON object.
func (p Plan) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(p); err != nil {
		return fmt.Errorf("writing the plan: %w", err)
	}
	return nil
}

// Render writes the plan for a person: what there is, what it takes, and then, marked with "!", what will go wrong.
func (p Plan) Render(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	b.WriteString("Dry run: nothing was sent, no call was made.\n\n")
	line("keys", "%s", p.keysText())
	if p.Skipped > 0 {
		line("left out", "%s that the earlier report has as recalled", plural(p.Skipped, "row", "rows"))
	}
	apart := ""
	if p.Conversations > 0 {
		apart = ", and one conversation"
	}
	line("robots", "%s%s", group3(p.Robots), inConversations(p.Conversations))
	line("calls", "%s (up to %d keys a call, one robot a call%s)", group3(p.Calls), KeysPerCall, apart)
	line("time", "%s", p.timeText())
	if !p.Deadline.IsZero() {
		line("windows", "the first one still open closes at %s, in %s", p.Deadline.In(p.now.Location()).Format(time.RFC3339), duration(p.Deadline.Sub(p.now)))
	}
	for _, a := range p.Apps {
		line("app "+a.App, "%s", a.text())
	}
	b.WriteString(p.warnings())
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the plan: %w", err)
	}
	return nil
}

func (p Plan) keysText() string {
	s := group3(p.Keys)
	if p.Duplicates > 0 {
		s += fmt.Sprintf(" different ones in %s; %s there more than once and asked for once", plural(p.Rows, "row", "rows"), plural(p.Duplicates, "row is", "rows are"))
	}
	return s
}

func (p Plan) timeText() string {
	if p.Calls == 0 {
		return "none: there is nothing to call for"
	}
	limited := false
	for _, a := range p.Apps {
		limited = limited || a.Rate > 0
	}
	if !limited {
		return "as fast as the service answers: no rate is set"
	}
	return "about " + duration(time.Duration(p.Seconds*float64(time.Second))) + " at the configured rate"
}

func (a AppPlan) text() string {
	s := fmt.Sprintf("%s of %s%s: %s", plural(a.Keys, "key", "keys"), plural(a.Robots, "robot", "robots"), inConversations(a.Conversations), plural(a.Calls, "call", "calls"))
	if a.Rate > 0 {
		s += fmt.Sprintf(" at %s a second, about %s", number(a.Rate), duration(time.Duration(a.Seconds*float64(time.Second))))
	}
	if a.MonthlyCalls > 0 {
		whose := "month's %s calls"
		if a.Assumed {
			whose = "%s calls that the standard edition has a month"
		}
		s += fmt.Sprintf("; %s%% of the "+whose, percent(a.BudgetPercent), group3(a.MonthlyCalls))
	}
	return s
}

func inConversations(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return ", in 1 group or private chat"
	}
	return ", in " + group3(n) + " groups and private chats"
}

func (p Plan) warnings() string {
	var b strings.Builder
	warn := func(n int, one, more, format string) {
		if n > 0 {
			fmt.Fprintf(&b, "! "+format+"\n", plural(n, one, more))
		}
	}
	warn(p.Closed, "key", "keys", "%s: the window is closed already. No call is spent on them; they go to the dead letters.")
	warn(p.TooLate, "key", "keys", "%s: the window will close before their turn comes. A higher rate would help.")
	warn(p.WithoutSentAt, "key", "keys", "%s: the file does not say when they were sent; they are taken as sent now. Give --sent-at if you know it.")
	warn(p.BadLines, "bad line", "bad lines", "%s: nothing will be sent unless they are mended, or set aside with --skip-bad FILE.")
	if p.NoApp > 0 {
		fmt.Fprintf(&b, "! %s: no app is configured for %s (%s).\n", plural(p.NoApp, "key", "keys"),
			plural(p.NoAppRobots, "robot", "robots"), p.orphans())
	}
	for _, a := range p.Apps {
		if a.OverBudget > 0 {
			whose := "its month has"
			if a.Assumed {
				whose = "a month of the standard edition has"
			}
			fmt.Fprintf(&b, "! app %s: the calls are %s more than %s.\n", a.App, group3(a.OverBudget), whose)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n" + b.String()
}

func (p Plan) orphans() string {
	s := strings.Join(p.RobotsWithoutApp, ", ")
	if p.NoAppRobots > len(p.RobotsWithoutApp) {
		s += ", ..."
	}
	return s
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return group3(n) + " " + more
}

// group3 writes a number with a comma at each thousand.
func group3(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// percent rounds up, so that a share that is not nothing does not look like it.
func percent(f float64) string {
	if f < 10 {
		return strconv.FormatFloat(math.Abs(math.Ceil(f*10-1e-9))/10, 'f', 1, 64)
	}
	return strconv.FormatFloat(math.Ceil(f-1e-9), 'f', 0, 64)
}

// duration writes a length of time with the two units that matter.
func duration(d time.Duration) string {
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
