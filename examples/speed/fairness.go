package main

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"dingrecall/worker"
)

const (
	fewKeys    = 100
	manyRobots = 2000
)

// fairness measures what many keys do to few: of another robot, and of another app.
func fairness(ctx context.Context, b *bench) error {
	var g goals
	err := b.with(0, func(svc *service) error {
		if err := b.besideRobot(ctx, svc, &g); err != nil {
			return err
		}
		return b.besideApp(ctx, svc, &g)
	})
	if err != nil {
		return err
	}
	b.goals(g)
	return nil
}

// filled is a program where so many keys wait, and no worker runs.
func (b *bench) filled(ctx context.Context, svc *service, keys int, codes []string, apps ...worker.App) (*program, error) {
	p, err := begin(ctx, b.srv, svc, apps...)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if err := p.pause(ctx); err != nil {
		return nil, err
	}
	if err := p.submit(ctx, 0, keys, codes); err != nil {
		return nil, err
	}
	return p, p.accepted(ctx, keys)
}

func (b *bench) besideRobot(ctx context.Context, svc *service, g *goals) error {
	p, err := b.filled(ctx, svc, b.fill, robotCodes("many", 1), anyRobot("speed", 20))
	if err != nil {
		return err
	}
	if err := p.resume(); err != nil {
		return err
	}
	b.printf("\nOne robot with %d keys that wait; %d keys of another robot of the app are submitted meanwhile:\n\n", b.fill, fewKeys)
	for i, c := range []struct {
		what string
		rate float64
	}{{"20 calls a second", 20}, {"no limit", 0}} {
		took, err := p.few(ctx, i, c.rate)
		if err != nil {
			return err
		}
		b.printf("- %s: done after %.2f s.\n", c.what, took.Seconds())
		g.atMost("few keys beside many, same app, "+c.what, took.Seconds(), 5, " s")
	}
	return nil
}

// few runs a worker, has it recall a few keys of one more robot, and tells how long that took.
func (p *program) few(ctx context.Context, n int, rate float64) (time.Duration, error) {
	before := p.svc.calls.Load()
	if err := p.work(ctx, anyRobot("speed", rate)); err != nil {
		return 0, err
	}
	defer p.stop()
	if err := until(ctx, "the many keys are being recalled", func() bool { return p.svc.calls.Load() >= before+20 }); err != nil {
		return 0, err
	}
	code := robotCodes("few", n+1)[n]
	var came, last atomic.Int64
	watch := func(robot string, keys int, at time.Time) {
		if robot == code {
			last.Store(at.UnixNano())
			came.Add(int64(keys))
		}
	}
	p.svc.watch.Store(&watch)
	began := time.Now()
	if err := p.submit(ctx, 1<<40+n*fewKeys, fewKeys, []string{code}); err != nil {
		return 0, err
	}
	if err := until(ctx, "the few keys are recalled", func() bool { return came.Load() >= fewKeys }); err != nil {
		return 0, err
	}
	return time.Unix(0, last.Load()).Sub(began), nil
}

func (b *bench) besideApp(ctx context.Context, svc *service, g *goals) error {
	codes := robotCodes("busy", manyRobots)
	apps := []worker.App{{Name: "busy", Robots: codes, Rate: 20}, anyRobot("quiet", 20)}
	keys := 2 * b.fill
	p, err := b.filled(ctx, svc, keys, codes, apps...)
	if err != nil {
		return err
	}
	if err := p.resume(); err != nil {
		return err
	}
	if err := p.work(ctx, apps...); err != nil {
		return err
	}
	defer p.stop()
	before := svc.calls.Load()
	if err := until(ctx, "the busy app is at work", func() bool { return svc.calls.Load() >= before+40 }); err != nil {
		return err
	}
	took, err := p.urgent(ctx, nil)
	if err != nil {
		return err
	}
	st, err := p.tell.Status(ctx)
	if err != nil {
		return err
	}
	for _, a := range st.Apps {
		if strings.HasPrefix(a.App, "busy") {
			b.printf("\nAn app at its 20 calls a second, with %d robots and %d keys, of which %d still waited at the end:\n",
				manyRobots, keys, a.Total.Waiting)
		}
	}
	b.within(g, "a lone urgent key of another app", took, 200*time.Millisecond)
	return nil
}
