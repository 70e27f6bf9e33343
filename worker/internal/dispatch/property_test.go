package dispatch

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
)

// anyBatch draws a batch as the key store could hand it out.
func anyBatch(t *rapid.T) *flow.Batch {
	n := rapid.IntRange(1, flow.MaxBatch).Draw(t, "keys")
	b := testBatch(n)
	b.Cut = rapid.IntRange(1, n).Draw(t, "cut")
	b.Tries = rapid.IntRange(0, 300).Draw(t, "tries")
	if rapid.Bool().Draw(t, "succeeded") {
		b.LastOK = testNow.Add(time.Duration(rapid.Int64Range(-100, 100).Draw(t, "lastOK")) * time.Second)
	}
	for i := range b.Keys {
		b.Keys[i].Attempts = rapid.IntRange(0, 255).Draw(t, "attempts")
		b.Keys[i].Ambiguous = rapid.Bool().Draw(t, "ambiguous")
	}
	b.Keys[0].Solo = n == 1 && rapid.Bool().Draw(t, "solo")
	n0 := note{Isolating: rapid.Bool().Draw(t, "isolating"), RobotBad: rapid.Bool().Draw(t, "robotBad"),
		Unsent: rapid.IntRange(0, 300).Draw(t, "unsent"), FirstFail: rapid.SampledFrom([]int64{0, minute, since}).Draw(t, "firstFail")}
	if groups := rapid.IntRange(0, mostGroups).Draw(t, "groups"); groups > 0 {
		n0.Bound, n0.Sum = n, fingerprint(b.Keys)
		for range groups {
			n0.Groups = append(n0.Groups, group{Keys: rapid.Uint32Range(1, places(n)).Draw(t, "group"), Soft: rapid.Bool().Draw(t, "soft"),
				Code: rapid.SampledFrom([]string{"invalid.processQueryKey", codeExpired, "invalidParameter.param.invalid"}).Draw(t, "groupCode"), RequestID: "earlier"})
		}
	}
	b.Note = rapid.SampledFrom([]string{n0.String(), "", "{{{"}).Draw(t, "note")
	return b
}

var reasons = append([]string{"", "system error", "prose", "撤回失败"}, upstream.KnownCodes()...)

// anyAnswer draws what an answer says of some keys.
func anyAnswer(t *rapid.T, keys []string) *upstream.Answer {
	a := &upstream.Answer{RequestID: "rid", Failed: map[string]string{}}
	for _, k := range keys {
		switch rapid.IntRange(0, 3).Draw(t, "said") {
		case 0:
			a.Recalled = append(a.Recalled, k)
		case 1:
			a.Failed[k] = rapid.SampledFrom(reasons).Draw(t, "reason")
		case 2:
			a.Both = append(a.Both, k)
		}
	}
	return a
}

// anyError draws an error of a call, likely or not.
func anyError(t *rapid.T, keys []string) *upstream.Error {
	e := &upstream.Error{Op: upstream.OpRecall, Class: rapid.SampledFrom(upstream.Classes()).Draw(t, "class"),
		Status:    rapid.SampledFrom([]int{0, 200, 302, 400, 401, 402, 403, 404, 408, 418, 429, 500, 502, 503, 599, 999}).Draw(t, "status"),
		Code:      rapid.SampledFrom(append([]string{"", "what.is.this"}, upstream.KnownCodes()...)).Draw(t, "code"),
		Message:   rapid.SampledFrom([]string{"", "words"}).Draw(t, "message"),
		RequestID: "rid", Lost: rapid.Bool().Draw(t, "lost"), Banned: rapid.IntRange(0, 9).Draw(t, "banned") == 0, HTML: rapid.Bool().Draw(t, "html"),
		RetryAfter: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 10, 3600}).Draw(t, "retryAfter")) * time.Second}
	if rapid.Bool().Draw(t, "named") {
		e.Keys = rapid.SliceOfDistinct(rapid.SampledFrom(keys), rapid.ID).Draw(t, "names")
	}
	if rapid.IntRange(0, 3).Draw(t, "partial") == 0 {
		e.Partial = anyAnswer(t, keys)
	}
	return e
}

// checkSettlement holds a decision to what the key store relies on, whatever came of the call.
func checkSettlement(t *rapid.T, b *flow.Batch, dec decision, recalled []string) {
	if len(dec.Outcomes) != len(b.Keys) {
		t.Fatalf("%d outcomes for %d keys", len(dec.Outcomes), len(b.Keys))
	}
	kept := 0
	for i, o := range dec.Outcomes {
		called := i < b.Cut
		switch o.Fate {
		case flow.FateRecalled:
			if !slices.Contains(recalled, b.Keys[i].Key) {
				t.Fatalf("key %d counts as recalled, and nobody said so", i)
			}
		case flow.FateDead:
			if o.Code == "" {
				t.Fatalf("key %d dies without a code", i)
			}
			if !called && dec.DeadRobot == nil && dec.scope != upstream.Unknown && !(o.Unasked || forEver[o.Code] && o.Request != "") {
				t.Fatalf("key %d was not in the call and dies of %s", i, o.Code)
			}
		case flow.FateLater, flow.FateSolo:
			if o.Delay <= 0 || !called && o.Fate != flow.FateSolo {
				t.Fatalf("key %d, called %v, comes back in %v", i, called, o.Delay)
			}
		case flow.FateKeep, flow.FatePark:
			kept++
		case flow.FateWait:
		default:
			t.Fatalf("key %d has no fate: %d", i, o.Fate)
		}
		if !called && o.Ambiguous {
			t.Fatalf("key %d was not in the call and is ambiguous", i)
		}
		if slices.Contains(recalled, b.Keys[i].Key) && o.Fate != flow.FateRecalled {
			t.Fatalf("key %d was recalled and is %c", i, o.Fate)
		}
	}
	switch dec.Next {
	case flow.NextCall, flow.NextHeld:
		if kept < 1 || dec.Cut < 1 || dec.Cut > kept {
			t.Fatalf("%s with cut %d of %d kept keys", dec.Next, dec.Cut, kept)
		}
		if dec.Next == flow.NextHeld && dec.delay <= 0 {
			t.Fatalf("held for %v", dec.delay)
		}
		// Something must be different at the next call, or there is a loop without a pause.
		if dec.Next == flow.NextCall && sameCall(b, dec) && dec.Rest == 0 && !readNote(dec.Note).RobotBad {
			t.Fatal("the same call again, at once")
		}
	case flow.NextClaim:
		if kept > 0 {
			t.Fatalf("%d keys are kept and the next batch is claimed", kept)
		}
	default:
		t.Fatalf("then %q", dec.Next)
	}
	if dec.Hold != nil && (dec.Hold.Code == "" || dec.Hold.Probe < time.Second || dec.Counted) {
		t.Fatalf("hold %+v, counted %v", dec.Hold, dec.Counted)
	}
	if dec.scope < upstream.Done || dec.scope > upstream.Unknown {
		t.Fatalf("scope %v", dec.scope)
	}
}

func TestEveryDecisionIsWhole(t *testing.T) {
	t.Parallel()
	scopes := map[upstream.Scope]int{}
	rapid.Check(t, func(t *rapid.T) {
		for range 50 { // rapid itself draws 100 times
			dec := anyDecision(t)
			scopes[dec.scope]++
		}
	})
	for _, s := range upstream.Scopes() {
		if scopes[s] == 0 {
			t.Errorf("%v was never drawn: %v", s, scopes)
		}
	}
}

// anyDecision draws a batch and what came of its call, and checks what is decided.
func anyDecision(t *rapid.T) decision {
	b := anyBatch(t)
	d := newDecider(testPolicy(), b, testNow)
	var dec decision
	var recalled []string
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		a := anyAnswer(t, b.Called())
		recalled = a.Recalled
		dec = d.answered(a.RequestID, a.Verdicts(b.Called()))
	case 1:
		e := anyError(t, b.Called())
		e.Op, e.Partial, e.Keys = upstream.OpToken, nil, nil
		dec = d.withoutToken(e)
		for _, o := range dec.Outcomes {
			if o.Ambiguous || o.Fate == flow.FateDead || dec.Counted {
				t.Fatal("a key was blamed for a token")
			}
		}
	default:
		e := anyError(t, b.Called())
		if e.Partial != nil {
			recalled = e.Partial.Recalled
		}
		dec = d.failed(e)
	}
	checkSettlement(t, b, dec, recalled)
	return dec
}

// TestAnyServiceComesToAnEnd has a service that does anything to any key, in small worlds: each key has an end, none that the
// service recalled is dead, and none that it did not recall counts as recalled.
func TestAnyServiceComesToAnEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 45).Draw(rt, "keys")
		keys := names(n)
		bad := map[string]string{}
		for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 0, n, rapid.ID).Draw(rt, "bad") {
			bad[k] = rapid.SampledFrom([]string{"invalid.processQueryKey", "system.error", "what.is.this", "notRevoke.all.messages", "robot.processQueryKey.expired"}).Draw(rt, "code")
		}
		mishaps := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "", "503", "lost", "refused", "throttled", "vague"}), 0, 20).Draw(rt, "mishaps")
		mishaps = append(mishaps, "") // or else nothing is ever answered
		whole := rapid.SliceOfN(rapid.Bool(), 1, 7).Draw(rt, "whole")
		recalled := map[string]bool{}
		w := newWorld(t, rapid.IntRange(1, 3).Draw(rt, "slots"), keys, func(w *world, called []string) ([]upstream.Verdict, *upstream.Error) {
			return anyService(called, bad, mishaps[w.calls%len(mishaps)], whole[w.calls%len(whole)], recalled)
		})
		w.policy.UnknownAttempts = rapid.IntRange(1, 10).Draw(rt, "unknownAttempts")
		w.policy.SplitAfter = rapid.IntRange(1, 12).Draw(rt, "splitAfter")
		for w.step() {
			if w.calls > 100*n+1000 {
				rt.Fatalf("still not done after %d calls for %d keys", w.calls, n)
			}
		}
		for k, m := range w.all {
			if (m.fate == flow.FateRecalled) != recalled[k] || m.fate != flow.FateRecalled && m.fate != flow.FateDead || m.fate == flow.FateDead && m.code == "" {
				rt.Fatalf("%s: %c of %q, and the service says recalled %v", k, m.fate, m.code, recalled[k])
			}
			if c := bad[k]; c != "" && m.fate != flow.FateDead {
				rt.Fatalf("%s is bad (%s) and was recalled", k, c)
			}
		}
	})
}

func anyService(called []string, bad map[string]string, mishap string, whole bool, recalled map[string]bool) ([]upstream.Verdict, *upstream.Error) {
	switch mishap {
	case "503":
		return nil, serviceError(503, "")
	case "lost":
		return nil, &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassCut, Lost: true}
	case "refused":
		return nil, &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassNotSent}
	case "throttled":
		return nil, serviceError(403, "Forbidden.AccessDenied.QpsLimitForApi")
	}
	if whole {
		for _, k := range called {
			if bad[k] != "" {
				return nil, serviceError(400, bad[k])
			}
		}
	}
	a := upstream.Answer{Failed: map[string]string{}}
	for i, k := range called {
		switch {
		case bad[k] != "":
			a.Failed[k] = bad[k]
		case mishap == "vague" && i%3 == 0:
			a.Unmentioned = append(a.Unmentioned, k)
		default:
			a.Recalled = append(a.Recalled, k)
			recalled[k] = true
		}
	}
	return a.Verdicts(called), nil
}

// sameCall says whether the next call has the keys of the last one.
func sameCall(b *flow.Batch, dec decision) bool {
	if dec.Cut != b.Cut || dec.Fill > 0 {
		return false
	}
	var order, parked []int
	for i, o := range dec.Outcomes {
		switch o.Fate {
		case flow.FateKeep:
			order = append(order, i)
		case flow.FatePark:
			parked = append(parked, i)
		}
	}
	for at, i := range append(order, parked...)[:dec.Cut] {
		if at != i {
			return false
		}
	}
	return true
}
