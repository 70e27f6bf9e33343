package admin

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"count": func(n any) string {
		switch n := n.(type) {
		case int:
			return thousands(int64(n))
		case int64:
			return thousands(n)
		}
		return "?"
	},
	"percent": func(share float64) string { return strconv.FormatFloat(share*100, 'f', 0, 64) + " %" },
	"when": func(t time.Time) string {
		if t.IsZero() {
			return "not yet"
		}
		return t.UTC().Format("2006-01-02 15:04:05 UTC")
	},
}).Parse(pageText))

// page shows how things stand, and where the rest is.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	st, err := s.collector.read(r.Context())
	view := struct {
		Status
		Err error
		Now time.Time
	}{st, err, time.Now()}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, view); err != nil {
		text(w, http.StatusInternalServerError, "the page could not be made: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(b.Bytes()) // whether the caller is still there is its own affair
}

func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
