package cli

import (
	"bytes"
	"strings"
	"testing"
)

// TestCancel: it is asked whether that is meant; what waits of the incident ends as cancelled, and another waits on.
func TestCancel(t *testing.T) {
	t.Parallel()
	_, environ := queueOnly(t)
	if got := run(t, environ, "cancel", "storm", "--yes"); got.code != ExitBadInput || got.out != "" ||
		got.err != "recall: no app has keys of an incident of that name: storm; see \"recall status\" for those that there are\n" {
		t.Errorf("nothing there: %+v", got)
	}
	sim := launch(t, nil, "simulate", "--addr", "127.0.0.1:0")
	environ = append(environ, "RECALL_UPSTREAM_BASE_URL="+find(t, &sim.out, `answers at (http://\S+)\. `), "RECALL_APP_KEY=dingx", "RECALL_APP_SECRET=hunter22",
		"RECALL_WORKER_LINGER=1m")
	w := launch(t, environ, "worker", "--admin-addr", "127.0.0.1:0")
	submitTo := func(robot, incident, keys string) {
		if got := run(t, environ, "submit", writeFile(t, keys), "--robot", robot, "--incident", incident, "--format", "plain"); got.code != ExitOK {
			t.Fatalf("submit: %+v", got)
		}
	}
	shows := func(incident, counts string) func() bool {
		return func() bool {
			return strings.Contains(strings.Join(strings.Fields(run(t, environ, "status", "--incident", incident, "--json").out), ""), counts)
		}
	}
	submitTo("dingone", "storm", "a\nb\nc\n") // fewer than a call: they wait for company
	submitTo("dingtwo", "flood", "d\ne\n")
	eventually(t, "storm waits", shows("storm", `"total":3,"waiting":3,`))
	eventually(t, "flood waits", shows("flood", `"total":2,"waiting":2,`))

	for _, c := range []struct {
		args []string
		code int
		out  string
		err  string
	}{
		{nil, ExitBadInput, "", "say which incident, one"},
		{[]string{""}, ExitBadInput, "", "say which incident, one"},
		{[]string{"storm", "flood"}, ExitBadInput, "", "say which incident, one"},
		{[]string{"storm"}, ExitBadInput, "", "this would cancel incident storm, of which 3 keys wait, in 1 app; add --yes if that is meant"},
		{[]string{"rain", "--yes"}, ExitBadInput, "", "no app has keys of an incident of that name: rain; see"},
		{[]string{"rain"}, ExitBadInput, "", "no app has keys of an incident of that name: rain; see"},
		{[]string{"storm", "--app", "other", "--yes"}, ExitBadInput, "", "no app has keys of an incident of that name: storm (in app other); see"},
	} {
		got := run(t, environ, append([]string{"cancel"}, c.args...)...)
		if got.code != c.code || got.out != c.out || !strings.Contains(got.err, c.err) || strings.Count(got.err, "\n") != 1 {
			t.Errorf("cancel %q: %+v", c.args, got)
		}
	}
	if code, out, errs := answer(t, environ, "n\n", "cancel", "storm"); code != ExitInterrupted || out != "" ||
		errs != "Cancel incident storm, of which 3 keys wait, in 1 app? [y/N] recall: nothing was cancelled\n" {
		t.Errorf("a no: status %d\n%s%s", code, out, errs)
	}
	if !shows("storm", `"total":3,"waiting":3,`)() {
		t.Error("something was cancelled unasked")
	}

	if got := run(t, environ, "cancel", "storm", "--app", "default", "--yes"); got.code != ExitOK || got.err != "" ||
		got.out != "app default: incident storm is cancelled; 3 keys were still waiting, to end as cancelled, without a call, within moments\n" {
		t.Errorf("%+v", got)
	}
	eventually(t, "storm is cancelled", shows("storm", `"total":3,"waiting":0,"bound":0,"recalled":0,"dead":0,"cancelled":3`))
	if !shows("flood", `"total":2,"waiting":2,`)() {
		t.Errorf("flood does not wait any more:\n%s", run(t, environ, "status").out)
	}
	if got := run(t, environ, "cancel", "storm", "-y"); got.code != ExitOK || got.out != "app default: incident storm is cancelled; no key was still waiting\n" {
		t.Errorf("again: %+v", got)
	}
	w.stop()
	if code, out, _ := answer(t, environ, "y\n", "cancel", "flood"); code != ExitOK ||
		out != "app default: incident flood is cancelled; 2 keys were still waiting, to end as cancelled, without a call, within moments\n"+
			"No worker seems to be running at this Redis: the keys wait until one does.\n" {
		t.Errorf("without a worker: status %d\n%s", code, out)
	}
}

// answer runs the program for a person at a terminal.
func answer(t *testing.T, environ []string, says string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Run(t.Context(), Env{In: strings.NewReader(says), Out: &o, Err: &e, Args: args, Environ: environ, IsTerminal: func(any) bool { return true }})
	return code, o.String(), e.String()
}
