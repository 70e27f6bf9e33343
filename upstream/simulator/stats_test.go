package simulator

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// gate lets a test hold calls in their latency, all but the first, which is setup's for a token.
type gate struct {
	once    sync.Once
	entered chan struct{}
	open    chan struct{}
}

func newGate() *gate { return &gate{entered: make(chan struct{}, 100), open: make(chan struct{})} }

func (g *gate) sleep(ctx context.Context, _ time.Duration) {
	first := false
	g.once.Do(func() { first = true })
	if first {
		return
	}
	g.entered <- struct{}{}
	select {
	case <-g.open:
	case <-ctx.Done():
	}
}

func TestOverlapsAreFound(t *testing.T) {
	t.Parallel()
	g := newGate()
	b := setup(t, Config{Latency: time.Hour, Sleep: g.sleep, ForgetKeys: true})
	keys := b.keys(3)
	var wg sync.WaitGroup
	for _, batch := range [][]string{{keys[0], keys[1]}, {keys[1], keys[2]}, {keys[1]}} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			b.recall(batch...)
		}()
		<-g.entered
	}
	if st := b.sim.Stats(); st.Overlaps != 2 || st.MaxConcurrent != 3 {
		t.Errorf("while they run: %d overlaps, %d at once", st.Overlaps, st.MaxConcurrent)
	}
	close(g.open)
	wg.Wait()
	if st := b.sim.Stats(); st.Overlaps != 2 || st.OverlapsAbandoned != 0 {
		t.Errorf("afterwards: %d overlaps, %d abandoned", st.Overlaps, st.OverlapsAbandoned)
	}
	b.recall(keys...) // one after another is no overlap
	if st := b.sim.Stats(); st.Overlaps != 2 {
		t.Errorf("one after another: %d overlaps", st.Overlaps)
	}
	for i := range b.sim.ledger.shards {
		if n := len(b.sim.ledger.shards[i].flight); n != 0 {
			t.Errorf("%d keys are still in flight", n)
		}
	}
}

// TestOverlapIsFoundAfterTheFirstCallEnds has three calls with one key: the first ends before the third begins, the second does not.
func TestOverlapIsFoundAfterTheFirstCallEnds(t *testing.T) {
	t.Parallel()
	l := newLedger(true)
	hashes := []uint64{l.hash("key")}
	first, second, third := &call{hashes: hashes}, &call{hashes: hashes}, &call{hashes: hashes}
	for i, step := range []struct {
		c        *call
		overlaps int64
	}{{first, 0}, {second, 1}, {third, 1}} {
		if a := l.begin(step.c); a.overlaps != step.overlaps {
			t.Errorf("call %d: %d overlaps, want %d", i+1, a.overlaps, step.overlaps)
		}
		if step.c == second {
			l.end(first)
		}
	}
}

// TestClientThatLeftIsNotTold has a client that gives up while its call is under way: it was applied, but the client cannot know.
func TestClientThatLeftIsNotTold(t *testing.T) {
	t.Parallel()
	g := newGate()
	b := setup(t, Config{Latency: time.Hour, Sleep: g.sleep})
	key := b.key(Good)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.do(request(http.MethodPost, recallPath, b.token, recallJSON(testRobot, key)).WithContext(ctx))
	}()
	<-g.entered
	leave()
	<-done
	close(g.open)
	b.recall(key)
	if st := b.sim.Stats(); st.KeysRecalled != 1 || st.KeysAskedRecalled != 1 || st.KeysAskedAfterTold != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestToldOfWholeFailure: the code of a failed call settles the fate of its key only where there is just one.
func TestToldOfWholeFailure(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Failure: FailWhole})
	good, expired, broken := b.key(Good), b.key(Expired), b.key(SystemErrorAlways)
	for i, step := range []struct {
		keys []string
		told int64 // after the call
	}{{[]string{good, expired}, 0}, {[]string{expired}, 0}, {[]string{expired}, 1}, {[]string{broken}, 1}, {[]string{broken}, 1}, {[]string{good}, 1}, {[]string{good}, 2}} {
		b.recall(step.keys...)
		if got := b.sim.Stats().KeysAskedAfterTold; got != step.told {
			t.Errorf("call %d: %d keys asked after they were told of, want %d", i+1, got, step.told)
		}
	}
}

// TestResetWhileCallsRun: a call that began before a reset does not count after it, but it is still known to be under way.
func TestResetWhileCallsRun(t *testing.T) {
	t.Parallel()
	g := newGate()
	b := setup(t, Config{Latency: time.Hour, Sleep: g.sleep})
	key := b.key(Good)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.recall(key)
	}()
	<-g.entered
	b.sim.Reset()
	if st := b.sim.Stats(); st.Calls != 0 || st.MaxConcurrent != 1 {
		t.Errorf("after the reset: %+v", st)
	}
	close(g.open)
	<-done
	if st := b.sim.Stats(); len(st.Outcomes) != 0 || st.KeysRecalled != 0 {
		t.Errorf("the old call counts: %+v", st)
	}
	b.recall(b.key(Good))
	if st := b.sim.Stats(); st.MaxConcurrent != 1 || st.Calls != 1 || st.Outcomes["ok"] != 1 {
		t.Errorf("after another call: %+v", st)
	}
}

// TestAbandonedCallIsNoOverlap has a client that gives up and asks again while the service is still at it.
func TestAbandonedCallIsNoOverlap(t *testing.T) {
	t.Parallel()
	w := setupWire(t, Config{Faults: []FaultRule{{Fault: FaultHang, Times: 1}}})
	key := w.key(Good)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() {
		_, _, err := w.send(ctx, key)
		done <- err
	}()
	eventually(t, "the call hangs", func() bool { return w.sim.Stats().Faults["hang"] == 1 })
	// While the first client is there, it is an overlap.
	if got, _, err := w.send(t.Context(), key); err != nil || got.status != 200 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if st := w.sim.Stats(); st.Overlaps != 1 || st.OverlapsAbandoned != 0 {
		t.Errorf("%d overlaps, %d abandoned", st.Overlaps, st.OverlapsAbandoned)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("the call that hangs was answered")
	}
	eventually(t, "the overlap is forgiven", func() bool {
		st := w.sim.Stats()
		return st.Overlaps == 0 && st.OverlapsAbandoned == 1
	})
}

func TestStatsAreTrue(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	began := b.clock.Now()
	first := b.keys(20)
	b.recall(first...)
	b.clock.Add(400 * time.Millisecond)
	b.recall(first[0], first[1], b.key(Expired))
	b.post(recallPath, recallJSON("second", b.key(Good)))
	b.clock.Add(600 * time.Millisecond)
	b.recall(b.keys(21)...)
	b.recall()
	b.recall(b.key(Expired))
	dup := b.key(Good)
	b.recall(dup, dup, dup)
	b.post(recallPath, "{")
	b.post("/nowhere", "{}")
	st := b.sim.Stats()
	wantSizes := [MaxKeys + 1]int64{0: 1, 1: 2, 3: 2, 20: 1}
	if st.BatchSizes != wantSizes || st.Oversized != 1 || st.MaxKeysInCall != 21 {
		t.Errorf("sizes %v, oversized %d, most %d", st.BatchSizes, st.Oversized, st.MaxKeysInCall)
	}
	if st.Calls != 8 || st.Metered != 8 || st.TokenCalls != 1 || st.NotFound != 1 || st.MaxConcurrent != 1 {
		t.Errorf("calls %+v", st)
	}
	if st.KeysAsked != 20+3+1+1+1 || st.KeysDistinct != 20+1+1+1+1 || st.KeysAskedAgain != 2 || st.KeysAskedAfterTold != 2 || st.KeysAskedRecalled != 2 || st.KeysRepeated != 2 {
		t.Errorf("keys %+v", st)
	}
	if st.KeysRecalled != 22 || len(st.KeysFailed) != 1 || st.KeysFailed[codeExpired] != 2 || st.Overlaps != 0 {
		t.Errorf("keys %+v", st)
	}
	if fmt.Sprint(st.Outcomes) != "map[allFailed:1 invalidParameter.param.invalid:1 invalidParameter.processQueryKey.missing:1 invalidParameter.processQueryKeys.overMax:1 ok:3 partial:1]" {
		t.Errorf("outcomes %v", st.Outcomes)
	}
	if fmt.Sprint(st.CallsByRobot) != "map[dingrobot0000000001:6 second:1]" {
		t.Errorf("robots %v", st.CallsByRobot)
	}
	if st.MaxCallsPerSecond != 7 || !st.FirstCall.Equal(began) || !st.LastCall.Equal(b.clock.Now()) {
		t.Errorf("times %+v", st)
	}
	st.Outcomes["ok"] = 99
	if b.sim.Stats().Outcomes["ok"] != 3 {
		t.Error("what Stats returned is not a copy")
	}

	b.sim.Reset()
	if got, want := fmt.Sprintf("%+v", b.sim.Stats()), fmt.Sprintf("%+v", emptyStats()); got != want {
		t.Errorf("after a reset: %s", got)
	}
	b.recall(first[0])
	if st := b.sim.Stats(); st.KeysDistinct != 1 || st.KeysAskedAgain != 0 || st.KeysRecalled != 1 || st.Calls != 1 {
		t.Errorf("after a reset: %+v", st)
	}
}

func TestOnRecall(t *testing.T) {
	t.Parallel()
	var seen []RecallSeen
	b := setup(t, Config{OnRecall: func(r RecallSeen) { seen = append(seen, r) }, Faults: []FaultRule{{Fault: FaultQPS, From: 2}}})
	keys := b.keys(2)
	b.recall(keys...)
	b.clock.Add(time.Second)
	b.recall(keys[1])
	b.post(recallPath, "{")
	now := b.clock.Now()
	want := []RecallSeen{
		{now.Add(-time.Second), testRobot, keys, "ok", "", "", ""},
		{now, testRobot, keys[1:], codeQpsApp, FaultQPS, "", ""},
		{now, "", nil, codeQpsApp, FaultQPS, "", ""},
	}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("saw %v, want %v", seen, want)
	}
}

func TestStatsOfManyAtOnce(t *testing.T) {
	t.Parallel()
	const callers, each = 8, 100
	b := setup(t, Config{Failure: FailRandom, Rate: 300, Jitter: time.Microsecond})
	batches := make([][]string, callers*each)
	for i := range batches {
		batches[i] = b.keys(1 + i%MaxKeys)
	}
	var wg sync.WaitGroup
	for w := range callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				b.recall(batches[w*each+i]...)
				b.sim.Stats()
			}
		}()
	}
	wg.Wait()
	st := b.sim.Stats()
	var asked int64
	for n, calls := range st.BatchSizes {
		asked += int64(n) * calls
	}
	if st.Calls != callers*each || st.KeysAsked != 8400 || asked != 8400 || st.KeysDistinct != 8400 || st.KeysAskedAgain != 0 || st.Overlaps != 0 {
		t.Errorf("stats %+v", st)
	}
	if st.Outcomes["ok"] != 300 || st.Throttled != 500 || st.MaxConcurrent < 1 || st.MaxConcurrent > callers || st.MaxCallsPerSecond != 800 {
		t.Errorf("stats %+v", st)
	}
}

func TestLedgerRemembersMany(t *testing.T) {
	t.Parallel()
	const n = 200_000
	l := newLedger(false)
	c := &call{hashes: make([]uint64, 1)}
	for round := range 2 {
		for i := range uint64(n) {
			c.hashes[0] = l.hash(MakeKey(1, i, Good, time.Time{}))
			a := l.begin(c)
			l.end(c)
			wantRecalled := round == 1 && i%3 == 0
			if (a.fresh == 1) != (round == 0) || (a.afterRecall == 1) != wantRecalled || a.afterAnswer != 0 || a.overlaps != 0 {
				t.Fatalf("round %d, key %d: %+v", round, i, a)
			}
			if round == 0 && i%3 == 0 && l.mark(c.hashes[0], flagRecalled) {
				t.Fatalf("key %d was recalled already", i)
			}
		}
	}
	used, places := 0, 0
	for i := range l.shards {
		used += l.shards[i].used
		places += len(l.shards[i].table)
	}
	if used != n || places > 3*n {
		t.Errorf("%d entries in %d places for %d keys", used, places, n)
	}
}

func TestRobotsCountedAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{ForgetKeys: true})
	for i := range maxRobotsCounted + 5 {
		b.post(recallPath, recallJSON(fmt.Sprintf("robot-%d", i), "k"))
	}
	st := b.sim.Stats()
	if len(st.CallsByRobot) != maxRobotsCounted+1 || st.CallsByRobot[otherRobots] != 5 {
		t.Errorf("%d robots, %d calls of others", len(st.CallsByRobot), st.CallsByRobot[otherRobots])
	}
}

func TestSameSeedSameAnswers(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (out []string) {
		b := setup(t, Config{
			Seed: seed, Failure: FailRandom, Reasons: ReasonMixed, FlakyRate: 0.4, Rate: 30,
			Faults: []FaultRule{{Fault: FaultMissingKeys, Probability: 0.2}, {Fault: FaultIPBan200, Probability: 0.1}, {Fault: FaultForeignKeys, Probability: 0.1}},
		})
		for i := range 120 {
			b.clock.Add(20 * time.Millisecond)
			kinds := Kinds()
			got := b.recall(b.key(Good), b.key(kinds[i%len(kinds)]), b.key(Flaky), b.key(Flaky))
			out = append(out, fmt.Sprint(got.status, got.header, got.body))
		}
		got := b.do(request(http.MethodPost, "/v1.0/oauth2/corpAccessToken", "", `{"suiteKey":"s","suiteSecret":"s","authCorpId":"c","suiteTicket":"t"}`))
		return append(out, b.token, got.body)
	}
	one, two, other := run(5), run(5), run(6)
	same := 0
	for i := range one {
		if one[i] != two[i] {
			t.Errorf("answer %d differs:\n%s\n%s", i, one[i], two[i])
		}
		if one[i] == other[i] {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d answers do not depend on the seed, not even in their ids", same)
	}
}
