package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// contentPolicy keeps the pages from loading anything from elsewhere (asynqmon would fetch fonts from a public server) and from being
// framed. asynqmon's own scripts and styles are inline in part.
const contentPolicy = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ServeHTTP lets in who may come in, and finds what was asked for. There is no http.ServeMux in it on purpose: what it redirects and
// decodes would have to be thought of in the guard of asynqmon.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy", contentPolicy)
	if r.URL.Path == "/healthz" {
		s.get(w, r, func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") })
		return
	}
	if !s.admit(w, r) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	switch path := r.URL.Path; {
	case path == "/":
		s.get(w, r, s.page)
	case path == "/readyz":
		s.get(w, r, s.ready)
	case path == "/metrics":
		s.get(w, r, s.metrics.ServeHTTP)
	case path == refusedPath:
		s.get(w, r, serveRefusedScript)
	case path == asynqmonRoot || strings.HasPrefix(path, asynqmonRoot+"/"):
		s.guarded(w, r)
	default:
		text(w, http.StatusNotFound, "there is nothing here; see /")
	}
}

// admit answers, and returns false, where a request may not come in.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case s.token != nil && !s.hasToken(r):
		// Basic, so that a browser asks: any user name, and the token as the password.
		w.Header().Set("WWW-Authenticate", `Basic realm="recall", charset="UTF-8"`)
		text(w, http.StatusUnauthorized, "the admin token is needed: as a bearer token, or as the password with any user name")
		return false
	case s.token == nil && !localHost(r.Host):
		// A page elsewhere whose name was made to point at this machine (DNS rebinding) shows itself by that name.
		text(w, http.StatusForbidden, "without an admin token only localhost, 127.0.0.1 and [::1] are answered, as the host of the address too")
		return false
	}
	if err := s.csrf.Check(r); err != nil {
		text(w, http.StatusForbidden, "a request that changes something must come from this server's own pages, or from no page at all")
		return false
	}
	return true
}

func (s *Server) hasToken(r *http.Request) bool {
	given := ""
	if _, password, ok := r.BasicAuth(); ok {
		given = password
	} else if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		given = strings.TrimSpace(token)
	}
	// The sums have one length, so that the time taken tells nothing of the token, its length included.
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1
}

// localHost says whether a Host header, with or without a port, names this machine.
func localHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return isLoopback(strings.ToLower(host))
}

// get serves what can only be read.
func (s *Server) get(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		text(w, http.StatusMethodNotAllowed, "this can only be read: GET or HEAD")
		return
	}
	serve(w, r)
}

// ready answers 200 where work can be done, and 503 with a line for each reason where not.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.deps.Ready == nil {
		text(w, http.StatusOK, "ready")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	// Not every library below looks at the context in time.
	answer := make(chan error, 1)
	go func() { answer <- s.deps.Ready(ctx) }()
	select {
	case err := <-answer:
		if err != nil {
			text(w, http.StatusServiceUnavailable, "not ready:\n"+err.Error())
			return
		}
		text(w, http.StatusOK, "ready")
	case <-ctx.Done():
		text(w, http.StatusServiceUnavailable, fmt.Sprintf("not ready:\nno answer within %v", readyTimeout))
	}
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, body) // whether the caller is still there is its own affair
}
