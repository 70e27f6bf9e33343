package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// result is what one round of a way came to.
type result struct {
	submit, drain float64 // keys a second
	bytes         float64 // of Redis, for each key that was submitted
	trips         float64 // to Redis, for each key, submission and drain
	calls         float64 // calls for each 20 keys
}

// compare runs all ways for 1 and 50 robots, with a service that answers at once and one that takes its time.
func compare(ctx context.Context, b *bench) error {
	for _, latency := range []time.Duration{0, 20 * time.Millisecond} {
		for _, robots := range []int{1, 50} {
			if err := b.with(latency, func(svc *service) error { return b.table(ctx, svc, robots) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// table runs all ways, round after round, and prints their medians.
func (b *bench) table(ctx context.Context, svc *service, robots int) error {
	all := slices.DeleteFunc(ways(), func(wy way) bool { return !b.only.MatchString(wy.name) })
	results, sizes := make([][]result, len(all)), make([]int, len(all))
	for range b.rounds {
		for i, wy := range all {
			n := b.keys
			if wy.most > 0 {
				n = min(n, wy.most*min(robots, 10))
			}
			sizes[i] = n
			r, err := measure(ctx, b.srv, svc, wy, newWorld(b.srv, svc, n, robots), b.limit)
			if err != nil {
				return fmt.Errorf("%s: %w", wy.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	b.printf("\n%d robots, the service answers after %v; medians of %d rounds, %d keys where not said otherwise.\n\n",
		robots, svc.latency, b.rounds, b.keys)
	b.printf("| way | submit, keys/s | drain, keys/s | ours is x | bytes a key in the queue | round trips a key | calls for 20 keys |\n")
	b.printf("| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	med := map[string]result{}
	for i, wy := range all {
		med[wy.name] = medianOf(results[i])
	}
	for i, wy := range all {
		r, name := med[wy.name], wy.name
		if n := sizes[i]; n < b.keys {
			name += fmt.Sprintf(" (%d keys)", n)
		}
		b.printf("| %s | %s | %.0f | %.3g | %.0f | %.3f | %.2f |\n",
			name, dash(r.submit), r.drain, med[ours().name].drain/r.drain, r.bytes, r.trips, r.calls)
	}
	b.ratios(med, robots)
	return nil
}

// ratios says how this program did against what it was to reach beside the others, where they were measured.
func (b *bench) ratios(med map[string]result, robots int) {
	own, chunked := med[ours().name], med[cut]
	documented, popped := med[documentedGroups], med[list().name]
	var gs goals
	if own.drain > 0 && chunked.drain > 0 {
		gs.atLeast("drain beside producer chunks", own.drain/chunked.drain, 1.2)
		gs.atLeast("submitting beside producer chunks", own.submit/chunked.submit, 3)
	}
	if own.drain > 0 && documented.drain > 0 && robots == 1 {
		gs.atLeast("drain beside documented groups, one robot", own.drain/documented.drain, 3000)
	}
	if own.drain > 0 && popped.drain > 0 {
		gs.atLeast("drain beside LPOP and HTTP", own.drain/popped.drain, 0.4)
	}
	if own.drain > 0 {
		gs.atMost("round trips a key", own.trips, 0.15, "")
	}
	b.goals(gs)
}

func dash(n float64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", n)
}

func measure(ctx context.Context, srv *server, svc *service, wy way, w *world, limit time.Duration) (result, error) {
	if err := srv.rdb.FlushAll(ctx).Err(); err != nil {
		return result{}, err
	}
	svc.reset()
	runtime.GC()
	empty, err := srv.info(ctx, "memory", "used_memory_dataset")
	if err != nil {
		return result{}, err
	}
	trips := srv.trips.Load()
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
	for svc.keys.Load() < int64(w.total) && time.Since(began) < limit && ctx.Err() == nil && w.failed.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	drained, done := time.Since(began), float64(svc.keys.Load())
	stop()
	if err := ctx.Err(); err != nil {
		return result{}, err
	}
	if err := w.failed.Load(); err != nil {
		return result{}, *err
	}
	r := result{drain: done / drained.Seconds(), bytes: (full - empty) / float64(w.total), trips: float64(srv.trips.Load()-trips) / float64(w.total),
		calls: float64(svc.calls.Load()) / (done / 20)}
	if wy.name != loop().name {
		r.submit = float64(w.total) / took.Seconds()
	}
	return r, nil
}

// medianOf takes each figure's median by itself.
func medianOf(rs []result) result {
	of := func(f func(result) float64) float64 { return median(rs, f) }
	return result{submit: of(func(r result) float64 { return r.submit }), drain: of(func(r result) float64 { return r.drain }),
		bytes: of(func(r result) float64 { return r.bytes }), trips: of(func(r result) float64 { return r.trips }),
		calls: of(func(r result) float64 { return r.calls })}
}

func median[T any](rs []T, f func(T) float64) float64 {
	v := make([]float64, len(rs))
	for i, r := range rs {
		v[i] = f(r)
	}
	slices.Sort(v)
	return v[len(v)/2]
}
