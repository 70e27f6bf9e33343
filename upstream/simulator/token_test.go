package simulator

import (
	"maps"
	"net/http"
	"regexp"
	"testing"
	"time"
)

func TestTokenEndpoints(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Apps: map[string]string{"dingapp": "s3cret", "suite1": "su1te"}, CorpIDs: []string{"corp1"}, SuiteTicket: "tick"})
	const (
		internal = "/v1.0/oauth2/accessToken"
		corp     = "/v1.0/oauth2/corpAccessToken"
		unified  = "/v1.0/oauth2/corp1/token"
	)
	for name, tc := range map[string]struct {
		path, body string
		status     int
		code       string // empty: a token
		shape      string // of a token
	}{
		"internal":             {internal, `{"appKey":"dingapp","appSecret":"s3cret"}`, 200, "", `^\{"accessToken":"[0-9a-f]{32}","expireIn":7200\}$`},
		"internal, secret":     {internal, `{"appKey":"dingapp","appSecret":"wrong"}`, 400, codeCredentials, ""},
		"internal, app":        {internal, `{"appKey":"nobody","appSecret":"s3cret"}`, 400, codeCredentials, ""},
		"internal, empty":      {internal, `{}`, 400, codeCredentials, ""},
		"internal, no JSON":    {internal, `appKey=dingapp`, 400, codeParam, ""},
		"corp":                 {corp, `{"suiteKey":"suite1","suiteSecret":"su1te","authCorpId":"corp1","suiteTicket":"tick"}`, 200, "", `^\{"accessToken":"[0-9a-f]{32}","expireIn":7200\}$`},
		"corp, secret":         {corp, `{"suiteKey":"suite1","suiteSecret":"x","authCorpId":"corp1","suiteTicket":"tick"}`, 400, codeSuiteKey, ""},
		"corp, ticket":         {corp, `{"suiteKey":"suite1","suiteSecret":"su1te","authCorpId":"corp1","suiteTicket":"old"}`, 400, codeSuiteTicket, ""},
		"corp, no ticket":      {corp, `{"suiteKey":"suite1","suiteSecret":"su1te","authCorpId":"corp1"}`, 400, codeSuiteTicket, ""},
		"corp, organisation":   {corp, `{"suiteKey":"suite1","suiteSecret":"su1te","authCorpId":"corp2","suiteTicket":"tick"}`, 400, codeAuthInfo, ""},
		"corp, no JSON":        {corp, `[]`, 400, codeParam, ""},
		"unified":              {unified, `{"client_id":"dingapp","client_secret":"s3cret","grant_type":"client_credentials"}`, 200, "", `^\{"access_token":"[0-9a-f]{32}","expires_in":7200\}$`},
		"unified, secret":      {unified, `{"client_id":"dingapp","client_secret":"x","grant_type":"client_credentials"}`, 400, codeClient, ""},
		"unified, grant":       {unified, `{"client_id":"dingapp","client_secret":"s3cret"}`, 400, codeParam, ""},
		"unified, unknown org": {"/v1.0/oauth2/corp2/token", `{"client_id":"dingapp","client_secret":"s3cret","grant_type":"client_credentials"}`, 401, codeUnauthorized, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.post(tc.path, tc.body)
			if got.status != tc.status || got.code() != tc.code {
				t.Fatalf("got %d %s, want %d %q", got.status, got.body, tc.status, tc.code)
			}
			if tc.code == "" && !regexp.MustCompile(tc.shape).MatchString(got.body) {
				t.Errorf("got %s, want %s", got.body, tc.shape)
			}
		})
	}
	form := request(http.MethodPost, internal, "", `{"appKey":"dingapp","appSecret":"s3cret"}`)
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if got := b.do(form); got.status != 400 || got.code() != codeParam {
		t.Errorf("a body that is not JSON got %d %s", got.status, got.body)
	}
	st := b.sim.Stats()
	if st.TokenCalls != 17 || st.TokensRefused != 13 { // setup made one call
		t.Errorf("%d token calls, %d refused", st.TokenCalls, st.TokensRefused)
	}
	if want := (map[string]int64{"accessToken": 7, "corpAccessToken": 6, "unified": 4}); !maps.Equal(st.TokenCallsBy, want) {
		t.Errorf("by endpoint %v, want %v", st.TokenCallsBy, want)
	}
	if b.sim.SetSuiteTicket("new"); b.post(corp, `{"suiteKey":"suite1","suiteSecret":"su1te","authCorpId":"corp1","suiteTicket":"tick"}`).code() != codeSuiteTicket {
		t.Error("the old ticket still works")
	}
}

func TestTokenLife(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{TokenLifetime: time.Hour})
	key := b.key(Good)
	want := func(what, token, code string) {
		t.Helper()
		if got := b.do(request(http.MethodPost, recallPath, token, recallJSON(testRobot, key))); got.code() != code {
			t.Errorf("%s: got %d %s, want code %q", what, got.status, got.body, code)
		}
	}
	want("fresh", b.token, "")
	want("none", "", codeToken)
	want("made up", "0123456789abcdef0123456789abcdef", codeToken)
	b.clock.Add(59 * time.Minute)
	if again := b.newToken(); again != b.token {
		t.Error("asking again gave another token; an internal app gets the same one")
	}
	b.clock.Add(59 * time.Minute)
	want("renewed", b.token, "")
	b.clock.Add(time.Minute)
	want("expired", b.token, codeToken)
	second := b.newToken()
	if second == b.token {
		t.Error("an expired token was given out again")
	}
	want("second", second, "")
	b.sim.RevokeTokens()
	want("revoked", second, codeToken)
	third := b.newToken()
	if third == second {
		t.Error("a revoked token was given out again")
	}
	want("third", third, "")
}

// TestOlderTokens: asking again for a third-party app gives a new token, at the unified endpoint one or the other; and an older one lives on or
// does not.
func TestOlderTokens(t *testing.T) {
	t.Parallel()
	const corp, unified = "/v1.0/oauth2/corpAccessToken", "/v1.0/oauth2/c/token"
	for name, tc := range map[string]struct {
		cfg   Config
		path  string
		same  bool
		older string // what a call with the older token gets
	}{
		"third-party":               {Config{}, corp, false, ""},
		"third-party, old ones die": {Config{OldTokens: OldTokensDie}, corp, false, codeToken},
		"unified":                   {Config{OldTokens: OldTokensDie}, unified, true, ""},
		"unified, new":              {Config{UnifiedAgain: AgainNew}, unified, false, ""},
		"unified, new, old die":     {Config{UnifiedAgain: AgainNew, OldTokens: OldTokensDie}, unified, false, codeToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, tc.cfg)
			ask := func(app string) string {
				t.Helper()
				body := `{"suiteKey":"` + app + `","suiteSecret":"s","authCorpId":"c","suiteTicket":"t"}`
				if tc.path == unified {
					body = `{"client_id":"` + app + `","client_secret":"s","grant_type":"client_credentials"}`
				}
				text := regexpToken(b.post(tc.path, body).body)
				if text == "" {
					t.Fatal("no token")
				}
				return text
			}
			call := func(token string) string {
				return b.do(request(http.MethodPost, recallPath, token, recallJSON(testRobot, b.key(Good)))).code()
			}
			first, others := ask("s"), ask("another")
			second := ask("s")
			if (first == second) != tc.same {
				t.Errorf("asking again gave %q after %q", second, first)
			}
			if got := call(first); got != tc.older {
				t.Errorf("the older token got %q, want %q", got, tc.older)
			}
			if call(second) != "" || call(others) != "" {
				t.Error("a newest token is refused")
			}
		})
	}
}

func TestAnyToken(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{AnyToken: true})
	for token, code := range map[string]string{"whatever": "", b.token: "", "": codeToken} {
		if got := b.do(request(http.MethodPost, recallPath, token, recallJSON(testRobot, b.key(Good)))); got.code() != code {
			t.Errorf("token %q: got %s, want code %q", token, got.body, code)
		}
	}
	if apps := b.sim.Stats().Apps; apps["any"].Calls != 1 || apps["dingapp"].Calls != 1 {
		t.Errorf("apps %+v", apps)
	}
}

func TestTokensAreSweptOut(t *testing.T) {
	t.Parallel()
	tok := newTokens(1)
	now := time.Unix(1_800_000_000, 0)
	for range 3 * maxTokens {
		tok.give(order{name: "suite@corp", suite: true, again: AgainNew, lifetime: time.Minute}, now)
		now = now.Add(time.Second)
	}
	if n := len(tok.live); n > maxTokens {
		t.Errorf("%d tokens are kept", n)
	}
}
