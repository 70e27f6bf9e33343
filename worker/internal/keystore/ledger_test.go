package keystore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

func randomKeys(n int) []string {
	random := rand.New(rand.NewPCG(1, 2))
	keys := make([]string, n)
	for i := range keys {
		raw := make([]byte, 32)
		for j := range raw {
			raw[j] = byte(random.Uint32())
		}
		keys[i] = strict.EncodeToString(raw)
	}
	return keys
}

func textKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = "message-" + strconv.Itoa(i)
	}
	return keys
}

// asciiKeys look like packed keys whose 32 bytes are digits and letters.
func asciiKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = strict.EncodeToString(fmt.Appendf(nil, "%032d", i*7))
	}
	return keys
}

func TestLedgerGrowsInSmallBuckets(t *testing.T) {
	t.Parallel()
	for kind, keys := range map[string][]string{"counted": testKeys(0, 6000), "random": randomKeys(6000), "text": textKeys(6000), "digits": asciiKeys(6000)} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, b *bundle) {
				ctx := context.Background()
				if n, _ := b.admit(t, Admission{Keys: keys, Class: flow.Bulk}); n.Accepted != len(keys) {
					t.Fatalf("%+v", n)
				}
				c := b.check(t)
				onServer := strings.HasSuffix(t.Name(), "redis-server")
				buckets, most := 0, 0
				for n, fields := range c.strs {
					if !strings.HasPrefix(n, "ledger:") || strings.Count(n, ":") != 2 {
						continue
					}
					buckets++
					most = max(most, len(fields))
					if onServer && buckets%10 == 0 {
						if enc, err := b.rdb.ObjectEncoding(ctx, c.prefix+n).Result(); err != nil || enc != "listpack" {
							t.Errorf("%s with %d keys is a %s, %v", n, len(fields), enc, err)
						}
					}
				}
				if buckets < len(keys)/60 || most > 128 {
					t.Errorf("%d buckets, with up to %d keys", buckets, most)
				}
				again := keys
				if !onServer {
					again = keys[:400] // it runs Lua in Go: slowly
				}
				if n, _ := b.admit(t, Admission{Keys: again, Class: flow.Bulk}); n.Known != len(again) {
					t.Errorf("again: %+v", n)
				}
				for _, rec := range b.lookup(t, again...) {
					if rec.State != flow.Waiting {
						t.Fatalf("%+v", rec)
					}
				}
			})
		})
	}
}

// One key under thousands of robots falls into one bucket, which must be split all the same.
func TestOneKeyUnderManyRobots(t *testing.T) {
	t.Parallel()
	b := setup(t, redistest.Real(t))
	const n = 4200 // Lua passes about 8,000 values in one call
	b.params.Slots = 1
	for i := range n {
		b.admit(t, Admission{RobotCode: fmt.Sprintf("ding-%d", i), Keys: []string{testKey(1)}, Class: flow.Bulk})
	}
	b.admit(t, Admission{Keys: testKeys(2, 300), Class: flow.Bulk}) // these make all buckets split
	recs, err := b.Lookup(context.Background(), "", []string{testKey(1)})
	if err != nil || len(recs) != n {
		t.Fatalf("%d robots, %v", len(recs), err)
	}
	b.check(t)
	b.advance(time.Second)
	seen := map[string]bool{}
	for _, x := range b.claimAll(t) {
		seen[x.RobotCode] = true
	}
	if got := b.status(t).Total; got.Recalled != n+300 || len(seen) != n+1 {
		t.Errorf("%+v of %d robots", got, len(seen))
	}
	b.check(t)
}

func TestMidnight(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		*b.clock = b.clock.Truncate(24 * time.Hour).Add(24*time.Hour - time.Second)
		a := Admission{Keys: testKeys(0, 60), Class: flow.Default}
		_, r := b.admit(t, a)
		d, batch := b.attachFirst(t, r)
		b.advance(2 * time.Second)
		if n, _ := b.admit(t, a); n.Known != 60 {
			t.Errorf("the next day: %+v", n)
		}
		o := recalled(20)
		o.Outcomes[0] = flow.Outcome{Fate: flow.FateDead, Code: "c"}
		o.Outcomes[1] = flow.Outcome{Fate: flow.FateLater, Delay: time.Second}
		o.Outcomes[2] = flow.Outcome{Fate: flow.FateWait}
		r = b.settle(t, d, batch, o)
		b.check(t)
		b.admit(t, Admission{Keys: testKeys(50, 20), Class: flow.Urgent}) // ten of yesterday, ten of today
		b.check(t)
		for ; r.Status == StatusBatch; r = b.settle(t, d, r.Batch, recalled(len(r.Batch.Keys))) {
		}
		b.finish(t)
		if got := b.status(t).Total; got != (Counts{Accepted: 70, Recalled: 69, Dead: 1}) {
			t.Errorf("%+v", got)
		}
		if n, _ := b.admit(t, Admission{Keys: testKeys(0, 1), Force: true}); n.Revived != 1 {
			t.Errorf("a key that died yesterday: %+v", n)
		}
		days, err := b.rdb.SMembers(ctx, name(b.app, "days")).Result()
		if err != nil || len(days) != 2 {
			t.Errorf("days %v, %v", days, err)
		}
		b.check(t)
		b.advance(10 * 24 * time.Hour) // no real time has passed: Redis keeps the ledgers, but they are not spoken of any more
		b.admit(t, Admission{Keys: testKeys(900, 1)})
		days, err = b.rdb.SMembers(ctx, name(b.app, "days")).Result()
		if err != nil || len(days) != 1 {
			t.Errorf("days that have expired are kept: %v, %v", days, err)
		}
	})
}

// Redis's clock is set back over midnight, as in a failover to a replica that is a little behind.
func TestClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		b.params.Slots = 2
		*b.clock = b.clock.Truncate(24 * time.Hour).Add(24*time.Hour + 100*time.Millisecond)
		a := Admission{Keys: testKeys(0, 60)}
		_, r := b.admit(t, a)
		d, batch := b.attachFirst(t, r)
		second := b.attach(t, r.Due[1], 0)
		b.settle(t, r.Due[1], second.Batch, flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateLater, Delay: time.Millisecond}), Next: flow.NextYield})
		b.advance(-200 * time.Millisecond)
		b.check(t)
		if n, _ := b.admit(t, a); n.Known != 60 {
			t.Errorf("admitted again: %+v", n)
		}
		again := b.attach(t, d, 1)
		if again.Status != StatusBatch || !slices.Equal(names(again.Batch), names(batch)) || !again.Batch.Keys[0].Deadline.Equal(batch.Keys[0].Deadline) {
			t.Fatalf("%+v", *again)
		}
		b.check(t)
		for r = again; r.Status == StatusBatch; r = b.settle(t, d, r.Batch, recalled(len(r.Batch.Keys))) {
		}
		b.claimAll(t)
		b.check(t)
		b.finish(t)
		if got := b.status(t).Total; got != (Counts{Accepted: 60, Recalled: 60}) {
			t.Errorf("%+v", got)
		}
		b.check(t)
	})
}

func TestLookupOfEveryState(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		b.params.Slots = 1
		sent := b.clock.Add(-time.Hour)
		_, r := b.admit(t, Admission{Keys: testKeys(0, 20), Class: flow.Default, Incident: "storm", SentAt: sent})
		d, batch := b.attachFirst(t, r)
		o := recalled(20)
		o.Outcomes[0] = flow.Outcome{Fate: flow.FateDead, Code: "invalid.processQueryKey", Message: "no\nsuch key", Ambiguous: true}
		o.Outcomes[1] = flow.Outcome{Fate: flow.FateLater, Delay: time.Hour}
		b.admit(t, Admission{Keys: testKeys(50, 5), Class: flow.Bulk, Incident: "flood"})
		b.settle(t, d, batch, o)
		at := *b.clock
		if ok, _, err := b.Cancel(ctx, "flood"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		b.advance(time.Second)
		b.claimAll(t)
		b.admit(t, Admission{Keys: testKeys(60, 20)})
		b.attach(t, b.wake(t).Due[0], 0)
		deadline := sent.Add(b.params.Life)
		got := b.lookup(t, testKey(0), testKey(1), testKey(2), testKey(50), testKey(60), testKey(99))
		want := []KeyRecord{
			{State: flow.Dead, Class: flow.Default, Ambiguous: true, Attempts: 1, Incident: "storm", Deadline: deadline, Code: "invalid.processQueryKey", Message: "no\nsuch key", At: at, RequestID: "req", Batch: got[0].Batch},
			{State: flow.Waiting, Class: flow.Default, Attempts: 1, Incident: "storm", Deadline: deadline},
			{State: flow.Recalled, Class: flow.Default, Attempts: 1, Incident: "storm", Deadline: deadline, At: at, RequestID: "req"},
			{State: flow.Cancelled, Class: flow.Bulk, Incident: "flood", Deadline: at.Add(b.params.Life), At: at.Add(time.Second)},
			{State: flow.Bound, Class: flow.Urgent, Deadline: got[4].Deadline},
			{State: flow.Unknown},
		}
		for i, w := range want {
			g := got[i]
			if !g.Deadline.Equal(w.Deadline) && w.State != flow.Unknown || !g.At.Equal(w.At) {
				t.Errorf("key %d: deadline %v, at %v; want %+v", i, g.Deadline, g.At, w)
			}
			w.Key, w.RobotCode, g.Deadline, g.At, w.Deadline, w.At = g.Key, robot, time.Time{}, time.Time{}, time.Time{}, time.Time{}
			if g != w {
				t.Errorf("key %d: %+v, want %+v", i, g, w)
			}
		}
		if recs, err := b.Lookup(ctx, "ding-none", testKeys(0, 1)); err != nil || recs[0].State != flow.Unknown {
			t.Errorf("under a robot that nobody knows: %+v %v", recs, err)
		}
		b.admit(t, Admission{RobotCode: "ding-other", Keys: testKeys(2, 1)})
		recs, err := b.Lookup(ctx, "", testKeys(2, 1))
		if err != nil || len(recs) != 2 || recs[0].RobotCode == recs[1].RobotCode {
			t.Errorf("under whatever robot: %+v %v", recs, err)
		}
		b.check(t)
	})
}

func TestTwoThousandRobots(t *testing.T) {
	t.Parallel()
	b := setup(t, redistest.Real(t))
	b.params.Slots = 8
	const robots, keys = 2000, 21
	for i := range robots {
		b.admit(t, Admission{RobotCode: fmt.Sprintf("ding-%d", i), Keys: testKeys(i*keys, keys), Class: flow.Bulk})
		if i%40 == 0 {
			b.advance(time.Millisecond)
		}
	}
	b.check(t)
	batches := b.claimAll(t)
	for i, x := range batches[:robots] {
		if len(x.Keys) != flow.MaxBatch {
			t.Fatalf("batch %d has %d keys: no robot has had its turn twice", i, len(x.Keys))
		}
	}
	b.advance(2 * time.Second)
	b.claimAll(t)
	if got := b.status(t).Total; got.Recalled != robots*keys {
		t.Errorf("%+v", got)
	}
	b.check(t)
}

func TestNumbersThatRunOut(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		ctx := context.Background()
		b.admit(t, Admission{Keys: testKeys(0, 1), Incident: "first"})
		meta := name(b.app, "meta")
		if err := b.rdb.HSet(ctx, meta, "incident", 65533, "robot", 65533, "reason", 3999, "batch", int64(1)<<33).Err(); err != nil {
			t.Fatal(err)
		}
		for i, incident := range []string{"last", "one too many", "two too many"} {
			if n, _ := b.admit(t, Admission{Keys: testKeys(10+i, 1), Incident: incident}); n.Accepted != 1 {
				t.Errorf("%s: %+v", incident, n)
			}
		}
		var got []string
		for _, rec := range b.lookup(t, testKey(0), testKey(10), testKey(11), testKey(12)) {
			got = append(got, rec.Incident)
		}
		if want := []string{"first", "last", "(further incidents)", "(further incidents)"}; !slices.Equal(got, want) {
			t.Errorf("incidents %q", got)
		}
		b.check(t)
		if n, _ := b.admit(t, Admission{RobotCode: "ding-last", Keys: testKeys(0, 1)}); n.Accepted != 1 {
			t.Errorf("the last robot: %+v", n)
		}
		_, _, err := b.Admit(ctx, Admission{RobotCode: "ding-too-many", Keys: testKeys(0, 1)})
		if !errors.Is(err, ErrTargetLimit) {
			t.Errorf("one robot too many: %v", err)
		}
		b.check(t)
		d := b.wake(t).Due[0]
		r := b.attach(t, d, 0)
		for i := 0; r.Status == StatusBatch; i++ {
			o := recalled(len(r.Batch.Keys))
			for j := range o.Outcomes {
				o.Outcomes[j] = flow.Outcome{Fate: flow.FateDead, Code: "c", Message: fmt.Sprint(i, j)}
			}
			r = b.settle(t, d, r.Batch, o)
		}
		texts := map[string]int{}
		for _, rec := range b.lookup(t, testKey(0), testKey(10), testKey(11), testKey(12)) {
			if rec.State != flow.Dead || rec.Code != "c" || rec.At.IsZero() {
				t.Errorf("%+v", rec)
			}
			texts[rec.Message]++
		}
		if len(texts) != 2 || texts[""] != 3 { // the 4,000th reason has its text, the others share their code
			t.Errorf("messages %v", texts)
		}
		if n, err := b.rdb.HGet(ctx, meta, "reason").Int(); err != nil || n != 4001 {
			t.Errorf("%d reasons are numbered, %v", n, err)
		}
		for _, l := range b.letters(t) {
			if l.Reason.Message == "" {
				t.Errorf("a letter without its message: %+v", l)
			}
		}
		if err := b.rdb.HSet(ctx, meta, "reason", 4999).Err(); err != nil {
			t.Fatal(err)
		}
		_, r = b.admit(t, Admission{Keys: testKeys(19, 1)})
		d, batch := b.attachFirst(t, r)
		b.settle(t, d, batch, flow.Settlement{Outcomes: all(1, flow.Outcome{Fate: flow.FateDead, Code: "the last code", Message: "m"}), Next: flow.NextClaim})
		if rec := b.lookup(t, testKey(19))[0]; rec.Code != "the last code" {
			t.Errorf("the last reason: %+v", rec)
		}
		b.letters(t)
		_, r = b.admit(t, Admission{Keys: testKeys(20, 1)})
		d, batch = b.attachFirst(t, r)
		b.settle(t, d, batch, flow.Settlement{Outcomes: all(1, flow.Outcome{Fate: flow.FateDead, Code: "a code that is new", Message: "m"}), Next: flow.NextClaim})
		if rec := b.lookup(t, testKey(20))[0]; rec.State != flow.Dead || rec.Code != "" {
			t.Errorf("a reason too many: %+v", rec)
		}
		if l := b.letters(t); len(l) != 1 || l[0].Reason != (flow.Reason{Code: "a code that is new", Message: "m"}) {
			t.Errorf("the letter of a reason too many: %+v", l)
		}
		b.check(t)
	})
}
