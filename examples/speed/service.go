package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// service answers recalls as fast as it can: all keys of a call are recalled. It is the same for all ways.
type service struct {
	url     string
	latency time.Duration
	server  *http.Server
	calls   atomic.Int64
	keys    atomic.Int64
	watch   atomic.Pointer[func(robot string, keys int, at time.Time)] // told of each call when it comes; may be nil
}

func newService(latency time.Duration) (*service, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &service{url: "http://" + l.Addr().String(), latency: latency}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

func (s *service) close() { _ = s.server.Close() }

func (s *service) reset() {
	s.calls.Store(0)
	s.keys.Store(0)
	s.watch.Store(nil)
}

// ServeHTTP implements http.Handler.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Acs-Request-Id", "speed")
	if strings.HasPrefix(r.URL.Path, "/v1.0/oauth2/") {
		_, _ = io.WriteString(w, `{"accessToken":"speed","expireIn":7200}`)
		return
	}
	at := time.Now()
	var call struct {
		RobotCode        string   `json:"robotCode"`
		ProcessQueryKeys []string `json:"processQueryKeys"`
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if watch := s.watch.Load(); watch != nil {
		(*watch)(call.RobotCode, len(call.ProcessQueryKeys), at)
	}
	if s.latency > 0 {
		time.Sleep(s.latency)
	}
	answer, err := json.Marshal(map[string]any{"successResult": call.ProcessQueryKeys, "failedResult": map[string]string{}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(answer)
	s.calls.Add(1)
	s.keys.Add(int64(len(call.ProcessQueryKeys)))
}
