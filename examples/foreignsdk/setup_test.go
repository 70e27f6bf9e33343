package foreignsdk

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/dingtalk/oauth2_1_0"
	"github.com/alibabacloud-go/dingtalk/robot_1_0"
	sdk "github.com/alibabacloud-go/tea-utils/v2/service"
	"github.com/alibabacloud-go/tea/tea"

	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
)

const (
	testToken  = "tok-0f3a9c5e7b1d24680ace"
	testRobot  = "dingue4kfzdxbyn0pjqd"
	testSecret = "sec-9d8c7b6a5f4e3d2c1b0a<>&+/="
	testCorp   = "ding9f50b15bccd16741"
	testTicket = "ticket-5e1f"

	testConversation = "cid6KeBBLoveMJOGXoYKF5x7EeiodoA=="
)

// request is what a client put on the wire.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
}

// bundle is a simulator that remembers the requests that it got, with a client of each kind.
type bundle struct {
	t      *testing.T
	sim    *simulator.Simulator
	server *httptest.Server
	client *upstream.Client

	mu   sync.Mutex // guards seen
	seen []request
}

func setup(t *testing.T, cfg simulator.Config) *bundle {
	t.Helper()
	cfg.AnyToken = true
	sim, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{t: t, sim: sim}
	b.server = httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(b.server.Close)
	if b.client, err = upstream.New(upstream.Config{BaseURL: b.server.URL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	return b
}

func (b *bundle) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Errorf("a request's body: %v", err)
	}
	b.mu.Lock()
	b.seen = append(b.seen, request{r.Method, r.URL.EscapedPath(), r.URL.Query(), r.Header.Clone(), body})
	b.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	b.sim.ServeHTTP(w, r)
}

// sent gives the one request that a call made.
func (b *bundle) sent(call func()) request {
	b.t.Helper()
	b.mu.Lock()
	b.seen = nil
	b.mu.Unlock()
	call()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.seen) != 1 {
		b.t.Fatalf("%d requests were sent, want one", len(b.seen))
	}
	return b.seen[0]
}

func (b *bundle) sdkConfig() *openapi.Config {
	return &openapi.Config{Protocol: tea.String("http"), Endpoint: tea.String(strings.TrimPrefix(b.server.URL, "http://"))}
}

// robots is a new client of the SDK for robots.
func (b *bundle) robots() *robot_1_0.Client {
	b.t.Helper()
	client, err := robot_1_0.NewClient(b.sdkConfig())
	if err != nil {
		b.t.Fatal(err)
	}
	return client
}

// oauth is a new client of the SDK for tokens.
func (b *bundle) oauth() *oauth2_1_0.Client {
	b.t.Helper()
	client, err := oauth2_1_0.NewClient(b.sdkConfig())
	if err != nil {
		b.t.Fatal(err)
	}
	return client
}

// noOptions makes the SDK do as it does by default: one try, no retries.
func noOptions() *sdk.RuntimeOptions { return &sdk.RuntimeOptions{} }
