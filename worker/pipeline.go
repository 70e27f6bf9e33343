package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker/internal/deadletter"
	"dingrecall/worker/internal/dispatch"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/intake"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/tokenstore"
)

// pace is by how much calls are spaced wider than the rate asks for, so that a call which is a few milliseconds late still
// keeps to the rate in every second.
const pace = 1.015

// pipeline is the stages and what connects them. This file is the one place that knows all of them; in the order of the data:
//
//	queue -> intake -> key store -> wakeups -> queue -> dispatch -> service
//	                       key store -> outbox -> drainer -> queue recall-dead -> deadletter -> key store
type pipeline struct {
	cfg      Config
	log      *zap.Logger
	metrics  *metrics
	rdb      redis.UniversalClient
	client   *upstream.Client
	queue    *enqueuer
	apps     map[string]*appState
	robots   map[string]string // robotCode -> app; "*" = any other
	wakeups  *wakeups
	drainer  *drainer
	intake   *intake.Intake
	dead     *deadletter.Handler
	dispatch *dispatch.Dispatcher
	stopping chan struct{}
}

// appState is what belongs to one app.
type appState struct {
	App
	store   *keystore.Store
	shared  *tokenstore.Store // behind tokens
	tokens  *upstream.Tokens
	latency *dispatch.Latency
}

func newPipeline(cfg Config, deps Deps) (*pipeline, error) {
	client, err := upstream.New(cfg.Upstream)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	m, err := newMetrics(deps.Metrics, cfg.Apps)
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("metrics: %w", err)
	}
	p := &pipeline{cfg: cfg, log: deps.Log, metrics: m, rdb: deps.Redis, client: client, queue: newEnqueuer(deps.Redis),
		apps: map[string]*appState{}, robots: map[string]string{}, stopping: make(chan struct{})}
	p.drainer = newDrainer(p.log, p.drain)
	p.wakeups = newWakeups(p.queue, p.log, p.drainer.ask, p.wake)
	for _, a := range cfg.Apps {
		if err := p.addApp(a); err != nil {
			client.Close()
			return nil, fmt.Errorf("app %q: %w", a.Name, err)
		}
	}
	p.intake = intake.New(intake.Deps{AppOf: p.intakeStore, After: p.wakeups.after, Bury: p.queue.bury, Observer: m, Now: p.now,
		Retention: cfg.DeadRetention})
	p.dead = deadletter.NewHandler(deadletter.Deps{AppOf: p.deadStore, After: p.wakeups.after, Resubmit: p.resubmit, Now: p.redisNow,
		Over: p.letterOver, Replayed: p.letterReplayed})
	p.dispatch, err = p.newDispatcher()
	if err != nil {
		client.Close()
		return nil, err
	}
	return p, nil
}

func (p *pipeline) newDispatcher() (*dispatch.Dispatcher, error) {
	apps := make([]*dispatch.App, 0, len(p.apps))
	for _, a := range p.apps {
		apps = append(apps, &dispatch.App{Name: a.Name, Store: a.store, Tokens: a.tokens, Limited: a.Rate > 0, Latency: a.latency, Zone: a.Zone})
	}
	policy := dispatch.Policy{MaxAttempts: p.cfg.MaxAttempts, UnknownAttempts: p.cfg.UnknownAttempts, SplitAfter: p.cfg.SplitAfter,
		BackoffBase: p.cfg.BackoffBase, BackoffMax: p.cfg.BackoffMax, Probe: p.cfg.ProbeBase}
	return dispatch.New(dispatch.Config{Policy: policy, Slice: p.cfg.Slice},
		dispatch.Deps{Service: p.client, Observer: p.metrics, Log: p.log, After: p.wakeups.after, Stopping: p.stopping}, apps)
}

// letterKeys is how many keys that died without a call share a dead letter at most; those of a call are 20 at most anyway.
const letterKeys = 200

// shanghai is where the month turns where nothing else is said.
var shanghai = time.FixedZone("Asia/Shanghai", 8*3600)

// register makes an app, and what others need to know of its settings, known to whoever inspects this Redis.
func (p *pipeline) register(ctx context.Context, a *appState) error {
	if err := a.store.Register(ctx); err != nil {
		return err
	}
	if err := a.store.Sync(ctx); err != nil {
		return err
	}
	return a.store.Tell(ctx, keystore.Settings{Rate: a.Rate, Slots: p.cfg.MaxSlots, Latency: a.latency.Average(), Calls: a.MonthlyCalls, Reserve: a.Reserve})
}

func (p *pipeline) addApp(a App) error {
	if a.Zone == nil {
		a.Zone = shanghai
	}
	s := &appState{App: a, latency: &dispatch.Latency{}}
	params := func() keystore.Params { return s.params(p.cfg) }
	if err := params().Validate(); err != nil {
		return err
	}
	s.store = keystore.New(p.rdb, a.Name, params, nil)
	if err := p.addTokens(s); err != nil {
		return err
	}
	for _, r := range a.Robots {
		if other, taken := p.robots[r]; taken {
			return fmt.Errorf("robot %q is app %q's already", r, other)
		}
		p.robots[r] = a.Name
	}
	p.apps[a.Name] = s
	return nil
}

// lease is asynq's, of a task: while it lasts by Redis's clock, its run is left alone.
const lease = 30 * time.Second

// A call that takes four times as long as usual, within these bounds, has another made in its place: its worker may be dead. Should it
// not be, there is one call more under way, within the rate.
const leastStuck, mostStuck = time.Second, 5 * time.Second

func (s *appState) params(cfg Config) keystore.Params {
	slots := s.latency.Slots(s.Rate, cfg.MaxSlots)
	p := keystore.Params{Slots: slots, SlotsCap: min(255, 2*slots+4), Linger: cfg.Linger, Life: (cfg.Window - cfg.Margin).Truncate(time.Second),
		LedgerTTL: cfg.LedgerRetention, Admit: cfg.AdmitAtOnce, Letter: letterKeys, ProbeMax: cfg.ProbeMax}
	p.Lease, p.Stuck = lease, min(mostStuck, max(leastStuck, 4*s.latency.Average()))
	p.Budget = keystore.Budget{Zone: s.Zone, Calls: s.MonthlyCalls, Reserve: s.Reserve}
	if s.Rate > 0 {
		p.Interval = time.Duration(pace * float64(time.Second) / s.Rate)
	}
	return p
}

// appOf gives the app that takes a robot.
func (p *pipeline) appOf(robotCode string) (*appState, bool) {
	name, ok := p.robots[robotCode]
	if !ok || robotCode == AnyRobot {
		name, ok = p.robots[AnyRobot]
	}
	return p.apps[name], ok
}

func (p *pipeline) intakeStore(robotCode string) (string, intake.Store, bool) {
	if a, ok := p.appOf(robotCode); ok {
		return a.Name, a.store, true
	}
	return "", nil, false
}

func (p *pipeline) deadStore(robotCode string) (string, deadletter.Store, bool) {
	if a, ok := p.appOf(robotCode); ok {
		return a.Name, a.store, true
	}
	return "", nil, false
}

// now gives Redis's clock, which is the same for all workers: one whose own is wrong must not take what was just sent for something of the
// future.
func (p *pipeline) now() time.Time { return p.apps[p.cfg.Apps[0].Name].store.Now() }

func (p *pipeline) redisNow(ctx context.Context) (time.Time, error) { return p.rdb.Time(ctx).Result() }

// wake runs the key store's wake-up for an app and does what it asks for.
func (p *pipeline) wake(ctx context.Context, app string) error {
	a := p.apps[app]
	if a == nil {
		return nil // another worker's app
	}
	r, err := a.store.Wake(ctx)
	if err != nil {
		return err
	}
	return p.wakeups.after(ctx, app, r)
}

func (p *pipeline) drain(ctx context.Context, app string) error {
	a := p.apps[app]
	if a == nil {
		return nil
	}
	n, err := deadletter.Drain(ctx, app, a.store, p.queue.bury, p.cfg.DeadRetention)
	p.metrics.deadMoved.WithLabelValues(app).Add(float64(n))
	return err
}

func (p *pipeline) resubmit(ctx context.Context, taskID string, class tasks.Class, payload []byte) error {
	return p.intake.Submit(ctx, intake.Task{ID: taskID, Type: tasks.TypeSubmit, Queue: tasks.QueueDead, Class: class, Payload: payload})
}

func (p *pipeline) letterOver(l tasks.DeadLetter) {
	p.metrics.overdue.Inc()
	p.log.Info("the retention of a dead letter is over", zap.String("app", l.App), zap.String("code", l.Code), zap.Int("keys", len(l.Keys)))
}

func (p *pipeline) letterReplayed(l tasks.DeadLetter, revived int) {
	p.metrics.replays.Inc()
	p.log.Info("a dead letter was replayed", zap.String("app", l.App), zap.String("code", l.Code), zap.Int("keys", len(l.Keys)), zap.Int("waiting_again", revived))
}

// handlers maps task types to stages. Whatever else is found in a queue is buried, never left to run into the archive.
func (p *pipeline) handlers() asynq.Handler {
	return asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		switch t.Type() {
		case tasks.TypeDispatch:
			return p.runDispatch(ctx, t)
		case tasks.TypeAlarm:
			return p.runAlarm(ctx, t)
		case tasks.TypeReconcile:
			return p.runReconcile(ctx)
		case tasks.TypeDead:
			return p.dead.Run(ctx, taskID(ctx), t.Payload())
		}
		queue, _ := asynq.GetQueueName(ctx)
		class, ok := tasks.ClassOfQueue(queue)
		if !ok {
			class = tasks.ClassDefault
		}
		return p.intake.Submit(ctx, intake.Task{ID: taskID(ctx), Type: t.Type(), Queue: queue, Class: class, Payload: t.Payload()})
	})
}

func taskID(ctx context.Context) string {
	id, _ := asynq.GetTaskID(ctx)
	return id
}

func (p *pipeline) runDispatch(ctx context.Context, t *asynq.Task) error {
	d, err := tasks.DecodeDispatch(t.Payload())
	if err != nil {
		p.log.Warn("a dispatch task that cannot be read is dropped; the reconcile makes the ones that are owed", zap.Error(err))
		return nil
	}
	retry, _ := asynq.GetRetryCount(ctx)
	return p.dispatch.Run(ctx, d.App, d.Slot, d.Generation, retry)
}

func (p *pipeline) runAlarm(ctx context.Context, t *asynq.Task) error {
	a, err := tasks.DecodeAlarm(t.Payload())
	if err != nil {
		p.log.Warn("an alarm that cannot be read is dropped; the reconcile looks anyway", zap.Error(err))
		return nil
	}
	if p.apps[a.App] == nil {
		return &flow.Later{Delay: time.Minute, Err: fmt.Errorf("app %q is not in this worker's configuration", a.App)}
	}
	if err := p.wake(ctx, a.App); err != nil {
		return &flow.Later{Delay: 2 * time.Second, Err: err}
	}
	return nil
}
