package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// everyText is all that a careless caller might print of an error, and of what it wraps.
func everyText(err error) string {
	var b strings.Builder
	for e := err; e != nil; e = errors.Unwrap(e) {
		fmt.Fprintf(&b, "%v\n%+v\n%#v\n%s\n%q\n", e, e, e, e, e)
		encoded, _ := json.Marshal(e)
		b.Write(encoded)
	}
	var typed *Error
	if errors.As(err, &typed) {
		for _, keys := range []int{1, 2} {
			v := typed.Verdict(keys)
			fmt.Fprintf(&b, "%+v %#v", v, v)
		}
		fmt.Fprintf(&b, "%+v %#v %+v", *typed, *typed, typed.Partial)
	}
	return b.String()
}

func assertNoLeak(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{testToken, testSecret, testTicket} {
		for _, form := range []string{secret, url.QueryEscape(secret), html.EscapeString(secret), secret[4:20]} {
			if strings.Contains(text, form) {
				t.Errorf("%q leaks in: %s", form, text)
			}
		}
	}
}

func TestNoFailureTellsASecret(t *testing.T) {
	t.Parallel()
	var echoes []string
	for _, secret := range []string{testToken, testSecret, testTicket} {
		echoes = append(echoes, secret, url.QueryEscape(secret), html.EscapeString(secret))
	}
	all := strings.Join(echoes, " ")
	quoted := string(appendJSONString(nil, all))
	page := "<html><title>" + all + "</title><body>" + all + "</body></html>"
	objectBody := `{"code":` + quoted + `,"message":` + quoted + `,"requestid":` + quoted + `,"accessdenieddetail":{"requiredScopes":[` + quoted + `]}}`
	handlers := map[string]http.HandlerFunc{
		"error 400":            respond(400, objectBody, requestIDHeader, all),
		"error 500":            respond(500, objectBody),
		"error 200":            respond(200, objectBody),
		"numbers and objects":  respond(400, `{"code":[`+quoted+`],"message":{"a":`+quoted+`},"requestid":[`+quoted+`]}`),
		"object without codes": respond(400, `{"headers":{"token":`+quoted+`}}`),
		"long message":         respond(400, `{"code":"x","message":"`+strings.Repeat("m", MaxMessageRunes-10-len(testToken)/2)+testToken+testSecret+`"}`),
		"page 200":             respond(200, page, "Content-Type", "text/html"),
		"page 403":             respond(403, page),
		"plain text":           respond(200, all),
		"truncated":            respond(200, `{"message":`+quoted[:len(quoted)-3]),
		"too large":            respond(200, `{"message":`+quoted+strings.Repeat(" ", 5000)+`}`),
		"redirect":             respond(302, "", "Location", "https://elsewhere.example/?"+url.QueryEscape(testToken)+"="+url.QueryEscape(testSecret)),
		"bad redirect":         respond(302, "", "Location", "http://%zz"+testToken+testSecret),
		"empty":                respond(200, ""),
		"token of no use":      respond(200, `{"accessToken":`+string(appendJSONString(nil, testToken))+`,"expireIn":"soon","message":`+quoted+`}`),
		"token of no header":   respond(200, `{"accessToken":`+string(appendJSONString(nil, testToken+"\n"))+`,"expireIn":7200}`),
		"snake token":          respond(200, `{"access_token":`+string(appendJSONString(nil, testToken))+`,"expires_in":"soon","message":`+quoted+`}`),
		"token as an object":   respond(200, `{"accessToken":{"value":`+string(appendJSONString(nil, testToken))+`}}`),
		"reasons":              respond(400, `{"code":"notRevoke.all.messages","failedResult":{"`+testKeys(1)[0]+`":`+quoted+`}}`),
		"reasons of objects":   respond(400, `{"code":"notRevoke.all.messages","failedResult":{"`+testKeys(1)[0]+`":{"x":`+quoted+`}}}`),
	}
	bases := map[string]string{
		"refused":  refused(t),
		"no HTTP":  raw(t, "hello "+all+"\r\n\r\n"),
		"bad head": raw(t, "HTTP/1.1 200 OK\r\nX "+all+"\r\n\r\n"),
		"bad size": raw(t, "HTTP/1.1 200 OK\r\nContent-Length: "+testToken+testSecret+"\r\n\r\n"),
		"cut body": raw(t, "HTTP/1.1 500 "+testToken+"\r\nContent-Length: 5000\r\n\r\n"+all),
		"no TLS":   "https" + strings.TrimPrefix(raw(t, all), "http"),
	}
	for name, handler := range handlers {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		bases[name] = server.URL
	}
	hangs := httptest.NewServer(http.HandlerFunc(untilGone))
	t.Cleanup(hangs.Close)
	bases["hangs"] = hangs.URL

	for name, base := range bases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, base, func(c *Config) { c.MaxResponseBytes = 4096 })
			if name == "hangs" {
				client.cfg.Timeout = 100 * time.Millisecond
			}
			_, err := client.BatchRecall(t.Context(), testToken, testRobot, testKeys(1))
			asError(t, err)
			// A recall knows only the token, a token call only the secret: each is tried with what it sends.
			if text := everyText(err); strings.Contains(text, testToken) || strings.Contains(text, testToken[4:20]) {
				t.Errorf("a recall leaks its token: %s", text)
			}
			for _, kind := range Kinds() {
				token, err := client.FetchToken(t.Context(), credentialsOf(kind))
				if err == nil {
					t.Fatalf("a token came of it: %+v", token)
				}
				text := everyText(err)
				if strings.Contains(name, "token") && strings.Contains(text, testToken[4:20]) {
					t.Errorf("a token call of kind %s leaks the token: %s", kind, text)
				}
				for _, secret := range []string{testSecret, testTicket} {
					if kind != KindThirdParty && secret == testTicket {
						continue // it is not theirs
					}
					if strings.Contains(text, secret) || strings.Contains(text, secret[4:20]) {
						t.Errorf("a token call of kind %s leaks %q: %s", kind, secret, text)
					}
				}
			}
		})
	}
}

// TestEscapedSecretsAreRedacted: a body is kept as it came where nothing in it is known, and so may hold the token in any of the ways in which
// JSON can write a string, once or twice over.
func TestEscapedSecretsAreRedacted(t *testing.T) {
	t.Parallel()
	key := testKeys(1)
	everywhere := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		return b.String()
	}
	for name, escape := range map[string]func(string) string{
		"solidus":         func(s string) string { return strings.ReplaceAll(s, "/", `\/`) },
		"solidus as code": func(s string) string { return strings.ReplaceAll(s, "/", `\u002F`) },
		"for pages": func(s string) string {
			return strings.NewReplacer("&", `\u0026`, "<", `\u003c`, ">", `\u003e`).Replace(s)
		},
		"every character":  everywhere,
		"twice":            func(s string) string { return strings.ReplaceAll(s, "/", `\\\/`) },
		"twice, all of it": func(s string) string { return strings.ReplaceAll(everywhere(s), `\`, `\\`) },
		"small hex":        func(s string) string { return strings.ToLower(url.QueryEscape(s)) },
		"entities":         func(s string) string { return strings.NewReplacer("/", "&#x2F;", "&", "&amp;").Replace(s) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hidden := escape(testToken)
			if strings.Contains(hidden, testToken) {
				t.Fatalf("nothing is escaped in %q", hidden)
			}
			for shape, body := range map[string]string{
				"unknown members": `{"code":"x.y","seen":"` + hidden + `"}`,
				"message":         `{"code":"x.y","message":"seen: ` + hidden + `"}`,
				"reason":          `{"failedResult":{"` + key[0] + `":{"seen":"` + hidden + `"}}}`,
			} {
				answer, err := serve(t, respond(200, body)).BatchRecall(t.Context(), testToken, testRobot, key)
				text := fmt.Sprintf("%v %+v", answer.Failed, answer.Verdicts(key))
				if err != nil {
					text = fmt.Sprintf("%v %+v", err, *asError(t, err))
				}
				if !strings.Contains(text, redacted) || strings.Contains(text, hidden) || strings.Contains(text, testToken) {
					t.Errorf("%s: kept as %s", shape, text)
				}
			}
		})
	}
}

// TestEscapesStayWhereNoSecretIs: texts are kept as they came.
func TestEscapesStayWhereNoSecretIs(t *testing.T) {
	t.Parallel()
	scrub := newScrubber(testToken)
	for _, text := range []string{`{"a":"\/b"}`, "100% &amp; more %41", `\u00`, `\`, "%", "%4", `\u123`, "&", `C:\new`, "%\x12\x13"} {
		if got := scrub.reason(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestReasonsAreRedacted(t *testing.T) {
	t.Parallel()
	key := testKeys(1)
	client := serve(t, respond(200, `{"failedResult":{"`+key[0]+`":`+string(appendJSONString(nil, "bad token "+testToken))+`}}`, requestIDHeader, testToken))
	answer, err := client.BatchRecall(t.Context(), testToken, testRobot, key)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Failed[key[0]]; got != "bad token "+redacted {
		t.Errorf("reason %q", got)
	}
	assertNoLeak(t, fmt.Sprintf("%+v %+v", answer, answer.Verdicts(key)))
}

func TestProxyPasswordIsRedacted(t *testing.T) {
	t.Parallel()
	scrub := newScrubber(testToken)
	cause := errors.New(`invalid proxy address "http://me:hunter2@proxy:99x": bad port`)
	if got := scrub.cause(cause).Error(); strings.Contains(got, "hunter2") || !strings.Contains(got, "proxy:99x") {
		t.Errorf("text %q", got)
	}
	if !errors.Is(scrub.cause(cause), cause) {
		t.Error("the cause is not found")
	}
}
