package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
)

func names(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%03d", i)
	}
	return keys
}

func allDone(n int) []upstream.Verdict {
	return slices.Repeat([]upstream.Verdict{{Scope: upstream.Done, Known: true}}, n)
}

func serviceError(status int, code string) *upstream.Error {
	return &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassService, Status: status, Code: code, Message: "words", RequestID: "rid"}
}

// failsWhole is a service that fails every call that carries a bad key.
func failsWhole(status int, code string, bad ...string) func(*world, []string) ([]upstream.Verdict, *upstream.Error) {
	return func(_ *world, keys []string) ([]upstream.Verdict, *upstream.Error) {
		for _, k := range keys {
			if slices.Contains(bad, k) {
				return nil, serviceError(status, code)
			}
		}
		return allDone(len(keys)), nil
	}
}

// eachChoice calls f with every choice of k of n keys.
func eachChoice(keys []string, k int, f func(bad []string)) {
	var bad []string
	var rec func(from int)
	rec = func(from int) {
		if len(bad) == k {
			f(slices.Clone(bad))
			return
		}
		for i := from; i < len(keys); i++ {
			bad = append(bad, keys[i])
			rec(i + 1)
			bad = bad[:len(bad)-1]
		}
	}
	rec(0)
}

// TestBadKeysAreFound: wherever the bad keys are among 20, they alone die, and each costs eight calls at most, those that carry the good
// ones included.
func TestBadKeysAreFound(t *testing.T) {
	t.Parallel()
	bounds := map[int]int{0: 1, 1: 8, 2: 16, 3: 24}
	for k := range 4 {
		total, runs, most := 0, 0, 0
		eachChoice(names(20), k, func(bad []string) {
			w := newWorld(t, 1, names(20), failsWhole(400, "invalid.processQueryKey", bad...))
			w.run(100)
			if dead := w.dead(); !slices.Equal(dead, bad) {
				t.Errorf("bad %v, dead %v", bad, dead)
			}
			if !w.now.Before(testNow.Add(time.Second)) {
				t.Errorf("bad %v: waited until %v", bad, w.now.Sub(testNow))
			}
			total, runs, most = total+w.calls, runs+1, max(most, w.calls)
		})
		if most > bounds[k] {
			t.Errorf("%d bad keys cost %d calls, more than %d", k, most, bounds[k])
		}
		t.Logf("%d bad of 20: %.2f calls on average, %d at most, over %d choices", k, float64(total)/float64(runs), most, runs)
	}
}

// TestBadKeysAreFoundInAnyBatch: the same for every size of batch, with all keys bad too.
func TestBadKeysAreFoundInAnyBatch(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 20; n++ {
		keys := names(n)
		for at := range keys {
			w := newWorld(t, 1, keys, failsWhole(400, "invalid.processQueryKey", keys[at]))
			w.run(100)
			if dead := w.dead(); len(dead) != 1 || dead[0] != keys[at] {
				t.Errorf("%d keys, bad %s, dead %v", n, keys[at], dead)
			}
		}
		w := newWorld(t, 1, keys, failsWhole(400, "invalid.processQueryKey", keys...))
		w.run(1000)
		if len(w.dead()) != n {
			t.Errorf("all %d keys are bad, and %d died", n, len(w.dead()))
		}
		if w.calls > 4*n+2 {
			t.Errorf("all %d keys are bad: %d calls", n, w.calls)
		}
	}
}

// TestBadKeysOfTheSimulator has the real client and the simulator's service in the place of the model's.
func TestBadKeysOfTheSimulator(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{false, true} {
		sim, err := simulator.New(simulator.Config{Failure: simulator.FailWhole, NameKey: named, AnyToken: true})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(sim)
		t.Cleanup(server.Close)
		client, err := upstream.New(upstream.Config{BaseURL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		serve := func(_ *world, keys []string) ([]upstream.Verdict, *upstream.Error) {
			a, err := client.BatchRecall(context.Background(), "token", "robot", keys)
			var e *upstream.Error
			if errors.As(err, &e) {
				return nil, e
			}
			return a.Verdicts(keys), nil
		}
		for at := range 20 {
			var keys []string
			for i := range 20 {
				kind := simulator.Good
				if i == at {
					kind = simulator.Unknown
				}
				keys = append(keys, simulator.MakeKey(uint64(at), uint64(i), kind, time.Now().Add(-time.Hour)))
			}
			w := newWorld(t, 1, keys, serve)
			w.run(50)
			if dead := w.dead(); len(dead) != 1 || dead[0] != keys[at] || w.all[keys[at]].code != "invalid.processQueryKey" {
				t.Errorf("bad %d: dead %v", at, dead)
			}
			if named && w.calls != 2 || w.calls > 12 {
				t.Errorf("named %v, bad %d: %d calls", named, at, w.calls)
			}
		}
	}
}

// TestAKeyThatAlwaysFailsSinksNoOther: system.error blames nobody, so it takes others that succeed meanwhile to see that a key is bad.
func TestAKeyThatAlwaysFailsSinksNoOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		code        string
		slots, keys int
		most        int // calls beyond those that carry good keys once
	}{
		{"system.error, others succeed", "system.error", 2, 200, 25},
		{"system.error, one slot, nothing else", "system.error", 1, 20, 50},
		{"unknown code, others succeed", "what.is.this", 2, 200, 20},
	} {
		total := 0
		for at := range 20 {
			keys := names(c.keys)
			w := newWorld(t, c.slots, keys, failsWhole(500, c.code, keys[at]))
			w.run(500)
			if dead := w.dead(); len(dead) != 1 || dead[0] != keys[at] || w.all[keys[at]].code != c.code {
				t.Errorf("%s: bad %s, dead %v", c.name, keys[at], dead)
			}
			extra := w.calls - c.keys/20
			total += extra
			if extra > c.most {
				t.Errorf("%s: bad %s cost %d calls, more than %d", c.name, keys[at], extra, c.most)
			}
		}
		t.Logf("%s: one bad key costs %.1f calls on average", c.name, float64(total)/20)
	}
}

// TestAnOutageKillsNoKey: while nobody succeeds nothing is split, however many calls fail; what a call is lost to costs that call.
func TestAnOutageKillsNoKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		e    *upstream.Error
		down []int // calls that fail
	}{
		{"system.error", serviceError(500, "system.error"), []int{1, 2, 3, 10, 29, 55}},
		{"503", &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassService, Status: 503, Lost: true}, []int{1, 29, 55}},
		{"lost", &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassTimeout, Lost: true}, []int{1, 29, 55}},
		{"no connection", &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassNotSent}, []int{1, 29, 55, 1000}},
		{"throttled", serviceError(403, "Forbidden.AccessDenied.QpsLimitForApi"), []int{1, 29, 55, 1000}},
	} {
		for _, down := range c.down {
			w := newWorld(t, 2, names(400), func(w *world, keys []string) ([]upstream.Verdict, *upstream.Error) {
				if w.calls <= down {
					return nil, c.e
				}
				return allDone(len(keys)), nil
			})
			w.run(down + 100)
			if len(w.dead()) > 0 || w.splits > 0 || w.calls != down+20 {
				t.Errorf("%s, %d calls fail: %d died, %d calls were split, %d calls", c.name, down, len(w.dead()), w.splits, w.calls)
			}
		}
	}
}

// TestALongOutageIsFollowedByNoSearch: waiting for a connection is no evidence against a batch.
func TestALongOutageIsFollowedByNoSearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, names(40), func(w *world, keys []string) ([]upstream.Verdict, *upstream.Error) {
		switch {
		case w.calls <= 500:
			return nil, &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassNotSent}
		case w.calls <= 504:
			return nil, serviceError(503, "")
		}
		return allDone(len(keys)), nil
	})
	w.run(600)
	if len(w.dead()) > 0 || w.splits > 0 || w.calls != 506 {
		t.Errorf("%d died, %d calls were split, %d calls", len(w.dead()), w.splits, w.calls)
	}
}

// TestAFlakyServiceLosesNoKey: one call in five fails, blaming nobody.
func TestAFlakyServiceLosesNoKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4, names(2000), func(w *world, keys []string) ([]upstream.Verdict, *upstream.Error) {
		if w.calls%5 == 0 {
			return nil, serviceError(500, "system.error")
		}
		return allDone(len(keys)), nil
	})
	w.run(1000)
	if len(w.dead()) > 0 {
		t.Errorf("%d died", len(w.dead()))
	}
	if w.calls > 150 {
		t.Errorf("%d calls for 2,000 keys", w.calls)
	}
	t.Logf("%d calls, %d of them split", w.calls, w.splits)
}

// TestAnUnknownRobotIsConfirmed: one answer that says so kills nobody.
func TestAnUnknownRobotIsConfirmed(t *testing.T) {
	t.Parallel()
	once := newWorld(t, 1, names(40), func(w *world, keys []string) ([]upstream.Verdict, *upstream.Error) {
		if w.calls == 1 {
			return nil, serviceError(400, "invalidParameter.robotCode")
		}
		return allDone(len(keys)), nil
	})
	once.run(10)
	if len(once.dead()) > 0 || once.calls != 3 {
		t.Errorf("%d died, %d calls", len(once.dead()), once.calls)
	}
	always := newWorld(t, 1, names(20), func(*world, []string) ([]upstream.Verdict, *upstream.Error) {
		return nil, serviceError(400, "invalidParameter.robotCode")
	})
	always.run(10)
	if len(always.dead()) != 20 || always.calls != 2 {
		t.Errorf("%d died, %d calls", len(always.dead()), always.calls)
	}
}

// BenchmarkIsolate measures what one bad key among 20 costs where it fails its whole call.
func BenchmarkIsolate(b *testing.B) {
	calls := 0
	for i := range b.N {
		keys := names(20)
		w := newWorld(b, 1, keys, failsWhole(400, "invalid.processQueryKey", keys[i%20]))
		w.run(100)
		calls += w.calls
	}
	b.ReportMetric(float64(calls)/float64(b.N), "calls/op")
}
