package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dingrecall/upstream/simulator"
)

func TestSimulatorLine(t *testing.T) {
	t.Parallel()
	got := simulatorLine(simulator.Stats{Calls: 1, KeysAsked: 2, KeysDistinct: 3, KeysAskedAgain: 4, KeysRepeated: 1, Overlaps: 6, MaxKeysInCall: 7, MaxCallsPerSecond: 8, Throttled: 9})
	if got != "simulator: calls=1 keys=2 distinct=3 repeated=5 overlapping=6 max_batch=7 max_calls_per_second=8 throttled=9" {
		t.Error(got)
	}
}

// TestSimulate: it answers as its flags say, and at the end says what it was asked.
func TestSimulate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "stats.json")
	sim := launch(t, nil, "simulate", "--addr", "127.0.0.1:0", "--robots", "dinga,dingb", "--style", "whole", "--fault", "invalid-token,times=1", "--stats-json", file)
	base := find(t, &sim.out, `answers at (http://\S+)\. `)
	if !strings.Contains(sim.out.String(), "RECALL_UPSTREAM_BASE_URL="+base+" RECALL_APP_KEY=any") {
		t.Errorf("no example in\n%s", sim.out.String())
	}
	post := func(path, token, body string) (status int, given string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("x-acs-dingtalk-access-token", token)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var answer struct{ AccessToken string }
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, answer.AccessToken
	}
	code, token := post("/v1.0/oauth2/accessToken", "", `{"appKey":"any","appSecret":"any"}`)
	if code != 200 || token == "" {
		t.Fatalf("token: %d", code)
	}
	const recallPath = "/v1.0/robot/otoMessages/batchRecall"
	for i, c := range []struct {
		body string
		want int
	}{
		{`{"robotCode":"dinga","processQueryKeys":["k"]}`, 400}, // the fault
		{`{"robotCode":"dinga","processQueryKeys":["k","l"]}`, 200},
		{`{"robotCode":"dingc","processQueryKeys":["k"]}`, 400}, // no such robot
	} {
		if code, _ := post(recallPath, token, c.body); code != c.want {
			t.Errorf("call %d: %d", i+1, code)
		}
	}
	if code := sim.stop(); code != ExitOK || sim.err.String() != "" {
		t.Errorf("status %d, %s", code, sim.err.String())
	}
	if out := sim.out.String(); !strings.Contains(out, "\nsimulator: calls=3 ") || !strings.Contains(out, " max_batch=2 ") {
		t.Errorf("%s", out)
	}
	raw, err := os.ReadFile(file)
	var stats simulator.Stats
	if err != nil || json.Unmarshal(raw, &stats) != nil || stats.Calls != 3 || stats.Faults["invalid-token"] != 1 || stats.CallsByRobot["dinga"] == 0 {
		t.Errorf("%v\n%s", err, raw)
	}
}

func TestSimulateErrors(t *testing.T) {
	t.Parallel()
	taken := launch(t, nil, "simulate", "--addr", "127.0.0.1:0")
	addr := find(t, &taken.out, `answers at http://(\S+)\. `)
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"fault":      {[]string{"--fault", "nope"}, ExitBadInput, []string{`--fault: no fault is called "nope"; the faults are invalid-token, `}},
		"when":       {[]string{"--fault", "qps=2"}, ExitBadInput, []string{"--fault: fault qps: probability 2"}},
		"address":    {[]string{"--addr", "8099"}, ExitBadInput, []string{`--addr: "8099" is not host:port`}},
		"taken":      {[]string{"--addr", addr}, ExitFailure, []string{"choose another with --addr"}},
		"two":        {[]string{"--rate", "-1", "--style", "odd"}, ExitBadInput, []string{`--style: "odd" is none of`, "--rate: -1 is negative"}},
		"stats":      {[]string{"--stats-json", "/nowhere/x"}, ExitBadInput, []string{"--stats-json: /nowhere/x: no such file or directory"}},
		"reasons":    {[]string{"--reason-style", "x"}, ExitBadInput, []string{"--reason-style: "}},
		"already":    {[]string{"--already", "x"}, ExitBadInput, []string{"--already: "}},
		"monthly":    {[]string{"--monthly", "-1"}, ExitBadInput, []string{"--monthly: "}},
		"token life": {[]string{"--token-life", "1ms"}, ExitBadInput, []string{"--token-life: "}},
		"old tokens": {[]string{"--old-tokens", "x"}, ExitBadInput, []string{"--old-tokens: "}},
		"arguments":  {[]string{"x"}, ExitBadInput, []string{"takes no arguments"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := run(t, nil, append([]string{"simulate"}, c.args...)...)
			if got.code != c.code || got.out != "" || strings.Count(got.err, "\n") != len(c.want) {
				t.Errorf("%+v", got)
			}
			for _, want := range c.want {
				if !strings.Contains(got.err, "recall: ") || !strings.Contains(got.err, want) {
					t.Errorf("no %q in %q", want, got.err)
				}
			}
		})
	}
}

func TestListFaults(t *testing.T) {
	t.Parallel()
	got := run(t, nil, "simulate", "--list-faults")
	if got.code != ExitOK || !strings.Contains(got.out, "\nlost-answer ") || strings.Count(got.out, "\n") != len(simulator.Faults())+1 {
		t.Errorf("%+v", got)
	}
}
