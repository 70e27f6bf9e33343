package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"dingrecall/worker/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef0123456789abcdef"

// bundle is a server with what is behind it.
type bundle struct {
	*Server
	rdb *redis.Client
	reg *prometheus.Registry
}

// connOpt lets asynqmon open clients of a test's Redis.
type connOpt struct{ rdb *redis.Client }

func (c connOpt) MakeRedisClient() any {
	return redis.NewClient(&redis.Options{Addr: c.rdb.Options().Addr})
}

var someStatus = Status{
	Apps: []App{
		{Name: "main", Waiting: 1234567, Bound: 20, Recalled: 3000, Dead: 7, Cancelled: 1, Slots: 5, Backoff: 2, Outbox: 4, Share: 0.5, LastOK: time.UnixMilli(1_700_000_000_500)},
		{Name: "other", Share: 1, Hold: &Hold{Code: "invalid.client", Message: "<script>alert(1)</script>", Since: time.UnixMilli(1_700_000_000_000), NextProbe: time.UnixMilli(1_700_000_060_000)},
			Robots: []RobotHold{{Robot: "dingbad", Hold: Hold{Code: "no.permission"}}}, Rest: time.UnixMilli(1_700_000_030_000)},
	},
	Queues: []Queue{{Name: "recall", Pending: 1, Active: 2, Scheduled: 3, Retry: 4, Archived: 5}, {Name: "recall-dead", Scheduled: 6, Paused: true}},
}

func setup(t *testing.T, cfg Config, change func(*Deps)) *bundle {
	t.Helper()
	b := &bundle{rdb: redistest.Mini(t), reg: prometheus.NewRegistry()}
	deps := Deps{Redis: connOpt{b.rdb}, Metrics: b.reg, Status: func(context.Context) (Status, error) { return someStatus, nil }}
	if change != nil {
		change(&deps)
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	b.Server = s
	return b
}

// ask serves one request, as if it had come to 127.0.0.1.
func (b *bundle) ask(method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "127.0.0.1:8080"
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, nil)
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/healthz", 200, "ok\n"},
		{"HEAD", "/healthz", 200, ""},
		{"POST", "/healthz", 405, "GET or HEAD"},
		{"GET", "/readyz", 200, "ready\n"},
		{"POST", "/readyz", 405, "GET or HEAD"},
		{"GET", "/metrics", 200, "dingrecall_keys{"},
		{"GET", "/", 200, "1,234,567"},
		{"GET", "/asynqmon", 200, `<head><script src="/refused.js"></script>`},
		{"GET", "/asynqmon/queues/recall-dead?status=scheduled", 200, `<head><script src="/refused.js"></script>`},
		{"GET", "/asynqmon/favicon.ico", 200, "\x00\x00\x01\x00"},
		{"GET", "/refused.js", 200, "status === 403"},
		{"GET", "/asynqmon/", 200, "<html"},
		{"GET", "/asynqmon/queues/recall", 200, "<html"},
		{"GET", "/asynqmon/api/queues", 200, `"queues"`},
		{"GET", "/asynqmonx", 404, "nothing here"},
		{"GET", "/elsewhere", 404, "nothing here"},
		{"GET", "//healthz", 404, "nothing here"},
	} {
		w := b.ask(c.method, c.path)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: status %d, body %.200q; want %d and %q", c.method, c.path, w.Code, w.Body, c.status, c.want)
		}
		if w.Header().Get("X-Frame-Options") != "DENY" || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'self'") {
			t.Errorf("%s %s: headers %v", c.method, c.path, w.Header())
		}
	}
}

func TestPageEscapes(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, nil)
	body := b.ask("GET", "/").Body.String()
	if strings.Contains(body, "<script>alert") || !strings.Contains(body, "&lt;script&gt;alert(1)") {
		t.Errorf("the message of a hold is not escaped:\n%s", body)
	}
	for _, want := range []string{"App other is on hold", "Robot dingbad is on hold", "App other rests until 2023-11-14 22:13:50 UTC", "50 %", "2023-11-14 22:13:20 UTC", "recall-dead</a> (paused)"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

func TestPageSaysThatRedisIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, func(d *Deps) {
		d.Status = func(context.Context) (Status, error) { return Status{}, errors.New("dial tcp: refused") }
	})
	w := b.ask("GET", "/")
	if w.Code != 503 || !strings.Contains(w.Body.String(), "could not be read: dial tcp: refused") || !strings.Contains(w.Body.String(), "/asynqmon") {
		t.Errorf("status %d\n%s", w.Code, w.Body)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, func(d *Deps) {
		d.Ready = func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded {
				return errors.New("unbounded")
			}
			return errors.Join(errors.New("redis: refused"), errors.New(`app "x": no token`))
		}
	})
	w := b.ask("GET", "/readyz")
	if w.Code != 503 || w.Body.String() != "not ready:\nredis: refused\napp \"x\": no token\n" {
		t.Errorf("status %d, body %q", w.Code, w.Body)
	}
}

// TestReadyIsBounded: a check that does not look at its context must not hold the probe.
func TestReadyIsBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := setup(t, Config{}, func(d *Deps) {
		d.Ready = func(context.Context) error { <-release; return nil }
	})
	defer close(release)
	r := httptest.NewRequest("GET", "/readyz", nil)
	r.Host = "localhost"
	ctx, cancel := context.WithCancel(r.Context())
	cancel() // stands for the end of the time allowed
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r.WithContext(ctx))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "no answer within") {
		t.Errorf("status %d, body %q", w.Code, w.Body)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Addr: "0.0.0.0:0", Token: token}, nil)
	basic := func(user, password string) string {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	for name, c := range map[string]struct {
		authorization string
		status        int
	}{
		"none":            {"", 401},
		"bearer":          {"Bearer " + token, 200},
		"bearer, small":   {"bearer " + token, 200},
		"wrong bearer":    {"Bearer " + token[1:] + "x", 401},
		"prefix":          {"Bearer " + token[:20], 401},
		"longer":          {"Bearer " + token + "0", 401},
		"empty bearer":    {"Bearer ", 401},
		"other scheme":    {"Digest " + token, 401},
		"bare":            {token, 401},
		"basic":           {basic("anybody", token), 200},
		"basic, no user":  {basic("", token), 200},
		"basic, as user":  {basic(token, ""), 401},
		"basic, wrong":    {basic("anybody", "x"), 401},
		"basic, nonsense": {"Basic !!!", 401},
	} {
		for _, path := range []string{"/", "/readyz", "/metrics", "/asynqmon", "/asynqmon/api/queues", "/nowhere"} {
			want := c.status
			if path == "/nowhere" && want == 200 {
				want = 404
			}
			// With a token any host will do: the worker is meant to be reached by a name.
			w := b.ask("GET", path, "Authorization", c.authorization, "Host", "recall.example")
			if w.Code != want || (want == 401) != (w.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("%s: %s: status %d, want %d", name, path, w.Code, want)
			}
			if strings.Contains(w.Body.String(), token) {
				t.Errorf("%s: %s: the token is in the answer", name, path)
			}
		}
		if w := b.ask("GET", "/healthz", "Authorization", c.authorization, "Host", "recall.example"); w.Code != 200 {
			t.Errorf("%s: /healthz: status %d", name, w.Code)
		}
	}
}

// TestWithoutToken: only this machine is answered, by its own names, and no page of elsewhere can change anything.
func TestWithoutToken(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, nil)
	for host, status := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:8080": 200, "localhost:1": 200, "LOCALHOST": 200, "[::1]:8080": 200, "[::1]": 200, "127.9.9.9": 200, "[::ffff:127.0.0.1]:80": 200,
		"": 403, "evil.example": 403, "evil.example:8080": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example": 403, "10.0.0.1:8080": 403,
		"127.0.0.1@evil.example": 403, "0.0.0.0": 403, "[::]": 403, "127.1": 403, "2130706433": 403,
	} {
		if w := b.ask("GET", "/asynqmon/api/queues", "Host", host); w.Code != status {
			t.Errorf("host %q: status %d, want %d", host, w.Code, status)
		}
	}
}

func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, nil)
	const pause = "/asynqmon/api/queues/recall:pause"
	for name, c := range map[string]struct {
		header []string
		pass   bool
	}{
		"curl":          {nil, true},
		"own page":      {[]string{"Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:8080"}, true},
		"old browser":   {[]string{"Origin", "http://127.0.0.1:8080"}, true},
		"other site":    {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "http://evil.example"}, false},
		"other port":    {[]string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:9999"}, false},
		"old, other":    {[]string{"Origin", "http://evil.example"}, false},
		"old, sandbox":  {[]string{"Origin", "null"}, false},
		"same site too": {[]string{"Sec-Fetch-Site", "same-site"}, false},
	} {
		w := b.ask("POST", pause, c.header...)
		if refused := strings.Contains(w.Body.String(), "own pages"); refused == c.pass || refused != (w.Code == 403) {
			t.Errorf("%s: status %d, body %q", name, w.Code, w.Body)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg    Config
		change func(*Deps)
		want   string
	}{
		"open without token": {Config{Addr: "0.0.0.0:80"}, nil, "needs a token"},
		"any, no token":      {Config{Addr: ":80"}, nil, "needs a token"},
		"name, no token":     {Config{Addr: "example.com:80"}, nil, "needs a token"},
		"no port":            {Config{Addr: "127.0.0.1"}, nil, "missing port"},
		"no status":          {Config{Addr: "127.0.0.1:0"}, func(d *Deps) { d.Status = nil }, "required"},
		"no redis":           {Config{Addr: "127.0.0.1:0"}, func(d *Deps) { d.Redis = nil }, "required"},
		"no metrics":         {Config{Addr: "127.0.0.1:0"}, func(d *Deps) { d.Metrics = nil }, "required"},
	} {
		deps := Deps{Redis: asynq.RedisClientOpt{Addr: "127.0.0.1:1"}, Metrics: prometheus.NewRegistry(), Status: func(context.Context) (Status, error) { return Status{}, nil }}
		if c.change != nil {
			c.change(&deps)
		}
		if _, err := New(c.cfg, deps); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStartStop(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, nil)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err == nil {
		t.Error("a second Start is no error")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + b.Addr() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(body) != "ok\n" {
		t.Errorf("%q, %v", body, err)
	}

	taken, err := New(Config{Addr: b.Addr()}, Deps{Redis: connOpt{b.rdb}, Metrics: prometheus.NewRegistry(), Status: b.deps.Status})
	if err != nil {
		t.Fatal(err)
	}
	if err := taken.Start(); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("start on a taken address: %v", err)
	}
	for range 2 {
		if err := errors.Join(b.Stop(), taken.Stop()); err != nil {
			t.Error(err)
		}
	}
	if resp, err := client.Get("http://" + b.Addr() + "/healthz"); err == nil {
		_ = resp.Body.Close()
		t.Error("it answers after Stop")
	}
	if err := b.Start(); err == nil {
		t.Error("Start after Stop is no error")
	}
}
