package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server serves a simulator over HTTP.
type Server struct {
	http *http.Server
	addr net.Addr
	stop context.CancelFunc // ends the calls under way
	done chan error         // what Serve returned

	mu      sync.Mutex // guards closed, and with it that no call begins once Close waits
	closed  bool
	running sync.WaitGroup
	once    sync.Once
	err     error
}

// Listen serves the simulator on a TCP address; empty: a free port of 127.0.0.1. It returns when connections are accepted.
func (s *Simulator) Listen(addr string) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("simulator: listen on %s: %w", addr, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv := &Server{addr: listener.Addr(), stop: cancel, done: make(chan error, 1)}
	srv.http = &http.Server{
		Handler:           srv.counted(s),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(io.Discard, "", 0), // connections that faults and clients cut are no news
	}
	go func() { srv.done <- srv.http.Serve(listener) }()
	return srv, nil
}

// Addr is the address listened on, host and port.
func (srv *Server) Addr() string { return srv.addr.String() }

// BaseURL is where the simulator is to be called, without a slash at the end.
func (srv *Server) BaseURL() string { return "http://" + srv.Addr() }

// Close ends the server and the calls under way, and returns when they have ended. It may be called again.
func (srv *Server) Close() error {
	srv.once.Do(func() {
		srv.mu.Lock()
		srv.closed = true
		srv.mu.Unlock()
		srv.stop()
		err := srv.http.Close()
		if serveErr := <-srv.done; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		srv.running.Wait()
		if err != nil {
			srv.err = fmt.Errorf("simulator: close: %w", err)
		}
	})
	return srv.err
}

// counted keeps count of the calls under way, so that Close can wait for them.
func (srv *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srv.mu.Lock()
		if srv.closed {
			srv.mu.Unlock()
			panic(http.ErrAbortHandler) // the way that net/http has to cut a connection
		}
		srv.running.Add(1)
		srv.mu.Unlock()
		defer srv.running.Done()
		next.ServeHTTP(w, r)
	})
}
