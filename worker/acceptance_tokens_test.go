package worker_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

const (
	theSecret = "sec-9d8c7b6a5f4e3d2c1b0a"
	theTicket = "ticket-4b3a2c1d0e9f8a7b6c"
	theKey    = "key-of-32-bytes-for-the-tokens.."
)

// credentialsOf gives good credentials of a kind; the ticket of a third-party app is read from a file.
func credentialsOf(t *testing.T, kind upstream.Kind) upstream.Credentials {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ticket")
	if err := os.WriteFile(name, []byte(theTicket+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return upstream.Credentials{Kind: kind, AppKey: "app", AppSecret: theSecret, CorpID: "corp", Ticket: upstream.TicketFile(name)}
}

// TestCallsShareOneToken: two workers with many slots between them ask once for the first token, and once when it ends under all of their calls.
// Nobody's attempt is counted. (How many of the slots are in a call when all calls hang depends on when they did: nothing happens then that
// would wake more. The token store's own test has exactly fifty that ask.)
func TestCallsShareOneToken(t *testing.T) {
	t.Parallel()
	for _, kind := range upstream.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			const slots, first, n = 50, 60, 4000 // slots whose call takes longer than 5 s are doubled, on a busy machine
			gate := &gate{after: first, open: make(chan struct{})}
			sc := simulator.Config{Apps: map[string]string{"app": theSecret}, CorpIDs: []string{"corp"}, SuiteTicket: theTicket,
				OldTokens: simulator.OldTokensDie, UnifiedAgain: simulator.AgainNew, Latency: time.Millisecond, Sleep: gate.sleep}
			b := setup(t, redistest.Real(t), sc, func(c *worker.Config) {
				c.MaxSlots, c.Concurrency, c.TokenKey = slots, slots, theKey
				c.Upstream.Timeout = time.Minute
				c.Apps[0].Credentials = credentialsOf(t, kind)
			})
			b.recall(goodKeys(n))
			b.start()
			b.start()
			until(t, "half of the slots are in a call", func() bool { return gate.waiting.Load() >= slots/2 })
			b.sim.RevokeTokens()
			close(gate.open)
			st := b.untilSettled(n)
			sim := b.sim.Stats()
			if st.Total.Recalled != n || sim.KeysRecalled != n {
				t.Errorf("recalled %d, the simulator says %d", st.Total.Recalled, sim.KeysRecalled)
			}
			if sim.TokenCalls != 2 || sim.TokensRefused != 0 {
				t.Errorf("%d requests for two tokens, %d refused", sim.TokenCalls, sim.TokensRefused)
			}
			if refused := sim.Outcomes["InvalidAuthentication"]; refused == 0 || refused > 2*slots+4 || sim.Calls != n/20+refused {
				t.Errorf("%d calls, %d refused", sim.Calls, refused)
			}
		})
	}
}

// gate lets some calls through and keeps the others until it is opened.
type gate struct {
	after   int32
	open    chan struct{}
	seen    atomic.Int32
	waiting atomic.Int32
}

func (g *gate) sleep(ctx context.Context, _ time.Duration) {
	if g.seen.Add(1) <= g.after { // slots are few until calls were answered
		return
	}
	g.waiting.Add(1)
	select {
	case <-g.open:
	case <-ctx.Done():
	}
}

// TestBadCredentialsHoldTheApp: each kind's, after one request of all workers together and no call, with a line that says what to mend.
func TestBadCredentialsHoldTheApp(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kind  upstream.Kind
		spoil func(*upstream.Credentials)
		code  string
		asked int64
		hint  string
	}{
		"secret":       {upstream.KindInternal, func(c *upstream.Credentials) { c.AppSecret = "wrong" }, "invalidClientIdOrSecret", 1, "check the app's key and secret"},
		"suite secret": {upstream.KindThirdParty, func(c *upstream.Credentials) { c.AppSecret = "wrong" }, "invalidSuiteKey", 1, "check the suite's key and secret"},
		"ticket": {upstream.KindThirdParty, func(c *upstream.Credentials) { c.Ticket = func() (upstream.Secret, error) { return "old", nil } }, "invalidSuiteTicket", 1,
			"put the newest suite ticket into the app's suiteTicketFile"},
		"no ticket":     {upstream.KindThirdParty, func(c *upstream.Credentials) { c.Ticket = upstream.TicketFile("/nowhere") }, "request.suiteTicket", 0, "put the newest suite ticket"},
		"organisation":  {upstream.KindThirdParty, func(c *upstream.Credentials) { c.CorpID = "other" }, "invalidAuthInfo", 1, "check the app's corpId"},
		"client secret": {upstream.KindUnified, func(c *upstream.Credentials) { c.AppSecret = "wrong" }, "invalid.client", 1, "check the app's client id and client secret"},
		"unauthorised":  {upstream.KindUnified, func(c *upstream.Credentials) { c.CorpID = "other" }, "unauthorized.client", 1, "check the app's corpId"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := redistest.Real(t)
			b := setup(t, rdb, simulator.Config{Apps: map[string]string{"app": theSecret}, CorpIDs: []string{"corp"}, SuiteTicket: theTicket}, func(c *worker.Config) {
				c.Apps[0].Credentials = credentialsOf(t, tc.kind)
				tc.spoil(&c.Apps[0].Credentials)
			})
			var log lockedBuffer
			core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), &log, zap.ErrorLevel)
			var workers []*worker.Worker
			for range 2 {
				w, err := worker.New(b.cfg, worker.Deps{Redis: rdb, Log: zap.New(core)})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(w.Stop)
				if err := w.Start(context.Background()); err != nil {
					t.Fatal(err)
				}
				workers = append(workers, w)
			}
			b.recall(goodKeys(500))
			until(t, "the app is held", func() bool {
				st := b.status()
				return st.Hold != nil && st.Total.Bound == 0 && st.Total.Accepted == 500
			})
			for _, w := range workers {
				if err := w.Ready(context.Background()); err == nil || !strings.Contains(err.Error(), tc.hint) {
					t.Errorf("ready: %v", err)
				}
				w.Stop()
			}
			st, sim := b.status(), b.sim.Stats()
			if st.Hold.Reason.Code != tc.code || !strings.Contains(st.Hold.Reason.Message, tc.hint) || st.Total.Waiting != 500 {
				t.Errorf("hold %+v, %d wait", st.Hold, st.Total.Waiting)
			}
			if sim.TokenCalls != tc.asked || sim.Calls != 0 {
				t.Errorf("%d requests for a token, want %d; %d calls", sim.TokenCalls, tc.asked, sim.Calls)
			}
			lines := strings.Count(log.String(), "\n")
			if lines < 1 || lines > 2 || strings.Count(log.String(), tc.hint) < lines {
				t.Errorf("%d lines of two workers:\n%s", lines, log.String())
			}
		})
	}
}

// gossip is a service that repeats what it was told: each answer it spoils has the request's headers and body, and the token if there is one.
type gossip struct {
	sim *simulator.Simulator

	mu     sync.Mutex // guards all below
	tokens []string   // that were given
	token  func(told string) (status int, body string)
	recall func(told string) (status int, body string)
	spoilt int
}

func (g *gossip) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	told, _ := json.Marshal(fmt.Sprint(r.Header, r.URL, string(body)))
	g.mu.Lock()
	spoil := g.recall
	if strings.Contains(r.URL.Path, "/oauth2/") {
		spoil = g.token
	}
	if spoil != nil {
		g.spoilt++
	}
	g.mu.Unlock()
	if spoil != nil {
		status, answer := spoil(strings.Trim(string(told), `"`))
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
		return
	}
	seen := httptest.NewRecorder()
	g.sim.ServeHTTP(seen, r)
	var given struct {
		Camel string `json:"accessToken"`
		Snake string `json:"access_token"`
	}
	if json.Unmarshal(seen.Body.Bytes(), &given) == nil && given.Camel+given.Snake != "" {
		g.mu.Lock()
		g.tokens = append(g.tokens, given.Camel+given.Snake)
		g.mu.Unlock()
	}
	w.WriteHeader(seen.Code)
	_, _ = w.Write(seen.Body.Bytes())
}

func (g *gossip) seen() (spoilt int, tokens []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.spoilt, g.tokens
}

// TestNoSecretLeavesTheWorker: whatever fails, and whatever the service repeats, no secret, ticket, key or token is in a log, in an error or in
// Redis.
func TestNoSecretLeavesTheWorker(t *testing.T) {
	t.Parallel()
	object := func(status int, code string) func(string) (int, string) {
		return func(told string) (int, string) {
			return status, `{"code":"` + code + `","message":"` + told + `","requestid":"` + told + `","accessdenieddetail":{"requiredScopes":["` + told + `"]}}`
		}
	}
	echo := func(told string) (int, string) { return 400, `{"code":"` + told + `","message":"` + told + `"}` }
	page := func(told string) (int, string) { return 200, "<html><title>" + told + "</title>" + told + "</html>" }
	reason := func(told string) (int, string) {
		return 400, `{"code":"notRevoke.all.messages","message":"` + told + `","failedResult":{"` + told + `":"` + told + `"}}`
	}
	cut := func(string) (int, string) { return 0, "" }
	// Pages rest for minutes, and so do requests for a token that fail.
	enough := map[string]int{"token, a page": 1, "call, a page": 1, "token, cut": 2, "call, trouble": 6, "call, cut": 6, "call, its reasons": 6}
	for name, spoil := range map[string]func(*gossip){
		"token refused":   func(g *gossip) { g.token = object(400, "invalidSuiteTicket") },
		"token, odd code": func(g *gossip) { g.token = echo },
		"token, a page":   func(g *gossip) { g.token = page },
		"token, cut":      func(g *gossip) { g.token = cut },
		"token, no use": func(g *gossip) {
			g.token = func(told string) (int, string) { return 200, `{"accessToken":"` + told + `"}` }
		},
		"call refused":       func(g *gossip) { g.recall = object(400, "InvalidAuthentication") },
		"call, permission":   func(g *gossip) { g.recall = object(403, "Forbidden.AccessDenied.AccessTokenPermissionDenied") },
		"call, odd code":     func(g *gossip) { g.recall = echo },
		"call, trouble":      func(g *gossip) { g.recall = object(500, "system.error") },
		"call, a bad key":    func(g *gossip) { g.recall = object(400, "invalid.processQueryKey") },
		"call, a bad robot":  func(g *gossip) { g.recall = object(400, "invalidParameter.robotCode") },
		"call, a page":       func(g *gossip) { g.recall = page },
		"call, its reasons":  func(g *gossip) { g.recall = reason },
		"call, cut":          func(g *gossip) { g.recall = cut },
		"call, nothing else": func(*gossip) {},
	} {
		for _, kind := range upstream.Kinds() {
			if kind != upstream.KindThirdParty && !strings.HasSuffix(name, " refused") {
				continue // it has all the secrets that the others have
			}
			t.Run(name+", "+string(kind), func(t *testing.T) {
				t.Parallel()
				rdb := redistest.Real(t)
				sim, err := simulator.New(simulator.Config{SuiteTicket: theTicket})
				if err != nil {
					t.Fatal(err)
				}
				g := &gossip{sim: sim}
				spoil(g)
				server := httptest.NewServer(g)
				t.Cleanup(server.Close)
				b := setup(t, rdb, simulator.Config{}, func(c *worker.Config) {
					c.TokenKey, c.Upstream.BaseURL = theKey, server.URL
					c.Apps[0].Credentials = credentialsOf(t, kind)
				})
				var log lockedBuffer
				core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), &log, zap.DebugLevel)
				w, err := worker.New(b.cfg, worker.Deps{Redis: rdb, Log: zap.New(core)})
				if err != nil {
					t.Fatal(err)
				}
				defer w.Stop()
				if err := w.Start(context.Background()); err != nil {
					t.Fatal(err)
				}
				b.recall(goodKeys(30))
				until(t, "the keys are settled, or the app is held, or the service has failed for a while", func() bool {
					spoilt, _ := g.seen()
					st := b.status()
					return st.Total.Accepted == 30 && st.Total.Waiting == 0 && st.Total.Bound == 0 || st.Hold != nil || enough[name] > 0 && spoilt >= enough[name]
				})
				_, tokenErr := w.Token(context.Background(), appName)
				w.Stop()
				_, tokens := g.seen()
				if len(tokens) == 0 && g.token == nil {
					t.Fatal("no token was given, so none could be found")
				}
				texts := map[string]string{"the log": log.String(), "Redis": dump(t, rdb), "the error": fmt.Sprintf("%v %+v %#v", tokenErr, tokenErr, tokenErr),
					"the settings": fmt.Sprintf("%v %+v %#v", b.cfg, b.cfg, b.cfg)}
				for where, text := range texts {
					for _, secret := range append([]string{theSecret, theTicket, theKey, hex.EncodeToString([]byte(theKey)), base64.StdEncoding.EncodeToString([]byte(theKey))}, tokens...) {
						if i := strings.Index(text, secret[4:20]); i >= 0 {
							t.Errorf("%s has %q: ...%s", where, secret, text[max(0, i-200):min(len(text), i+100)])
						}
					}
				}
			})
		}
	}
}

// lockedBuffer is where a log goes to.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) Sync() error { return nil }

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// dump gives all that is in a database, names and contents.
func dump(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	ctx := context.Background()
	var b strings.Builder
	names, err := rdb.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		kind := rdb.Type(ctx, name).Val()
		var content any
		switch kind {
		case "string":
			content = rdb.Get(ctx, name).Val()
		case "hash":
			content = rdb.HGetAll(ctx, name).Val()
		case "list":
			content = rdb.LRange(ctx, name, 0, -1).Val()
		case "set":
			content = rdb.SMembers(ctx, name).Val()
		case "zset":
			content = rdb.ZRange(ctx, name, 0, -1).Val()
		default:
			t.Fatalf("%s is a %s, which is not looked into", name, kind)
		}
		fmt.Fprintln(&b, name, content)
	}
	return b.String()
}
