package simulator

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeClock stands still until it is moved.
type fakeClock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bundle is a simulator with a clock of its own and a token.
type bundle struct {
	t     testing.TB
	sim   *Simulator
	clock *fakeClock
	token string
	made  uint64
}

const (
	recallPath = "/v1.0/robot/otoMessages/batchRecall"
	testRobot  = "dingrobot0000000001"
)

func setup(t testing.TB, cfg Config) *bundle {
	t.Helper()
	clock := &fakeClock{now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	if cfg.Now == nil {
		cfg.Now = clock.Now
	}
	sim, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{t: t, sim: sim, clock: clock}
	b.token = b.newToken()
	return b
}

func (b *bundle) newToken() string {
	b.t.Helper()
	got := b.post("/v1.0/oauth2/accessToken", `{"appKey":"dingapp","appSecret":"s3cret"}`)
	var body struct{ AccessToken string }
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || got.status != 200 || body.AccessToken == "" {
		b.t.Fatalf("no token: %d %s", got.status, got.body)
	}
	return body.AccessToken
}

// key makes a fresh key of a kind.
func (b *bundle) key(kind Kind) string {
	b.made++
	return MakeKey(1, b.made, kind, b.sim.cfg.Now().Add(-time.Hour))
}

func (b *bundle) keys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = b.key(Good)
	}
	return keys
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) code() string {
	var body struct{ Code string }
	_ = json.Unmarshal([]byte(r.body), &body)
	return body.Code
}

func request(method, path, token, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set(tokenHeader, token)
	}
	return r
}

func (b *bundle) do(r *http.Request) reply {
	w := httptest.NewRecorder()
	b.sim.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.String()}
}

func (b *bundle) post(path, body string) reply {
	return b.do(request(http.MethodPost, path, b.token, body))
}

func recallJSON(robot string, keys ...string) string {
	if keys == nil {
		keys = []string{}
	}
	return string(encode(recallRequest{RobotCode: robot, ProcessQueryKeys: keys}))
}

func (b *bundle) recall(keys ...string) reply {
	return b.post(recallPath, recallJSON(testRobot, keys...))
}

func (b *bundle) lists(r reply) (success []string, failed map[string]string) {
	b.t.Helper()
	var body recallBody
	if err := json.Unmarshal([]byte(r.body), &body); err != nil || r.status != http.StatusOK {
		b.t.Fatalf("no lists: %d %s", r.status, r.body)
	}
	return body.Success, body.Failed
}

func (b *bundle) wantFailed(r reply, want map[string]string) {
	b.t.Helper()
	if _, failed := b.lists(r); !maps.Equal(failed, want) {
		b.t.Errorf("failedResult is %v, want %v", failed, want)
	}
}

// regexpToken finds the token in an answer.
func regexpToken(body string) string { return tokenShape.FindString(body) }

var tokenShape = regexp.MustCompile(`[0-9a-f]{32}`)
