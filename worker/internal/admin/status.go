package admin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is how everything stands, as far as the page and the metrics show it.
type Status struct {
	Apps   []App
	Queues []Queue
}

// App is how an app stands.
type App struct {
	Name      string
	Waiting   int64
	Bound     int64
	Recalled  int64
	Dead      int64
	Cancelled int64
	Slots     int       // not idle
	Backoff   int       // of those, waiting before they try again
	Outbox    int64     // dead letters that the queue does not have yet
	Share     float64   // of the configured rate that is in use, after throttling
	Rest      time.Time // until when nobody calls because of throttling; zero: no rest
	Hold      *Hold     // nil: it works
	Robots    []RobotHold
	LastOK    time.Time
	Budget    *Budget  // nil: no calls are counted
	Outlook   *Outlook // nil: no worker has told the app's settings yet
}

// Budget is how the calls of the month stand.
type Budget struct {
	Used, Calls, Reserve int // Calls 0: no limit
	Turns                time.Time
	Lifted               bool // an operator lets calls go on beyond the limit
}

// Outlook is what is to be expected of the keys that wait.
type Outlook struct {
	Missed    int // will miss their windows
	FirstMiss time.Time
	End       time.Time // zero: nothing waits
	Incidents []Incident
}

// Incident is the same of one incident.
type Incident struct {
	Name         string // "" = none
	Keys, Missed int
	End          time.Time
}

// mostIncidents bounds how many incidents of an app have a series of their own.
const mostIncidents = 100

// Hold says why an app rests.
type Hold struct {
	Code, Message    string
	Since, NextProbe time.Time
}

// RobotHold is a robot that rests.
type RobotHold struct {
	Robot string
	Hold
}

// Queue is how a queue stands.
type Queue struct {
	Name                                        string
	Pending, Active, Scheduled, Retry, Archived int
	Paused                                      bool
}

// collector gives Status as metrics, read when they are asked for. Nothing is labelled by robot or key: there can be any number of them.
type collector struct {
	status func(context.Context) (Status, error)
	errors prometheus.Counter
	free   chan struct{} // one read at a time, since a dead Redis does not end it
	reads  sync.WaitGroup

	keys, slots, held, heldSince, nextProbe, heldRobots, share, rest, lastOK, outbox, tasks, paused *prometheus.Desc
	used, calls, reserve, missing, firstMiss, incidentEnd, ending                                   *prometheus.Desc
}

func newCollector(status func(context.Context) (Status, error)) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("dingrecall_"+name, help, labels, nil)
	}
	return &collector{
		status: status,
		free:   make(chan struct{}, 1),
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "dingrecall_status_errors_total",
			Help: "Times the state of keys and queues could not be read for these metrics; the gauges that come from it are then missing."}),
		keys:        desc("keys", "Keys by what has become of them so far.", "app", "state"),
		slots:       desc("slots", "Slots of the app that are not idle: with a call in flight or due, or backing off.", "app", "state"),
		held:        desc("app_held", "Whether the app is on hold (1) and makes no calls.", "app"),
		heldSince:   desc("app_held_since_timestamp_seconds", "Since when the app is on hold; missing while it is not.", "app"),
		nextProbe:   desc("app_next_probe_timestamp_seconds", "When the next call is spent on an app that is on hold; missing while it is not.", "app"),
		heldRobots:  desc("robots_held", "Robots of the app that are on hold.", "app"),
		rest:        desc("app_rest_until_timestamp_seconds", "Until when the app rests after a throttle answer; missing while it does not.", "app"),
		share:       desc("app_rate_share", "Share of the configured rate that throttling has left, 0 to 1.", "app"),
		lastOK:      desc("app_last_recall_timestamp_seconds", "When the app last had a key recalled; missing before the first.", "app"),
		outbox:      desc("outbox", "Dead letters that are on their way to the queue recall-dead.", "app"),
		used:        desc("budget_used_calls", "Calls of this month that the service counts, or that are under way.", "app"),
		calls:       desc("budget_limit_calls", "Calls that the app may make in a month; missing where there is no limit.", "app"),
		reserve:     desc("budget_reserve_calls", "Of those, the calls that are kept for urgent keys; missing where there is no limit.", "app"),
		missing:     desc("forecast_missing_keys", "Waiting keys that are expected to miss their windows.", "app"),
		firstMiss:   desc("forecast_first_miss_timestamp_seconds", "When the first of them closes: until then something can be done; missing where none will.", "app"),
		ending:      desc("forecast_end_timestamp_seconds", "When the last waiting key is expected to have its answer or to have missed its window; missing where none waits.", "app"),
		incidentEnd: desc("forecast_incident_end_timestamp_seconds", "The same of an incident, while keys of it wait; of the first 100.", "app", "incident"),
		tasks:       desc("queue_tasks", "Tasks by queue and state.", "queue", "state"),
		paused:      desc("queue_paused", "Whether the queue is paused (1).", "queue"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.keys, c.slots, c.held, c.heldSince, c.nextProbe, c.heldRobots, c.share, c.rest, c.lastOK, c.outbox, c.tasks, c.paused,
		c.used, c.calls, c.reserve, c.missing, c.firstMiss, c.ending, c.incidentEnd} {
		ch <- d
	}
	c.errors.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st, err := c.read(context.Background())
	if err != nil {
		c.errors.Inc()
	} else {
		c.collectStatus(ch, st)
	}
	c.errors.Collect(ch)
}

// read reads the status within statusTimeout, also where what is below does not look at the context.
func (c *collector) read(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	select {
	case c.free <- struct{}{}:
	case <-ctx.Done():
		return Status{}, fmt.Errorf("read the status: an earlier read is still waiting after %v", statusTimeout)
	}
	type answer struct {
		st  Status
		err error
	}
	done := make(chan answer, 1)
	c.reads.Go(func() {
		st, err := c.status(ctx)
		<-c.free
		done <- answer{st, err}
	})
	select {
	case a := <-done:
		return a.st, a.err
	case <-ctx.Done():
		return Status{}, fmt.Errorf("read the status: no answer within %v", statusTimeout)
	}
}

// wait returns when no read is under way any more.
func (c *collector) wait() { c.reads.Wait() }

func (c *collector) collectStatus(ch chan<- prometheus.Metric, st Status) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, a := range st.Apps {
		gauge(c.keys, float64(a.Waiting), a.Name, "waiting")
		gauge(c.keys, float64(a.Bound), a.Name, "bound")
		gauge(c.keys, float64(a.Recalled), a.Name, "recalled")
		gauge(c.keys, float64(a.Dead), a.Name, "dead")
		gauge(c.keys, float64(a.Cancelled), a.Name, "cancelled")
		gauge(c.slots, float64(a.Slots-a.Backoff), a.Name, "busy")
		gauge(c.slots, float64(a.Backoff), a.Name, "backoff")
		gauge(c.held, flag(a.Hold != nil), a.Name)
		if a.Hold != nil {
			gauge(c.heldSince, seconds(a.Hold.Since), a.Name)
			gauge(c.nextProbe, seconds(a.Hold.NextProbe), a.Name)
		}
		gauge(c.heldRobots, float64(len(a.Robots)), a.Name)
		gauge(c.share, a.Share, a.Name)
		if !a.Rest.IsZero() {
			gauge(c.rest, seconds(a.Rest), a.Name)
		}
		gauge(c.outbox, float64(a.Outbox), a.Name)
		if !a.LastOK.IsZero() {
			gauge(c.lastOK, seconds(a.LastOK), a.Name)
		}
	}
	for _, a := range st.Apps {
		c.collectOutlook(gauge, a)
	}
	for _, q := range st.Queues {
		gauge(c.tasks, float64(q.Pending), q.Name, "pending")
		gauge(c.tasks, float64(q.Active), q.Name, "active")
		gauge(c.tasks, float64(q.Scheduled), q.Name, "scheduled")
		gauge(c.tasks, float64(q.Retry), q.Name, "retry")
		gauge(c.tasks, float64(q.Archived), q.Name, "archived")
		gauge(c.paused, flag(q.Paused), q.Name)
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (c *collector) collectOutlook(gauge func(*prometheus.Desc, float64, ...string), a App) {
	moment := func(d *prometheus.Desc, t time.Time, labels ...string) {
		if !t.IsZero() {
			gauge(d, seconds(t), labels...)
		}
	}
	if b := a.Budget; b != nil {
		gauge(c.used, float64(b.Used), a.Name)
		if b.Calls > 0 {
			gauge(c.calls, float64(b.Calls), a.Name)
			gauge(c.reserve, float64(b.Reserve), a.Name)
		}
	}
	if o := a.Outlook; o != nil {
		gauge(c.missing, float64(o.Missed), a.Name)
		moment(c.firstMiss, o.FirstMiss, a.Name)
		moment(c.ending, o.End, a.Name)
		for _, i := range o.Incidents[:min(len(o.Incidents), mostIncidents)] {
			moment(c.incidentEnd, i.End, a.Name, i.Name)
		}
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
