package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/intake"
)

// steps are the steps that may fail and are tried again, as labels.
var steps = []string{"wake", "slots", "outbox", "archive", "register", "outlook"}

// runReconcile puts right what a crash or an operator left behind: it looks for keys whose moment has come, enqueues the task of
// every slot that is not idle, drains the outboxes, and brings archived tasks back to work.
func (p *pipeline) runReconcile(ctx context.Context) error {
	var errs []error
	step := func(name string, err error) {
		if err != nil {
			p.metrics.failedStep.WithLabelValues(name).Inc()
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	step("archive", p.rescue(ctx)) // first: a slot whose task is archived gets no other, since the id is taken
	for _, a := range p.apps {
		step("register", p.register(ctx, a))
		step("wake", p.wake(ctx, a.Name))
		step("slots", p.reviveSlots(ctx, a))
		step("outbox", p.drain(ctx, a.Name))
		step("outlook", p.outlook(ctx, a))
	}
	if len(errs) > 0 {
		return &flow.Later{Delay: 5 * time.Second, Err: errors.Join(errs...)}
	}
	return nil
}

// reviveSlots enqueues the task of every slot that is not idle: nothing happens where it exists.
func (p *pipeline) reviveSlots(ctx context.Context, a *appState) error {
	slots, err := a.store.BusySlots(ctx)
	if err != nil {
		return err
	}
	for _, s := range slots {
		t, opts := tasks.NewDispatchTask(tasks.Dispatch{App: a.Name, Slot: s.Slot, Generation: s.Generation})
		if err := p.queue.put(ctx, t, opts); err != nil {
			return err
		}
	}
	return nil
}

const rescuePage = 200

// rescue brings archived tasks back: asynq's archive keeps 9,999 and silently drops the others, so nothing may stay there.
func (p *pipeline) rescue(ctx context.Context) error {
	insp := asynq.NewInspectorFromRedisClient(p.rdb)
	for _, queue := range tasks.Queues() {
		if err := p.rescueQueue(ctx, insp, queue); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (p *pipeline) rescueQueue(ctx context.Context, insp *asynq.Inspector, queue string) error {
	for ctx.Err() == nil {
		infos, err := insp.ListArchivedTasks(queue, asynq.PageSize(rescuePage))
		if errors.Is(err, asynq.ErrQueueNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the archive of %s: %w", queue, err)
		}
		rescued := 0
		for _, info := range infos {
			if info.ID == "" {
				continue // an entry of the list whose task is gone
			}
			if err := p.rescueTask(ctx, insp, info); err != nil {
				return fmt.Errorf("rescue task %s of %s: %w", info.ID, queue, err)
			}
			p.metrics.rescued.Inc()
			rescued++
		}
		if rescued > 0 {
			p.log.Warn("archived tasks were brought back: the archive drops tasks without a word, do not put any there",
				zap.String("queue", queue), zap.Int("tasks", rescued))
		}
		if len(infos) < rescuePage || rescued == 0 {
			return nil
		}
	}
	return nil
}

// rescueTask does what an archived task is for and then removes it. It does not run the task again: one that is archived
// because its deadline has passed, or its retries are used up, would only come back.
func (p *pipeline) rescueTask(ctx context.Context, insp *asynq.Inspector, info *asynq.TaskInfo) error {
	var err error
	switch info.Type { // in whatever queue it is: a producer may have chosen a wrong one
	case tasks.TypeDead:
		err = p.rescheduleLetter(ctx, info)
	case tasks.TypeDispatch, tasks.TypeAlarm, tasks.TypeReconcile:
		// Slots and alarms are made anew from the key store, which knows what is owed.
	default:
		class, ok := tasks.ClassOfQueue(info.Queue)
		if !ok {
			class = tasks.ClassDefault
		}
		err = p.intake.Submit(ctx, intake.Task{ID: info.ID, Type: info.Type, Queue: info.Queue, Class: class, Payload: info.Payload})
	}
	if err != nil {
		return err
	}
	err = insp.DeleteTask(info.Queue, info.ID)
	if errors.Is(err, asynq.ErrTaskNotFound) {
		return nil // another worker, or an operator, was faster
	}
	return err
}

// rescheduleLetter puts a dead letter back under another id, because its own is taken until it is removed. Should both exist
// for a moment, a replay of both is one: they name the same batch.
func (p *pipeline) rescheduleLetter(ctx context.Context, info *asynq.TaskInfo) error {
	l, err := tasks.DecodeDeadLetter(info.Payload)
	if err != nil {
		// Not ours, so nothing can be said of it but that it was here: it is kept as what could not be read.
		return p.intake.Submit(ctx, intake.Task{ID: info.ID, Type: info.Type, Queue: info.Queue, Class: tasks.ClassDefault, Payload: info.Payload})
	}
	const mark = ":again"
	id := info.ID + mark
	if strings.HasSuffix(info.ID, mark) {
		id = strings.TrimSuffix(info.ID, mark)
	}
	return p.queue.bury(ctx, l, id)
}

// beat enqueues the reconcile task. One that somebody archived still has its id, and nothing but the reconcile brings archived
// tasks back: it is removed first.
func (p *pipeline) beat(ctx context.Context) error {
	insp := asynq.NewInspectorFromRedisClient(p.rdb)
	info, err := insp.GetTaskInfo(tasks.QueueDefault, tasks.ReconcileTaskID)
	if err == nil && info.State == asynq.TaskStateArchived {
		err = insp.DeleteTask(tasks.QueueDefault, tasks.ReconcileTaskID)
	}
	if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound) {
		return fmt.Errorf("look for an archived reconcile task: %w", err)
	}
	t, opts := tasks.NewReconcileTask()
	return p.queue.put(ctx, t, opts)
}

// reconcileEvery is how often the reconcile task is enqueued. Every worker does it; the task's id makes it one.
const reconcileEvery = 30 * time.Second

// metronome does something at once and then periodically. Of failures in a row it tells the first.
type metronome struct {
	beat  func(ctx context.Context) error
	what  string // for the log, should it fail
	log   *zap.Logger
	every time.Duration
	quit  chan struct{}
	once  sync.Once

	mu    sync.Mutex
	ended chan struct{} // nil until started; guarded by mu
}

func newMetronome(log *zap.Logger, what string, every time.Duration, beat func(ctx context.Context) error) *metronome {
	return &metronome{beat: beat, what: what, log: log, every: every, quit: make(chan struct{})}
}

// start may be called more than once; after stop it does nothing.
func (m *metronome) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended == nil {
		m.ended = make(chan struct{})
		go m.loop(m.ended)
	}
}

func (m *metronome) loop(ended chan struct{}) {
	defer close(ended)
	tick := time.NewTicker(m.every)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-m.quit:
			return
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := m.beat(ctx)
		cancel()
		if err != nil && !failing {
			m.log.Warn(m.what+"; it is tried again", zap.Duration("every", m.every), zap.Error(err))
		}
		failing = err != nil
		select {
		case <-m.quit:
			return
		case <-tick.C:
		}
	}
}

// stop may be called more than once, and before start.
func (m *metronome) stop() {
	m.once.Do(func() { close(m.quit) })
	m.mu.Lock()
	ended := m.ended
	m.mu.Unlock()
	if ended != nil {
		<-ended
	}
}
