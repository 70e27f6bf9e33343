package simulator

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// wire is a simulator behind a real server, with a client that follows no redirects.
type wire struct {
	*bundle
	srv    *Server
	client *http.Client
}

func setupWire(t testing.TB, cfg Config) *wire {
	t.Helper()
	b := setup(t, cfg)
	srv, err := b.sim.Listen("")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true} // what comes gzipped was not asked for
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return &wire{b, srv, &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// send makes a recall. readErr is what went wrong after the headers.
func (w *wire) send(ctx context.Context, keys ...string) (got reply, readErr, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.srv.BaseURL()+recallPath, strings.NewReader(recallJSON(testRobot, keys...)))
	if err != nil {
		return reply{}, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(tokenHeader, w.token)
	resp, err := w.client.Do(r)
	if err != nil {
		return reply{}, nil, err
	}
	body, readErr := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return reply{resp.StatusCode, resp.Header, string(body)}, readErr, nil
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// expect is what a fault is to do to a call with nine good keys and an expired one.
type expect struct {
	status    int    // 0: no answer
	contains  string // in the body
	label     string // among the outcomes
	unapplied bool
	unmetered bool
	throttled bool
	told      bool // the client knows what became of all keys
	readErr   bool
	check     func(t *testing.T, b *bundle, keys []string, got reply)
}

func gunzip(body string) (string, error) {
	r, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		return "", err
	}
	plain, err := io.ReadAll(r)
	return string(plain), err
}

// faultTable has a row for every fault.
func faultTable() map[Fault]expect {
	noLists := expect{status: 200, unapplied: true}
	empty, nulls, none := noLists, noLists, noLists
	empty.label, nulls.label, none.label = "empty-200", "null-lists", "no-lists"
	nulls.contains, none.contains = `{"successResult":null,"failedResult":null}`, `{}`
	gate := func(status int, label, contains string) expect {
		return expect{status: status, label: label, contains: contains, unapplied: true, unmetered: true, throttled: strings.Contains(label, "Qp")}
	}
	service := func(status int, code string) expect {
		return expect{status: status, label: code, contains: code, unapplied: true}
	}
	return map[Fault]expect{
		FaultInvalidToken:  gate(400, codeToken, codeToken),
		FaultPermission:    gate(403, codePermission, scopeSendMessages),
		FaultIPWhitelist:   gate(403, codeIP, codeIP),
		FaultIPBan200:      gate(200, "ip-ban-200", `{"status":1111,"wait":5,"source":"x5","punish":"deny","uuid":"`),
		FaultIPBan403:      gate(403, "ip-ban-403", `{"status":1111,`),
		FaultIPBanHTML:     gate(403, "ip-ban-html", "<!DOCTYPE html>"),
		FaultQPS:           gate(403, codeQpsApp, codeQpsApp),
		FaultQPM:           gate(403, codeQpmApp, codeQpmApp),
		FaultAPICount:      gate(403, codeCount, codeCount),
		FaultBusy:          gate(429, codeSystemBusy, codeSystemBusy),
		FaultRetryAfter:    gate(429, codeSystemBusy, codeSystemBusy),
		FaultHTML502:       gate(502, "html-502", "<html>"),
		FaultHTML200:       gate(200, "html-200", "<!DOCTYPE html>"),
		FaultRedirect:      gate(307, "redirect", ""),
		FaultRedirectHost:  gate(302, "redirect-host", ""),
		FaultBare401:       gate(401, "bare-401", ""),
		FaultCut:           gate(0, "cut", ""),
		FaultSystemError:   service(500, codeSystemError),
		FaultInternalError: service(500, codeInternal),
		FaultServiceBusy:   service(503, codeServiceBusy),
		FaultTimeout504:    service(504, codeTimeout),
		FaultBare503:       {status: 503, label: "bare-503", unapplied: true},
		FaultError200:      {status: 200, label: "error-200", contains: codeSystemError, unapplied: true},
		FaultRobotUnknown:  service(400, codeRobot),
		FaultNotSender:     service(400, codeForeign),
		FaultParamInvalid:  service(400, codeParam),
		FaultNoKeys:        service(400, codeMissing),
		FaultOverMax:       service(400, codeOverMax),
		FaultKeyInvalid:    service(400, codeInvalidKey),
		FaultKeyExpired:    service(400, codeExpired),
		FaultUnknownCode:   service(400, codeNew),
		FaultEmpty200:      empty,
		FaultNoLists:       none,
		FaultNullLists:     nulls,
		FaultHang:          {unapplied: true, label: "hang"},
		FaultLostAnswer:    {label: "partial"},
		FaultTruncated: {status: 200, label: "partial", check: func(t *testing.T, _ *bundle, _ []string, got reply) {
			if json.Valid([]byte(got.body)) || got.body == "" {
				t.Errorf("not truncated: %s", got.body)
			}
		}},
		FaultCutBody: {status: 200, label: "partial", readErr: true},
		FaultHuge: {status: 200, label: "partial", check: func(t *testing.T, b *bundle, _ []string, got reply) {
			if len(got.body) < int(b.sim.cfg.HugeBytes) || !json.Valid([]byte(got.body)) {
				t.Errorf("%d bytes, want valid JSON of more than %d", len(got.body), b.sim.cfg.HugeBytes)
			}
		}},
		FaultSlow: {status: 200, label: "partial", told: true, contains: "successResult"},
		FaultDrip: {status: 200, label: "partial", told: true, contains: "successResult"},
		FaultGzip: {status: 200, label: "partial", told: true, check: func(t *testing.T, b *bundle, _ []string, got reply) {
			if plain, err := gunzip(got.body); err != nil || got.header.Get("Content-Encoding") != "gzip" || !strings.Contains(plain, "successResult") {
				t.Errorf("got %q, %v", plain, err)
			}
		}},
		FaultGzipRubbish: {status: 200, label: "partial", check: func(t *testing.T, b *bundle, _ []string, got reply) {
			if plain, err := gunzip(got.body); err == nil || got.header.Get("Content-Encoding") != "gzip" {
				t.Errorf("got %q without an error", plain)
			}
		}},
		FaultContentType: {status: 200, label: "partial", contains: "successResult", check: func(t *testing.T, _ *bundle, _ []string, got reply) {
			if ct := got.header.Get("Content-Type"); !strings.HasPrefix(ct, "text/html") {
				t.Errorf("content type %q", ct)
			}
		}},
		FaultMissingKeys: {status: 200, label: "partial", check: func(t *testing.T, b *bundle, keys []string, got reply) {
			success, failed := b.lists(got)
			if len(success)+len(failed) >= len(keys) {
				t.Errorf("no key is missing: %s", got.body)
			}
		}},
		FaultBothLists: {status: 200, label: "partial", check: func(t *testing.T, b *bundle, keys []string, got reply) {
			success, failed := b.lists(got)
			if _, both := failed[keys[0]]; !both || !slices.Contains(success, keys[0]) || len(success) != 9 || len(failed) != 2 {
				t.Errorf("no key is in both: %s", got.body)
			}
		}},
		FaultForeignKeys: {status: 200, label: "partial", told: true, check: func(t *testing.T, b *bundle, keys []string, got reply) {
			success, failed := b.lists(got)
			if len(success) != 10 || len(failed) != 2 || slices.Contains(keys, success[9]) {
				t.Errorf("no foreign key: %s", got.body)
			}
		}},
		FaultRepeatedKey: {status: 200, label: "partial", told: true, check: func(t *testing.T, b *bundle, keys []string, got reply) {
			if success, _ := b.lists(got); len(success) != 10 || success[0] != keys[0] || success[1] != keys[0] {
				t.Errorf("no key is repeated: %s", got.body)
			}
		}},
		FaultEmptyLists:      {status: 200, label: "partial", contains: `{"successResult":[],"failedResult":{}}`},
		FaultFailedList:      {status: 200, label: "partial", told: true, contains: `"reason":"robot.processQueryKey.expired"}]`},
		FaultNested:          {status: 200, label: "partial", told: true, contains: `:{"code":"robot.processQueryKey.expired"`},
		FaultUnknownReason:   {status: 200, label: "partial", contains: codeNew},
		FaultRobotReason:     {status: 200, label: "allFailed", contains: codeRobot, unapplied: true},
		FaultSystemReason:    {status: 200, label: "allFailed", contains: codeSystemError, unapplied: true},
		FaultQPSReason:       {status: 200, label: "allFailed", contains: codeQpsApp, unapplied: true},
		FaultNotRevokeReason: {status: 200, label: "partial", contains: codeNotRevoke},
		FaultNotRevoke:       {status: 400, label: codeNotRevoke, contains: codeNotRevoke},
		FaultNotRevokeLists:  {status: 400, label: codeNotRevoke, contains: `"successResult":["`},
	}
}

func TestEveryFault(t *testing.T) {
	t.Parallel()
	table := faultTable()
	if len(table) != len(Faults()) {
		t.Errorf("%d faults are tested, there are %d", len(table), len(Faults()))
	}
	for fault, want := range table {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			w := setupWire(t, Config{HugeBytes: 1 << 20, SlowFor: 20 * time.Millisecond})
			if err := w.sim.SetFaults(FaultRule{Fault: fault, Times: 1}); err != nil {
				t.Fatal(err)
			}
			keys := append(w.keys(9), w.key(Expired))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if fault == FaultHang {
				go func() {
					eventually(t, "the call arrives", func() bool { return w.sim.Stats().Faults["hang"] == 1 })
					cancel()
				}()
			}
			got, readErr, err := w.send(ctx, keys...)
			if (err != nil) != (want.status == 0) || got.status != want.status || (readErr != nil) != want.readErr || !strings.Contains(got.body, want.contains) {
				t.Fatalf("got %d %.200s, %v, %v", got.status, got.body, readErr, err)
			}
			eventually(t, "the call is over", func() bool { return len(w.sim.Stats().Outcomes) > 0 })
			if want.check != nil {
				want.check(t, w.bundle, keys, got)
			}
			st := w.sim.Stats()
			if st.Outcomes[want.label] != 1 || st.Faults[string(fault)] != 1 || (st.KeysRecalled == 0) != want.unapplied || (st.Metered == 0) != want.unmetered || (st.Throttled == 1) != want.throttled {
				t.Errorf("stats %+v", st)
			}
			// The rule is used up; the same keys again.
			got, _, err = w.send(t.Context(), keys...)
			if err != nil || got.status != 200 {
				t.Fatalf("without the fault: %d %s, %v", got.status, got.body, err)
			}
			st = w.sim.Stats()
			if st.KeysRecalled != 9 || st.KeysDistinct != 10 || st.KeysAskedAgain != 10 || st.Overlaps != 0 {
				t.Errorf("stats after both %+v", st)
			}
			if told := st.KeysAskedAfterTold == 10; told != want.told {
				t.Errorf("%d keys were asked again after they were told of", st.KeysAskedAfterTold)
			}
			if fault == FaultRedirect {
				if resp, err := w.client.Get(w.srv.BaseURL() + redirectTarget); err != nil || resp.Body.Close() != nil || resp.StatusCode != 404 || w.sim.Stats().RedirectsFollowed != 1 {
					t.Errorf("following it: %v, %v", resp, err)
				}
			}
		})
	}
}

func TestRetryAfterHeader(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Faults: []FaultRule{{Fault: FaultRetryAfter, To: 1}, {Fault: FaultBusy, Probability: 1}}})
	if got := b.recall(b.key(Good)); got.status != 429 || got.header.Get("Retry-After") != "1" {
		t.Errorf("got %d %v", got.status, got.header)
	}
	if got := b.recall(b.key(Good)); got.status != 429 || got.header.Get("Retry-After") != "" {
		t.Errorf("got %d %v", got.status, got.header)
	}
}

func TestFaultSchedule(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"system-error":                      "xxxxxxxxxxxx",
		"system-error,from=3,to=5":          "..xxx.......",
		"system-error,to=2":                 "xx..........",
		"system-error,from=11":              "..........xx",
		"system-error,every=4":              "...x...x...x",
		"system-error,times=2":              "xx..........",
		"system-error,every=3,from=4":       ".....x..x..x",
		"system-error,api=token":            "............",
		"system-error,api=readStatus":       "............",
		"system-error=1,every=2,times=3":    ".x.x.x......",
		"system-error,api=batchRecall,to=1": "x...........",
		"system-error,robot=another":        "............",
	} {
		rule, err := ParseFaultRule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		b := setup(t, Config{})
		if err := b.sim.SetFaults(rule); err != nil {
			t.Fatal(err)
		}
		got := ""
		for range len(want) {
			if b.recall(b.key(Good)).status == 200 {
				got += "."
			} else {
				got += "x"
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestFaultProbabilityAndOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Faults: []FaultRule{{Fault: FaultQPS, Probability: 0.3}, {Fault: FaultSystemError, From: 101}}})
	codes := map[string]int{}
	for range 400 {
		codes[b.recall(b.key(Good)).code()]++
	}
	if codes[codeQpsApp] < 85 || codes[codeQpsApp] > 155 || codes[""]+codes[codeQpsApp]+codes[codeSystemError] != 400 || codes[""] < 50 || codes[""] > 90 {
		t.Errorf("codes %v", codes)
	}
	if err := b.sim.SetFaults(); err != nil {
		t.Fatal(err)
	}
	if got := b.recall(b.key(Good)); got.status != 200 {
		t.Errorf("without rules: %s", got.body)
	}
	// A bad rule leaves the rules as they are.
	if err := b.sim.SetFaults(FaultRule{Fault: "typo", Probability: 1}); err == nil || b.recall(b.key(Good)).status != 200 {
		t.Errorf("a bad rule: %v", err)
	}
}

func TestTokenFaults(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	if err := b.sim.SetFaults(FaultRule{Fault: FaultInternalError, API: APIToken, Times: 1}); err != nil {
		t.Fatal(err)
	}
	const body = `{"appKey":"dingapp","appSecret":"s3cret"}`
	if got := b.post("/v1.0/oauth2/accessToken", body); got.status != 500 || got.code() != codeInternal {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := b.post("/v1.0/oauth2/accessToken", body); got.status != 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// TestFaultOfARobot: calls of other robots neither meet it nor count, whatever they call.
func TestFaultOfARobot(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	const one, another = "dingone", "dinganother"
	ask := func(robot string) string { // one code for each API
		recalled := b.post(recallPath, recallJSON(robot, b.key(Good)))
		group := b.post(groupPath, `{"robotCode":"`+robot+`","openConversationId":"cid","processQueryKeys":["`+b.key(Good)+`"]}`)
		status := b.do(request(http.MethodGet, "/v1.0/robot/oToMessages/readStatus?robotCode="+robot+"&processQueryKey=k", b.token, ""))
		return strings.Join([]string{recalled.code(), group.code(), status.code()}, " ")
	}
	if err := b.sim.SetFaults(
		FaultRule{Fault: FaultPermission, Robot: one, To: 2},
		FaultRule{Fault: FaultIPWhitelist, Robot: one, API: APIReadStatus, Times: 1},
	); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ robot, codes string }{
		{another, "  "}, {one, codePermission + " " + codePermission + " " + codeIP}, {another, "  "}, {one, "  "},
	} {
		if got := ask(want.robot); got != want.codes {
			t.Errorf("calls %d, of %s: %q, want %q", i, want.robot, got, want.codes)
		}
	}
}

func TestFaultRuleProblems(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"typo":                      "the faults are invalid-token, permission",
		"qps=lots":                  "not a number",
		"qps=-1":                    "probability",
		"qps=NaN":                   "probability",
		"qps=1.01":                  "probability",
		"qps=0":                     "say when",
		"qps,from=-1":               "negative",
		"qps,from=5,to=4":           "before",
		"qps,from=x":                "whole number",
		"qps,when=now":              "none of api",
		"qps,api=nosuch":            "no api",
		"missing-keys,api=token":    "lists",
		"both-lists,api=readStatus": "lists",
		"qps,api=token,robot=r":     "no robot",
	} {
		if rule, err := ParseFaultRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want an error with %q", text, rule, err, want)
		}
	}
}

// TestLostAnswerIsApplied is the case that matters most: the message is gone, and the client does not know.
func TestLostAnswerIsApplied(t *testing.T) {
	t.Parallel()
	w := setupWire(t, Config{AlreadyRecalled: AlreadyInvalid, Faults: []FaultRule{{Fault: FaultLostAnswer, Times: 1}}})
	key := w.key(Good)
	if got, _, err := w.send(t.Context(), key); !errors.Is(err, io.EOF) {
		t.Fatalf("got %+v, %v, want the connection cut", got, err)
	}
	got, _, err := w.send(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	w.wantFailed(got, map[string]string{key: codeInvalidKey})
	if st := w.sim.Stats(); st.KeysRecalled != 1 || st.KeysAskedRecalled != 1 || st.KeysAskedAfterTold != 0 {
		t.Errorf("stats %+v", st)
	}
}
