package upstream

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	testTicket = "ticket-4b3a2c1d0e9f8a7b6c5d<&>/+"
	testCorp   = "dingcorp0123456789abcdef"
)

// credentialsOf gives good credentials of a kind.
func credentialsOf(kind Kind) Credentials {
	cred := Credentials{Kind: kind, AppKey: testRobot, AppSecret: testSecret}
	if kind != KindInternal {
		cred.CorpID = testCorp
	}
	if kind == KindThirdParty {
		cred.Ticket = func() (Secret, error) { return testTicket, nil }
	}
	return cred
}

// TestTokenRequests: what goes over the wire for each kind, and that its answer is read in its own spelling only.
func TestTokenRequests(t *testing.T) {
	t.Parallel()
	const camel, snake = `{"accessToken":"abc","expireIn":7200}`, `{"access_token":"abc","expires_in":7200}`
	for kind, want := range map[Kind]struct{ request, answer, other string }{
		KindInternal:   {`/v1.0/oauth2/accessToken {"appKey":"` + testRobot + `","appSecret":"` + testSecret + `"}`, camel, snake},
		KindThirdParty: {`/v1.0/oauth2/corpAccessToken {"suiteKey":"` + testRobot + `","suiteSecret":"` + testSecret + `","authCorpId":"` + testCorp + `","suiteTicket":"` + testTicket + `"}`, camel, snake},
		KindUnified:    {`/v1.0/oauth2/` + testCorp + `/token {"client_id":"` + testRobot + `","client_secret":"` + testSecret + `","grant_type":"client_credentials"}`, snake, camel},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			var answer atomic.Value
			answer.Store(want.answer)
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if got := r.RequestURI + " " + string(body); r.Method != http.MethodPost || got != want.request {
					t.Errorf("the request is %s %s, want %s", r.Method, got, want.request)
				}
				if r.Header.Get("Content-Type") != "application/json" || r.Header.Get(tokenHeader) != "" {
					t.Errorf("headers %v", r.Header)
				}
				respond(200, answer.Load().(string))(w, r)
			})
			token, err := client.FetchToken(t.Context(), credentialsOf(kind))
			if err != nil || token.Value.Reveal() != "abc" || time.Until(token.ExpiresAt) < 119*time.Minute {
				t.Fatalf("%+v, %v", token, err)
			}
			answer.Store(want.other)
			if _, err := client.FetchToken(t.Context(), credentialsOf(kind)); err == nil || strings.Contains(everyText(err), "abc") {
				t.Errorf("the other spelling: %v", err)
			}
		})
	}
}

func TestCorpIsEscapedInThePath(t *testing.T) {
	t.Parallel()
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI != "/v1.0/oauth2/a%2Fb%3Fc%23/token" {
			t.Errorf("asked for %s", r.RequestURI)
		}
		respond(200, `{"access_token":"abc","expires_in":7200}`)(w, r)
	})
	cred := credentialsOf(KindUnified)
	cred.CorpID = "a/b?c#"
	if _, err := client.FetchToken(t.Context(), cred); err != nil {
		t.Error(err)
	}
}

// TestBadCredentials: each refusal holds the app, and one line says which credential to mend. Nothing is sent where one is missing.
func TestBadCredentials(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind   Kind
		status int
		code   string
		hint   string
	}{
		{KindInternal, 400, "invalidClientIdOrSecret", "check the app's key and secret"},
		{KindThirdParty, 400, "invalidSuiteKey", "check the suite's key and secret"},
		{KindThirdParty, 400, "invalidSuiteTicket", "put the newest suite ticket into the app's suiteTicketFile"},
		{KindThirdParty, 400, "invalidAuthInfo", "check the app's corpId"},
		{KindUnified, 400, "invalid.client", "check the app's client id and client secret"},
		{KindUnified, 401, "unauthorized.client", "check the app's corpId"},
	} {
		t.Run(test.code, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				respond(test.status, `{"code":"`+test.code+`","requestid":"R-1","message":"不"}`)(w, r)
			})
			_, err := client.FetchToken(t.Context(), credentialsOf(test.kind))
			v := asError(t, err).Verdict(0)
			if v.Scope != AppHold || !v.Known || !v.Blameless || v.Code != test.code || !strings.Contains(v.Hint, test.hint) {
				t.Errorf("verdict %+v", v)
			}
			if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, test.hint) || !strings.Contains(text, "R-1") {
				t.Errorf("it says %q", text)
			}
			if asked.Load() != 1 {
				t.Errorf("asked %d times", asked.Load())
			}
		})
	}

	client := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for name, test := range map[string]struct {
		kind  Kind
		spoil func(*Credentials)
		code  string
	}{
		"no secret":       {KindUnified, func(c *Credentials) { c.AppSecret = "" }, CodeRequestCredentials},
		"no key":          {KindThirdParty, func(c *Credentials) { c.AppKey = "" }, CodeRequestCredentials},
		"no organisation": {KindUnified, func(c *Credentials) { c.CorpID = "" }, CodeRequestCredentials},
		"no corp":         {KindThirdParty, func(c *Credentials) { c.CorpID = "" }, CodeRequestCredentials},
		"unknown kind":    {KindInternal, func(c *Credentials) { c.Kind, c.CorpID = "other", "x" }, CodeRequestCredentials},
		"nowhere":         {KindThirdParty, func(c *Credentials) { c.Ticket = nil }, CodeRequestTicket},
		"ticket of none":  {KindThirdParty, func(c *Credentials) { c.Ticket = func() (Secret, error) { return "", nil } }, CodeRequestTicket},
		"two lines":       {KindThirdParty, func(c *Credentials) { c.Ticket = func() (Secret, error) { return "a\nb", nil } }, CodeRequestTicket},
		"unreadable":      {KindThirdParty, func(c *Credentials) { c.Ticket = TicketFile("/nowhere/ticket") }, CodeRequestTicket},
	} {
		cred := credentialsOf(test.kind)
		test.spoil(&cred)
		_, err := client.FetchToken(t.Context(), cred)
		if e := asError(t, err); e.Class != ClassRequest || e.Code != test.code || e.Verdict(0).Scope != AppHold || e.Verdict(0).Hint == "" {
			t.Errorf("%s: %+v", name, e)
		}
		if name == "unreadable" && (!errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"/nowhere/ticket"`)) {
			t.Errorf("it says %v", err)
		}
	}
}

// TestTicketIsReadAfresh: for each request, and once more where it was refused and has changed since.
func TestTicketIsReadAfresh(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "ticket")
	write := func(ticket string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(ticket), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var asked atomic.Int64
	meanwhile := func() {}
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"suiteTicket":"good"`) {
			respond(200, `{"accessToken":"abc","expireIn":7200}`)(w, r)
			return
		}
		meanwhile()
		respond(400, `{"code":"invalidSuiteTicket"}`)(w, r)
	})
	cred := credentialsOf(KindThirdParty)
	cred.Ticket = TicketFile(name)
	want := func(ok bool, requests int64) {
		t.Helper()
		before := asked.Load()
		_, err := client.FetchToken(t.Context(), cred)
		if (err == nil) != ok || asked.Load()-before != requests {
			t.Errorf("%v, after %d requests", err, asked.Load()-before)
		}
	}
	write("\n good \r\n")
	want(true, 1)
	write("old")
	want(false, 1)
	write("good")
	want(true, 1)
	write("old")
	meanwhile = func() { write("good") }
	want(true, 2)
	meanwhile = func() { write("old" + time.Now().String()) } // always another, never good
	write("older")
	want(false, 2)
}

func TestTicketFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for text, want := range map[string]string{
		"ticket": "", " ticket\n": "", "\uFEFFticket\r\n": "", "\uFEFF": "is empty", "": "is empty", " \n": "is empty", "secret-a\nsecret-b": "more than one line", "secret-\xff": "no text",
		strings.Repeat("x", 5000): "longer than 4096 bytes", "secret\x00": "more than one line",
	} {
		name := filepath.Join(dir, "ticket")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ticket, err := TicketFile(name)()
		switch {
		case want == "" && (err != nil || ticket.Reveal() != "ticket"):
			t.Errorf("%q: %q, %v", text, ticket.Reveal(), err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || ticket != ""):
			t.Errorf("%.20q: %v", text, err)
		}
	}
	for _, name := range []string{dir, os.DevNull} {
		if _, err := TicketFile(name)(); !errors.Is(err, ErrNoRegularFile) {
			t.Errorf("%s was read: %v", name, err)
		}
	}
}
