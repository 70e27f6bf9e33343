package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
)

// TestRunAccountsForEveryKey is the main job in small: a broadcast with bad keys among it, and a report that says of each key what it
// is to say.
func TestRunAccountsForEveryKey(t *testing.T) {
	t.Parallel()
	for _, style := range []string{"single", "whole"} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			keys := broadcast(500, true)
			dead, closed := map[string]int{}, 0
			for _, k := range keys {
				if k.code != "" {
					dead[k.code]++
				}
				if k.code == tasks.CodeWindowClosed {
					closed++
				}
			}
			if len(dead) != 4 {
				t.Fatalf("the file does not have what it should: %v", dead)
			}
			path := keysCSV(t, append(keys, keys[3], keys[99])) // two rows again
			out := filepath.Join(t.TempDir(), "out.csv")
			got := runWith(t.Context(), nil, nil, simulated("--sim-style", style, "--report", out, "--incident", "sale", path)...)
			wantCode(t, got, ExitSomeDead, fmt.Sprintf("500 of %d keys recalled, %d dead, in ", len(keys), len(keys)-500), "")
			for code, n := range dead {
				if !strings.Contains(strings.Join(strings.Fields(got.out), " "), fmt.Sprintf(" %d %s ", n, code)) {
					t.Errorf("no line for %d of %s in\n%s", n, code, got.out)
				}
			}
			rows := readReport(t, out)
			if len(rows) != len(keys) {
				t.Fatalf("%d rows, want %d", len(rows), len(keys))
			}
			for i, row := range rows {
				checkRow(t, keys[i], row)
			}
			if style == "single" && !strings.Contains(got.out, fmt.Sprintf(" keys=%d distinct=%d repeated=0 overlapping=0 max_batch=20 ", len(keys)-closed, len(keys)-closed)) {
				t.Errorf("not what the simulator is to see:\n%s", got.out)
			}
		})
	}
}

func checkRow(t *testing.T, k fileKey, row map[string]string) {
	t.Helper()
	state := "recalled"
	if k.code != "" {
		state = "dead"
	}
	called := k.code != tasks.CodeWindowClosed
	sentAt := ""
	if !k.sentAt.IsZero() {
		sentAt = k.sentAt.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	if row["processQueryKey"] != k.key || row["robotCode"] != k.robot || row["state"] != state || row["code"] != k.code ||
		row["sentAt"] != sentAt || row["incident"] != "sale" || (row["attempts"] == "0") == called || (row["requestId"] == "") == called ||
		(row["message"] == "") != (k.code == "") {
		t.Errorf("row %v\nof key %+v", row, k)
	}
	if _, err := time.Parse(time.RFC3339, row["finishedAt"]); err != nil {
		t.Errorf("row %v has no end: %v", row, err)
	}
}

func TestRunRecallsStandardInput(t *testing.T) {
	t.Parallel()
	keys := broadcast(45, false)
	text := ""
	for _, k := range keys {
		text += k.key + "\n"
	}
	got := runWith(t.Context(), strings.NewReader(text), nil, simulated("-", "--robot", "dingx", "--sent-at", "1h", "--class", "urgent")...)
	wantCode(t, got, ExitOK, "45 of 45 keys recalled, in 3 calls and ", "recalling 45 keys of 1 robot, incident run-")
	if strings.Contains(got.out, "dead") {
		t.Errorf("it speaks of dead keys:\n%s", got.out)
	}
}

func TestRunResumes(t *testing.T) {
	t.Parallel()
	keys := broadcast(150, false)
	dir := t.TempDir()
	first, second, third := filepath.Join(dir, "1.csv"), filepath.Join(dir, "2.csv"), filepath.Join(dir, "3.csv")
	whole := keysCSV(t, keys)
	got := runWith(t.Context(), nil, nil, simulated(keysCSV(t, keys[:100]), "--report", first)...)
	wantCode(t, got, ExitOK, "100 of 100 keys recalled", "")
	got = runWith(t.Context(), nil, nil, simulated(whole, "--resume", first, "--report", second)...)
	wantCode(t, got, ExitOK, "50 of 50 keys recalled", "")
	if !strings.Contains(got.out, "Beside them, 100 keys were recalled before, says "+first) || !strings.Contains(got.out, " keys=50 distinct=50 ") {
		t.Errorf("not resumed:\n%s", got.out)
	}
	rows := readReport(t, second)
	seen := map[string]bool{}
	for _, row := range rows {
		seen[row["processQueryKey"]] = row["state"] == "recalled" && row["requestId"] != "" && row["attempts"] == "1" && row["sentAt"] != "" && row["finishedAt"] != ""
	}
	for _, k := range keys {
		if !seen[k.key] {
			t.Errorf("key %s has no good row", k.key)
		}
	}
	if len(rows) != len(keys) {
		t.Errorf("%d rows for %d keys", len(rows), len(keys))
	}
	got = runWith(t.Context(), nil, nil, simulated(whole, "--resume", second, "--report", third)...)
	wantCode(t, got, ExitOK, "Nothing left to do: 150 keys were recalled before", "")
	if len(readReport(t, third)) != 150 {
		t.Error("the report of a run with nothing to do is not whole")
	}
}

func TestRunDry(t *testing.T) {
	t.Parallel()
	path := keysCSV(t, broadcast(200, true))
	out := filepath.Join(t.TempDir(), "out.csv")
	got := runWith(t.Context(), nil, oneApp, "run", "--dry-run", "--report", out, path)
	wantCode(t, got, ExitOK, "Dry run: nothing was sent", "")
	if _, err := os.Stat(out); err == nil {
		t.Error("a dry run wrote a report")
	}
	got = runWith(t.Context(), nil, nil, "run", "--dry-run", path)
	wantCode(t, got, ExitOK, "calls       12", "no app is configured; the plan takes 20 calls a second and 5,000 a month")
	bad := writeAt(t, filepath.Join(t.TempDir(), "bad.csv"), "key,robot\nk1,r\n,r\n")
	aside := filepath.Join(t.TempDir(), "aside.csv")
	got = runWith(t.Context(), nil, oneApp, "run", "--dry-run", bad)
	wantCode(t, got, ExitBadInput, "1 bad line", "line 3: the key is empty")
	got = runWith(t.Context(), nil, oneApp, "run", "--dry-run", "--skip-bad", aside, bad)
	wantCode(t, got, ExitOK, "1 bad line", "line 3: the key is empty")
	if _, err := os.Stat(aside); err == nil {
		t.Error("a dry run set lines aside, which the real run then finds in its way")
	}
}

func TestRunRefusesABadFile(t *testing.T) {
	t.Parallel()
	path := writeAt(t, filepath.Join(t.TempDir(), "keys.csv"), "key,robot\nk1,r\n"+strings.Repeat(",r\n", 23)+"k2,r\n")
	got := runWith(t.Context(), nil, nil, simulated(path)...)
	wantCode(t, got, ExitBadInput, "", "recall: ... and 3 more\n")
	if got.out != "" || strings.Count(got.err, ": the key is empty\n") != 20 ||
		!strings.HasSuffix(got.err, "recall: 23 bad lines of 25 of "+path+": nothing was sent; mend them, or set them aside with --skip-bad FILE\n") {
		t.Errorf("%+v", got)
	}
	aside := filepath.Join(t.TempDir(), "aside.csv")
	got = runWith(t.Context(), nil, nil, simulated(path, "--skip-bad", aside)...)
	wantCode(t, got, ExitOK, "2 of 2 keys recalled", "23 bad lines set aside in "+aside)
	if text := readFile(t, aside); !strings.HasPrefix(text, "key,robot\n# line 3: the key is empty\n,r\n") || strings.Count(text, "\n") != 1+2*23 {
		t.Errorf("set aside:\n%s", text)
	}
	all := writeAt(t, filepath.Join(t.TempDir(), "all.csv"), "key,robot\n,r\n")
	got = runWith(t.Context(), nil, nil, simulated(all, "--skip-bad", filepath.Join(t.TempDir(), "x"))...)
	wantCode(t, got, ExitBadInput, "", "has no good line; nothing was sent")
}

// TestRunInterrupted: an interrupt loses nothing. What was recalled is in the report, a run that goes on from it asks for the rest only,
// and both together recall everything once.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	keys := broadcast(1000, false)
	path, dir := keysCSV(t, keys), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	sim, environ := service(t, simulator.Config{Latency: 5 * time.Millisecond}, func(call int) {
		if call == 5 {
			cancel()
		}
	})
	first := filepath.Join(dir, "first.csv")
	args := []string{"run", path, "--rate", "100", "--progress", "none"}
	got := runWith(ctx, nil, environ, append(args, "--report", first)...)
	wantCode(t, got, ExitInterrupted, "not done (interrupted)", "finishing the calls in flight")
	recalled := 0
	for _, row := range readReport(t, first) {
		switch row["state"] {
		case "recalled":
			recalled++
		case "waiting", "unknown":
		default:
			t.Errorf("row %v", row)
		}
	}
	if n := int(sim.Stats().KeysRecalled); recalled != n || n == 0 || n == len(keys) {
		t.Errorf("the report has %d keys as recalled, the service recalled %d of %d", recalled, n, len(keys))
	}
	second := filepath.Join(dir, "second.csv")
	got = runWith(t.Context(), nil, environ, append(args, "--resume", first, "--report", second)...)
	wantCode(t, got, ExitOK, fmt.Sprintf("%d of %d keys recalled", len(keys)-recalled, len(keys)-recalled), "")
	if s := sim.Stats(); int(s.KeysRecalled) != len(keys) || s.KeysAskedAgain != 0 || s.MaxKeysInCall > 20 {
		t.Errorf("%+v", s)
	}
	if len(readReport(t, second)) != len(keys) {
		t.Error("the second report is not whole")
	}
}

func TestRunHeld(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out.csv")
	got := runWith(t.Context(), nil, nil, simulated(keysCSV(t, broadcast(60, false)), "--sim-fault", "permission", "--report", out)...)
	wantCode(t, got, ExitHeld, "0 of 60 keys recalled, 60 not done (on hold)", "APP simulated IS ON HOLD: Forbidden.AccessDenied.AccessTokenPermissionDenied")
	if !strings.Contains(got.err, "give the app the permission") || !strings.Contains(got.out, "To go on: recall run ") || !strings.Contains(got.out, " --resume "+out) {
		t.Errorf("it does not say what to do: %+v", got)
	}
	for _, row := range readReport(t, out) {
		if row["state"] != "waiting" || row["finishedAt"] != "" {
			t.Errorf("row %v", row)
		}
	}
}

func TestRunWantsAnAppForEveryRobot(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "apps:\n  - {name: main, appKey: k, robots: [dingrobot1]}\n")
	environ := []string{"RECALL_APPS_MAIN_APP_SECRET=hunter22"}
	got := runWith(t.Context(), nil, environ, "run", "-c", file, keysCSV(t, broadcast(10, false)))
	wantCode(t, got, ExitBadInput, "", "no app is configured for 1 robot of ")
	if !strings.Contains(got.err, "(dingrobot0); name it under robots of an app") || strings.Count(got.err, "\n") != 1 {
		t.Errorf("%+v", got)
	}
}

func TestRunChecksCredentialsFirst(t *testing.T) {
	t.Parallel()
	path := keysCSV(t, broadcast(10, false))
	sim, environ := service(t, simulator.Config{Apps: map[string]string{"dingx": "another"}}, nil)
	got := runWith(t.Context(), nil, environ, "run", path)
	wantCode(t, got, ExitBadInput, "", `recall: app "default" at http://127.0.0.1:`)
	if sim.Stats().Calls != 0 || strings.Contains(got.err, "hunter22") || strings.Count(got.err, "\n") != 1 {
		t.Errorf("%+v", got)
	}
	got = runWith(t.Context(), nil, append(environ, "RECALL_UPSTREAM_BASE_URL=http://127.0.0.1:1"), "run", path)
	wantCode(t, got, ExitFailure, "", "connection refused")
}

// TestRunWithRedis: with --redis the state outlives the run, so that a second one knows what the first did.
func TestRunWithRedis(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	path := keysCSV(t, broadcast(50, false))
	got := runWith(t.Context(), nil, nil, simulated(path, "--redis", redis.Addr(), "--incident", "a")...)
	wantCode(t, got, ExitOK, "50 of 50 keys recalled", "")
	got = runWith(t.Context(), nil, nil, simulated(path, "--redis", redis.Addr(), "--incident", "b")...)
	wantCode(t, got, ExitOK, "50 of 50 keys recalled, in 0 calls", "")
}

// TestSimulateSharesRedisWithNobody: a worker at a simulator would take real keys for recalled.
func TestSimulateSharesRedisWithNobody(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	client := tasks.NewClient(asynq.RedisClientOpt{Addr: redis.Addr()})
	defer client.Close()
	if _, err := client.Recall(t.Context(), "dingreal", []string{"realkey"}); err != nil {
		t.Fatal(err)
	}
	got := runWith(t.Context(), nil, nil, simulated(keysCSV(t, broadcast(5, false)), "--redis", redis.Addr())...)
	wantCode(t, got, ExitBadInput, "", "--simulate wants a Redis of its own")
	if !strings.Contains(got.err, "submissions wait there") {
		t.Errorf("%+v", got)
	}
}

// TestRunRefuses: each mistake is one line, and nothing is sent.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	path := keysCSV(t, broadcast(5, false))
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no file":       {[]string{"run"}, ExitBadInput, `name a file of keys, or - for standard input: recall run FILE; see "recall run --help"`},
		"two files":     {[]string{"run", "a", "b"}, ExitBadInput, `recall run takes one file, but got 2; see "recall run --help"`},
		"missing file":  {[]string{"run", "/nowhere.csv"}, ExitBadInput, "/nowhere.csv: cannot be opened: no such file or directory"},
		"report":        {[]string{"run", path, "--report", "/nowhere/out.csv"}, ExitBadInput, "the report cannot be written to /nowhere/out.csv: no such file or directory"},
		"resume":        {[]string{"run", path, "--resume", "/nowhere.csv"}, ExitBadInput, "the earlier report /nowhere.csv cannot be read: no such file or directory"},
		"rate":          {[]string{"run", path, "--rate", "-1"}, ExitBadInput, "--rate: -1 is no rate; give calls a second, or 0 for no limit"},
		"rate, no":      {[]string{"run", path, "--rate", "NaN"}, ExitBadInput, "--rate: NaN is no rate"},
		"class":         {[]string{"run", path, "--class", "soon"}, ExitBadInput, "--class: unknown class"},
		"format":        {[]string{"run", path, "--format", "xml"}, ExitBadInput, "--format: unknown format"},
		"sent at":       {[]string{"run", path, "--sent-at", "noon"}, ExitBadInput, `--sent-at: "noon" is neither RFC 3339`},
		"incident":      {[]string{"run", path, "--incident", "a\nb"}, ExitBadInput, `--incident: "a\nb" contains a control character`},
		"progress":      {[]string{"run", path, "--progress", "loud"}, ExitBadInput, `--progress: "loud" is not known`},
		"style":         {[]string{"run", path, "--simulate", "--sim-style", "x"}, ExitBadInput, "--sim-...: "},
		"fault":         {[]string{"run", path, "--simulate", "--sim-fault", "x"}, ExitBadInput, "--sim-fault x: "},
		"dead Redis":    {[]string{"run", path, "--simulate", "--redis", "127.0.0.1:1"}, ExitFailure, "cannot reach Redis at 127.0.0.1:1: connection refused"},
		"no robot":      {[]string{"run", "-"}, ExitBadInput, "standard input: is empty"},
		"submit, Redis": {[]string{"submit", path, "--redis", "127.0.0.1:1"}, ExitFailure, "cannot reach Redis at 127.0.0.1:1: connection refused"},
		"submit, file":  {[]string{"submit", "/nowhere.csv"}, ExitBadInput, "/nowhere.csv: cannot be opened"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runWith(t.Context(), nil, oneApp, c.args...)
			if got.code != c.code || got.out != "" || !strings.HasPrefix(got.err, "recall: "+c.want) || strings.Count(got.err, "\n") != 1 {
				t.Errorf("status %d, want %d; output %q, errors\n%swant\nrecall: %s", got.code, c.code, got.out, got.err, c.want)
			}
		})
	}
	if got := runWith(t.Context(), nil, nil, "run", path); got.code != ExitBadInput || !strings.HasPrefix(got.err, "recall: apps: is empty") {
		t.Errorf("without credentials: %+v", got)
	}
}
