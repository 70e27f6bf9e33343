package dispatch

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
)

// decided is what a row of the table expects. Fates are written with a count, "k20" or "k10 w10".
type decided struct {
	scope   upstream.Scope
	fates   string
	next    flow.Next
	cut     int
	tries   int
	counted bool
	amb     bool // the called keys are ambiguous from here on
	hold    string
	rest    time.Duration
	delay   time.Duration
	note    note
	code    string // of the dead
	robot   bool   // all keys of the robot die
}

func expand(s string) string {
	var out strings.Builder
	for _, part := range strings.Fields(s) {
		n := 0
		for _, c := range part[1:] {
			n = 10*n + int(c-'0')
		}
		out.WriteString(strings.Repeat(part[:1], max(n, 1)))
	}
	return out.String()
}

func check(t *testing.T, got decision, want decided) {
	t.Helper()
	if got.scope != want.scope {
		t.Errorf("scope %v, want %v", got.scope, want.scope)
	}
	if f := expand(want.fates); fates(got) != f {
		t.Errorf("fates %s, want %s", fates(got), f)
	}
	if got.Next != want.next || got.Cut != want.cut || got.Tries != want.tries {
		t.Errorf("then %s with cut %d after %d tries, want %s, %d, %d", got.Next, got.Cut, got.Tries, want.next, want.cut, want.tries)
	}
	if got.Counted != want.counted {
		t.Errorf("counted %v", got.Counted)
	}
	if got.Rest != want.rest || got.delay != want.delay {
		t.Errorf("rest %v, delay %v, want %v, %v", got.Rest, got.delay, want.rest, want.delay)
	}
	if n := readNote(got.Note); !reflect.DeepEqual(n.plain(), want.note) {
		t.Errorf("note %+v, want %+v", n, want.note)
	}
	if (got.Hold == nil) != (want.hold == "") || got.Hold != nil && got.Hold.Code != want.hold {
		t.Errorf("hold %+v, want %q", got.Hold, want.hold)
	}
	if (got.DeadRobot != nil) != want.robot {
		t.Errorf("the robot's end: %+v", got.DeadRobot)
	}
	for i, o := range got.Outcomes {
		if o.Fate == flow.FateDead && (o.Code != want.code || o.Message == "") {
			t.Errorf("key %d dies of %q, %q, want %q and a message", i, o.Code, o.Message, want.code)
		}
		if (o.Fate == flow.FateLater || o.Fate == flow.FateSolo) && o.Delay <= 0 {
			t.Errorf("key %d comes back at once", i)
		}
	}
	if len(got.Outcomes) > 0 && got.Outcomes[0].Ambiguous != want.amb {
		t.Errorf("ambiguous %v", got.Outcomes[0].Ambiguous)
	}
}

// failedCall is a call that fails as a whole, as the real client tells of it.
type failedCall struct {
	name  string
	err   func(t *testing.T, keys []string) *upstream.Error
	batch func(b *flow.Batch) // changes the batch of 20
	note  note
	want  decided
}

func answers(status int, body string) func(*testing.T, []string) *upstream.Error {
	return func(t *testing.T, keys []string) *upstream.Error { t.Helper(); return realError(t, keys, status, body) }
}

func single(b *flow.Batch) { b.Keys, b.Cut = b.Keys[:1], 1 }

// parked has the first ten keys called and the others parked.
func parked(b *flow.Batch) { b.Cut = 10 }

// succeeding has others of the app succeed a moment ago; calls of the batch fail since a minute, twice before now.
func succeeding(b *flow.Batch) {
	b.LastOK, b.Tries = testNow.Add(-time.Second), 2
}

var (
	since  = testNow.UnixMilli()
	minute = testNow.Add(-time.Minute).UnixMilli()
)

func singleAfter(attempts int) func(*flow.Batch) {
	return func(b *flow.Batch) { single(b); b.Keys[0].Attempts = attempts }
}

var failedCalls = []failedCall{
	// A code of one key, said of several: find it.
	{name: "bad key among 20", err: answers(400, body("invalid.processQueryKey")),
		want: decided{scope: upstream.BatchKey, fates: "k10 p10", next: flow.NextCall, cut: 10, counted: true}},
	{name: "bad key in the first half", err: answers(400, body("invalid.processQueryKey")), batch: parked, note: note{Isolating: true},
		want: decided{scope: upstream.BatchKey, fates: "k4 p6 k10", next: flow.NextCall, cut: 14, counted: true, note: note{Isolating: true}}},
	{name: "bad key of two", err: answers(400, body("not.allowed.robotCode")), batch: func(b *flow.Batch) { b.Keys, b.Cut = b.Keys[:2], 2 },
		want: decided{scope: upstream.BatchKey, fates: "k p", next: flow.NextCall, cut: 1, counted: true}},
	{name: "bad key alone", err: answers(400, body("robot.processQueryKey.expired")), batch: single,
		want: decided{scope: upstream.KeyDead, fates: "d", next: flow.NextClaim, counted: true, code: "robot.processQueryKey.expired"}},
	{name: "bad key called alone of several", err: answers(400, body("invalid.processQueryKey")), batch: func(b *flow.Batch) { b.Keys, b.Cut = b.Keys[:3], 1 },
		note: note{Isolating: true},
		want: decided{scope: upstream.KeyDead, fates: "d w2", next: flow.NextClaim, counted: true, code: "invalid.processQueryKey"}},
	{name: "bad key is named", err: answers(400, `{"code":"invalid.processQueryKey","requestid":"r","message":"no such key: k7"}`),
		want: decided{scope: upstream.BatchKey, fates: "w7 d w12", next: flow.NextClaim, counted: true, code: "invalid.processQueryKey"}},
	{name: "all are named, so none is", err: answers(400, `{"code":"invalid.processQueryKey","requestid":"r","message":"bad keys in k0,k1"}`), batch: func(b *flow.Batch) { b.Cut = 2 },
		want: decided{scope: upstream.BatchKey, fates: "k p k18", next: flow.NextCall, cut: 19, counted: true}},
	{name: "too many keys, of 20", err: answers(400, body("invalidParameter.processQueryKeys.overMax")),
		want: decided{scope: upstream.BatchKey, fates: "k10 p10", next: flow.NextCall, cut: 10, counted: true}},

	// A robot: believed at the second time.
	{name: "no such robot, first time", err: answers(400, body("invalidParameter.robotCode")),
		want: decided{scope: upstream.RobotDead, fates: "k20", next: flow.NextCall, cut: 20, counted: true, note: note{RobotBad: true}}},
	{name: "no such robot, second time", err: answers(400, body("invalidParameter.robotCode")), batch: parked, note: note{RobotBad: true},
		want: decided{scope: upstream.RobotDead, fates: "d20", next: flow.NextClaim, counted: true, code: "invalidParameter.robotCode", robot: true}},
	{name: "no such robot, one key", err: answers(400, body("invalidParameter.robotCode")), batch: single,
		want: decided{scope: upstream.RobotDead, fates: "k", next: flow.NextCall, cut: 1, counted: true, note: note{RobotBad: true}}},

	// The app: keys wait, nobody is blamed.
	{name: "no permission", err: answers(403, body("Forbidden.AccessDenied.AccessTokenPermissionDenied")), batch: parked,
		want: decided{scope: upstream.AppHold, fates: "w20", next: flow.NextClaim, hold: "Forbidden.AccessDenied.AccessTokenPermissionDenied"}},
	{name: "stale after a fresh token", err: answers(400, body("InvalidAuthentication")),
		want: decided{scope: upstream.TokenStale, fates: "w20", next: flow.NextClaim, hold: "InvalidAuthentication"}},
	{name: "no calls left", err: answers(403, body("Forbidden.AccessDenied.ApiCountLimitForOrg")), batch: single,
		want: decided{scope: upstream.BudgetHold, fates: "w", next: flow.NextClaim, hold: "Forbidden.AccessDenied.ApiCountLimitForOrg"}},
	{name: "not this API", err: answers(404, "<html>"), want: decided{scope: upstream.AppHold, fates: "w20", next: flow.NextClaim, hold: "http.404"}},

	// Throttles: a short one keeps the slot, a long one does not keep a handler.
	{name: "too fast", err: answers(403, body("Forbidden.AccessDenied.QpsLimitForApi")), batch: func(b *flow.Batch) { b.Cut, b.Tries = 10, 2 }, note: note{Isolating: true},
		want: decided{scope: upstream.Throttled, fates: "k20", next: flow.NextCall, cut: 10, tries: 2, rest: time.Second, note: note{Isolating: true}}},
	{name: "too fast, one key", err: answers(429, body("system.busy")), batch: singleAfter(9),
		want: decided{scope: upstream.Throttled, fates: "k", next: flow.NextCall, cut: 1, rest: time.Second}},
	{name: "too many in a minute", err: answers(403, body("Forbidden.AccessDenied.QpmLimitForSuitekeyAndOrgAndApi")), batch: singleAfter(9),
		want: decided{scope: upstream.Throttled, fates: "k", next: flow.NextHeld, cut: 1, rest: time.Minute, delay: time.Minute}},
	{name: "too fast, and told for how long", err: answersWith(429, body("system.busy"), "Retry-After", "4"),
		want: decided{scope: upstream.Throttled, fates: "k20", next: flow.NextCall, cut: 20, rest: 4 * time.Second}},
	{name: "too fast, and told until when", err: answersWith(403, body("Forbidden.AccessDenied.QpsLimitForApi"), "Retry-After", "Mon, 02 Nov 2026 12:10:00 GMT", "Date", "Mon, 02 Nov 2026 12:00:00 GMT"),
		want: decided{scope: upstream.Throttled, fates: "k20", next: flow.NextHeld, cut: 20, rest: 10 * time.Minute, delay: 10 * time.Minute}},
	{name: "too fast, and told for a day", err: answersWith(429, "", "Retry-After", "86400"),
		want: decided{scope: upstream.Throttled, fates: "k20", next: flow.NextHeld, cut: 20, rest: time.Hour, delay: time.Hour}},
	{name: "too fast, and told to come at once", err: answersWith(429, "", "Retry-After", "0"),
		want: decided{scope: upstream.Throttled, fates: "k20", next: flow.NextCall, cut: 20, rest: time.Second}},
	{name: "refused for minutes, as a 200", err: answers(200, `{"status":1111,"wait":5,"source":"x5","punish":"deny","uuid":"u"}`), batch: singleAfter(9),
		want: decided{scope: upstream.Throttled, fates: "k", next: flow.NextHeld, cut: 1, rest: 5 * time.Minute, delay: 5 * time.Minute}},
	{name: "refused for minutes, as a page", err: answers(403, "<html><body>no</body></html>"),
		want: decided{scope: upstream.Throttled, fates: "k20", next: flow.NextHeld, cut: 20, rest: 5 * time.Minute, delay: 5 * time.Minute}},
	{name: "refused for minutes, one key", err: answers(403, `{"status":1111,"wait":5,"source":"x5","punish":"deny","uuid":"u"}`),
		want: decided{scope: upstream.Throttled, fates: "k20", next: flow.NextHeld, cut: 20, rest: 5 * time.Minute, delay: 5 * time.Minute}},

	// Trouble that may pass: together, with backoff.
	{name: "system.error", err: answers(500, body("system.error")),
		want: decided{scope: upstream.Transient, fates: "k20", next: flow.NextHeld, cut: 20, tries: 1, counted: true, delay: 750 * time.Millisecond, note: note{FirstFail: since}}},
	{name: "system.error, after no connection", err: answers(500, body("system.error")), note: note{Unsent: 7},
		want: decided{scope: upstream.Transient, fates: "k20", next: flow.NextHeld, cut: 20, tries: 1, counted: true, delay: 750 * time.Millisecond, note: note{FirstFail: since}}},
	{name: "system.error, in an outage", err: answers(500, body("system.error")), batch: func(b *flow.Batch) { b.Tries = 8; b.LastOK = testNow.Add(-2 * time.Minute) }, note: note{FirstFail: minute},
		want: decided{scope: upstream.Transient, fates: "k20", next: flow.NextHeld, cut: 20, tries: 9, counted: true, delay: 45 * time.Second, note: note{FirstFail: minute}}},
	{name: "system.error, others succeed", err: answers(500, body("system.error")), batch: succeeding, note: note{FirstFail: minute},
		want: decided{scope: upstream.Transient, fates: "k10 p10", next: flow.NextCall, cut: 10, counted: true, note: note{Isolating: true, FirstFail: minute}}},
	{name: "system.error, others succeed, too early to say", err: answers(500, body("system.error")), batch: func(b *flow.Batch) { succeeding(b); b.Tries = 1 }, note: note{FirstFail: minute},
		want: decided{scope: upstream.Transient, fates: "k20", next: flow.NextHeld, cut: 20, tries: 2, counted: true, delay: 1500 * time.Millisecond, note: note{FirstFail: minute}}},
	{name: "system.error, nobody else there, for long", err: answers(500, body("system.error")), batch: func(b *flow.Batch) { b.Tries = 29 }, note: note{FirstFail: minute},
		want: decided{scope: upstream.Transient, fates: "k10 p10", next: flow.NextCall, cut: 10, counted: true, note: note{Isolating: true, FirstFail: minute}}},
	{name: "system.error of a half", err: answers(500, body("system.error")), batch: parked, note: note{Isolating: true, FirstFail: minute},
		want: decided{scope: upstream.Transient, fates: "k4 p6 k10", next: flow.NextCall, cut: 14, counted: true, note: note{Isolating: true, FirstFail: minute}}},
	{name: "system.error, one key", err: answers(500, body("system.error")), batch: single,
		want: decided{scope: upstream.Transient, fates: "l", next: flow.NextClaim, counted: true}},
	{name: "system.error, one key that sank others", err: answers(500, body("system.error")), batch: func(b *flow.Batch) { b.Keys, b.Cut = b.Keys[:3], 1 },
		note: note{Isolating: true},
		want: decided{scope: upstream.Transient, fates: "s w2", next: flow.NextClaim, counted: true}},
	{name: "system.error, a key that is called alone", err: answers(500, body("system.error")), batch: func(b *flow.Batch) { single(b); b.Keys[0].Solo = true },
		want: decided{scope: upstream.Transient, fates: "s", next: flow.NextClaim, counted: true}},
	{name: "system.error, one key, the last but one time", err: answers(500, body("system.error")), batch: singleAfter(8),
		want: decided{scope: upstream.Transient, fates: "l", next: flow.NextClaim, counted: true}},
	{name: "system.error, one key, the last time", err: answers(500, body("system.error")), batch: singleAfter(9),
		want: decided{scope: upstream.Transient, fates: "d", next: flow.NextClaim, counted: true, code: "system.error"}},
	{name: "bare 503", err: answers(503, ""),
		want: decided{scope: upstream.Transient, fates: "k20", next: flow.NextHeld, cut: 20, tries: 1, counted: true, amb: true, delay: 750 * time.Millisecond, note: note{FirstFail: since}}},
	{name: "lost answer", err: cut,
		want: decided{scope: upstream.Transient, fates: "k20", next: flow.NextHeld, cut: 20, tries: 1, counted: true, amb: true, delay: 750 * time.Millisecond, note: note{FirstFail: since}}},
	{name: "lost answer, one key, the last time", err: cut, batch: singleAfter(9),
		want: decided{scope: upstream.Transient, fates: "d", next: flow.NextClaim, counted: true, amb: true, code: upstream.CodeCut}},
	{name: "retry-after", err: func(t *testing.T, keys []string) *upstream.Error {
		t.Helper()
		return callError(t, keys, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
	}, want: decided{scope: upstream.Transient, fates: "k20", next: flow.NextHeld, cut: 20, tries: 1, counted: true, amb: true, delay: 10 * time.Minute, note: note{FirstFail: since}}},

	// No connection: nothing is known of the keys, and it is no try.
	{name: "no connection", err: refused, batch: succeeding, note: note{FirstFail: minute, Isolating: true, Unsent: 2},
		want: decided{scope: upstream.Transient, fates: "k20", next: flow.NextHeld, cut: 20, tries: 2, delay: 3 * time.Second, note: note{FirstFail: minute, Isolating: true, Unsent: 3}}},
	{name: "no connection, one key, the last time", err: refused, batch: singleAfter(9),
		want: decided{scope: upstream.Transient, fates: "k", next: flow.NextHeld, cut: 1, delay: 750 * time.Millisecond, note: note{Unsent: 1}}},

	// What nobody knows: few attempts.
	{name: "unknown code", err: answers(400, body("what.is.this")),
		want: decided{scope: upstream.Unknown, fates: "k20", next: flow.NextHeld, cut: 20, tries: 1, counted: true, delay: 750 * time.Millisecond, note: note{FirstFail: since}}},
	{name: "unknown code, third time", err: answers(400, body("what.is.this")), batch: func(b *flow.Batch) { b.Tries = 2 }, note: note{FirstFail: minute},
		want: decided{scope: upstream.Unknown, fates: "d20", next: flow.NextClaim, counted: true, code: "what.is.this"}},
	{name: "unknown code, third time, others succeed", err: answers(400, body("what.is.this")), batch: succeeding, note: note{FirstFail: minute},
		want: decided{scope: upstream.Unknown, fates: "k10 p10", next: flow.NextCall, cut: 10, counted: true, note: note{Isolating: true, FirstFail: minute}}},
	{name: "unknown code, one key", err: answers(400, body("what.is.this")), batch: singleAfter(1),
		want: decided{scope: upstream.Unknown, fates: "l", next: flow.NextClaim, counted: true}},
	{name: "unknown code, one key, third time", err: answers(400, body("what.is.this")), batch: singleAfter(2),
		want: decided{scope: upstream.Unknown, fates: "d", next: flow.NextClaim, counted: true, code: "what.is.this"}},
	{name: "a 200 without a word", err: answers(200, `{}`), batch: single,
		want: decided{scope: upstream.Unknown, fates: "l", next: flow.NextClaim, counted: true, amb: true}},

	// An error that speaks of single keys too.
	{name: "not all recalled, with lists", err: answers(400, `{"code":"notRevoke.all.messages","requestid":"r","message":"m","successResult":["k0","k1"],"failedResult":{"k2":"invalid.processQueryKey"}}`),
		batch: func(b *flow.Batch) { b.Keys, b.Cut = b.Keys[:6], 4 },
		want:  decided{scope: upstream.Transient, fates: "r2 d l w2", next: flow.NextClaim, counted: true, code: "invalid.processQueryKey"}},
	{name: "too fast, but a list", err: answers(403, `{"code":"Forbidden.AccessDenied.QpsLimitForApi","requestid":"r","message":"m","successResult":["k0"]}`),
		batch: func(b *flow.Batch) { b.Keys, b.Cut, b.Keys[1].Attempts = b.Keys[:2], 2, 9 },
		want:  decided{scope: upstream.Throttled, fates: "r l", next: flow.NextClaim, rest: time.Second}},
	{name: "an error that has a list with its own reason for each key", err: answers(500, `{"code":"system.error","requestid":"r","message":"m","failedResult":{"k0":"system error","k1":"system error"}}`),
		batch: func(b *flow.Batch) { b.Keys, b.Cut, b.Keys[1].Attempts = b.Keys[:2], 2, 9 },
		want:  decided{scope: upstream.Transient, fates: "k2", next: flow.NextHeld, cut: 2, tries: 1, counted: true, delay: 750 * time.Millisecond, note: note{FirstFail: since}}},
	{name: "a key's error that has a list with another reason for each key", err: answers(400, `{"code":"invalid.processQueryKey","requestid":"r","message":"m","failedResult":{"k0":"system error","k1":"system error"}}`),
		batch: func(b *flow.Batch) { b.Keys, b.Cut, b.Keys[1].Attempts = b.Keys[:2], 2, 9 },
		want:  decided{scope: upstream.BatchKey, fates: "l d", next: flow.NextClaim, counted: true, code: "system.error"}},
	{name: "no such robot, but a list", err: answers(400, `{"code":"invalidParameter.robotCode","requestid":"r","message":"m","successResult":["k0"]}`),
		batch: func(b *flow.Batch) { b.Keys, b.Cut = b.Keys[:3], 3 },
		want:  decided{scope: upstream.RobotDead, fates: "r l2", next: flow.NextClaim, counted: true}},
}

// answersWith is answers with headers, given as names and values.
func answersWith(status int, body string, header ...string) func(*testing.T, []string) *upstream.Error {
	return func(t *testing.T, keys []string) *upstream.Error {
		t.Helper()
		return callError(t, keys, func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
}

func TestFailedCalls(t *testing.T) {
	t.Parallel()
	seen := map[upstream.Scope]bool{}
	for _, c := range failedCalls {
		seen[c.want.scope] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := testBatch(20)
			if c.batch != nil {
				c.batch(b)
			}
			b.Note = c.note.String()
			e := c.err(t, b.Called())
			check(t, newDecider(testPolicy(), b, testNow).failed(e), c.want)
		})
	}
	for _, s := range upstream.Scopes() {
		if !seen[s] && s != upstream.Done {
			t.Errorf("no row of the table has the scope %v", s)
		}
	}
}

func TestHoldSaysWhatToDo(t *testing.T) {
	t.Parallel()
	b := testBatch(20)
	e := realError(t, b.Called(), 403, `{"code":"Forbidden.AccessDenied.AccessTokenPermissionDenied","requestid":"r","message":"no","accessdenieddetail":{"requiredScopes":["qyapi_robot_sendmsg"]}}`)
	got := newDecider(testPolicy(), b, testNow).failed(e)
	if got.Hold == nil || got.Hold.Probe != time.Minute || !strings.HasPrefix(got.Hold.Message, "no; give the app the permission qyapi_robot_sendmsg") {
		t.Errorf("hold %+v", got.Hold)
	}
	// Budget: until the month may be over somewhere. It turns where the service's users are eight hours before it does in Greenwich, and if
	// it does not there, that is found out in the hours after.
	for now, want := range map[string]time.Duration{
		"2026-11-10T16:00:00Z": 20*24*time.Hour - 26*time.Hour + time.Minute, "2026-11-30T15:30:00Z": 31 * time.Minute,
		"2026-11-30T16:00:00Z": time.Minute, "2026-11-30T16:01:00Z": time.Minute, "2026-12-01T00:00:30Z": time.Minute,
	} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		e := realError(t, b.Called(), 403, body("Forbidden.AccessDenied.ApiCountLimitForOrg"))
		got := newDecider(testPolicy(), b, at).failed(e)
		if got.Hold == nil || got.Hold.Probe != want {
			t.Errorf("at %s: hold %+v, want the probe in %v", now, got.Hold, want)
		}
	}
}

func TestWithoutTokenNobodyIsBlamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		err   *upstream.Error
		next  flow.Next
		fates string
		delay time.Duration
		hold  bool
	}{
		{"bad credentials", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassService, Status: 400, Code: "invalidClientIdOrSecret"}, flow.NextClaim, "w3", 0, true},
		{"no calls left", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassService, Status: 403, Code: "Forbidden.AccessDenied.ApiCountLimitForOrg"}, flow.NextClaim, "w3", 0, true},
		{"not sent", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassNotSent}, flow.NextHeld, "k3", 1500 * time.Millisecond, false},
		{"lost", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassTimeout, Lost: true}, flow.NextHeld, "k3", 1500 * time.Millisecond, false},
		{"503", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassService, Status: 503, Lost: true}, flow.NextHeld, "k3", 1500 * time.Millisecond, false},
		{"throttled", &upstream.Error{Op: upstream.OpToken, Class: upstream.ClassService, Status: 403, Code: "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"}, flow.NextHeld, "k3", time.Minute, false},
	} {
		for _, cut := range []int{1, 3} {
			for _, isolating := range []bool{true, false} {
				b := testBatch(3)
				b.Cut, b.Tries, b.LastOK = cut, 40, testNow
				for i := range b.Keys {
					b.Keys[i].Attempts = 200
				}
				n := note{FirstFail: minute, Isolating: isolating, Unsent: 1}
				b.Note = n.String()
				got := newDecider(testPolicy(), b, testNow).withoutToken(c.err)
				if fates(got) != expand(c.fates) || got.Next != c.next || got.delay != c.delay || (got.Hold != nil) != c.hold || got.Counted || got.Rest != 0 || got.Answered {
					t.Errorf("%s, cut %d: %s %s, delay %v, hold %v, counted %v, rest %v", c.name, cut, fates(got), got.Next, got.delay, got.Hold, got.Counted, got.Rest)
				}
				for _, o := range got.Outcomes {
					if o.Ambiguous {
						t.Errorf("%s: no call was made, and a key is ambiguous", c.name)
					}
				}
				n.Unsent++
				if c.next == flow.NextHeld && (got.Tries != 40 || got.Cut != cut || !reflect.DeepEqual(readNote(got.Note), n)) {
					t.Errorf("%s, cut %d: tries %d, cut %d, note %+v", c.name, cut, got.Tries, got.Cut, readNote(got.Note))
				}
			}
		}
	}
}

// A call with one key must always come to that key's own end: halving one key would go on for ever.
func TestNoCodeOfASingleKeyIsOfABatch(t *testing.T) {
	t.Parallel()
	codes := upstream.KnownCodes()
	if len(codes) < 20 {
		t.Fatalf("only %d codes", len(codes))
	}
	for _, c := range codes {
		for _, class := range upstream.Classes() {
			e := &upstream.Error{Op: upstream.OpRecall, Class: class, Status: 400, Code: c}
			if v := e.Verdict(1); v.Scope == upstream.BatchKey {
				t.Errorf("%s, %s", c, class)
			}
		}
	}
}

func TestANoteOfAnotherVersionIsNoTrouble(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "{", `{"f":"text"}`, "\x00\xff", "[]", `{"new":1}`, "null"} {
		b := testBatch(20)
		b.Note = s
		got := newDecider(testPolicy(), b, testNow).failed(&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassService, Status: 500, Code: "system.error"})
		if got.Next != flow.NextHeld || got.Cut != 20 {
			t.Errorf("%q: %s, cut %d", s, got.Next, got.Cut)
		}
	}
	if n := readNote((note{FirstFail: 1, Isolating: true, RobotBad: true, Unsent: 5}).String()); !reflect.DeepEqual(n, note{FirstFail: 1, Isolating: true, RobotBad: true, Unsent: 5}) {
		t.Errorf("a note came back as %+v", n)
	}
}

// What the service says of keys or of a robot it says to an app that may call: where that was a probe, the hold is over.
func TestWhatIsSaidOfKeysEndsAHold(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"invalid.processQueryKey": true, "robot.processQueryKey.expired": true, "invalidParameter.robotCode": true, "system.error": false,
		"Forbidden.AccessDenied.QpsLimitForApi": false, "Forbidden.AccessDenied.AccessTokenPermissionDenied": false, "InvalidAuthentication": false,
	} {
		for _, n := range []int{1, 20} {
			b := testBatch(n)
			if got := newDecider(testPolicy(), b, testNow).failed(realError(t, b.Called(), 400, body(code))); got.Answered != want {
				t.Errorf("%s of %d keys: answered %v", code, n, got.Answered)
			}
		}
	}
}
