package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// cost is what the whole way of a key takes, from the producer to its outcome.
type cost struct {
	admit, drain   time.Duration // of the clock: submit and take in; recall
	redis          time.Duration // of the processor
	trips          float64       // round trips to Redis
	waiting, after float64       // bytes of Redis while it waits, and once it is recalled
}

// wholeWay takes the whole way of n keys, all of which wait before the first call is made.
func wholeWay(ctx context.Context, b *bench, svc *service, n, robots int) (c cost, err error) {
	p, err := begin(ctx, b.srv, svc, anyRobot("speed", 0))
	if err != nil {
		return c, err
	}
	defer p.stop()
	// The first keys have the scripts loaded, the token fetched and the connections opened.
	if err := p.submit(ctx, -1000, 20, robotCodes("first", 1)); err != nil {
		return c, err
	}
	if err := p.recalled(ctx, 20); err != nil {
		return c, err
	}
	if err := p.pause(ctx); err != nil {
		return c, err
	}
	empty, err := b.srv.memory(ctx)
	if err != nil {
		return c, err
	}
	cpu, err := b.srv.spent(ctx)
	if err != nil {
		return c, err
	}
	trips, began := b.srv.trips.Load(), time.Now()
	if err := p.submit(ctx, 0, n, robotCodes("speed", robots)); err != nil {
		return c, err
	}
	if err := p.accepted(ctx, n+20); err != nil {
		return c, err
	}
	c.admit = time.Since(began)
	full, err := b.srv.memory(ctx)
	if err != nil {
		return c, err
	}
	began = time.Now()
	if err := p.resume(); err != nil {
		return c, err
	}
	if err := p.recalled(ctx, n+20); err != nil {
		return c, err
	}
	c.drain = time.Since(began)
	c.trips = float64(b.srv.trips.Load()-trips) / float64(n)
	spent, err := b.srv.spent(ctx)
	if err != nil {
		return c, err
	}
	end, err := b.srv.memory(ctx)
	if err != nil {
		return c, err
	}
	c.redis = spent - cpu
	c.waiting, c.after = (full-empty)/float64(n), (end-empty)/float64(n)
	if calls := svc.calls.Load(); calls > int64(n/fullCall+robots+2) {
		err = fmt.Errorf("%d calls for %d keys", calls, n)
	}
	return c, err
}

// memory measures what a key takes of Redis, and its round trips.
func memory(ctx context.Context, b *bench) error {
	return b.with(0, func(svc *service) error {
		c, err := wholeWay(ctx, b, svc, b.fill, 1)
		if err != nil {
			return err
		}
		b.printf("\n%d keys of 44 characters, one robot, submissions of 1,000 sent at one moment. Bytes: used_memory without the buffers of\n"+
			"connections, beside an empty Redis; dedupe, order and outcome included. Round trips: of producer and worker, whole life,\n"+
			"a pipeline is one.\n", b.fill)
		var g goals
		g.atMost("bytes a waiting key", c.waiting, 90, "")
		g.atMost("bytes a recalled key", c.after, 60, "")
		g.atMost("round trips a key", c.trips, 0.15, "")
		b.goals(g)
		return nil
	})
}

// scale measures what a key costs by how many wait.
func scale(ctx context.Context, b *bench) error {
	var sizes []int
	for n := 10_000; n <= b.fill; n *= 10 {
		sizes = append(sizes, n)
	}
	if b.huge {
		sizes = append(sizes, 10_000_000)
	}
	return b.costs(ctx, "waiting keys", 0.15, sizes, func(n int) (keys, robots int) { return n, 1 })
}

// robots measures what a key costs by how many robots the keys are of.
func robots(ctx context.Context, b *bench) error {
	sizes := []int{1, 100, 5000}
	// With fewer keys a robot it would be lone keys that are measured, and calls that are not full.
	sizes = slices.DeleteFunc(sizes, func(n int) bool { return b.fill < n*fullCall })
	return b.costs(ctx, "robots", 0.30, sizes, func(n int) (keys, robots int) { return b.fill, n })
}

// costs measures the whole way for each of several sizes; small ones more often, of which the median counts.
func (b *bench) costs(ctx context.Context, of string, within float64, sizes []int, what func(int) (keys, robots int)) error {
	var wall, cpu []float64
	b.printf("\nMicroseconds a key, and round trips a key:\n\n")
	b.printf("| %s | keys | rounds | submit and take in | drain | both | Redis's processor time | round trips |\n", of)
	b.printf("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	err := b.with(0, func(svc *service) error {
		for _, size := range sizes {
			n, robots := what(size)
			var cs []cost
			for range min(5, max(1, 300_000/n)) {
				c, err := wholeWay(ctx, b, svc, n, robots)
				if err != nil {
					return err
				}
				cs = append(cs, c)
			}
			us := func(f func(cost) time.Duration) float64 {
				return median(cs, func(c cost) float64 { return float64(f(c).Nanoseconds()) / 1000 / float64(n) })
			}
			both, redis := us(func(c cost) time.Duration { return c.admit + c.drain }), us(func(c cost) time.Duration { return c.redis })
			b.printf("| %d | %d | %d | %.1f | %.1f | %.1f | %.1f | %.3f |\n", size, n, len(cs), us(func(c cost) time.Duration { return c.admit }),
				us(func(c cost) time.Duration { return c.drain }), both, redis, median(cs, func(c cost) float64 { return c.trips }))
			wall, cpu = append(wall, both), append(cpu, redis)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var g goals
	g.atMost("dearest key beside the cheapest, of the clock", slices.Max(wall)/slices.Min(wall), 1+within, " x")
	g.atMost("dearest key beside the cheapest, Redis's processor time", slices.Max(cpu)/slices.Min(cpu), 1+within, " x")
	b.goals(g)
	return nil
}
