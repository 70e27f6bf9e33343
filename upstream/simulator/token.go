package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// tokenHeader carries the token of every call but those for tokens (official).
const tokenHeader = "x-acs-dingtalk-access-token" //nolint:gosec // the name of a header, no credential

// app is who calls: an app or, of a third-party app, one organisation's use of it.
type app struct {
	name    string
	suite   bool // third-party: its throttle codes differ
	recalls meter
	reads   meter
}

type token struct {
	app     *app
	expires time.Time
}

// tokens knows all tokens and the apps that have ever had one.
type tokens struct {
	seed    uint64
	mu      sync.RWMutex // guards all below
	live    map[string]token
	current map[string]string // app name to its newest token
	apps    map[string]*app
	given   uint64
}

// maxTokens is how many tokens are kept before the expired ones are swept out.
const maxTokens = 1000

func newTokens(seed uint64) *tokens {
	return &tokens{seed: seed, live: map[string]token{}, current: map[string]string{}, apps: map[string]*app{}}
}

// caller returns the app of a token that lives.
func (t *tokens) caller(text string, now time.Time, anyToken bool) (*app, bool) {
	t.mu.RLock()
	tok, ok := t.live[text]
	t.mu.RUnlock()
	switch {
	case ok && now.Before(tok.expires):
		return tok.app, true
	case anyToken && text != "":
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.app("any", false), true
	}
	return nil, false
}

// order is what a token is to be like.
type order struct {
	name     string // of the app
	suite    bool
	again    Again     // what the app gets if it has a living token
	old      OldTokens // what becomes of that if it gets a new one
	lifetime time.Duration
}

// give returns a token for an app.
func (t *tokens) give(o order, now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.current[o.name]
	if tok, ok := t.live[text]; o.again == AgainNew || !ok || !now.Before(tok.expires) {
		if o.old == OldTokensDie {
			delete(t.live, text)
		}
		t.given++
		rnd := mix(mix(t.seed^saltToken) ^ t.given)
		text = fmt.Sprintf("%016x%016x", rnd, mix(rnd))
	}
	if len(t.live) >= maxTokens {
		for old, tok := range t.live {
			if !now.Before(tok.expires) {
				delete(t.live, old)
			}
		}
	}
	t.current[o.name] = text
	t.live[text] = token{app: t.app(o.name, o.suite), expires: now.Add(o.lifetime)}
	return text
}

// app returns the app of that name, new if need be. The lock is held.
func (t *tokens) app(name string, suite bool) *app {
	a := t.apps[name]
	if a == nil {
		a = &app{name: name, suite: suite}
		t.apps[name] = a
	}
	return a
}

func (t *tokens) revoke() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.live)
	clear(t.current)
}

func (t *tokens) everyApp() []*app {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make([]*app, 0, len(t.apps))
	for _, a := range t.apps {
		all = append(all, a)
	}
	return all
}

// internalToken answers accessToken. Official: asking again gives the same token, renewed.
func (s *Simulator) internalToken(c *call, _ Fault) answer {
	var req struct {
		AppKey    string `json:"appKey"`
		AppSecret string `json:"appSecret"`
	}
	switch {
	case json.Unmarshal(c.body, &req) != nil:
		return refuse(c, codeParam)
	case !s.credentials(req.AppKey, req.AppSecret):
		return refuse(c, codeCredentials)
	}
	return s.camelToken(order{name: req.AppKey, again: AgainSame})
}

// corpToken answers corpAccessToken. Official: asking again gives a new token.
func (s *Simulator) corpToken(c *call, _ Fault) answer {
	var req struct {
		SuiteKey    string `json:"suiteKey"`
		SuiteSecret string `json:"suiteSecret"`
		AuthCorpID  string `json:"authCorpId"`
		SuiteTicket string `json:"suiteTicket"`
	}
	ticket := *s.ticket.Load()
	switch {
	case json.Unmarshal(c.body, &req) != nil:
		return refuse(c, codeParam)
	case !s.credentials(req.SuiteKey, req.SuiteSecret):
		return refuse(c, codeSuiteKey)
	case req.SuiteTicket == "", ticket != "" && req.SuiteTicket != ticket:
		return refuse(c, codeSuiteTicket)
	case !s.corpExists(req.AuthCorpID):
		return refuse(c, codeAuthInfo)
	}
	return s.camelToken(order{name: req.SuiteKey + "@" + req.AuthCorpID, suite: true, again: AgainNew})
}

// unifiedToken answers the endpoint for either kind of app, whose answer is in snake case (official). What
// asking again gives is unknown, and what a wrong grant_type gets.
func (s *Simulator) unifiedToken(c *call, _ Fault) answer {
	var req struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
		GrantType    string `json:"grant_type"`
	}
	switch {
	case json.Unmarshal(c.body, &req) != nil, req.GrantType != "client_credentials":
		return refuse(c, codeParam)
	case !s.credentials(req.ClientID, req.ClientSecret):
		return refuse(c, codeClient)
	case !s.corpExists(c.corp):
		return refuse(c, codeUnauthorized)
	}
	text := s.token(order{name: req.ClientID, again: s.cfg.UnifiedAgain})
	return answer{status: http.StatusOK, body: encode(struct {
		Token   string `json:"access_token"`
		Expires int64  `json:"expires_in"`
	}{text, s.tokenSeconds()})}
}

func (s *Simulator) camelToken(o order) answer {
	return answer{status: http.StatusOK, body: encode(struct {
		Token   string `json:"accessToken"`
		Expires int64  `json:"expireIn"`
	}{s.token(o), s.tokenSeconds()})}
}

func (s *Simulator) token(o order) string {
	o.old, o.lifetime = s.cfg.OldTokens, s.cfg.TokenLifetime
	return s.tokens.give(o, s.cfg.Now())
}

func (s *Simulator) tokenSeconds() int64 { return int64(s.cfg.TokenLifetime / time.Second) }

func (s *Simulator) credentials(key, secret string) bool {
	if len(s.cfg.Apps) == 0 {
		return key != "" && secret != ""
	}
	want, ok := s.cfg.Apps[key]
	return ok && secret == want
}

func (s *Simulator) corpExists(corp string) bool {
	return corp != "" && (len(s.cfg.CorpIDs) == 0 || slices.Contains(s.cfg.CorpIDs, corp))
}
