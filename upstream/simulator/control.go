package simulator

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

const (
	controlPrefix  = "/_sim/"
	redirectTarget = controlPrefix + "redirected" // where the fault redirect points
)

// control serves the endpoints by which another process steers the simulator and holds it to account:
//
//	GET  /_sim/stats            Stats as JSON
//	GET  /_sim/faults           every fault there is, with what it does
//	POST /_sim/faults           a JSON list of FaultRule replaces all rules; [] ends all faults
//	POST /_sim/reset            as Reset
//	POST /_sim/revoke-tokens    as RevokeTokens
//	POST /_sim/suite-ticket     the body is the new suite ticket, as SetSuiteTicket
//
// They answer callers on the same machine only.
func (s *Simulator) control(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == redirectTarget {
		s.tally.add(func(st *Stats) { st.RedirectsFollowed++ })
		tell(w, http.StatusNotFound, controlError{"a client should not follow a redirect of a recall"})
		return
	}
	if !fromLoopback(r.RemoteAddr) {
		tell(w, http.StatusForbidden, controlError{"the control endpoints answer callers on the same machine only"})
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /_sim/stats":
		tell(w, http.StatusOK, s.Stats())
	case "GET /_sim/faults":
		all := map[Fault]string{}
		for _, f := range faultInfos {
			all[f.Fault] = f.About
		}
		tell(w, http.StatusOK, all)
	case "POST /_sim/faults":
		s.controlFaults(w, r)
	case "POST /_sim/reset":
		s.Reset()
		tell(w, http.StatusOK, struct{}{})
	case "POST /_sim/revoke-tokens":
		s.RevokeTokens()
		tell(w, http.StatusOK, struct{}{})
	case "POST /_sim/suite-ticket":
		s.controlTicket(w, r)
	default:
		tell(w, http.StatusNotFound, controlError{"there are GET stats, GET and POST faults, POST reset, POST revoke-tokens and POST suite-ticket"})
	}
}

func (s *Simulator) controlFaults(w http.ResponseWriter, r *http.Request) {
	var rules []FaultRule
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	dec.DisallowUnknownFields()
	err := dec.Decode(&rules)
	if err == nil {
		err = s.SetFaults(rules...)
	}
	if err != nil {
		tell(w, http.StatusBadRequest, controlError{"want a JSON list of fault rules: " + err.Error()})
		return
	}
	tell(w, http.StatusOK, struct{}{})
}

func (s *Simulator) controlTicket(w http.ResponseWriter, r *http.Request) {
	ticket, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTicketBytes))
	if err != nil {
		tell(w, http.StatusBadRequest, controlError{"want a suite ticket: " + err.Error()})
		return
	}
	s.SetSuiteTicket(strings.TrimSpace(string(ticket)))
	tell(w, http.StatusOK, struct{}{})
}

// maxTicketBytes bounds a suite ticket.
const maxTicketBytes = 4096

type controlError struct {
	Error string `json:"error"`
}

func tell(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(encode(body), '\n')) // whether the caller is still there is its own affair
}

func fromLoopback(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
