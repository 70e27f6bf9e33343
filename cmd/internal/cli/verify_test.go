package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"dingrecall/upstream/simulator"
)

// lost runs a job of which one call's answer is lost, against a service that refuses keys which are recalled already. It gives the
// report and the environment.
func lost(t *testing.T) (report string, sim *simulator.Simulator, environ []string) {
	t.Helper()
	_, redis := queueOnly(t)
	sim, environ = service(t, simulator.Config{AlreadyRecalled: simulator.AlreadyInvalid,
		Faults: []simulator.FaultRule{{Fault: simulator.FaultLostAnswer, Times: 1}}}, nil)
	environ = append(environ, redis...)
	environ = append(environ, "RECALL_APP_RATE=1000", "RECALL_WORKER_BACKOFF_BASE=20ms")
	report = filepath.Join(t.TempDir(), "out.csv")
	addr := strings.TrimPrefix(redis[0], "RECALL_REDIS_ADDR=")
	path := keysCSV(t, broadcast(40, false)) // two robots, so two calls
	got := runWith(t.Context(), nil, environ, "run", path, "--redis", addr, "--incident", "sale", "--report", report, "--progress", "none")
	wantCode(t, got, ExitSomeDead, "Of 20 dead the answer to a call was lost", "")
	return report, sim, environ
}

func TestVerifyDead(t *testing.T) {
	t.Parallel()
	report, sim, environ := lost(t)
	ambiguous := 0
	for _, row := range readReport(t, report) {
		if row["ambiguous"] == "yes" && row["state"] == "dead" {
			ambiguous++
		}
	}
	if ambiguous != 20 {
		t.Errorf("the report has %d ambiguous keys", ambiguous)
	}
	wantCode(t, run(t, environ, "verify", "--dead", "--incident", "another"), ExitOK, "there is nothing to verify", "")
	got := run(t, environ, "verify", "--dead", "--incident", "sale")
	wantCode(t, got, ExitOK, "\n20 recalled after all\n", "recall: verifying takes 20 calls of app default, which the month counts, at 1000 a second about ")
	if n := sim.Stats().ReadStatusCalls; n != 20 {
		t.Errorf("%d calls", n)
	}
	wantCode(t, run(t, environ, "dead", "list"), ExitOK, "no dead letters\n", "")
	var view statusView
	if err := json.Unmarshal([]byte(run(t, environ, "status", "--json").out), &view); err != nil || view.Apps[0].Total.Recalled != 40 || view.Apps[0].Total.Dead != 0 {
		t.Errorf("status %+v, %v", view.Apps, err)
	}
	wantCode(t, run(t, environ, "verify", "--dead"), ExitOK, "there is nothing to verify", "")
}

func TestVerifyFileAndKeys(t *testing.T) {
	t.Parallel()
	report, sim, environ := lost(t)
	var key, robot string
	for _, row := range readReport(t, report) {
		if row["ambiguous"] == "yes" {
			key, robot = row["processQueryKey"], row["robotCode"]
		}
	}
	wantCode(t, run(t, environ, "status", "--key", key), ExitOK, "ambiguous   a call's answer was lost", "")
	wantCode(t, run(t, environ, "verify", key, "--robot", "another", "--json"), ExitSomeDead, `"result":"skipped","why":"no configured app knows the key"`, "")
	got := run(t, environ, "verify", key, "--robot", robot, "--json")
	wantCode(t, got, ExitOK, fmt.Sprintf(`{"key":"%s","app":"default","robotCode":"%s","state":"dead","result":"recalled"}`, key, robot), "1 call of app default")
	wantCode(t, run(t, environ, "status", "--key", key), ExitOK, "state       recalled", "")
	wantCode(t, run(t, environ, "dead", "list"), ExitOK, "1 dead letter with 19 keys", "")
	got = run(t, environ, "verify", "--file", report)
	wantCode(t, got, ExitOK, "\n19 recalled after all, 21 not asked about\n", "19 calls of app default")
	if n := sim.Stats().ReadStatusCalls; n != 20 {
		t.Errorf("%d calls", n)
	}
}

func TestVerifyAsksBeforeItSpendsMuch(t *testing.T) {
	t.Parallel()
	_, sim, environ := lost(t)
	if err := sim.SetFaults(simulator.FaultRule{Fault: simulator.FaultLostAnswer, Times: 1}); err != nil {
		t.Fatal(err)
	}
	// A second job dies of the same, so that 40 keys are ambiguous.
	path := keysCSV(t, broadcast(41, false))
	addr := strings.TrimPrefix(environ[len(environ)-3], "RECALL_REDIS_ADDR=")
	runWith(t.Context(), nil, environ, "run", path, "--redis", addr, "--incident", "again", "--progress", "none")
	got := run(t, environ, "verify", "--dead")
	wantCode(t, got, ExitBadInput, "", "; add --yes if that is meant")
	if !strings.Contains(got.err, "calls of app default, which the month counts") || sim.Stats().ReadStatusCalls != 0 {
		t.Errorf("%d calls: %s", sim.Stats().ReadStatusCalls, got.err)
	}
	wantCode(t, run(t, environ, "verify", "--dead", "--yes"), ExitOK, " recalled after all\n", "")
}

func TestVerifyRefusesBadInput(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"say which keys":                {},
		"one of the three":              {"key", "--dead"},
		"add --dead":                    {"key", "--incident", "x"},
		"key 2 contains a control char": {"a", "b\x07"},
	} {
		wantCode(t, run(t, oneApp, append([]string{"verify"}, args...)...), ExitBadInput, "", want)
	}
	_, redis := queueOnly(t)
	wantCode(t, run(t, append(redis, oneApp...), "verify", "--file", filepath.Join(t.TempDir(), "none.csv")), ExitBadInput, "", "cannot be opened")
	wantCode(t, run(t, redis, "verify", "key"), ExitBadInput, "", "app")
	wantCode(t, run(t, append(redis, oneApp...), "verify", "--dead", "--app", "mian"), ExitBadInput, "", `no configured app is called "mian"`)
}
