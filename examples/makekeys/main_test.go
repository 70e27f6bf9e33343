package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dingrecall/upstream/simulator"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func generate(t *testing.T, args ...string) (file, told string) {
	t.Helper()
	var out, errs bytes.Buffer
	if err := run(args, &out, &errs, now); err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String()
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	file, told := generate(t)
	rows := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
	if rows[0] != "processQueryKey,robotCode,sentAt" || len(rows) != 20_001 {
		t.Fatalf("%d rows, the first is %q", len(rows), rows[0])
	}
	kinds := map[simulator.Kind]int{}
	robots := map[string]int{}
	seen := map[string]bool{}
	expiredTold, expiredUntold := 0, 0
	for _, row := range rows[1:] {
		key, rest, _ := strings.Cut(row, ",")
		robot, sent, _ := strings.Cut(rest, ",")
		if seen[key] {
			continue
		}
		seen[key] = true
		robots[robot]++
		kind, sentAt, ok := simulator.ReadKey(key)
		if !ok {
			t.Fatalf("%q is no key of the simulator", key)
		}
		kinds[kind]++
		switch expired := now.Sub(sentAt) >= window; {
		case expired != (kind == simulator.Expired):
			t.Fatalf("a key of kind %v was sent at %v", kind, sentAt)
		case expired && sent == "":
			expiredUntold++
		case sent != sentAt.UTC().Format(time.RFC3339):
			t.Fatalf("the file says %q, the key %v", sent, sentAt)
		case expired:
			expiredTold++
		}
	}
	want := map[simulator.Kind]int{simulator.Good: 19_895, simulator.Expired: 40, simulator.Unknown: 30, simulator.Foreign: 30}
	for kind, n := range want {
		if kinds[kind] != n {
			t.Errorf("%d keys of kind %v, want %d", kinds[kind], kind, n)
		}
	}
	if len(kinds) != len(want) || len(seen) != 19_995 || len(robots) != 4 || expiredTold != 20 || expiredUntold != 20 {
		t.Errorf("kinds %v, %d distinct, robots %v, expired %d told and %d not", kinds, len(seen), robots, expiredTold, expiredUntold)
	}
	wantTold := `20000 lines, 19995 distinct keys, robots: 4, seed 1; a run is to end with
   19895 recalled
     100 dead
        20 window.closed                  (expired, and the file says so: no call is spent on them)
        20 robot.processQueryKey.expired  (expired, and the file has no sentAt)
        30 invalid.processQueryKey        (unknown)
        30 not.allowed.robotCode          (sent by another robot)
`
	if told != wantTold {
		t.Errorf("told\n%s\nwant\n%s", told, wantTold)
	}
}

func TestRepeatable(t *testing.T) {
	t.Parallel()
	args := []string{"-n", "300", "-seed", "7", "-system-error", "2"}
	a, _ := generate(t, args...)
	b, _ := generate(t, args...)
	c, _ := generate(t, append(args, "-seed", "8")...)
	d, _ := generate(t, append(args, "-now", "2026-11-23T11:00:00+01:00")...)
	if a != b || a == c || a != d {
		t.Errorf("same arguments: equal %v; another seed: equal %v; the same moment: equal %v", a == b, a == c, a == d)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	small := []string{"-n", "50", "-robots", "1", "-expired", "4", "-unknown", "2", "-foreign", "2", "-system-error", "1", "-duplicates", "1"}
	for name, want := range map[string]string{"x.csv": "processQueryKey,", "x.NDJSON": `{"sentAt":`, "x.jsonl": `{"sentAt":`, "x.txt": "# to be used with --robot ding", "x": "processQueryKey,"} {
		path := filepath.Join(t.TempDir(), name)
		_, told := generate(t, append(small, "-out", path)...)
		content, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(content), want) || strings.Count(string(content), "SimKey01") != 50 {
			t.Errorf("%s: %v, %.60s", name, err, content)
		}
		if wantTold := map[bool]string{true: " 4 robot.processQueryKey.expired", false: " 2 window.closed"}[strings.HasSuffix(name, ".txt")]; !strings.Contains(told, wantTold) {
			t.Errorf("%s: told %s", name, told)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none", "x.csv")
	for args, want := range map[string]string{
		"-n 0":                     "at least 1",
		"-n 100":                   "the special lines are 105",
		"-robots 0":                "at least 1",
		"-expired -1":              "negative",
		"-format xml":              "use csv, ndjson or plain",
		"-format plain":            "add -robots 1",
		"-age 25h":                 "less than 24h",
		"-now today":               "not RFC 3339",
		"-bogus":                   "not defined",
		"keys.csv":                 "named with -out",
		"-out " + none + " -n 500": "cannot be written",
	} {
		var out, errs bytes.Buffer
		if err := run(strings.Fields(args), &out, &errs, now); err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

// The simulator answers as the file foretells.
func TestSimulatorAgrees(t *testing.T) {
	t.Parallel()
	file, _ := generate(t, "-n", "500", "-system-error", "2", "-robots", "1")
	sim, err := simulator.New(simulator.Config{AnyToken: true, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	robot := ""
	for _, row := range strings.Fields(file)[1:] {
		cells := strings.Split(row, ",")
		if !slices.Contains(keys, cells[0]) {
			keys = append(keys, cells[0])
		}
		robot = cells[1]
	}
	got := map[string]int{}
	for part := range slices.Chunk(keys, 20) {
		body, err := json.Marshal(map[string]any{"robotCode": robot, "processQueryKeys": part})
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest(http.MethodPost, "/v1.0/robot/otoMessages/batchRecall", bytes.NewReader(body))
		req.Header.Set("x-acs-dingtalk-access-token", "any")
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		sim.ServeHTTP(rec, req)
		var answer struct {
			SuccessResult []string          `json:"successResult"`
			FailedResult  map[string]string `json:"failedResult"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || rec.Code != http.StatusOK {
			t.Fatalf("%d %s: %v", rec.Code, rec.Body, err)
		}
		got["recalled"] += len(answer.SuccessResult)
		for _, reason := range answer.FailedResult {
			got[reason]++
		}
	}
	want := map[string]int{"recalled": 393, "robot.processQueryKey.expired": 40, "invalid.processQueryKey": 30, "not.allowed.robotCode": 30, "system.error": 2}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
