package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"dingrecall/upstream/simulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testToken  = "tok-0f3a9c5e7b1d24680ace+/&=x"
	testSecret = "sec-9d8c7b6a5f4e3d2c1b0a<>&+/="
	testRobot  = "dingue4kfzdxbyn0pjqd"
)

var testCredentials = Credentials{AppKey: testRobot, AppSecret: testSecret}

// testKeys makes n keys that look like real ones.
func testKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("Kna29Ra5pdJznx1ghavbumkQKwDzgfxZLapw%03d+/x4=", i)
	}
	return keys
}

// serve starts a server with the handler and a client for it.
func serve(t testing.TB, handler http.HandlerFunc, spoil ...func(*Config)) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return dial(t, server.URL, spoil...)
}

func dial(t testing.TB, base string, spoil ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{BaseURL: base}
	for _, f := range spoil {
		f(&cfg)
	}
	client, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(client.Close)
	return client
}

// simulated starts a simulator that takes any token, and a client for it.
func simulated(t testing.TB, cfg simulator.Config) (*simulator.Simulator, *Client) {
	t.Helper()
	cfg.AnyToken = true
	sim, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return sim, serve(t, sim.ServeHTTP)
}

// respond answers everything with one status and body.
func respond(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// asError insists on the package's error type.
func asError(t testing.TB, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %#v, want an *Error", err)
	}
	return e
}
