package admin

import (
	"bytes"
	_ "embed"
	"net/http"
	"strings"
)

// refusedScript shows, in asynqmon's page, why an action was refused; the page itself keeps quiet about it.
//
//go:embed refused.js
var refusedScript []byte

const refusedPath = "/refused.js"

func serveRefusedScript(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	_, _ = w.Write(refusedScript) // whether the caller is still there is its own affair
}

// serveAsynqmon hands a request on, and adds the script to the page. The page is what asynqmon answers to all that is neither its API nor one
// of its files.
func (s *Server) serveAsynqmon(w http.ResponseWriter, r *http.Request) {
	rest := strings.TrimPrefix(r.URL.Path, asynqmonRoot)
	if r.Method != http.MethodGet || strings.HasPrefix(rest, "/api/") || strings.HasPrefix(rest, "/static/") {
		s.asynqmon.ServeHTTP(w, r)
		return
	}
	page := &heldBack{ResponseWriter: w}
	s.asynqmon.ServeHTTP(page, r)
	body := page.body.Bytes()
	if head := bytes.Index(body, []byte("<head>")); head >= 0 {
		head += len("<head>")
		body = bytes.Join([][]byte{body[:head], body[head:]}, []byte(`<script src="`+refusedPath+`"></script>`))
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
	}
	if page.status != 0 {
		w.WriteHeader(page.status)
	}
	_, _ = w.Write(body)
}

// heldBack keeps an answer until it is whole.
type heldBack struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (h *heldBack) WriteHeader(status int)      { h.status = status }
func (h *heldBack) Write(b []byte) (int, error) { return h.body.Write(b) }
