package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dingrecall/upstream/simulator"
)

// service is the simulator, and a record of every call that each worker made.
type service struct {
	sim *simulator.Simulator

	mu       sync.Mutex         // guards all below, the calls included
	calls    []*call            // in the order in which they came
	byKey    map[string][]*call // likewise
	pending  map[string][]*call // under way, by their first key
	overlaps []string           // keys that were in two calls at once, in words
	doors    map[*door]*http.Server
}

// call is one recall as the service saw it.
type call struct {
	by         *agent
	start, end time.Time // end is zero while it is under way
	keys       []string
	outcome    string
	fault      simulator.Fault
	left       bool // its client went away before the answer
}

// applied says whether good keys of the call were recalled by it.
func (c *call) applied() bool { return answers[c.outcome] || appliedAllTheSame[c.fault] }

// told says whether the client was told the fate of the keys.
func (c *call) told() bool { return answers[c.outcome] && c.fault == "" && !c.left }

var (
	answers           = map[string]bool{"ok": true, "partial": true, "allFailed": true}
	appliedAllTheSame = map[simulator.Fault]bool{simulator.FaultLostAnswer: true, simulator.FaultCutBody: true, simulator.FaultTruncated: true}
)

func newService(t *testing.T, seed uint64) *service {
	t.Helper()
	s := &service{byKey: map[string][]*call{}, pending: map[string][]*call{}, doors: map[*door]*http.Server{}}
	var err error
	s.sim, err = simulator.New(simulator.Config{Seed: seed, Latency: 60 * time.Millisecond, Jitter: 60 * time.Millisecond, OnRecall: s.seen})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// door is where one worker finds the service.
type door struct {
	service *service
	agent   *agent
	addr    string
}

func (s *service) open(t *testing.T, a *agent) *door {
	t.Helper()
	d := &door{service: s, agent: a, addr: "127.0.0.1:0"}
	d.up(t)
	t.Cleanup(d.down)
	return d
}

// up listens, again at the same address after down.
func (d *door) up(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	d.addr = listener.Addr().String()
	server := &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	d.service.mu.Lock()
	d.service.doors[d] = server
	d.service.mu.Unlock()
	go func() { _ = server.Serve(listener) }() // down ends it
}

// down refuses connections from now on, and cuts those there are.
func (d *door) down() {
	d.service.mu.Lock()
	server := d.service.doors[d]
	d.service.mu.Unlock()
	_ = server.Close()
}

// ServeHTTP records a recall and has the simulator answer it.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "ecall") {
		d.service.sim.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	var asked struct {
		Keys []string `json:"processQueryKeys"`
	}
	if err = errors.Join(err, json.Unmarshal(body, &asked)); err != nil || len(asked.Keys) == 0 {
		w.WriteHeader(http.StatusBadRequest) // the worker died while it wrote
		return
	}
	c := d.service.begin(d.agent, asked.Keys)
	defer func() { d.service.finish(c, r.Context().Err() != nil) }() // some faults leave by a panic
	r.Body = io.NopCloser(bytes.NewReader(body))
	d.service.sim.ServeHTTP(w, r)
}

func (s *service) begin(by *agent, keys []string) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &call{by: by, start: time.Now(), keys: keys}
	s.calls = append(s.calls, c)
	s.pending[keys[0]] = append(s.pending[keys[0]], c)
	for _, k := range keys {
		for _, other := range s.byKey[k] {
			if other.end.IsZero() && !other.by.struck() {
				s.overlaps = append(s.overlaps, fmt.Sprintf("%s: by %s since %v, and by %s", k, other.by.name, time.Since(other.start), by.name))
			}
		}
		s.byKey[k] = append(s.byKey[k], c)
	}
	return c
}

// seen is told by the simulator what a call came to, just before it is answered.
func (s *service) seen(r simulator.RecallSeen) {
	if len(r.Keys) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.pending[r.Keys[0]] {
		if c.outcome == "" {
			c.outcome, c.fault = r.Outcome, r.Fault
			return
		}
	}
}

func (s *service) finish(c *call, left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.end, c.left = time.Now(), left
	first := c.keys[0]
	for i, other := range s.pending[first] {
		if other == c {
			s.pending[first] = append(s.pending[first][:i:i], s.pending[first][i+1:]...)
		}
	}
	if len(s.pending[first]) == 0 {
		delete(s.pending, first)
	}
}

// calling gives the workers that are in a call.
func (s *service) calling() (in []*agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, calls := range s.pending {
		for _, c := range calls {
			if !slices.Contains(in, c.by) {
				in = append(in, c.by)
			}
		}
	}
	slices.SortFunc(in, func(a, b *agent) int { return strings.Compare(a.name, b.name) })
	return in
}

// count gives how many calls were answered well since a moment.
func (s *service) count(since time.Time) (n int) {
	_, n = s.firstGood(since)
	return n
}

// firstGood gives the first call that began after a moment and recalled keys, and how many of them there are; nil for none.
func (s *service) firstGood(since time.Time) (first *call, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.calls) - 1; i >= 0 && s.calls[i].start.After(since); i-- {
		if c := s.calls[i]; !c.end.IsZero() && c.told() {
			first = c
			n++
		}
	}
	return first, n
}

// keysOf gives the keys of the calls of a worker that began after a moment.
func (s *service) keysOf(a *agent, since time.Time) (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.by == a && c.start.After(since) {
			keys = append(keys, c.keys...)
		}
	}
	return keys
}
