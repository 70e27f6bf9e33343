package upstream

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestFetchToken(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 1)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- r.Method + " " + r.RequestURI + " " + string(body)
		if token := r.Header.Get(tokenHeader); token != "" {
			t.Errorf("a token call has a token: %q", token)
		}
		respond(200, `{"accessToken":"abc","expireIn":7200}`)(w, r)
	})
	before := time.Now()
	token, err := client.FetchToken(t.Context(), testCredentials)
	if err != nil {
		t.Fatal(err)
	}
	if want := `POST /v1.0/oauth2/accessToken {"appKey":"` + testRobot + `","appSecret":"` + testSecret + `"}`; <-bodies != want {
		t.Errorf("the request is not %s", want)
	}
	if token.Value.Reveal() != "abc" || token.ExpiresAt.Before(before.Add(2*time.Hour)) || token.ExpiresAt.After(time.Now().Add(2*time.Hour)) {
		t.Errorf("got %+v", token)
	}
	if early := token.ExpiresAt.Sub(token.RefreshAt); early != 10*time.Minute {
		t.Errorf("refreshed %v before the end", early)
	}
}

func TestTokenAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		life   time.Duration // 0: an error
		scope  Scope
	}{
		{"life as a string", 200, `{"accessToken":"abc","expireIn":"60"}`, time.Minute, 0},
		{"life without end", 200, `{"accessToken":"abc","expireIn":9223372036854775807}`, maxTokenLife, 0},
		{"no life", 200, `{"accessToken":"abc"}`, 0, AppHold},
		{"life of zero", 200, `{"accessToken":"abc","expireIn":0}`, 0, AppHold},
		{"empty token", 200, `{"accessToken":"","expireIn":7200}`, 0, AppHold},
		{"token of another type", 200, `{"accessToken":5,"expireIn":7200}`, 0, AppHold},
		{"snake case", 200, `{"access_token":"abc","expires_in":7200}`, 0, AppHold},
		{"token with an error", 400, `{"accessToken":"abc","expireIn":7200}`, 0, AppHold},
		{"bad credentials", 400, `{"code":"invalidClientIdOrSecret","message":"无效的clientId或者clientSecret"}`, 0, AppHold},
		{"unauthorized", 401, `{"code":"unauthorized.client","message":"x"}`, 0, AppHold},
		{"page", 200, `<html></html>`, 0, Throttled},
		{"throttled", 403, `{"code":"Forbidden.AccessDenied.QpsLimitForApi"}`, 0, Throttled},
		{"trouble", 500, `{"code":"system.error"}`, 0, Transient},
		{"truncated", 200, `{"accessToken":"ab`, 0, Transient},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, respond(test.status, test.body))
			before := time.Now()
			token, err := client.FetchToken(t.Context(), testCredentials)
			if test.life == 0 {
				e := asError(t, err)
				if v := e.Verdict(0); v.Scope != test.scope || e.Op != OpToken {
					t.Errorf("%v: verdict %+v, want %v", e, v, test.scope)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if life := token.ExpiresAt.Sub(before); life < test.life || life > test.life+time.Minute {
				t.Errorf("a life of %v, want %v", life, test.life)
			}
			if early, half := token.ExpiresAt.Sub(token.RefreshAt), test.life/2; early > half || early > refreshEarly {
				t.Errorf("refreshed %v before the end of %v", early, test.life)
			}
		})
	}

	client := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for _, cred := range []Credentials{{}, {AppKey: "a"}, {AppSecret: testSecret}} {
		_, err := client.FetchToken(t.Context(), cred)
		if e := asError(t, err); e.Class != ClassRequest || e.Verdict(0).Scope != AppHold {
			t.Errorf("got %+v", e)
		}
	}
}

func TestTokenAtRest(t *testing.T) {
	t.Parallel()
	for _, refresh := range []time.Time{{}, time.UnixMilli(1_700_000_000_000)} {
		token := Token{Value: testToken, ExpiresAt: time.UnixMilli(1_700_000_600_000), RefreshAt: refresh}
		data, err := token.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var read Token
		if err := read.UnmarshalBinary(data); err != nil || read != token {
			t.Errorf("%+v reads back as %+v, %v", token, read, err)
		}
	}
	for _, data := range []string{"", "{}", `{"value":"a b","expiresAt":1}`, `{"value":"` + testToken, "x" + testToken} {
		if err := new(Token).UnmarshalBinary([]byte(data)); err == nil || strings.Contains(err.Error(), testToken) {
			t.Errorf("%q: %v", data, err)
		}
	}
}
