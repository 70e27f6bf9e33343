package simulator

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCloseEndsWhatHangs(t *testing.T) {
	t.Parallel()
	w := setupWire(t, Config{Faults: []FaultRule{{Fault: FaultHang, Probability: 1}}})
	done := make(chan error)
	go func() {
		_, _, err := w.send(t.Context(), w.key(Good))
		done <- err
	}()
	eventually(t, "the call hangs", func() bool { return w.sim.Stats().Faults["hang"] == 1 })
	for range 2 {
		if err := w.srv.Close(); err != nil {
			t.Error(err)
		}
	}
	if st := w.sim.Stats(); st.Outcomes["hang"] != 1 {
		t.Errorf("Close did not wait for the call: %v", st.Outcomes)
	}
	if err := <-done; err == nil {
		t.Error("the call was answered")
	}
	if _, err := http.Get(w.srv.BaseURL()); err == nil {
		t.Error("the server still answers")
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	w := setupWire(t, Config{})
	host, _, err := net.SplitHostPort(w.srv.Addr())
	if err != nil || host != "127.0.0.1" || w.srv.BaseURL() != "http://"+w.srv.Addr() {
		t.Errorf("listens on %s, %s, %v", w.srv.Addr(), w.srv.BaseURL(), err)
	}
	if _, err := w.sim.Listen(w.srv.Addr()); err == nil || !strings.Contains(err.Error(), "listen on "+w.srv.Addr()) {
		t.Errorf("the same address twice: %v", err)
	}
}
