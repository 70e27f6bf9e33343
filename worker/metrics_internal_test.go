package worker

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker/internal/keystore"
)

// series gives every counter's value and every histogram's count, by name and labels.
func series(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "dingrecall_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func TestEverySeriesExistsFromTheStart(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, err := newMetrics(reg, []App{{Name: "one"}, {Name: "two"}})
	if err != nil {
		t.Fatal(err)
	}
	before := series(t, reg)
	for name, v := range before {
		if v != 0 {
			t.Errorf("%s begins at %v", name, v)
		}
	}
	// Everything that can happen, happens: no series may come into being by it.
	for _, app := range []string{"one", "two"} {
		for _, s := range upstream.Scopes() {
			m.Called(app, s, 20, time.Second)
		}
		m.Settled(app, 19, 1)
		m.Admitted(app, keystore.Admitted{Accepted: 1, Known: 2, Raised: 3, Revived: 4})
		m.deadMoved.WithLabelValues(app).Inc()
	}
	for _, c := range []string{tasks.CodeSubmissionMalformed, tasks.CodeKeyMalformed, tasks.CodeRobotUnconfigured} {
		m.Malformed(c, 1)
	}
	for _, s := range []string{"wake", "slots", "outbox", "archive", "register"} {
		m.failedStep.WithLabelValues(s).Inc()
	}
	after := series(t, reg)
	if len(after) < 45 {
		t.Fatalf("only %d series: this test sees too little", len(after))
	}
	if added := slices.DeleteFunc(slices.Sorted(maps.Keys(after)), func(k string) bool { _, ok := before[k]; return ok }); len(added) > 0 {
		t.Errorf("series without a zero to begin with: %q", added)
	}
	if got := m.made.Load(); got != int64(2*len(upstream.Scopes())) {
		t.Errorf("calls made: %d", got)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	if _, err := newMetrics(reg, []App{{Name: "one"}}); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// No label may have values without end.
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	closed := []string{"app", "outcome", "state", "what", "code", "step"}
	for _, f := range families {
		for _, l := range f.GetMetric()[0].GetLabel() {
			if !slices.Contains(closed, l.GetName()) {
				t.Errorf("%s has the label %s", f.GetName(), l.GetName())
			}
		}
	}
	if _, err := newMetrics(reg, nil); err == nil {
		t.Error("the same names were registered twice without a word")
	}
	if _, err := newMetrics(nil, nil); err != nil {
		t.Errorf("without a registry: %v", err)
	}
}

func TestAdmittedCountsEachKeyOnce(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, err := newMetrics(reg, []App{{Name: "one"}})
	if err != nil {
		t.Fatal(err)
	}
	// The key store counts a key that was raised as raised, and not as known too.
	m.Admitted("one", keystore.Admitted{Raised: 7})
	m.Admitted("one", keystore.Admitted{Accepted: 1, Known: 2, Raised: 3, Revived: 4})
	m.Malformed(tasks.CodeSubmissionMalformed, 0)
	m.Malformed(tasks.CodeKeyMalformed, 3)
	got := series(t, reg)
	for name, want := range map[string]float64{
		"keys_admitted_total app=one what=accepted": 1, "keys_admitted_total app=one what=known": 2,
		"keys_admitted_total app=one what=raised": 10, "keys_admitted_total app=one what=revived": 4,
		"submissions_refused_total code=submission.malformed": 1, "submissions_refused_total code=key.malformed": 3,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
