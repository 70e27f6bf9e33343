package simulator

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestControl(t *testing.T) {
	t.Parallel()
	w := setupWire(t, Config{})
	do := func(method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, w.srv.BaseURL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	w.recall(w.keys(3)...)
	status, text := do(http.MethodGet, "/_sim/stats", "")
	var st Stats
	if err := json.Unmarshal([]byte(text), &st); err != nil || status != 200 || st.KeysRecalled != 3 || st.BatchSizes[3] != 1 || st.Apps["dingapp"].Calls != 1 {
		t.Errorf("stats: %d %s, %v", status, text, err)
	}
	if status, text := do(http.MethodPost, "/_sim/faults", `[{"fault":"qps","times":1}]`); status != 200 {
		t.Errorf("faults: %d %s", status, text)
	}
	if got := w.recall(w.key(Good)); got.code() != codeQpsApp {
		t.Errorf("the fault did not strike: %s", got.body)
	}
	for _, bad := range []string{`[{"fault":"typo","times":1}]`, `[{"fault":"qps"}]`, `[{"fault":"qps","tmies":1}]`, `{}`, ``} {
		if status, text := do(http.MethodPost, "/_sim/faults", bad); status != 400 || !strings.HasPrefix(text, `{"error":"`) {
			t.Errorf("faults %s: %d %s", bad, status, text)
		}
	}
	if status, text := do(http.MethodGet, "/_sim/faults", ""); status != 200 || !strings.Contains(text, `"lost-answer":"`) {
		t.Errorf("list of faults: %d %s", status, text)
	}
	if status, _ := do(http.MethodPost, "/_sim/reset", ""); status != 200 || w.sim.Stats().Calls != 0 {
		t.Errorf("reset: %d, %+v", status, w.sim.Stats())
	}
	if status, _ := do(http.MethodPost, "/_sim/revoke-tokens", ""); status != 200 || w.recall(w.key(Good)).code() != codeToken {
		t.Errorf("revoke-tokens: %d", status)
	}
	const corp = `{"suiteKey":"s","suiteSecret":"s","authCorpId":"c","suiteTicket":"fresh"}`
	for _, ticket := range []string{"other", " fresh\n"} {
		if status, text := do(http.MethodPost, "/_sim/suite-ticket", ticket); status != 200 {
			t.Errorf("suite-ticket: %d %s", status, text)
		}
		if got := w.post("/v1.0/oauth2/corpAccessToken", corp); (got.status == 200) != (ticket != "other") {
			t.Errorf("with the ticket %q: %d %s", ticket, got.status, got.body)
		}
	}
	if status, _ := do(http.MethodPost, "/_sim/suite-ticket", strings.Repeat("x", 5000)); status != 400 {
		t.Errorf("a huge suite ticket: %d", status)
	}
	for _, other := range [][2]string{{http.MethodGet, "/_sim/reset"}, {http.MethodPost, "/_sim/stats"}, {http.MethodGet, "/_sim/"}} {
		if status, _ := do(other[0], other[1], ""); status != 404 {
			t.Errorf("%v: %d", other, status)
		}
	}
}

func TestControlIsForThisMachineOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for remote, status := range map[string]int{
		"127.0.0.1:5": 200, "[::1]:5": 200, "[::ffff:127.0.0.1]:5": 200,
		"192.0.2.1:5": 403, "[2001:db8::1]:5": 403, "": 403, "localhost:5": 403,
	} {
		r := httptest.NewRequest(http.MethodPost, "/_sim/reset", nil)
		r.RemoteAddr = remote
		if got := b.do(r); got.status != status {
			t.Errorf("from %q: %d, want %d", remote, got.status, status)
		}
	}
}
