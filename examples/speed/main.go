// Command speed compares ways to recall keys through a queue, side by side in one run: the same keys, the same service (in this process,
// answering at once or after 20 ms), one redis-server, a few interleaved rounds, medians. It prints a table in Markdown.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	keys := flag.Int("keys", 100_000, "keys for each way (fewer for those that are slow)")
	rounds := flag.Int("rounds", 3, "interleaved rounds")
	limit := flag.Duration("limit", 60*time.Second, "the longest a way may take in a round")
	flag.Parse()
	if err := run(*keys, *rounds, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(1)
	}
}

// result is what one round of a way came to.
type result struct {
	submit, drain float64 // keys a second
	bytes         float64 // of Redis, for each waiting key
	trips         float64 // socket reads of Redis, for each key, submission and drain
	calls         float64 // calls for each 20 keys
}

func run(keys, rounds int, limit time.Duration) error {
	srv, err := startRedis()
	if err != nil {
		return err
	}
	defer func() {
		if err := srv.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "speed:", err)
		}
	}()
	fmt.Printf("%s, %d processors, %s\n", cpu(), runtime.NumCPU(), runtime.Version())
	for _, latency := range []time.Duration{0, 20 * time.Millisecond} {
		svc, err := newService(latency)
		if err != nil {
			return err
		}
		for _, robots := range []int{1, 50} {
			fmt.Printf("\n%d robots, the service answers after %v; medians of %d rounds, %d keys where not said otherwise\n\n", robots, latency, rounds, keys)
			if err := table(srv, svc, keys, robots, rounds, limit); err != nil {
				return err
			}
		}
		svc.close()
	}
	return nil
}

// table runs all ways, round after round, and prints their medians.
func table(srv *server, svc *service, keys, robots, rounds int, limit time.Duration) error {
	all := ways()
	results := make([][]result, len(all))
	for range rounds {
		for i, wy := range all {
			n := keys
			if wy.most > 0 {
				n = min(n, wy.most*min(robots, 10))
			}
			r, err := measure(srv, svc, wy, newWorld(srv, svc, n, robots), limit)
			if err != nil {
				return fmt.Errorf("%s: %w", wy.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	fmt.Println("| way | submit, keys/s | drain, keys/s | ours is x | bytes a waiting key | Redis reads a key | calls for 20 keys |")
	fmt.Println("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
	med := func(i int, f func(result) float64) float64 { return median(results[i], f) }
	own := med(0, func(r result) float64 { return r.drain })
	for i, wy := range all {
		drain := med(i, func(r result) float64 { return r.drain })
		fmt.Printf("| %s | %s | %.0f | %.3g | %.0f | %.3f | %.2f |\n", wy.name, dash(med(i, func(r result) float64 { return r.submit })), drain, own/drain,
			med(i, func(r result) float64 { return r.bytes }), med(i, func(r result) float64 { return r.trips }), med(i, func(r result) float64 { return r.calls }))
	}
	return nil
}

func dash(n float64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", n)
}

func newWorld(srv *server, svc *service, n, robots int) *world {
	w := &world{rdb: srv.rdb, svc: svc}
	for r := range robots {
		w.robots = append(w.robots, fmt.Sprintf("dingspeed%07d", r))
		var keys []string
		for i := r; i < n; i += robots {
			keys = append(keys, key(i))
		}
		w.keys = append(w.keys, keys)
		w.total += len(keys)
	}
	return w
}

// key makes a key as the service's are: 44 characters of Base64.
func key(i int) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(i))
	sum := sha256.Sum256(b[:])
	return base64.StdEncoding.EncodeToString(sum[:])
}

func measure(srv *server, svc *service, wy way, w *world, limit time.Duration) (result, error) {
	ctx := context.Background()
	if err := srv.rdb.FlushAll(ctx).Err(); err != nil {
		return result{}, err
	}
	svc.reset()
	runtime.GC()
	empty, err := srv.info(ctx, "memory", "used_memory_dataset")
	if err != nil {
		return result{}, err
	}
	reads, err := srv.info(ctx, "stats", "total_reads_processed")
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	if err := wy.submit(ctx, w); err != nil {
		return result{}, err
	}
	took := time.Since(began)
	full, err := srv.info(ctx, "memory", "used_memory_dataset")
	if err != nil {
		return result{}, err
	}
	began = time.Now()
	stop, err := wy.drain(ctx, w)
	if err != nil {
		return result{}, err
	}
	for svc.keys.Load() < int64(w.total) && time.Since(began) < limit {
		time.Sleep(time.Millisecond)
	}
	drained, done := time.Since(began), float64(svc.keys.Load())
	stop()
	after, err := srv.info(ctx, "stats", "total_reads_processed")
	if err != nil {
		return result{}, err
	}
	r := result{drain: done / drained.Seconds(), bytes: (full - empty) / float64(w.total), trips: (after - reads) / float64(w.total),
		calls: float64(svc.calls.Load()) / (done / 20)}
	if wy.name != loop().name {
		r.submit = float64(w.total) / took.Seconds()
	}
	return r, nil
}

func median(rs []result, f func(result) float64) float64 {
	v := make([]float64, len(rs))
	for i, r := range rs {
		v[i] = f(r)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func cpu() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
