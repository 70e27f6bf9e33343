package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"dingrecall/upstream/simulator"
)

func TestCheckPrintsTheConfiguration(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "worker:\n  linger: 5s\n  slice: 9s\nlog:\n  level: warn\n")
	for _, c := range []struct {
		environ []string
		args    []string
	}{
		{oneApp, []string{"check", "--config", file, "--log-level", "debug"}},
		{append([]string{"RECALL_CONFIG=" + file}, oneApp...), []string{"--log-level=debug", "check"}},
	} {
		got := run(t, append([]string{"RECALL_WORKER_SLICE=8s"}, c.environ...), c.args...)
		if got.code != ExitOK || got.err != "" {
			t.Fatalf("%v: %+v", c.args, got)
		}
		for _, want := range []string{"linger: 5s\n", "slice: 8s\n", "level: \"debug\"\n", "appSecret: \"[redacted]\"\n", "margin: 2m\n"} {
			if !strings.Contains(got.out, want) {
				t.Errorf("%v: no %q in\n%s", c.args, want, got.out)
			}
		}
		if strings.Contains(got.out, "hunter22") {
			t.Errorf("the secret is in the output:\n%s", got.out)
		}
	}
}

func TestCheckReportsEverything(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "worker:\n  linger: 5\nlog:\n  level: loud\nredis:\n  password: hunter22\n")
	got := run(t, oneApp, "check", "-c", file)
	if got.code != ExitBadInput || got.out != "" || strings.Count(got.err, "\n") != 3 || strings.Contains(got.err, "hunter22") {
		t.Errorf("%+v", got)
	}
	for line := range strings.Lines(got.err) {
		if !strings.HasPrefix(line, "recall: "+file+": ") {
			t.Errorf("a line without its place: %s", line)
		}
	}
	if got = run(t, nil, "check"); got.code != ExitBadInput || !strings.HasPrefix(got.err, "recall: apps: is empty; set RECALL_APP_KEY") {
		t.Errorf("without apps: %+v", got)
	}
}

func TestCheckWarns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("hunter22"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	got := run(t, append([]string{"RECALL_REDIS_PASSWORD_FILE=" + path}, oneApp...), "check")
	if got.code != ExitOK || !strings.HasPrefix(got.err, "recall: warning: redis.passwordFile: ") || strings.Contains(got.err+got.out, "hunter22") {
		t.Errorf("%+v", got)
	}
}

// fakeTokens answers token requests as the service documents it: a token for the right secret, an error body for another.
func fakeTokens(t *testing.T, secret string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ AppKey, AppSecret string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("the request is not JSON: %v", err)
		}
		w.Header().Set("Content-Type", "application/json")
		if body.AppSecret != secret {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"code":"invalidClientIdOrSecret","requestid":"R-1","message":"no such pair"}`))
			return
		}
		_, _ = w.Write([]byte(`{"accessToken":"tok-hunter33","expireIn":7200}`))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestCheckOnline(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	environ := append([]string{"RECALL_UPSTREAM_BASE_URL=" + fakeTokens(t, "hunter22"), "RECALL_REDIS_ADDR=" + redis.Addr()}, oneApp...)
	got := run(t, environ, "check", "--online")
	if got.code != ExitOK || got.err != "" || !strings.Contains(got.out, "\n# Redis at "+redis.Addr()+" answers\n# app \"default\" has a token, good until ") {
		t.Errorf("%+v", got)
	}
	if strings.Contains(got.out, "hunter") {
		t.Errorf("a secret is in the output:\n%s", got.out)
	}
}

func TestCheckOnlineReportsAllThatFails(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	redis.RequireAuth("another")
	environ := append([]string{"RECALL_UPSTREAM_BASE_URL=" + fakeTokens(t, "another"), "RECALL_REDIS_ADDR=" + redis.Addr()}, oneApp...)
	got := run(t, environ, "check", "--online")
	if got.code != ExitFailure || strings.Count(got.err, "\n") != 2 || strings.Contains(got.err, "hunter22") {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{
		"recall: Redis at " + redis.Addr() + " wants a password; set RECALL_REDIS_PASSWORD or redis.passwordFile\n",
		`recall: app "default" at http://127.0.0.1:`, "invalidClientIdOrSecret",
	} {
		if !strings.Contains(got.err, want) {
			t.Errorf("no %q in\n%s", want, got.err)
		}
	}
}

// TestCheckOnlineSharesTheToken: another token of a third-party app could end the one that the workers have, so theirs is taken; where there is none,
// they get the one that was asked for.
func TestCheckOnlineSharesTheToken(t *testing.T) {
	t.Parallel()
	sim, err := simulator.New(simulator.Config{SuiteTicket: "tick-hunter44", OldTokens: simulator.OldTokensDie})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	redis := miniredis.RunT(t)
	ticket := filepath.Join(t.TempDir(), "ticket")
	environ := append([]string{"RECALL_UPSTREAM_BASE_URL=" + server.URL, "RECALL_REDIS_ADDR=" + redis.Addr(), "RECALL_APP_KIND=third-party", "RECALL_APP_CORP_ID=corp",
		"RECALL_APP_SUITE_TICKET_FILE=" + ticket, "RECALL_REDIS_TOKEN_KEY=" + strings.Repeat("ab", 32)}, oneApp...)
	check := func(code int, ticketIs string, want ...string) {
		t.Helper()
		if err := os.WriteFile(ticket, []byte(ticketIs), 0o600); err != nil {
			t.Fatal(err)
		}
		got := run(t, environ, "check", "--online")
		if got.code != code || strings.Contains(got.out+got.err+redis.Dump(), "hunter") || strings.Contains(got.out+got.err, "abab") {
			t.Errorf("%+v", got)
		}
		for _, text := range append(want, `kind: "third-party"`, `corpId: "corp"`, `tokenKey: "[redacted]"`, `suiteTicketFile: "`+ticket+`"`) {
			if !strings.Contains(got.out+got.err, text) {
				t.Errorf("no %q in %+v", text, got)
			}
		}
	}
	check(ExitFailure, "old-hunter55", `recall: app "default" at http://127.0.0.1:`, "invalidSuiteTicket", "put the newest suite ticket into the app's suiteTicketFile")
	check(ExitFailure, "", "is empty; until it holds a suite ticket, this app gets no token", `the suite ticket file "`+ticket+`" is empty`)
	check(ExitOK, "tick-hunter44", "\n# app \"default\" has a token, good until ")
	check(ExitOK, "tick-hunter44", "\n# app \"default\" has a token, good until ")
	if n := sim.Stats().TokenCallsBy["corpAccessToken"]; n != 2 {
		t.Errorf("%d requests for a token, want one that is refused and one that is shared", n)
	}
	redis.Close()
	check(ExitFailure, "tick-hunter44", `app "default" at http://127.0.0.1:`, "no token was asked for, since it could end the one that the workers share in Redis")
}
