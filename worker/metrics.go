package worker

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker/internal/keystore"
)

// metrics are the worker's own. Labels are closed lists and apps, never robots or keys; every series of an app exists from the
// start, so that a rate has a zero to begin with.
type metrics struct {
	calls      *prometheus.CounterVec   // app, outcome
	callTime   *prometheus.HistogramVec // app
	callKeys   *prometheus.HistogramVec // app
	settled    *prometheus.CounterVec   // app, state
	admitted   *prometheus.CounterVec   // app, what
	malformed  *prometheus.CounterVec   // code
	replays    prometheus.Counter
	overdue    prometheus.Counter
	deadMoved  *prometheus.CounterVec // app
	rescued    prometheus.Counter
	takenOver  prometheus.Counter
	failedStep *prometheus.CounterVec // step

	made atomic.Int64 // calls, for Worker.Calls
}

// scopes are the outcomes of a call, as labels.
var scopes = []upstream.Scope{upstream.Done, upstream.KeyDead, upstream.BatchKey, upstream.RobotDead, upstream.AppHold,
	upstream.TokenStale, upstream.BudgetHold, upstream.Throttled, upstream.Transient, upstream.Unknown}

func newMetrics(reg prometheus.Registerer, apps []App) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "dingrecall", Name: name, Help: help}, labels)
	}
	m := &metrics{
		calls: counter("calls_total", "Calls of the service, by what they came to.", "app", "outcome"),
		callTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "dingrecall", Name: "call_seconds",
			Help: "How long calls took.", Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"app"}),
		callKeys: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "dingrecall", Name: "call_keys",
			Help: "How many keys calls carried.", Buckets: []float64{1, 5, 10, 15, 19, 20}}, []string{"app"}),
		settled:   counter("keys_settled_total", "Keys whose call settled them, by their state.", "app", "state"),
		admitted:  counter("keys_admitted_total", "Keys that came in: accepted, known already, raised to a more urgent class, revived.", "app", "what"),
		malformed: counter("submissions_refused_total", "Submissions (or keys of them) that became dead letters at intake.", "code"),
		replays: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "dingrecall", Name: "dead_letters_replayed_total",
			Help: "Dead letters that were run early: replays."}),
		overdue: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "dingrecall", Name: "dead_letters_expired_total",
			Help: "Dead letters whose retention was over."}),
		deadMoved: counter("dead_letters_total", "Dead letters brought into the queue.", "app"),
		rescued: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "dingrecall", Name: "archived_tasks_rescued_total",
			Help: "Archived tasks that were brought back to work."}),
		takenOver: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "dingrecall", Name: "orphaned_tasks_taken_over_total",
			Help: "Tasks of workers that were gone, taken over by this one."}),
		failedStep: counter("errors_total", "Steps that failed and are tried again.", "step"),
	}
	for _, a := range apps {
		for _, s := range scopes {
			m.calls.WithLabelValues(a.Name, s.String())
		}
		m.callTime.WithLabelValues(a.Name)
		m.callKeys.WithLabelValues(a.Name)
		m.deadMoved.WithLabelValues(a.Name)
		for _, s := range []string{"recalled", "dead"} {
			m.settled.WithLabelValues(a.Name, s)
		}
		for _, s := range []string{"accepted", "known", "raised", "revived"} {
			m.admitted.WithLabelValues(a.Name, s)
		}
	}
	for _, c := range []string{tasks.CodeSubmissionMalformed, tasks.CodeKeyMalformed, tasks.CodeRobotUnconfigured, tasks.CodeTargetLimit} {
		m.malformed.WithLabelValues(c)
	}
	for _, s := range steps {
		m.failedStep.WithLabelValues(s)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.calls, m.callTime, m.callKeys, m.settled, m.admitted, m.malformed, m.replays, m.overdue,
		m.deadMoved, m.rescued, m.takenOver, m.failedStep} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Called implements dispatch.Observer.
func (m *metrics) Called(app string, scope upstream.Scope, keys int, took time.Duration) {
	m.made.Add(1)
	m.calls.WithLabelValues(app, scope.String()).Inc()
	m.callTime.WithLabelValues(app).Observe(took.Seconds())
	m.callKeys.WithLabelValues(app).Observe(float64(keys))
}

// Settled implements dispatch.Observer.
func (m *metrics) Settled(app string, recalled, dead int) {
	m.settled.WithLabelValues(app, "recalled").Add(float64(recalled))
	m.settled.WithLabelValues(app, "dead").Add(float64(dead))
}

// Admitted implements intake.Observer.
func (m *metrics) Admitted(app string, a keystore.Admitted) {
	m.admitted.WithLabelValues(app, "accepted").Add(float64(a.Accepted))
	m.admitted.WithLabelValues(app, "known").Add(float64(a.Known))
	m.admitted.WithLabelValues(app, "raised").Add(float64(a.Raised))
	m.admitted.WithLabelValues(app, "revived").Add(float64(a.Revived))
}

// Malformed implements intake.Observer.
func (m *metrics) Malformed(code string, keys int) {
	m.malformed.WithLabelValues(code).Add(float64(max(1, keys)))
}
