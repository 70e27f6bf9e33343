package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// underLimit measures how long keys take under a limit of calls, and what the service sees in a second.
func underLimit(ctx context.Context, b *bench) error {
	return b.with(0, func(svc *service) error {
		p, err := begin(ctx, b.srv, svc, anyRobot("speed", b.rate))
		if err != nil {
			return err
		}
		defer p.stop()
		var mu sync.Mutex
		var calls []time.Time
		watch := func(_ string, _ int, at time.Time) {
			mu.Lock()
			calls = append(calls, at)
			mu.Unlock()
		}
		svc.watch.Store(&watch)
		began := time.Now()
		if err := p.submit(ctx, 0, b.keys, robotCodes("speed", 1)); err != nil {
			return err
		}
		if err := p.recalled(ctx, b.keys); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		slices.SortFunc(calls, time.Time.Compare)
		whole, least := calls[len(calls)-1].Sub(began).Seconds(), float64(b.keys)/fullCall/b.rate
		b.printf("\n%d keys at %g calls a second, one robot: %d calls in %.2f s from the first submission to the last call,\n"+
			"%.2f s from the first call; %.2f s is the least.\n",
			b.keys, b.rate, len(calls), whole, calls[len(calls)-1].Sub(calls[0]).Seconds(), least)
		var g goals
		g.atMost("whole time beside the least", whole/least, 1.02, " x")
		g.atMost("calls in the fullest second, whenever it begins", float64(fullest(calls)), b.rate, "")
		b.goals(g)
		return nil
	})
}

// fullest is the most calls in any one second.
func fullest(calls []time.Time) int {
	most, first := 0, 0
	for last := range calls {
		for calls[last].Sub(calls[first]) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}
