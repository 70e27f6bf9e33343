package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/intake"
	"dingrecall/worker/internal/keystore"
)

const (
	// watchEvery is how often every worker looks for tasks whose worker is gone.
	watchEvery = 2 * time.Second
	// goneAfter is how long nobody may have owned a task before it is taken over. A worker tells asynq every 5 s what it works on. That
	// is kept for 10 s, and the lease of its tasks for 30 s: so whoever has not been heard of for these 10 s and 22 more has lost its
	// lease by its own clock too, and has let go of the task, unless it was stopped; then fencing keeps its late result out.
	goneAfter = 22 * time.Second
)

// orphans finds tasks that are active while no worker says that it works on them. asynq does that too, by the time of its leases,
// but a minute or two later. What is compared here is how long this process has seen a task without an owner, look by look, so
// that no clock but its own steady one is trusted: a worker whose clock jumps neither loses its tasks nor keeps others' from being
// found.
type orphans struct {
	look  func(ctx context.Context) (active []*asynq.TaskInfo, owned map[string]bool, err error)
	adopt func(ctx context.Context, t *asynq.TaskInfo) error
	now   func() time.Time

	last time.Time             // of the last look that succeeded
	seen map[string]*ownerless // by queue and id
}

// ownerless is a task that nobody owns.
type ownerless struct {
	since   time.Time
	adopted bool
}

// watch looks once. A look that failed, or that comes late, forgets what was seen before: workers could not be heard then.
func (o *orphans) watch(ctx context.Context) error {
	active, owned, err := o.look(ctx)
	now := o.now()
	if err != nil || now.Sub(o.last) > 3*watchEvery {
		o.seen = nil
	}
	if err != nil {
		return err
	}
	o.last = now
	seen := map[string]*ownerless{}
	var errs []error
	for _, t := range active {
		id := t.Queue + "/" + t.ID
		if owned[id] {
			continue
		}
		s := o.seen[id]
		if s == nil {
			s = &ownerless{since: now}
		}
		seen[id] = s
		if err := o.act(ctx, t, s, now); err != nil {
			errs = append(errs, fmt.Errorf("take over task %s: %w", t.ID, err))
		}
	}
	o.seen = seen
	return errors.Join(errs...)
}

// act takes over a task that nobody has owned for long enough, once.
func (o *orphans) act(ctx context.Context, t *asynq.TaskInfo, s *ownerless, now time.Time) error {
	if s.adopted || now.Sub(s.since) < goneAfter {
		return nil
	}
	if err := o.adopt(ctx, t); err != nil {
		return err
	}
	s.adopted = true
	return nil
}

func newOrphans(p *pipeline) *orphans {
	insp := asynq.NewInspectorFromRedisClient(p.rdb)
	return &orphans{look: func(context.Context) ([]*asynq.TaskInfo, map[string]bool, error) { return lookForOwners(insp) },
		adopt: p.adopt, now: time.Now}
}

// lookForOwners gives the active tasks of all our queues, and which of them some worker says it works on. The tasks are read first:
// one that is finished and begun anew in between has an owner in any case.
func lookForOwners(insp *asynq.Inspector) (active []*asynq.TaskInfo, owned map[string]bool, err error) {
	const page = 500
	for _, queue := range tasks.Queues() {
		for n := 1; ; n++ {
			infos, err := insp.ListActiveTasks(queue, asynq.PageSize(page), asynq.Page(n))
			if errors.Is(err, asynq.ErrQueueNotFound) {
				break
			}
			if err != nil {
				return nil, nil, fmt.Errorf("list the active tasks of %s: %w", queue, err)
			}
			active = append(active, infos...)
			if len(infos) < page {
				break
			}
		}
	}
	if len(active) == 0 {
		return nil, nil, nil
	}
	servers, err := insp.Servers()
	if err != nil {
		return nil, nil, fmt.Errorf("list the workers: %w", err)
	}
	owned = map[string]bool{}
	for _, s := range servers {
		for _, w := range s.ActiveWorkers {
			owned[w.Queue+"/"+w.TaskID] = true
		}
	}
	return active, owned, nil
}

// adopt does what a task of a dead worker is for, so that nobody waits until asynq finds it. asynq runs the task once more when it
// does: a dispatch is stale then, and the keys of a submission are known.
func (p *pipeline) adopt(ctx context.Context, t *asynq.TaskInfo) error {
	switch t.Type {
	case tasks.TypeDispatch:
		return p.adoptDispatch(ctx, t)
	case tasks.TypeSubmit:
		class, ok := tasks.ClassOfQueue(t.Queue)
		if !ok {
			class = tasks.ClassDefault
		}
		if err := p.intake.Submit(ctx, intake.Task{ID: t.ID, Type: t.Type, Queue: t.Queue, Class: class, Payload: t.Payload}); err != nil {
			return err
		}
		p.tookOver(t)
	}
	return nil // alarms and reconciles come again by themselves; a replay is asked for again by asynq
}

// stallEvery is how often every worker looks for apps whose calls hang while keys wait.
const stallEvery = 500 * time.Millisecond

// unstall wakes slots of the apps whose calls go on for longer than they should. Their worker may be dead: its slots are taken over
// later, but the keys that wait behind them need not.
func (p *pipeline) unstall(ctx context.Context) error {
	var errs []error
	for _, a := range p.apps {
		stalled, err := a.store.Stalled(ctx)
		if err == nil && stalled {
			err = p.wake(ctx, a.Name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *pipeline) adoptDispatch(ctx context.Context, t *asynq.TaskInfo) error {
	d, err := tasks.DecodeDispatch(t.Payload)
	if err != nil {
		return nil //nolint:nilerr // no task of ours: asynq gives it to a worker, who says so
	}
	a := p.apps[d.App]
	if a == nil {
		return nil // another worker's app
	}
	run, err := a.store.RunOf(ctx, d.Slot)
	if err != nil {
		return err
	}
	if run.Generation != d.Generation {
		return nil // the slot has gone on since
	}
	r, err := a.store.Takeover(ctx, flow.SlotRun{Slot: d.Slot, Generation: d.Generation, Run: run.Run})
	if err != nil {
		return err
	}
	if r.Status == keystore.StatusDue {
		p.tookOver(t)
	}
	return p.wakeups.after(ctx, d.App, r)
}

func (p *pipeline) tookOver(t *asynq.TaskInfo) {
	p.metrics.takenOver.Inc()
	p.log.Warn("a worker is gone: its task was taken over", zap.String("queue", t.Queue), zap.String("task", t.ID))
}
