package keystore

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	goflag "flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

func TestMain(m *testing.M) {
	if err := useMutant(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(doesNotLoad)
	}
	// Of the law test; what the command line says wins.
	for name, value := range map[string]string{"rapid.checks": "15", "rapid.steps": "60"} {
		if err := goflag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(redistest.Main(m))
}

const robot = "dingtestrobot"

// tb is what the helpers need of a test, a benchmark or a case of rapid.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

type bundle struct {
	*Store
	rdb    *redis.Client
	clock  *time.Time
	params *Params
	app    string
}

func testParams() Params {
	return Params{Slots: 4, SlotsCap: 8, Linger: time.Second, Life: 24*time.Hour - 2*time.Minute, LedgerTTL: 7 * 24 * time.Hour,
		Letter: 20, ProbeMax: 30 * time.Minute}
}

func setup(t testing.TB, rdb *redis.Client) *bundle {
	t.Helper()
	return newBundle(rdb)
}

func newBundle(rdb *redis.Client) *bundle {
	now := time.Now().Truncate(time.Second)
	b := &bundle{rdb: rdb, clock: &now, app: "test"}
	p := testParams()
	b.params = &p
	b.Store = New(rdb, b.app, func() Params { return *b.params }, func() time.Time { return *b.clock })
	return b
}

func (b *bundle) advance(d time.Duration) { *b.clock = b.clock.Add(d) }

func testKey(n int) string {
	var raw [32]byte
	binary.BigEndian.PutUint64(raw[24:], uint64(n))
	return base64.StdEncoding.EncodeToString(raw[:])
}

func testKeys(from, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = testKey(from + i)
	}
	return keys
}

func (b *bundle) admit(t tb, a Admission) (Admitted, *Reply) {
	t.Helper()
	if a.RobotCode == "" {
		a.RobotCode = robot
	}
	n, r, err := b.Admit(context.Background(), a)
	if err != nil {
		t.Fatalf("admit: %v", err)
	}
	return n, r
}

func (b *bundle) attach(t tb, d flow.DueSlot, retry int) *Reply {
	t.Helper()
	r, err := b.Attach(context.Background(), d.Slot, d.Generation, retry)
	if err != nil {
		t.Fatalf("attach: %v", err)
	}
	return r
}

func (b *bundle) settle(t tb, d flow.DueSlot, batch *flow.Batch, o flow.Settlement) *Reply {
	t.Helper()
	r, err := b.Settle(context.Background(), flow.SlotRun{Slot: d.Slot, Generation: d.Generation, Run: batch.Run}, batch.ID, o)
	if err != nil {
		t.Fatalf("settle: %v", err)
	}
	return r
}

func all(n int, o flow.Outcome) []flow.Outcome {
	out := make([]flow.Outcome, n)
	for i := range out {
		out[i] = o
	}
	return out
}

func (b *bundle) status(t tb) AppStatus {
	t.Helper()
	st, err := b.Status(context.Background())
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	return st
}

func TestWayOfABatch(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bundle) {
		n, r := b.admit(t, Admission{Keys: testKeys(0, 50), Class: flow.Default, Incident: "storm"})
		if n.Accepted != 50 || len(r.Due) != 3 {
			t.Fatalf("accepted %d, due %v", n.Accepted, r.Due)
		}
		if n, _ := b.admit(t, Admission{Keys: testKeys(0, 50), Class: flow.Default, Incident: "storm"}); n.Known != 50 || n.Accepted != 0 {
			t.Fatalf("the second admission: %+v", n)
		}
		d := r.Due[0]
		r = b.attach(t, d, 0)
		if r.Status != StatusBatch || len(r.Batch.Keys) != 20 || r.Batch.RobotCode != robot || r.Batch.Keys[0].Key != testKey(0) {
			t.Fatalf("attach: %+v %+v", r, r.Batch)
		}
		if got := b.status(t).Total; got.Bound != 20 || got.Waiting != 30 {
			t.Fatalf("after the claim: %+v", got)
		}
		first := r.Batch
		o := flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateRecalled}), Counted: true, RequestID: "req-1", Next: flow.NextClaim, Answered: true}
		o.Outcomes[3] = flow.Outcome{Fate: flow.FateDead, Code: "invalid.processQueryKey", Message: "no such key"}
		r = b.settle(t, d, first, o)
		if r.Status != StatusBatch || r.Outbox != 1 {
			t.Fatalf("settle: %+v", r)
		}
		again := b.settle(t, d, first, o) // the reply was lost, the client sent it again
		if again.Status != StatusBatch || again.Batch.ID != r.Batch.ID {
			t.Fatalf("settle again: %+v", again)
		}
		r = b.settle(t, d, r.Batch, flow.Settlement{Outcomes: all(20, flow.Outcome{Fate: flow.FateRecalled}), Counted: true, Next: flow.NextClaim})
		if r.Status != StatusIdle && r.Status != StatusBatch {
			t.Fatalf("last settle: %+v", r)
		}
		st := b.status(t)
		if st.Total.Recalled != 39 || st.Total.Dead != 1 || st.Total.Accepted != 50 {
			t.Fatalf("in the end: %+v", st.Total)
		}
		recs, err := b.Lookup(context.Background(), "", []string{testKey(0), testKey(3), testKey(49), testKey(99)})
		if err != nil || len(recs) != 4 {
			t.Fatal(recs, err)
		}
		if recs[0].State != flow.Recalled || recs[0].RequestID != "req-1" || recs[0].Incident != "storm" || recs[0].Attempts != 1 {
			t.Errorf("recalled: %+v", recs[0])
		}
		if recs[1].State != flow.Dead || recs[1].Code != "invalid.processQueryKey" || recs[1].Message != "no such key" || recs[1].RequestID != "req-1" {
			t.Errorf("dead: %+v", recs[1])
		}
		if recs[3].State != flow.Unknown {
			t.Errorf("unknown: %+v", recs[3])
		}
		letters, err := b.Outbox(context.Background(), 10)
		if err != nil || len(letters) != 1 || letters[0].Keys[0] != testKey(3) || letters[0].Incident != "storm" || letters[0].Attempts != 1 {
			t.Fatal(letters, err)
		}
	})
}
