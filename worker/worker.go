package worker

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"dingrecall/upstream"
)

// App is an app whose robots' messages are recalled.
type App struct {
	Name         string
	Credentials  upstream.Credentials
	Rate         float64  // calls a second over all workers; 0 = no limit
	MonthlyCalls int      // the budget, for what is told to operators; 0 = not known
	Robots       []string // robotCodes; "*" = all that no other app names
}

// Config is the worker's settings. See DefaultConfig for the defaults; the zero value is not usable.
type Config struct {
	Apps     []App
	Upstream upstream.Config

	Linger          time.Duration // how long fewer than 20 keys wait for company; urgent ones never do
	Window          time.Duration // within which a message can be recalled
	Margin          time.Duration // how long before its end a key counts as too late
	DeadRetention   time.Duration // of dead letters
	LedgerRetention time.Duration // how long "what became of key K" can be answered
	Slice           time.Duration // how long a dispatch task runs before it makes room for others
	BackoffBase     time.Duration
	BackoffMax      time.Duration
	ShutdownTimeout time.Duration

	Concurrency       int // dispatch tasks at once in this process
	IntakeConcurrency int // other tasks at once in this process
	MaxSlots          int // calls in flight of one app, over all workers
	MaxAttempts       int // calls that may fail before a key dies
	UnknownAttempts   int // the same for answers that nobody knows
	SplitAfter        int // failures in a row before a batch is split
}

// Deps is what a worker is given.
type Deps struct {
	Redis   redis.UniversalClient // stays the caller's
	Log     *zap.Logger           // nil: none
	Metrics prometheus.Registerer // nil: none
}

// Worker takes submissions in, calls the service and keeps the dead letters.
type Worker struct{}

// New checks the settings and wires a worker. It starts nothing.
func New(cfg Config, deps Deps) (*Worker, error) { return nil, errors.New("worker.New: under way") }

// Start starts the worker. A worker that failed to start has undone what it had begun.
func (w *Worker) Start(ctx context.Context) error { return nil }

// Stop ends the worker: no new batch is begun, calls in flight are finished and settled. It may be called more than once,
// and before Start.
func (w *Worker) Stop() {}

// Ready tells whether work can be done: Redis reachable, and for each app a token to be had.
func (w *Worker) Ready(ctx context.Context) error { return nil }
