// Package admin is the worker's HTTP side for operators: whether the process lives and can work, metrics, a small page that says how
// things stand, and asynqmon, the page of the queue library, with what would lose keys taken out of it.
//
// It knows nothing of the key store: what it shows comes through functions in Deps.
package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Config is where to listen and who may come in.
type Config struct {
	// Addr is host:port; port 0 takes a free one. Without a Token, only addresses of this machine are allowed.
	Addr string
	// Token, if not empty, must come with every request but those to /healthz.
	Token string
}

// Deps is what the server is given.
type Deps struct {
	// Status reads how everything stands. Required.
	Status func(context.Context) (Status, error)
	// Ready says whether work can be done; nil: always. Each line of its error is a reason.
	Ready func(context.Context) error
	// Redis is the connection that asynqmon opens for itself. Required.
	Redis asynq.RedisConnOpt
	// Metrics is served at /metrics, with gauges of Status added to it. Required.
	Metrics *prometheus.Registry
	// Log gets what goes wrong in the background; nil: nothing.
	Log *zap.Logger
}

// Server is an http.Handler, and a server of itself. It is safe for concurrent use.
type Server struct {
	addr      string
	token     *[sha256.Size]byte // nil: none is asked for
	deps      Deps
	metrics   http.Handler
	collector *collector
	asynqmon  *asynqmon.HTTPHandler
	csrf      *http.CrossOriginProtection

	mu       sync.Mutex // guards the rest
	listener net.Listener
	http     *http.Server
	served   chan error // what Serve returned
	stopped  bool
}

// Time limits. A probe that waits longer than readyTimeout for an answer takes the worker for broken anyway.
const (
	readyTimeout  = 5 * time.Second
	statusTimeout = 5 * time.Second
	stopTimeout   = 5 * time.Second
	maxBodyBytes  = 4 << 20 // asynqmon's batch actions send lists of task ids
)

// New checks the settings and wires a server. It listens nowhere yet; Stop must be called even so.
func New(cfg Config, deps Deps) (*Server, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("admin address %q: %w", cfg.Addr, err)
	}
	if cfg.Token == "" && !isLoopback(host) {
		return nil, fmt.Errorf("admin address %q can be reached from other machines and needs a token; set one, or use 127.0.0.1", cfg.Addr)
	}
	if deps.Status == nil || deps.Redis == nil || deps.Metrics == nil {
		return nil, errors.New("admin: Status, Redis and Metrics are required")
	}
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	s := &Server{addr: cfg.Addr, deps: deps, csrf: http.NewCrossOriginProtection(), collector: newCollector(deps.Status)}
	if cfg.Token != "" {
		sum := sha256.Sum256([]byte(cfg.Token))
		s.token = &sum
	}
	if err := deps.Metrics.Register(s.collector); err != nil {
		return nil, fmt.Errorf("admin: register metrics: %w", err)
	}
	s.metrics = promhttp.HandlerFor(deps.Metrics, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 8})
	s.asynqmon = asynqmon.New(asynqmon.Options{
		RootPath: asynqmonRoot, RedisConnOpt: deps.Redis, PayloadFormatter: asynqmon.PayloadFormatterFunc(formatPayload),
	})
	return s, nil
}

// Start listens and serves. An address that is taken is an error. It may be called once.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.listener != nil {
		return errors.New("admin: started or stopped already")
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("admin address: %w", err)
	}
	s.listener, s.served = listener, make(chan error, 1)
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute, // running or deleting a hundred thousand tasks takes a while
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          zap.NewStdLog(s.deps.Log.Named("http")),
	}
	go func(srv *http.Server, served chan<- error) { served <- srv.Serve(listener) }(s.http, s.served)
	return nil
}

// Addr is the address listened on, with the port that was found; before Start it is the configured one.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return s.listener.Addr().String()
	}
	return s.addr
}

// Stop ends the server: requests under way get a few seconds. It may be called more than once, and before Start.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	var errs []error
	if s.http != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			errs = append(errs, s.http.Close()) // who has not finished by now is cut off
		}
		if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
			errs = append(errs, err)
		}
	}
	s.deps.Metrics.Unregister(s.collector)
	s.collector.wait()
	errs = append(errs, s.asynqmon.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("admin: stop: %w", err)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
