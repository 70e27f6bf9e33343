package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"dingrecall/upstream"
)

// AnyRobot in App.Robots stands for all robots that no other app names.
const AnyRobot = "*"

// App is an app whose robots' messages are recalled.
type App struct {
	Name         string
	Credentials  upstream.Credentials
	Rate         float64        // calls a second over all workers; 0 = no limit
	MonthlyCalls int            // the budget: calls in a calendar month over all workers; 0 = no limit, calls are counted all the same
	Reserve      int            // of MonthlyCalls, those that are kept for urgent keys
	Zone         *time.Location // in which the month turns; nil = Asia/Shanghai
	Robots       []string       // robotCodes; AnyRobot = all that no other app names
}

// Config is the worker's settings. See DefaultConfig for the defaults; the zero value is not usable.
type Config struct {
	Apps     []App
	Upstream upstream.Config
	// TokenKey encrypts the access tokens that workers share in Redis, with AES-256: 32 bytes, or empty for no encryption.
	TokenKey upstream.Secret

	Linger          time.Duration // how long fewer than 20 keys wait for company; urgent ones never do
	Window          time.Duration // within which a message can be recalled
	Margin          time.Duration // how long before its end a key counts as too late
	DeadRetention   time.Duration // of dead letters
	LedgerRetention time.Duration // how long "what became of key K" can be answered
	Slice           time.Duration // how long a dispatch task runs before it makes room for others
	BackoffBase     time.Duration
	BackoffMax      time.Duration
	ProbeBase       time.Duration // until the first call that is spent on a held app or robot; doubles
	ProbeMax        time.Duration // at most
	ShutdownTimeout time.Duration // for the calls in flight at the end

	Concurrency       int // dispatch tasks at once in this process
	IntakeConcurrency int // other tasks at once in this process
	AdmitAtOnce       int // keys that Redis takes in as one step, in which it does nothing else; 0 = 200, the most
	MaxSlots          int // calls in flight of one app, over all workers
	MaxAttempts       int // calls that may fail before a key dies
	UnknownAttempts   int // the same for answers that nobody knows
	SplitAfter        int // failures in a row before a batch is split
}

// DefaultConfig gives the defaults; apps and upstream are the caller's to fill in.
func DefaultConfig() Config {
	return Config{
		Linger: time.Second, Window: 24 * time.Hour, Margin: 2 * time.Minute, DeadRetention: 90 * 24 * time.Hour,
		LedgerRetention: 7 * 24 * time.Hour, Slice: 3 * time.Second, BackoffBase: time.Second, BackoffMax: time.Minute,
		ProbeBase: time.Minute, ProbeMax: 30 * time.Minute,
		ShutdownTimeout: 25 * time.Second, Concurrency: 64, IntakeConcurrency: 8, MaxSlots: 48, MaxAttempts: 10,
		UnknownAttempts: 3, SplitAfter: 3,
	}
}

// Validate tells all that is wrong with the settings.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(c.Apps) > 0, "there is no app: configure one, or nothing can be recalled")
	names := map[string]bool{}
	for _, a := range c.Apps {
		check(a.Name != "" && !names[a.Name], "app names must be there and different: %q", a.Name)
		check(a.Rate >= 0, "app %q: a rate cannot be negative: %v", a.Name, a.Rate)
		check(a.MonthlyCalls >= 0 && a.Reserve >= 0 && a.Reserve <= a.MonthlyCalls, "app %q: the reserve (%d) must be part of the month's calls (%d)", a.Name,
			a.Reserve, a.MonthlyCalls)
		names[a.Name] = true
	}
	check(c.Linger >= 0, "linger cannot be negative: %v", c.Linger)
	check(c.Margin >= 0 && c.Window > c.Margin, "the margin (%v) must be less than the window (%v)", c.Margin, c.Window)
	check(c.DeadRetention > 0, "dead letters need a retention: %v", c.DeadRetention)
	check(c.Concurrency > 0 && c.IntakeConcurrency > 0, "at least one handler of each kind is needed: %d, %d", c.Concurrency, c.IntakeConcurrency)
	check(c.MaxSlots >= 1 && c.MaxSlots <= 120, "slots must be 1 to 120: %d", c.MaxSlots)
	check(c.ProbeBase >= time.Second && c.ProbeMax >= c.ProbeBase, "probes must be a second apart at least: %v, at most %v", c.ProbeBase, c.ProbeMax)
	check(c.ShutdownTimeout > 0, "the shutdown timeout must be positive: %v", c.ShutdownTimeout)
	return errors.Join(errs...)
}

// Deps is what a worker is given.
type Deps struct {
	Redis   redis.UniversalClient // stays the caller's
	Log     *zap.Logger           // nil: none
	Metrics prometheus.Registerer // nil: none
}

// Worker takes submissions in, calls the service and keeps the dead letters. It is a value: New wires it, Start launches it,
// Stop ends it; a test and the command run the same object.
type Worker struct {
	p          *pipeline
	log        *zap.Logger
	intake     *asynq.Server
	dispatch   *asynq.Server
	metronomes []*metronome

	mu      sync.Mutex // guards started, stopped
	started bool
	stopped bool
}

// New checks the settings and wires a worker. It starts nothing and asks nobody.
func New(cfg Config, deps Deps) (*Worker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Redis == nil {
		return nil, errors.New("a worker needs a Redis")
	}
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	p, err := newPipeline(cfg, deps)
	if err != nil {
		return nil, err
	}
	w := &Worker{p: p, log: deps.Log}
	w.intake = newServer(deps.Redis, deps.Log, cfg.IntakeConcurrency, cfg.ShutdownTimeout, intakeQueues())
	w.dispatch = newServer(deps.Redis, deps.Log, cfg.Concurrency, cfg.ShutdownTimeout, dispatchQueues())
	w.metronomes = []*metronome{
		newMetronome(deps.Log, "the reconcile could not be enqueued", reconcileEvery, p.beat),
		newMetronome(deps.Log, "tasks of dead workers could not be looked for", watchEvery, newOrphans(p).watch),
		newMetronome(deps.Log, "calls that hang could not be looked for", stallEvery, p.unstall),
	}
	return w, nil
}

// Start starts the worker. A worker that failed to start has undone what it had begun. ctx bounds the start alone.
func (w *Worker) Start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started || w.stopped {
		return errors.New("a worker is started once")
	}
	for _, a := range w.p.apps {
		if err := w.p.register(ctx, a); err != nil {
			return err
		}
	}
	if err := w.p.forgetTokenFailures(ctx); err != nil {
		return err
	}
	w.started = true
	w.p.drainer.start()
	if err := w.dispatch.Start(w.p.handlers()); err != nil {
		w.stop()
		return fmt.Errorf("start dispatch: %w", err)
	}
	if err := w.intake.Start(w.p.handlers()); err != nil {
		w.stop()
		return fmt.Errorf("start intake: %w", err)
	}
	for _, m := range w.metronomes {
		m.start()
	}
	return nil
}

// Stop ends the worker: no new batch is begun, calls in flight are finished and settled, and what they left is handed on. It
// may be called more than once, and before Start.
func (w *Worker) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop()
}

// stop ends the stages in the order of the data, the recorder of results last. w.mu is held.
func (w *Worker) stop() {
	if w.stopped {
		return
	}
	w.stopped = true
	for _, m := range w.metronomes {
		m.stop()
	}
	close(w.p.stopping)
	if w.started {
		var both sync.WaitGroup
		both.Go(w.intake.Shutdown)
		both.Go(w.dispatch.Shutdown)
		both.Wait()
	}
	w.p.wakeups.stop()
	w.p.drainer.stop()
	w.p.client.Close()
}

// Ready tells whether work can be done: Redis reachable, and for each app a token to be had.
func (w *Worker) Ready(ctx context.Context) error {
	if err := w.p.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	var errs []error
	for _, a := range w.p.apps {
		if _, err := a.tokens.Get(ctx); err != nil {
			errs = append(errs, fmt.Errorf("app %q: %w", a.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Calls gives how many calls this process has made.
func (w *Worker) Calls() int64 { return w.p.metrics.made.Load() }
