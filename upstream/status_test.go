package upstream

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"dingrecall/upstream/simulator"
)

func TestReadStatusOnTheWire(t *testing.T) {
	t.Parallel()
	type seen struct{ method, uri, path, token string }
	requests := make(chan seen, 1)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- seen{r.Method, r.RequestURI, r.URL.Path, r.Header.Get(tokenHeader)}
		respond(200, `{"sendStatus":"RECALLED","messageReadInfoList":[{"name":"x"}]}`, requestIDHeader, "req-1")(w, r)
	})
	key, robot := "+0X/a=b&c d%é?#\\", "ding&=+ robot"
	got, err := client.ReadStatus(t.Context(), testToken, robot, key)
	if err != nil || got != (MessageStatus{StatusRecalled, "req-1"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	r := <-requests
	if r.method != http.MethodGet || r.path != "/v1.0/robot/oToMessages/readStatus" || r.token != testToken {
		t.Errorf("request %+v", r)
	}
	_, query, _ := strings.Cut(r.uri, "?")
	if want := "robotCode=ding%26%3D%2B%20robot&processQueryKey=%2B0X%2Fa%3Db%26c%20d%25%C3%A9%3F%23%5C"; query != want {
		t.Errorf("query %s, want %s", query, want)
	}
	if values, err := url.ParseQuery(query); err != nil || values.Get("robotCode") != robot || values.Get("processQueryKey") != key {
		t.Errorf("read back: %v, %v", values, err)
	}
}

func TestReadStatusAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    SendStatus
		class   Class
		scope   Scope
	}{
		"stands":         {respond(200, `{"sendStatus":"SUCCESS"}`), StatusSuccess, "", 0},
		"lower case":     {respond(200, `{"sendStatus":"recalled"}`), StatusRecalled, "", 0},
		"still at it":    {respond(200, `{"sendStatus":"PROCESSING"}`), StatusProcessing, "", 0},
		"nobody knows":   {respond(200, `{"sendStatus":"FAILED"}`), "", ClassUnreadable, Unknown},
		"a number":       {respond(200, `{"sendStatus":1}`), "", ClassUnreadable, Unknown},
		"not there":      {respond(200, `{}`), "", ClassUnreadable, Unknown},
		"with a refusal": {respond(400, `{"sendStatus":"RECALLED","code":"invalid.processQueryKey"}`), "", ClassService, KeyDead},
		"expired":        {respond(400, `{"code":"robot.processQueryKey.expired"}`), "", ClassService, KeyDead},
		"no token":       {respond(400, `{"code":"InvalidAuthentication"}`), "", ClassService, TokenStale},
		"throttled":      {respond(403, `{"code":"Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"}`), "", ClassService, Throttled},
		"a page":         {respond(200, `<html></html>`), "", ClassUnreadable, Throttled},
		"cut":            {respond(200, `{"sendStatus":"RECA`), "", ClassCut, Transient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := serve(t, test.handler).ReadStatus(t.Context(), testToken, testRobot, "k")
			if test.class == "" {
				if err != nil || got.Status != test.want {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			e := asError(t, err)
			if e.Op != OpReadStatus || e.Class != test.class || e.Verdict(1).Scope != test.scope || got != (MessageStatus{}) {
				t.Errorf("%+v, verdict %+v", e, e.Verdict(1))
			}
			if !strings.HasPrefix(err.Error(), "ask for the status of a message: ") || strings.Contains(err.Error(), testToken) {
				t.Errorf("error %q", err)
			}
		})
	}
}

func TestReadStatusIsNotSent(t *testing.T) {
	t.Parallel()
	client := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for code, args := range map[string][3]string{
		CodeRequestToken: {"", testRobot, "k"}, CodeRequestRobot: {testToken, "", "k"}, CodeRequestKeys: {testToken, testRobot, "\xff"},
	} {
		_, err := client.ReadStatus(t.Context(), args[0], args[1], args[2])
		if e := asError(t, err); e.Class != ClassRequest || e.Code != code {
			t.Errorf("%+v, want %s", e, code)
		}
	}
}

// TestStatusTellsWhatALostAnswerWouldHave: whether the call was carried out before its connection was cut.
func TestStatusTellsWhatALostAnswerWouldHave(t *testing.T) {
	t.Parallel()
	sim, client := simulated(t, simulator.Config{})
	for fault, want := range map[simulator.Fault]SendStatus{
		simulator.FaultLostAnswer: StatusRecalled, simulator.FaultCut: StatusSuccess, simulator.FaultTruncated: StatusRecalled, simulator.FaultCutBody: StatusRecalled,
	} {
		if err := sim.SetFaults(simulator.FaultRule{Fault: fault, Probability: 1}); err != nil {
			t.Fatal(err)
		}
		key := "+/=" + string(fault)
		_, err := client.BatchRecall(t.Context(), testToken, testRobot, []string{key})
		e := asError(t, err)
		if !e.Lost || !slices.Contains([]Class{ClassCut, ClassTimeout}, e.Class) || !e.Verdict(1).Ambiguous {
			t.Errorf("%s: %+v", fault, e)
		}
		got, err := client.ReadStatus(t.Context(), testToken, testRobot, key)
		if err != nil || got.Status != want {
			t.Errorf("%s: %+v, %v; want %s", fault, got, err, want)
		}
	}
}

// TestWhatNeverArrivedIsNotLost: a handshake that does not end, or a proxy that opens no way, comes before the first byte of the
// request; a connection that takes the request and hangs comes after it.
func TestWhatNeverArrivedIsNotLost(t *testing.T) {
	t.Parallel()
	silent := silentListener(t)
	for name, test := range map[string]struct {
		base string
		lost bool
	}{
		"a TLS handshake without an answer": {"https" + strings.TrimPrefix(silent, "http"), false},
		"a request without an answer":       {silent, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, test.base, func(c *Config) { c.Timeout = 100 * time.Millisecond })
			_, err := client.BatchRecall(t.Context(), testToken, testRobot, testKeys(2))
			want := ClassTimeout
			if !test.lost {
				want = ClassNotSent
			}
			if e := asError(t, err); e.Lost != test.lost || e.Class != want || e.Verdict(2).Ambiguous != test.lost || e.Verdict(2).Blameless == test.lost {
				t.Errorf("%+v", e)
			}
		})
	}
	t.Run("a proxy that opens no way", func(t *testing.T) {
		t.Parallel()
		proxy := httptest.NewServer(respond(http.StatusForbidden, ""))
		defer proxy.Close()
		client := dial(t, "https://service.invalid")
		target, err := url.Parse(proxy.URL)
		if err != nil {
			t.Fatal(err)
		}
		client.transport.(*http.Transport).Proxy = http.ProxyURL(target)
		_, err = client.BatchRecall(t.Context(), testToken, testRobot, testKeys(2))
		if e := asError(t, err); e.Lost || e.Class != ClassNotSent || e.Verdict(2).Ambiguous {
			t.Errorf("%+v", e)
		}
	})
}

// silentListener takes connections and reads what comes, and never answers.
func silentListener(t *testing.T) string {
	t.Helper()
	return rawFunc(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
}
