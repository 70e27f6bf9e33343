package keystore

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/redistest"
)

// BenchmarkKeyStore tells what the whole life of a key costs in the key store alone: admission, claim and settle, in one
// connection, no calls. ns/op is per key.
func BenchmarkKeyStore(b *testing.B) {
	for _, back := range redistest.Backends() {
		b.Run(back.Name+"/admit", func(b *testing.B) { benchAdmit(b, back.Open(b)) })
		b.Run(back.Name+"/drain", func(b *testing.B) { benchDrain(b, back.Open(b)) })
	}
}

func fill(b *testing.B, s *bundle, n int) {
	for from := 0; from < n; from += 1000 {
		s.admit(b, Admission{Keys: testKeys(from, min(1000, n-from)), Class: flow.Default, Incident: "bench"})
	}
}

func benchAdmit(b *testing.B, rdb *redis.Client) {
	s := setup(b, rdb)
	b.ResetTimer()
	fill(b, s, b.N)
}

func benchDrain(b *testing.B, rdb *redis.Client) {
	s := setup(b, rdb)
	fill(b, s, b.N)
	s.advance(time.Minute)
	r, err := s.Wake(context.Background())
	if err != nil || len(r.Due) == 0 {
		b.Fatal("nothing due", err)
	}
	d := r.Due[0]
	b.ResetTimer()
	r = s.attach(b, d, 0)
	for r.Status == StatusBatch {
		r = s.settle(b, d, r.Batch, flow.Settlement{Outcomes: all(len(r.Batch.Keys), flow.Outcome{Fate: flow.FateRecalled}),
			Counted: true, RequestID: "00000000-0000-0000-0000-000000000000", Next: flow.NextClaim, Answered: true})
	}
	b.StopTimer()
	if got := s.status(b).Total.Recalled; got != int64(b.N) {
		b.Fatalf("recalled %d of %d", got, b.N)
	}
}
