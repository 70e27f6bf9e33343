package dispatch

import (
	"testing"
	"time"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
)

// TestAnsweredCalls: the fate of each key of a call that was answered is its own.
func TestAnsweredCalls(t *testing.T) {
	t.Parallel()
	keys := []string{"k0", "k1"}
	done, unmentioned := upstream.Answer{Recalled: []string{"k0", "k1"}}, upstream.Answer{Recalled: []string{"k1"}, Unmentioned: []string{"k0"}}
	fails := func(reason string) upstream.Answer {
		return upstream.Answer{Recalled: []string{"k1"}, Failed: map[string]string{"k0": reason}}
	}
	for _, c := range []struct {
		name     string
		answer   upstream.Answer
		attempts int
		fate     flow.Fate
		code     string
		amb      bool
	}{
		{"recalled", done, 9, flow.FateRecalled, "", false},
		{"expired", fails("robot.processQueryKey.expired"), 0, flow.FateDead, "robot.processQueryKey.expired", false},
		{"no such robot, said of a key", fails("invalidParameter.robotCode"), 0, flow.FateDead, "invalidParameter.robotCode", false},
		{"system error", fails("SYSTEM_ERROR"), 0, flow.FateLater, "", false},
		{"system error, the last but one time", fails("system error"), 8, flow.FateLater, "", false},
		{"system error, the last time", fails("system error"), 9, flow.FateDead, "system.error", false},
		{"prose", fails("no idea at all!"), 0, flow.FateLater, "", false},
		{"prose, the last but one time", fails("no idea at all!"), 1, flow.FateLater, "", false},
		{"prose, the last time", fails("no idea at all!"), 2, flow.FateDead, upstream.CodeUnknownReason, false},
		{"no word of it", unmentioned, 0, flow.FateLater, "", true},
		{"no word of it, the last time", unmentioned, 9, flow.FateDead, upstream.CodeUnmentioned, true},
		{"in both lists", upstream.Answer{Recalled: []string{"k1"}, Both: []string{"k0"}}, 0, flow.FateLater, "", true},
		{"in both lists, the last time", upstream.Answer{Recalled: []string{"k1"}, Both: []string{"k0"}}, 9, flow.FateDead, upstream.CodeContradictory, true},
		{"an app's code, said of a key", fails("Forbidden.AccessDenied.QpsLimitForApi"), 0, flow.FateLater, "", false},
		{"attempts at the end of their byte", fails("system error"), 255, flow.FateDead, "system.error", false},
	} {
		b := testBatch(2)
		b.Keys[0].Attempts = c.attempts
		got := newDecider(testPolicy(), b, testNow).answered("rid", c.answer.Verdicts(keys))
		o := got.Outcomes[0]
		if o.Fate != c.fate || o.Code != c.code || o.Ambiguous != c.amb || (o.Fate == flow.FateLater) != (o.Delay > 0) {
			t.Errorf("%s: %c %+v", c.name, o.Fate, o)
		}
		if got.Outcomes[1].Fate != flow.FateRecalled {
			t.Errorf("%s: the other key's fate is %c", c.name, got.Outcomes[1].Fate)
		}
		if !got.Answered || !got.Counted || got.RequestID != "rid" || got.Next != flow.NextClaim || got.Hold != nil || got.Rest != 0 || got.DeadRobot != nil || got.scope != upstream.Done {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// TestParkedKeysAfterAGoodCall: the bad key is among them, or they are good.
func TestParkedKeysAfterAGoodCall(t *testing.T) {
	t.Parallel()
	done := []upstream.Verdict{{Scope: upstream.Done}, {Scope: upstream.Done}}
	for _, c := range []struct {
		name  string
		keys  int
		note  note
		fates string
		next  flow.Next
		cut   int
		left  note
	}{
		{"none", 2, note{RestBad: true, Isolating: true}, "r2", flow.NextClaim, 0, note{}},
		{"one, bad", 3, note{RestBad: true, Isolating: true, FirstFail: 5}, "r2 k", flow.NextCall, 1, note{Isolating: true, FirstFail: 5}},
		{"three, one bad", 5, note{RestBad: true, Isolating: true}, "r2 k3", flow.NextCall, 1, note{RestBad: true, Isolating: true}},
		{"18, one bad", 20, note{RestBad: true, Isolating: true, Unsent: 4, RobotBad: true}, "r2 k18", flow.NextCall, 9, note{RestBad: true, Isolating: true}},
		{"all good", 20, note{Isolating: true}, "r2 w18", flow.NextClaim, 0, note{}},
	} {
		b := testBatch(c.keys)
		b.Cut, b.Tries, b.Note = 2, 7, c.note.String()
		got := newDecider(testPolicy(), b, testNow).answered("rid", done)
		if fates(got) != expand(c.fates) || got.Next != c.next || got.Cut != c.cut || got.Tries != 0 || readNote(got.Note) != c.left {
			t.Errorf("%s: %s then %s, cut %d, tries %d, note %+v", c.name, fates(got), got.Next, got.Cut, got.Tries, readNote(got.Note))
		}
	}
}

func TestRetryAfterOfAKeyIsKept(t *testing.T) {
	t.Parallel()
	b := testBatch(1)
	got := newDecider(testPolicy(), b, testNow).answered("rid", []upstream.Verdict{{Scope: upstream.Transient, Code: "c", Rest: time.Hour}})
	if got.Outcomes[0].Delay != time.Hour {
		t.Errorf("delay %v", got.Outcomes[0].Delay)
	}
}
