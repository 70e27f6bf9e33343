package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// raw starts a server that answers each connection, after reading a request, with these bytes, and closes it.
func raw(t testing.TB, answer string) string {
	t.Helper()
	return rawFunc(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 8192))
		_, _ = conn.Write([]byte(answer))
	})
}

func rawFunc(t testing.TB, talk func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			talk(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}

// untilGone answers nothing until the client leaves, which a server notices only once it has read the request.
func untilGone(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// refused returns the address of a port on which nobody listens.
func refused(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return "http://" + listener.Addr().String()
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	page := "<!DOCTYPE html><html><head><title>\n 403 &amp; gone\x07 </title></head></html>"
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    Error // Class, Status, Code, Lost, Banned, HTML, RetryAfter
		scope   Scope // for a call with two keys
		text    string
	}{
		{"empty 200", respond(200, ``), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, "an empty body"},
		{"empty object", respond(200, `{}`), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, "{}"},
		{"null", respond(200, `null`), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, "null"},
		{"null lists", respond(200, `{"successResult":null,"failedResult":null}`), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, ""},
		{"lists of other shapes", respond(200, `{"successResult":"x","failedResult":["x"]}`), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, ""},
		{"list at the top", respond(200, `["x"]`), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, "no JSON object"},
		{"not JSON", respond(200, `OK`), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, "OK"},
		{"truncated JSON", respond(200, `{"successResult":["Kna`), Error{Class: ClassCut, Status: 200, Lost: true}, Transient, "ends early"},
		{"no content", respond(204, ``), Error{Class: ClassUnreadable, Status: 204, Lost: true}, Unknown, ""},
		{"page 200", respond(200, page), Error{Class: ClassUnreadable, Status: 200, HTML: true}, Throttled, "403 & gone"},
		{"page 403", respond(403, page), Error{Class: ClassService, Status: 403, HTML: true}, Throttled, "403 & gone"},
		{"page 502", respond(502, page), Error{Class: ClassService, Status: 502, HTML: true, Lost: true}, Transient, "502"},
		{"page 404", respond(404, page), Error{Class: ClassService, Status: 404, HTML: true}, AppHold, "base URL"},
		{"banned 200", respond(200, `{"status":1111,"wait":5,"source":"x5","punish":"deny","uuid":"u"}`), Error{Class: ClassService, Status: 200, Banned: true}, Throttled, "1111"},
		{"banned 403", respond(403, `{"status":"1111"}`), Error{Class: ClassService, Status: 403, Banned: true}, Throttled, "1111"},
		{"code in a 200", respond(200, `{"code":"system.error","message":"m"}`), Error{Class: ClassService, Status: 200, Code: "system.error"}, Transient, "system.error: m"},
		{"code and empty lists in a 200", respond(200, `{"code":"invalid.processQueryKey","successResult":[],"failedResult":{}}`), Error{Class: ClassService, Status: 200, Code: "invalid.processQueryKey"}, BatchKey, ""},
		{"code that is a number", respond(400, `{"code":88,"message":["a"]}`), Error{Class: ClassService, Status: 400, Code: "88"}, Unknown, `["a"]`},
		{"bare 500", respond(500, ``), Error{Class: ClassService, Status: 500, Lost: true}, Transient, "500"},
		{"time-out code", respond(500, `{"code":"service.timeout"}`), Error{Class: ClassService, Status: 500, Code: "service.timeout", Lost: true}, Transient, ""},
		{"redirect", respond(302, ``, "Location", "http://elsewhere.example/?t="+testToken), Error{Class: ClassRedirect, Status: 302}, AppHold, "base URL"},
		{"redirect with JSON", respond(307, `{"code":"x"}`, "Location", "/"), Error{Class: ClassRedirect, Status: 307, Code: "x"}, AppHold, ""},
		{"redirect to another host", respond(302, `<html>`, "Location", "//elsewhere.example/?t="+testToken), Error{Class: ClassRedirect, Status: 302, HTML: true}, AppHold, `to the host "elsewhere.example", which is not followed`},
		{"redirect to another path", respond(308, ``, "Location", "/v2/"+testToken), Error{Class: ClassRedirect, Status: 308}, AppHold, "to another path"},
		{"redirect to nowhere", respond(301, ``), Error{Class: ClassRedirect, Status: 301}, AppHold, "that names no address"},
		{"redirect that cannot be read", respond(302, ``, "Location", "http://%zz"+testToken), Error{Class: ClassRedirect, Status: 302}, AppHold, "that cannot be read"},
		{"redirect with lists", respond(302, `{"successResult":["`+testKeys(1)[0]+`"]}`, "Location", "/"), Error{Class: ClassRedirect, Status: 302}, AppHold, "to another path"},
		{"not modified", respond(304, ``), Error{Class: ClassRedirect, Status: 304}, AppHold, ""},
		{"banned 200 with lists", respond(200, `{"status":1111,"code":"x","successResult":[]}`), Error{Class: ClassService, Status: 200, Code: "x", Banned: true}, Throttled, "1111"},
		{"banned 502", respond(502, `{"status":1111,"punish":"DENY"}`), Error{Class: ClassService, Status: 502, Banned: true}, Throttled, "1111"},
		{"gzipped rubbish", respond(200, "\x1f\x8b\x08rubbish", "Content-Encoding", "gzip"), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, "10 bytes in the encoding \"gzip\" that cannot be unpacked"},
		{"another encoding", respond(200, "\x0b\x02\x80", "Content-Encoding", "br"), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, "3 bytes in the encoding \"br\""},
		{"JSON and more", respond(200, `{"successResult":["`+testKeys(1)[0]+`"]} and more`), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, "no JSON object"},
		{"two answers", respond(200, `{"successResult":["`+testKeys(1)[0]+`"]}{}`), Error{Class: ClassUnreadable, Status: 200, Lost: true}, Unknown, "no JSON object"},
		{"nested and cut", respond(400, strings.Repeat(`{"a":`, 190)+"["), Error{Class: ClassService, Status: 400}, Unknown, "ends early"},
		{"bad gateway", respond(502, ``), Error{Class: ClassService, Status: 502, Lost: true}, Transient, ""},
		{"gateway timeout", respond(504, ``), Error{Class: ClassService, Status: 504, Lost: true}, Transient, ""},
		{"too large", respond(200, `{"successResult":["`+strings.Repeat("x", 2048)+`"]}`), Error{Class: ClassTooLarge, Status: 200, Lost: true}, Transient, "more than 1024 bytes"},
		{"too large 429", respond(429, strings.Repeat("x", 2048), "Retry-After", "7"), Error{Class: ClassTooLarge, Status: 429, RetryAfter: 7 * time.Second}, Throttled, ""},
		{"retry after", respond(429, `{"code":"system.busy"}`, "Retry-After", "90000"), Error{Class: ClassService, Status: 429, Code: "system.busy", RetryAfter: time.Hour}, Throttled, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, test.handler, func(c *Config) { c.MaxResponseBytes = 1024 })
			_, err := client.BatchRecall(t.Context(), testToken, testRobot, testKeys(2))
			e := asError(t, err)
			got := Error{Class: e.Class, Status: e.Status, Code: e.Code, Lost: e.Lost, Banned: e.Banned, HTML: e.HTML, RetryAfter: e.RetryAfter}
			if fmt.Sprint(&got) != fmt.Sprint(&test.want) || got.Lost != test.want.Lost || got.Class != test.want.Class ||
				got.Banned != test.want.Banned || got.HTML != test.want.HTML || got.RetryAfter != test.want.RetryAfter {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
			v := e.Verdict(2)
			if v.Scope != test.scope || v.Code == "" || v.Message == "" {
				t.Errorf("verdict %+v, want scope %v with code and message", v, test.scope)
			}
			if v.Ambiguous != e.Lost {
				t.Errorf("lost is %v, ambiguous %v", e.Lost, v.Ambiguous)
			}
			if text := err.Error(); !strings.Contains(text, test.text) || strings.ContainsAny(text, "\n\r\x07") {
				t.Errorf("error text %q, want one line with %q", text, test.text)
			}
		})
	}
}

func TestErrorBody(t *testing.T) {
	t.Parallel()
	keys := testKeys(3)
	message := "机器人消息\u202e key=" + keys[1] + "\n, x" + keys[2] + "x " + strings.Repeat("长", 600)
	body := `{"code":"robot.processQueryKey.expired","requestid":"R-1","message":` + string(appendJSONString(nil, message)) + `,
		"accessdenieddetail":{"requiredScopes":["qyapi_robot_sendmsg"]}}`
	client := serve(t, respond(400, body, requestIDHeader, "R-2"))
	_, err := client.BatchRecall(t.Context(), testToken, testRobot, keys)
	e := asError(t, err)
	if e.Code != "robot.processQueryKey.expired" || e.RequestID != "R-1" || e.Lost || !slices.Equal(e.RequiredScopes, []string{"qyapi_robot_sendmsg"}) {
		t.Errorf("got %+v", e)
	}
	if !slices.Equal(e.Keys, keys[1:2]) {
		t.Errorf("keys found in the message: %q, want only %q", e.Keys, keys[1])
	}
	if n := len([]rune(e.Message)); n > MaxMessageRunes || n < MaxMessageRunes-5 || strings.ContainsAny(e.Message, "\n\u202e") {
		t.Errorf("the message has %d runes: %q", n, e.Message)
	}
	if text := err.Error(); !strings.Contains(text, "400 robot.processQueryKey.expired") || !strings.Contains(text, "request id R-1") {
		t.Errorf("error text %q", text)
	}
	client = serve(t, respond(500, `{"code":"system.error"}`, requestIDHeader, "R-2"))
	_, err = client.BatchRecall(t.Context(), testToken, testRobot, keys)
	if e := asError(t, err); e.RequestID != "R-2" {
		t.Errorf("request id %q, want the header's", e.RequestID)
	}
}

func TestRequiredScopes(t *testing.T) {
	t.Parallel()
	for detail, want := range map[string][]string{
		`{"requiredScopes":["a","b"]}`:             {"a", "b"},
		`{"requiredScopes":"a"}`:                   {"a"},
		`{"requiredScopes":["a",1,null,"","b\n"]}`: {"a", "b"},
		`{"RequiredScopes":["a"]}`:                 {"a"},
		`{"requiredScopes":["` + testToken + `"]}`: {redacted},
		`{"requiredScopes":{}}`:                    nil,
		`{"requiredScopes":[]}`:                    nil,
		`{}`:                                       nil,
		`"requiredScopes"`:                         nil,
		`["a"]`:                                    nil,
		``:                                         nil,
	} {
		if got := requiredScopes(json.RawMessage(detail), newScrubber(testToken)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", detail, got, want)
		}
	}
}

func TestCallsWithoutAnswer(t *testing.T) {
	t.Parallel()
	hang := func(t *testing.T) string {
		server := httptest.NewServer(http.HandlerFunc(untilGone))
		t.Cleanup(server.Close)
		return server.URL
	}
	tests := []struct {
		name string
		base func(*testing.T) string
		want Class
		lost bool
		is   error
	}{
		{"refused", func(t *testing.T) string { return refused(t) }, ClassNotSent, false, nil},
		{"no such host", func(*testing.T) string { return "http://no-such-host.invalid" }, ClassNotSent, false, nil},
		{"certificate of nobody", func(t *testing.T) string {
			server := httptest.NewUnstartedServer(respond(200, `{}`))
			server.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake is what is wanted
			server.StartTLS()
			t.Cleanup(server.Close)
			return server.URL
		}, ClassNotSent, false, nil},
		{"no TLS there", func(t *testing.T) string {
			return "https" + strings.TrimPrefix(raw(t, "HTTP/1.0 400 no\r\n\r\n"), "http")
		}, ClassNotSent, false, nil},
		{"hangs", hang, ClassTimeout, true, context.DeadlineExceeded},
		{"cut before the answer", func(t *testing.T) string { return raw(t, "") }, ClassCut, true, nil},
		{"no HTTP", func(t *testing.T) string { return raw(t, "220 ready "+testToken+"\r\n\r\n") }, ClassCut, true, nil},
		{"cut body", func(t *testing.T) string {
			return raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"successResult\":[")
		}, ClassCut, true, nil},
		{"cut chunk", func(t *testing.T) string {
			return raw(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{\"successResult\":[")
		}, ClassCut, true, nil},
		{"cut refusal", func(t *testing.T) string { return raw(t, "HTTP/1.1 400 no\r\nContent-Length: 500\r\n\r\n{\"code\":") }, ClassCut, false, nil},
		{"slow body", func(t *testing.T) string {
			return rawFunc(t, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 8192))
				_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"))
				_, _ = conn.Read(make([]byte, 1)) // until the client leaves
			})
		}, ClassTimeout, true, context.DeadlineExceeded},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			base := test.base(t)
			client := dial(t, base, func(c *Config) { c.Timeout = 10 * time.Second })
			if test.want == ClassTimeout {
				client.cfg.Timeout = time.Second
			}
			_, err := client.BatchRecall(t.Context(), testToken, testRobot, testKeys(2))
			e := asError(t, err)
			if e.Class != test.want || e.Lost != test.lost {
				t.Errorf("got %+v (%v), want class %s and lost %v", e, err, test.want, test.lost)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("errors.Is(%v, %v) is false", err, test.is)
			}
			v := e.Verdict(2)
			if v.Scope != Transient && e.Status < 400 || v.Ambiguous != test.lost || v.Blameless != (test.want == ClassNotSent) || v.Message == "" {
				t.Errorf("verdict %+v", v)
			}
		})
	}
}

func TestCanceledCalls(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		untilGone(w, r)
	})
	reason := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-arrived
		cancel(reason)
	}()
	_, err := client.BatchRecall(ctx, testToken, testRobot, testKeys(2))
	e := asError(t, err)
	if v := e.Verdict(2); e.Class != ClassCanceled || !e.Lost || !v.Blameless || !v.Ambiguous || v.Scope != Transient {
		t.Errorf("got %+v with %+v", e, v)
	}
	if !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
		t.Errorf("%v is not of context.Canceled and its cause", err)
	}

	_, err = client.BatchRecall(ctx, testToken, testRobot, testKeys(2)) // ended before it begins
	if e := asError(t, err); e.Class != ClassCanceled || e.Lost || len(arrived) != 0 {
		t.Errorf("got %+v, want a call that was not sent", e)
	}
}

// TestNoFreeConnection: a call that waits in vain for a connection was not sent.
func TestNoFreeConnection(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		untilGone(w, r)
	}, func(c *Config) { c.MaxConns = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := client.BatchRecall(ctx, testToken, testRobot, testKeys(1))
		first <- err
	}()
	<-arrived
	short, cancelShort := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelShort()
	_, err := client.BatchRecall(short, testToken, testRobot, testKeys(1))
	if e := asError(t, err); e.Lost || e.Class != ClassCanceled {
		t.Errorf("got %+v, want a call that was not sent", e)
	}
	cancel()
	if e := asError(t, <-first); !e.Lost {
		t.Errorf("got %+v, want the first call lost", e)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	tests := []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0}, {"5", "", 5 * time.Second}, {"0", "", 0}, {"-4", "", 0}, {"x", "", 0}, {"99999999999999999999", "", time.Hour}, {"-99999999999999999999", "", 0}, {"9000000000000", "", time.Hour},
		{date(90 * time.Second), "", 90 * time.Second}, {date(-time.Second), "", 0}, {date(48 * time.Hour), "", time.Hour},
		{date(time.Minute), date(30 * time.Second), 30 * time.Second},
	}
	for _, test := range tests {
		header := http.Header{"Retry-After": {test.value}, "Date": {test.date}}
		if got := retryAfter(header, now); got != test.want {
			t.Errorf("Retry-After %q at %q: %v, want %v", test.value, test.date, got, test.want)
		}
	}
}
