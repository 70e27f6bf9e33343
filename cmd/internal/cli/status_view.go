package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/config"
	"dingrecall/tasks"
	"dingrecall/worker"
)

// The shape of status --json. It is part of the program's interface, described in docs/operations.md: fields may be added, and none
// changes its meaning.
type (
	statusView struct {
		At      time.Time     `json:"at"`
		Workers int           `json:"workers"`
		Apps    []statusApp   `json:"apps"`
		Queues  []statusQueue `json:"queues"`

		filtered bool
	}
	statusApp struct {
		App        string        `json:"app"`
		Hold       *statusHold   `json:"hold"`
		Robots     []robotHold   `json:"heldRobots"`
		RestUntil  *time.Time    `json:"restUntil"` // nobody calls until then, since the service said that it was too much
		Rate       *float64      `json:"rate"`      // configured calls a second; null where this configuration does not have the app
		RateShare  float64       `json:"rateShare"`
		Slots      int           `json:"slots"`
		Backoff    int           `json:"backoff"`
		Later      int64         `json:"later"`
		Outbox     int64         `json:"outbox"`
		LastRecall *time.Time    `json:"lastRecall"`
		Budget     *statusBudget `json:"budget"`   // null where no call was counted yet
		Forecast   *statusFuture `json:"forecast"` // null where no worker has told what the app can do
		Total      statusCounts  `json:"total"`
		Groups     []statusGroup `json:"groups"`
	}
	statusHold struct {
		Code      string    `json:"code"`
		Message   string    `json:"message"`
		Since     time.Time `json:"since"`
		NextProbe time.Time `json:"nextProbe"`
	}
	robotHold struct {
		RobotCode string `json:"robotCode"`
		tasks.Conversation
		statusHold
	}
	statusGroup struct {
		Incident  string `json:"incident"`
		RobotCode string `json:"robotCode"`
		tasks.Conversation
		statusCounts
	}
	statusCounts struct {
		Total     int64 `json:"total"`
		Waiting   int64 `json:"waiting"`
		Bound     int64 `json:"bound"`
		Recalled  int64 `json:"recalled"`
		Dead      int64 `json:"dead"`
		Cancelled int64 `json:"cancelled"`
	}
	statusQueue struct {
		Queue     string `json:"queue"`
		Pending   int    `json:"pending"`
		Active    int    `json:"active"`
		Scheduled int    `json:"scheduled"`
		Retry     int    `json:"retry"`
		Archived  int    `json:"archived"`
		Paused    bool   `json:"paused"`
	}
)

// readStatus reads what the flags ask for.
func (a *app) readStatus(ctx context.Context, cfg *config.Config, rdb *redis.Client, insp *worker.Inspector, f statusFlags) (statusView, error) {
	st, err := insp.Status(ctx)
	if err != nil {
		return statusView{}, err
	}
	workers, err := workersAt(rdb)
	if err != nil {
		return statusView{}, err
	}
	view := statusView{At: a.Now(), Workers: workers, Apps: []statusApp{}, filtered: f.app != "" || f.incident != "" || f.robot != "" || f.conversation != ""}
	for _, app := range st.Apps {
		if f.app != "" && f.app != app.App {
			continue
		}
		shown := viewApp(app, f)
		outlook, err := insp.Forecast(ctx, app)
		if err != nil {
			return statusView{}, err
		}
		shown.Budget, shown.Forecast = viewBudget(app.Budget), viewForecast(outlook, f.incident)
		for i := range cfg.Apps {
			if cfg.Apps[i].Name == app.App {
				shown.Rate = &cfg.Apps[i].Rate
			}
		}
		view.Apps = append(view.Apps, shown)
	}
	if f.app != "" && len(view.Apps) == 0 {
		return statusView{}, badInput(fmt.Errorf("--app: this Redis has no app %q; see \"recall status\" for those it has", f.app))
	}
	for _, q := range st.Queues {
		view.Queues = append(view.Queues, statusQueue(q))
	}
	return view, nil
}

func viewApp(app worker.AppStatus, f statusFlags) statusApp {
	out := statusApp{App: app.App, RateShare: app.Share, Slots: app.Slots, Backoff: app.Held, Later: app.Later, Outbox: app.Outbox, Groups: []statusGroup{},
		Robots: []robotHold{}}
	if !app.Rest.IsZero() {
		out.RestUntil = &app.Rest
	}
	for _, h := range app.Robots {
		if f.robot == "" || f.robot == h.RobotCode {
			out.Robots = append(out.Robots, robotHold{h.RobotCode, tasks.Conversation(h.Conversation), statusHold{Code: h.Code, Message: h.Message, Since: h.Since, NextProbe: h.NextProbe}})
		}
	}
	if !app.LastOK.IsZero() {
		out.LastRecall = &app.LastOK
	}
	if h := app.Hold; h != nil {
		out.Hold = &statusHold{Code: h.Code, Message: h.Message, Since: h.Since, NextProbe: h.NextProbe}
	}
	for _, g := range app.Groups {
		if (f.incident != "" && f.incident != g.Incident) || (f.robot != "" && f.robot != g.RobotCode) {
			continue
		}
		if f.conversation != "" && f.conversation != g.OpenConversationID {
			continue
		}
		c := statusCounts{g.Counts.Accepted, g.Counts.Waiting, g.Counts.Bound, g.Counts.Recalled, g.Counts.Dead, g.Counts.Cancelled}
		out.Groups = append(out.Groups, statusGroup{g.Incident, g.RobotCode, tasks.Conversation(g.Conversation), c})
		out.Total.add(c)
	}
	return out
}

func (c *statusCounts) add(o statusCounts) {
	c.Total += o.Total
	c.Waiting += o.Waiting
	c.Bound += o.Bound
	c.Recalled += o.Recalled
	c.Dead += o.Dead
	c.Cancelled += o.Cancelled
}

func (c statusCounts) cells() []string {
	done := "-"
	if c.Total > 0 {
		// Rounded down: 100 % is said only when nothing is left.
		permille := (c.Recalled + c.Dead + c.Cancelled) * 1000 / c.Total
		done = fmt.Sprintf("%d.%d%%", permille/10, permille%10)
	}
	return []string{thousands(c.Waiting), thousands(c.Bound), thousands(c.Recalled), thousands(c.Dead), thousands(c.Cancelled), thousands(c.Total), done}
}

// print writes the view for a person.
func (v statusView) print(w io.Writer) error {
	keys, lastTable := false, true // a blank line parts the tables from what stands above them
	for _, app := range v.Apps {
		if _, err := fmt.Fprintf(w, "app %s: %s\n", app.App, app.describe(v.At)); err != nil {
			return fmt.Errorf("printing the status: %w", err)
		}
		for _, h := range app.Robots {
			fmt.Fprintf(w, "  robot %s: %s\n", targetText(h.RobotCode, h.Conversation), h.describe(v.At))
		}
		if app.Outbox > 0 {
			fmt.Fprintf(w, "  %s on the way to the queue recall-dead\n", counted(app.Outbox, "dead letter", "dead letters"))
		}
		fmt.Fprint(w, app.Budget.describe(v.At), app.Forecast.describe(v.At))
		if lastTable = len(app.Groups) > 0; !lastTable {
			continue
		}
		keys = true
		fmt.Fprintln(w)
		if err := app.table().write(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	switch {
	case !keys && v.filtered:
		fmt.Fprintln(w, "no keys of that kind")
	case !keys:
		fmt.Fprintln(w, "no keys yet")
	}
	if !keys || !lastTable {
		fmt.Fprintln(w)
	}
	t := newTable("QUEUE", ">PENDING", ">ACTIVE", ">SCHEDULED", ">RETRY", ">ARCHIVED", "")
	for _, q := range v.Queues {
		paused := ""
		if q.Paused {
			paused = "paused"
		}
		t.row(q.Queue, thousands(q.Pending), thousands(q.Active), thousands(q.Scheduled), thousands(q.Retry), thousands(q.Archived), paused)
	}
	if err := t.write(w); err != nil {
		return err
	}
	workers := "no worker is running"
	if v.Workers > 0 {
		workers = counted(v.Workers, "worker is", "workers are") + " running"
	}
	_, err := fmt.Fprintf(w, "\n%s\n", workers)
	return err
}

// describe says in one line why something is on hold, and until when.
func (h statusHold) describe(now time.Time) string {
	hold := fmt.Sprintf("ON HOLD for %s: %s", roughly(now.Sub(h.Since)), h.Code)
	if h.Message != "" {
		hold += ": " + h.Message
	}
	next := "the next try is due"
	if d := h.NextProbe.Sub(now); d > 0 {
		next = "next try in " + roughly(d)
	}
	return hold + " (" + next + ")"
}

// describe says in one line what the app is doing.
func (s statusApp) describe(now time.Time) string {
	var parts []string
	if s.Hold != nil {
		return s.Hold.describe(now)
	}
	if s.RestUntil != nil && s.RestUntil.Sub(now) > time.Second {
		parts = append(parts, "rests for "+roughly(s.RestUntil.Sub(now))+", the service said that it was too much")
	}
	throttled := s.RateShare < 1
	switch percent := strconv.FormatFloat(s.RateShare*100, 'f', 0, 64) + "%"; {
	case s.Rate != nil && *s.Rate == 0:
		parts = append(parts, "no rate limit")
	case s.Rate != nil && throttled:
		parts = append(parts, fmt.Sprintf("throttled to %s of %s calls/s", percent, decimal(*s.Rate)))
	case s.Rate != nil:
		parts = append(parts, decimal(*s.Rate)+" calls/s")
	case throttled:
		parts = append(parts, "throttled to "+percent+" of its rate")
	}
	if s.Slots == 0 {
		parts = append(parts, "idle")
	} else {
		slots := counted(s.Slots, "slot", "slots") + " busy"
		if s.Backoff > 0 {
			slots += fmt.Sprintf(" (%s backing off)", thousands(s.Backoff))
		}
		parts = append(parts, slots)
	}
	if s.Later > 0 {
		parts = append(parts, counted(s.Later, "key waits", "keys wait")+" for later")
	}
	if s.LastRecall != nil {
		parts = append(parts, "last recall "+roughly(max(0, now.Sub(*s.LastRecall)))+" ago")
	}
	return strings.Join(parts, ", ")
}

// target is whose keys the group counts, for a person.
func (g statusGroup) target() string { return targetText(g.RobotCode, g.Conversation) }

func targetText(robotCode string, c tasks.Conversation) string {
	if where := c.String(); where != "" {
		return robotCode + " " + where
	}
	return robotCode
}

// table lists the robots below their incident.
func (s statusApp) table() *table {
	t := newTable("INCIDENT AND ROBOT", ">WAITING", ">BOUND", ">RECALLED", ">DEAD", ">CANCELLED", ">TOTAL", ">DONE")
	incident := ""
	for i, g := range s.Groups {
		if i == 0 || g.Incident != incident {
			incident = g.Incident
			name := incident
			if name == "" {
				name = "(no incident)"
			}
			t.row(name + s.Forecast.ending(incident))
		}
		t.row(append([]string{"  " + g.target()}, g.cells()...)...)
	}
	if len(s.Groups) > 1 {
		t.row(append([]string{"all"}, s.Total.cells()...)...)
	}
	if s.Total.Cancelled == 0 {
		t.dropColumn(5)
	}
	return t
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
