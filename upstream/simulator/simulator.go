package simulator

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxRequestBytes is the largest request body that is read; twenty keys take about 1 KiB.
const maxRequestBytes = 1 << 20

// Simulator answers as the service would. It is an http.Handler and safe for concurrent use. Some faults cut the connection by a panic
// with http.ErrAbortHandler, which a net/http server takes for that; who calls ServeHTTP without a server has to expect it.
type Simulator struct {
	cfg     Config
	began   time.Time
	known   map[string]bool // Config.Robots
	absent  map[string]bool // Config.UnknownRobots
	serial  atomic.Uint64   // numbers the calls
	rules   atomic.Pointer[[]*activeRule]
	tokens  *tokens
	ledger  *ledger
	tally   *tally
	quota   quota
	ticket  atomic.Pointer[string] // what corpAccessToken accepts; empty: any
	keysMu  sync.RWMutex           // guards keys
	keys    map[string]KeyInfo     // registered
	routing map[string]endpoint
}

// call is one request under way. It belongs to the goroutine that serves it, except overlapped, which other calls add to.
type call struct {
	r    *http.Request
	api  API
	n    uint64    // its number, from 1
	at   time.Time // of a recall: when it came
	rnd  uint64    // random bits that its number and the seed give
	body []byte
	corp string // from the path
	app  *app   // who calls; nil where no token is needed

	// Of a recall only:
	req        recallRequest
	unreadable bool     // the body is no JSON of the right shape
	chat       string   // of the endpoint: ChatGroup, ChatPrivate, "" = one-to-one
	keys       []string // distinct
	hashes     []uint64 // of keys, in their order
	overlapped atomic.Int64
	epoch      int      // of the tally
	failed     []string // the codes of its bad keys
	recalled   int64    // keys recalled by it and not before
	fault      Fault    // what struck it
	finished   bool
}

// endpoint is one thing that can be called.
type endpoint struct {
	api    API
	method string
	serve  func(*Simulator, *call, Fault) answer
	kind   string // of token, for Stats.TokenCallsBy
}

// New checks the configuration, fills in its defaults and returns a simulator.
func New(cfg Config) (*Simulator, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	s := &Simulator{
		cfg:    cfg,
		began:  cfg.Now(),
		known:  set(cfg.Robots),
		absent: set(cfg.UnknownRobots),
		tokens: newTokens(cfg.Seed),
		ledger: newLedger(cfg.ForgetKeys),
		tally:  newTally(cfg.ForgetKeys),
		keys:   map[string]KeyInfo{},
		routing: map[string]endpoint{
			// Official. Note "oto" in the one and "oTo" in the other.
			"/v1.0/robot/otoMessages/batchRecall": {api: APIRecall, method: http.MethodPost, serve: (*Simulator).recall},
			groupPath:                             {api: APIRecall, method: http.MethodPost, serve: (*Simulator).recall},
			privatePath:                           {api: APIRecall, method: http.MethodPost, serve: (*Simulator).recall},
			"/v1.0/robot/oToMessages/readStatus":  {api: APIReadStatus, method: http.MethodGet, serve: (*Simulator).readStatus},
			"/v1.0/oauth2/accessToken":            {APIToken, http.MethodPost, (*Simulator).internalToken, "accessToken"},
			"/v1.0/oauth2/corpAccessToken":        {APIToken, http.MethodPost, (*Simulator).corpToken, "corpAccessToken"},
			"/v1.0/oauth2/{corpId}/token":         {APIToken, http.MethodPost, (*Simulator).unifiedToken, "unified"},
		},
	}
	s.SetSuiteTicket(cfg.SuiteTicket)
	active := activate(cfg.Faults)
	s.rules.Store(&active)
	return s, nil
}

// Register makes a key known: which robot sent it, and when.
func (s *Simulator) Register(robotCode, key string, sentAt time.Time) {
	s.RegisterKey(key, KeyInfo{Robot: robotCode, SentAt: sentAt})
}

// RegisterKey makes a key known with its fate. It replaces what was known of it.
func (s *Simulator) RegisterKey(key string, info KeyInfo) {
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	s.keys[key] = info
}

// SetFaults replaces all fault rules and begins to count their calls anew. None ends all faults.
func (s *Simulator) SetFaults(rules ...FaultRule) error {
	for i, r := range rules {
		if err := r.Validate(); err != nil {
			return fmt.Errorf("faults[%d]: %w", i, err)
		}
	}
	active := activate(rules)
	s.rules.Store(&active)
	return nil
}

// RevokeTokens makes every token given so far invalid.
func (s *Simulator) RevokeTokens() { s.tokens.revoke() }

// SetSuiteTicket changes the ticket that corpAccessToken accepts, as the service does about every 5 hours. Empty: any.
func (s *Simulator) SetSuiteTicket(ticket string) { s.ticket.Store(&ticket) }

// Reset forgets all counts, all that became of keys, the calls of this month and of this second, and begins to number the calls anew.
// Tokens, registered keys and fault rules stay, and so do calls under way.
func (s *Simulator) Reset() {
	s.serial.Store(0)
	s.tally.reset()
	s.ledger.reset()
	s.quota.reset()
	for _, a := range s.tokens.everyApp() {
		a.recalls.reset()
		a.reads.reset()
	}
}

// Stats returns what has been seen so far.
func (s *Simulator) Stats() Stats {
	st := s.tally.read()
	st.Metered = s.quota.read()
	for _, a := range s.tokens.everyApp() {
		if one := a.recalls.read(); one.Calls > 0 {
			st.Apps[a.name] = one
			st.MaxCallsPerSecond = max(st.MaxCallsPerSecond, one.MaxCallsPerSecond)
		}
	}
	return st
}

// ServeHTTP answers one call.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPrefix) {
		s.control(w, r)
		return
	}
	c := &call{r: r, n: s.serial.Add(1)}
	c.rnd = mix(mix(s.cfg.Seed) ^ c.n)
	ep, ok := s.route(c)
	if !ok || r.Method != ep.method {
		s.tally.add(func(st *Stats) { st.NotFound++ })
		code := codeNoSuchAction
		if ok {
			code = codeWrongMethod
			w.Header().Set("Allow", ep.method)
		}
		s.deliver(w, c, refuse(c, code), "")
		return
	}
	if c.api = ep.api; c.api == APIRecall {
		c.at = s.cfg.Now()
		s.tally.arrive(c, c.at)
		defer s.finish(c, answer{label: "noAnswer"}, false) // for every way out that has not done it
	}
	a, fault := s.respond(c, ep)
	if c.api == APIToken && a.status != http.StatusOK {
		s.tally.add(func(st *Stats) { st.TokensRefused++ })
	}
	s.deliver(w, c, a, fault)
}

// route finds the endpoint of a path.
func (s *Simulator) route(c *call) (endpoint, bool) {
	path := c.r.URL.Path
	if ep, ok := s.routing[path]; ok && !strings.Contains(path, "{") {
		return ep, true
	}
	rest, ok := strings.CutPrefix(path, "/v1.0/oauth2/")
	if corp, isToken := strings.CutSuffix(rest, "/token"); ok && isToken && corp != "" && !strings.Contains(corp, "/") {
		c.corp = corp
		return s.routing["/v1.0/oauth2/{corpId}/token"], true
	}
	return endpoint{}, false
}

// respond takes a call through the checks, in the order that the package comment gives, and returns its answer and the fault that struck
// it, if any.
func (s *Simulator) respond(c *call, ep endpoint) (answer, Fault) {
	readable := c.readBody()
	switch c.api {
	case APIRecall:
		s.takeUp(c, readable)
	case APIReadStatus:
		s.tally.add(func(st *Stats) { st.ReadStatusCalls++ })
	case APIToken:
		s.tally.add(func(st *Stats) { st.TokenCalls++; st.TokenCallsBy[ep.kind]++ })
	}
	if c.api != APIToken {
		var ok bool
		if c.app, ok = s.tokens.caller(c.r.Header.Get(tokenHeader), s.cfg.Now(), s.cfg.AnyToken); !ok {
			return refuse(c, codeToken), ""
		}
		s.meter(c).arrive(s.elapsed)
	}
	fault := pick(*s.rules.Load(), c)
	if faultStages[fault] == stageGateway {
		s.countFault(c, fault)
		return gatewayFault(c, fault), fault
	}
	if code := s.overLimit(c); code != "" {
		return refuse(c, code), "" // the limit comes before the fault, which is then not seen
	}
	if fault != "" {
		s.countFault(c, fault)
	}
	// A client that leaves while it waits does not undo its call: that is how answers get lost.
	if wait := s.cfg.Latency + time.Duration(unit(mix(c.rnd^saltLatency))*float64(s.cfg.Jitter)); wait > 0 {
		s.cfg.Sleep(c.r.Context(), wait)
	}
	if faultStages[fault] == stageService {
		return serviceFault(c, fault), fault
	}
	if !readable {
		return refuse(c, codeParam), ""
	}
	return ep.serve(s, c, fault), fault
}

func (s *Simulator) countFault(c *call, fault Fault) {
	c.fault = fault
	s.tally.add(func(st *Stats) { st.Faults[string(fault)]++ })
}

// overLimit counts the call against its app's rate and the month, and returns the code of the limit that refuses it, or "".
func (s *Simulator) overLimit(c *call) string {
	if c.app == nil {
		return ""
	}
	if !s.meter(c).take(s.elapsed, s.cfg.Rate, s.cfg.Penalty) {
		if c.app.suite {
			return codeQpsSuite
		}
		return codeQpsApp
	}
	if !s.quota.take(s.cfg.Now(), s.cfg.MonthlyCalls) {
		return codeCount
	}
	return ""
}

// meter returns what keeps the rate of the call's app at the call's API.
func (s *Simulator) meter(c *call) *meter {
	if c.api == APIReadStatus {
		return &c.app.reads
	}
	return &c.app.recalls
}

// elapsed is the clock of the meters: the time since New. Where the clock is monotonic, so is this.
func (s *Simulator) elapsed() time.Duration { return s.cfg.Now().Sub(s.began) }

// readBody reads the body of a POST and tells whether it calls itself JSON and is of a sensible size. That other types are refused is
// official for tokens and a guess for recalls.
func (c *call) readBody() bool {
	if c.r.Method != http.MethodPost {
		return true
	}
	body, err := io.ReadAll(io.LimitReader(c.r.Body, maxRequestBytes+1))
	if err != nil || len(body) > maxRequestBytes {
		return false
	}
	c.body = body
	mediaType := c.r.Header.Get("Content-Type")
	if mediaType == "application/json" {
		return true
	}
	mediaType, _, err = mime.ParseMediaType(mediaType)
	return err == nil && mediaType == "application/json"
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// Salts keep the random draws of one call apart.
const (
	saltLatency uint64 = iota + 0x73616c7400
	saltFailure
	saltFlaky
	saltReason
	saltMissing
	saltForeign
	saltRequestID
	saltTraceID
	saltToken
)
