package dispatch

import (
	"slices"
	"strings"
	"testing"
	"time"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
)

// aged gives a world whose n keys were sent a minute apart, the oldest first, and in which those at the given places have expired.
func aged(t *testing.T, slots, n int, expired func(i int) bool) (*world, int) {
	t.Helper()
	var bad []string
	for i, k := range names(n) {
		if expired(i) {
			bad = append(bad, k)
		}
	}
	w := newWorld(t, slots, names(n), failsWhole(400, codeExpired, bad...))
	for i, k := range names(n) {
		w.all[k].Deadline = testNow.Add(time.Hour + time.Duration(i)*time.Minute)
	}
	return w, len(bad)
}

// TestTheYoungestSettlesTheFateOfTheOlder: where 19 of 20 have expired that takes a few calls, and 39 if nothing is known of when they
// were sent. The one that has not is recalled.
func TestTheYoungestSettlesTheFateOfTheOlder(t *testing.T) {
	t.Parallel()
	for expired, most := range map[int]int{20: 12, 19: 14, 10: 24, 1: 10} {
		w, n := aged(t, 1, 20, func(i int) bool { return i < expired })
		w.run(100)
		if len(w.dead()) != n {
			t.Errorf("%d dead of %d expired", len(w.dead()), n)
		}
		if w.calls > most {
			t.Errorf("%d of 20 expired: %d calls", expired, w.calls)
		}
		t.Logf("%d of 20 expired: %d calls", expired, w.calls)
	}
}

// TestNoGoodKeyDiesUnasked: whatever has expired, in order or not, no other key dies.
func TestNoGoodKeyDiesUnasked(t *testing.T) {
	t.Parallel()
	for name, expired := range map[string]func(i int) bool{
		"every other": func(i int) bool { return i%2 == 0 }, "every 20th": func(i int) bool { return i%20 == 19 },
		"the youngest": func(i int) bool { return i >= 150 }, "the first of each batch": func(i int) bool { return i%20 == 0 },
		"the oldest": func(i int) bool { return i < 100 }, "all but the oldest": func(i int) bool { return i > 0 },
	} {
		w, n := aged(t, 2, 200, expired)
		w.run(3000)
		if len(w.dead()) != n {
			t.Errorf("%s: %d dead of %d expired", name, len(w.dead()), n)
		}
	}
}

func TestFrontIsGivenUpWhereTimesAreInDisorder(t *testing.T) {
	t.Parallel()
	keys := testBatch(7).Keys
	for i := range keys {
		keys[i].Deadline = testNow.Add(time.Duration(i) * time.Minute)
	}
	dead, good := flow.Outcome{Fate: flow.FateDead, Code: codeExpired}, flow.Outcome{Fate: flow.FateRecalled}
	unasked := dead
	unasked.Unasked = true
	for name, c := range map[string]struct {
		said []flow.Outcome
		edge int64
	}{
		"five":              {[]flow.Outcome{dead, dead, dead, dead, dead, {}, {}}, keys[4].Deadline.Unix()},
		"four":              {[]flow.Outcome{dead, dead, dead, dead, {}, {}, {}}, 0},
		"younger recalled":  {[]flow.Outcome{dead, dead, dead, dead, dead, good, good}, keys[4].Deadline.Unix()},
		"older recalled":    {[]flow.Outcome{good, dead, dead, dead, dead, dead, dead}, 0},
		"between, recalled": {[]flow.Outcome{dead, dead, good, dead, dead, dead, {}}, 0},
		"died unasked":      {[]flow.Outcome{dead, dead, dead, dead, unasked, unasked, {}}, 0},
		"of something else": {[]flow.Outcome{dead, dead, dead, dead, {Fate: flow.FateDead, Code: "invalid.processQueryKey"}, {}, {}}, 0},
	} {
		if got := (front{}).see(keys, c.said, 7, "r").edge(); got != c.edge {
			t.Errorf("%s: the edge is %d, want %d", name, got, c.edge)
		}
	}
}

// TestWhomTheSearchComesDownTo: a key that is named by the success of all others dies of what was said of them together, where that is
// said for ever; else it is called alone.
func TestWhomTheSearchComesDownTo(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]flow.Fate{"invalid.processQueryKey": flow.FateDead, "not.allowed.robotCode": flow.FateDead, codeExpired: flow.FateDead,
		"invalidParameter.param.invalid": flow.FateSolo, "invalidParameter.processQueryKey.missing": flow.FateSolo} {
		b := testBatch(2)
		first := newDecider(testPolicy(), b, testNow).failed(serviceError(400, code))
		if fates(first) != "kp" {
			t.Fatalf("%s: %s", code, fates(first))
		}
		b.Cut, b.Note = 1, first.Note
		second := newDecider(testPolicy(), b, testNow).answered("rid2", allDone(1))
		o := second.Outcomes[1]
		if o.Fate != want || second.Outcomes[0].Fate != flow.FateRecalled {
			t.Errorf("%s: %s", code, fates(second))
		}
		if want == flow.FateDead && (o.Code != code || o.Request != "rid" || !strings.HasPrefix(o.Message, "words (")) {
			t.Errorf("%s: %+v", code, o)
		}
		b.Keys[0].Key = "another" // one of them died between the calls: the note speaks of others
		if third := newDecider(testPolicy(), b, testNow).answered("rid2", allDone(1)); fates(third) != "rw" {
			t.Errorf("%s: %s, and the note is not of this batch", code, fates(third))
		}
	}
}

// TestAServiceThatDoesEitherAtRandom: whole calls or single keys, as it comes.
func TestAServiceThatDoesEitherAtRandom(t *testing.T) {
	t.Parallel()
	bad := []string{"k003", "k017", "k018", "k055", "k119"}
	w := newWorld(t, 2, names(120), nil)
	w.serve = func(w *world, keys []string) ([]upstream.Verdict, *upstream.Error) {
		if w.calls%3 != 0 {
			return failsWhole(400, "invalid.processQueryKey", bad...)(w, keys)
		}
		verdicts := allDone(len(keys))
		for i, k := range keys {
			if slices.Contains(bad, k) {
				verdicts[i] = upstream.Verdict{Scope: upstream.KeyDead, Code: "invalid.processQueryKey", Message: "m"}
			}
		}
		return verdicts, nil
	}
	w.run(60)
	if !slices.Equal(w.dead(), bad) {
		t.Errorf("dead %v", w.dead())
	}
}

// TestBatchesThatNeedNoCall: keys between two that have expired die unasked, the oldest of those before them is called alone, and the
// others are claimed again; where that front may reach further, batches are passed over, but one is called.
func TestBatchesThatNeedNoCall(t *testing.T) {
	t.Parallel()
	b := testBatch(6)
	for i := range b.Keys {
		b.Keys[i].Deadline = testNow.Add(time.Hour + time.Duration(i)*time.Minute)
	}
	at := func(i int) int64 { return b.Keys[i].Deadline.Unix() }
	for name, c := range map[string]struct {
		f     front
		fates string
		ok    bool
	}{
		"none":           {front{Expired: at(3), Oldest: at(0), Said: 4}, "", false},
		"behind":         {front{Expired: at(3), Oldest: at(0), Said: 5}, "d3 w3", true},
		"older ones too": {front{Expired: at(3), Oldest: at(2), Said: 5}, "k w d w3", true},
		"all are older":  {front{Expired: at(5) + 20, Oldest: at(5) + 10, Said: 5}, "k w5", true},
		"younger":        {front{Expired: at(0), Oldest: at(0) - 9, Said: 5}, "w6", false},
		"disorder":       {front{Expired: at(3), Oldest: at(0), Said: 5, Disorder: true}, "", false},
	} {
		d := newDecider(testPolicy(), b, testNow)
		d.front = c.f
		dec, ok := d.closed()
		if ok != c.ok || ok && fates(dec) != expand(c.fates) || dec.Counted {
			t.Errorf("%s: %v %s", name, ok, fates(dec))
		}
		if ok && (dec.Next == flow.NextCall) != strings.Contains(c.fates, "k") {
			t.Errorf("%s: then %s", name, dec.Next)
		}
	}
	var l lore
	l.fronts = map[incident]*passed{incidentOf(b): {front: front{Expired: at(0) - 60, Oldest: at(0) - 90, Said: 5}}}
	end := testNow.Add(24 * time.Hour)
	n := 0
	for l.pass(b, testNow, end) {
		n++
	}
	if n != mostPassed {
		t.Errorf("%d batches were passed over before one was called", n)
	}
	if !l.pass(b, testNow.Add(longestProbe-1), end) {
		t.Error("a batch was called while a probe is under way")
	}
	if p := l.fronts[incidentOf(b)]; p.probing != testNow {
		t.Errorf("the probe began at %v", p.probing)
	}
	l.fronts[incidentOf(b)].Good = at(0)
	if l.pass(b, testNow, end) {
		t.Error("a batch was passed over that is younger than a recalled key")
	}
}
