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

func TestRetryAfterOfAKeyIsKept(t *testing.T) {
	t.Parallel()
	b := testBatch(1)
	got := newDecider(testPolicy(), b, testNow).answered("rid", []upstream.Verdict{{Scope: upstream.Transient, Code: "c", Rest: time.Hour}})
	if got.Outcomes[0].Delay != time.Hour {
		t.Errorf("delay %v", got.Outcomes[0].Delay)
	}
}
