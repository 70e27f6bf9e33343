package keystore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
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
		for _, robots := range []int{1, 100, 5000} {
			n := "/" + strconv.Itoa(robots) + "-robots"
			b.Run(back.Name+"/admit"+n, func(b *testing.B) { benchAdmit(b, back.Open(b), robots) })
			b.Run(back.Name+"/drain"+n, func(b *testing.B) { benchDrain(b, back.Open(b), robots) })
		}
	}
}

// BenchmarkMemory tells how many bytes of a real Redis a key takes while it waits, and once it is recalled. The number of keys is
// fixed, and a benchmark runs once however long it is asked to: only its bytes are of interest.
func BenchmarkMemory(b *testing.B) {
	for _, c := range []struct{ keys, robots int }{{100_000, 1}, {100_000, 5000}, {1_000_000, 1}} {
		b.Run(fmt.Sprintf("%d-keys/%d-robots", c.keys, c.robots), func(b *testing.B) { benchMemory(b, c.keys, c.robots) })
	}
}

// fill admits n keys, spread over robots, each robot's together.
func fill(b *testing.B, s *bundle, n, robots int) {
	each := max(1, (n+robots-1)/robots)
	for from := 0; from < n; from += min(each, 1000) {
		code := "ding" + strconv.Itoa(from/each)
		s.admit(b, Admission{RobotCode: code, Keys: testKeys(from, min(1000, n-from, each)), Class: flow.Default, Incident: "bench"})
	}
}

func benchAdmit(b *testing.B, rdb *redis.Client, robots int) {
	s := setup(b, rdb)
	b.ResetTimer()
	fill(b, s, b.N, robots)
}

// drain settles everything as recalled, in one slot.
func drain(b *testing.B, s *bundle) {
	r, err := s.Wake(context.Background())
	if err != nil || len(r.Due) == 0 {
		b.Fatal("nothing due", err)
	}
	d := r.Due[0]
	for r = s.attach(b, d, 0); r.Status == StatusBatch; {
		r = s.settle(b, d, r.Batch, flow.Settlement{Outcomes: all(len(r.Batch.Keys), flow.Outcome{Fate: flow.FateRecalled}),
			Counted: true, RequestID: "00000000-0000-0000-0000-000000000000", Next: flow.NextClaim, Answered: true})
	}
}

func benchDrain(b *testing.B, rdb *redis.Client, robots int) {
	s := setup(b, rdb)
	s.params.Slots, s.params.SlotsCap = 1, 1
	fill(b, s, b.N, robots)
	s.advance(time.Minute)
	b.ResetTimer()
	drain(b, s)
	b.StopTimer()
	if got := s.status(b).Total.Recalled; got != int64(b.N) {
		b.Fatalf("recalled %d of %d", got, b.N)
	}
}

func benchMemory(b *testing.B, n, robots int) {
	server, err := redistest.Start("--save", "")
	if err != nil {
		b.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer func() {
		_ = rdb.Close()
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	}()
	s := setup(b, rdb)
	s.params.Slots, s.params.SlotsCap = 1, 1
	s.admit(b, Admission{Keys: []string{"so that the scripts are loaded"}})
	before := usedMemory(b, rdb)
	fill(b, s, n, robots)
	b.ReportMetric(float64(usedMemory(b, rdb)-before)/float64(n), "bytes/waiting-key")
	s.advance(time.Minute)
	drain(b, s)
	b.ReportMetric(float64(usedMemory(b, rdb)-before)/float64(n), "bytes/recalled-key")
	if got := s.status(b).Total.Recalled; got != int64(n+1) {
		b.Fatalf("recalled %d of %d", got, n)
	}
}

func usedMemory(b *testing.B, rdb *redis.Client) int64 {
	info, err := rdb.Info(context.Background(), "memory").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatal("INFO does not tell the memory")
	return 0
}
