package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dingrecall/tasks"
	"dingrecall/worker"
)

const (
	urgentSamples = 300
	bulkSamples   = 30
	busyKeys      = 400_000
)

// latency measures how soon a lone key reaches the service.
func latency(ctx context.Context, b *bench) error {
	var g goals
	err := b.with(0, func(svc *service) error {
		p, err := begin(ctx, b.srv, svc, anyRobot("speed", 0))
		if err != nil {
			return err
		}
		took, err := p.urgent(ctx, nil)
		if err == nil {
			b.within(&g, "a lone urgent key, nothing else to do", took, 50*time.Millisecond)
			took, err = p.bulk(ctx)
		}
		p.stop()
		if err != nil {
			return err
		}
		b.within(&g, "a lone bulk key, each of a robot of its own", took, worker.DefaultConfig().Linger+200*time.Millisecond)
		return b.beside(ctx, svc)
	})
	if err != nil {
		return err
	}
	b.goals(g)
	return nil
}

// beside measures urgent keys while another app recalls as much as this machine can.
func (b *bench) beside(ctx context.Context, svc *service) error {
	codes := robotCodes("busy", 10)
	p, err := begin(ctx, b.srv, svc, worker.App{Name: "busy", Robots: codes}, anyRobot("quiet", 0))
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.submit(ctx, 0, busyKeys, codes, tasks.WithClass(tasks.ClassBulk)); err != nil {
		return err
	}
	if err := until(ctx, "the other app is busy", func() bool { return svc.calls.Load() > 100 }); err != nil {
		return err
	}
	took, err := p.urgent(ctx, func() bool { return svc.keys.Load() < busyKeys*9/10 })
	if err != nil {
		return err
	}
	b.tell("a lone urgent key, another app without a limit keeps all processors busy", took) // it is not alone: no goal is set
	return nil
}

// urgent submits lone urgent keys one after the other, as long as a condition holds, and tells how long each took to the service.
func (p *program) urgent(ctx context.Context, while func() bool) ([]time.Duration, error) {
	var took []time.Duration
	came := make(chan time.Time, 1)
	watch := func(robot string, _ int, at time.Time) {
		if strings.HasPrefix(robot, "dinglone") {
			came <- at
		}
	}
	p.svc.watch.Store(&watch)
	for i := range urgentSamples + 5 {
		if while != nil && !while() {
			break
		}
		began := time.Now()
		if _, err := p.client.Recall(ctx, "dinglone0000001", []string{key(1<<40 + i)}, tasks.WithClass(tasks.ClassUrgent)); err != nil {
			return nil, err
		}
		select {
		case at := <-came:
			if i >= 5 { // the first ones open connections
				took = append(took, at.Sub(began))
			}
		case <-time.After(30 * time.Second):
			return nil, fmt.Errorf("urgent key %d did not come in 30 s", i)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if len(took) == 0 {
		return nil, fmt.Errorf("no urgent key was measured")
	}
	return took, nil
}

// bulk submits a lone bulk key for each of some robots, and tells how long each took to the service.
func (p *program) bulk(ctx context.Context) ([]time.Duration, error) {
	codes := robotCodes("lone", bulkSamples)
	var mu sync.Mutex
	came := map[string]time.Time{}
	watch := func(robot string, _ int, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := came[robot]; !ok {
			came[robot] = at
		}
	}
	p.svc.watch.Store(&watch)
	sent := map[string]time.Time{}
	for i, code := range codes {
		sent[code] = time.Now()
		if _, err := p.client.Recall(ctx, code, []string{key(1<<41 + i)}, tasks.WithClass(tasks.ClassBulk)); err != nil {
			return nil, err
		}
	}
	err := until(ctx, "all lone bulk keys came", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(came) == len(codes)
	})
	var took []time.Duration
	for code, at := range came {
		took = append(took, at.Sub(sent[code]))
	}
	return took, err
}

// within prints how long keys took, and adds the goal for the slowest of a hundred.
func (b *bench) within(g *goals, what string, took []time.Duration, want time.Duration) {
	g.atMost("p99, "+what, b.tell(what, took), float64(want.Milliseconds()), " ms")
}

// tell prints how long keys took, and gives the 99th percentile, ms.
func (b *bench) tell(what string, took []time.Duration) (p99 float64) {
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[min(len(took)-1, int(q*float64(len(took))))].Microseconds()) / 1000
	}
	b.printf("\n%s, %d of them: p50 %.1f ms, p99 %.1f ms, longest %.1f ms.\n", what, len(took), at(0.5), at(0.99), at(1))
	return at(0.99)
}
