package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

// Service is the one call that dispatch makes of the service.
type Service interface {
	Recall(ctx context.Context, token string, to upstream.Target, keys []string) (upstream.Answer, error)
}

// Tokens hands out the app's access token.
type Tokens interface {
	Get(ctx context.Context) (string, error)
	Renew(ctx context.Context, stale string) (string, error)
}

// Observer is told what happens, for logs and metrics. Its methods must not block.
type Observer interface {
	// Called is told of every call, answered or not.
	Called(app string, scope upstream.Scope, keys int, took time.Duration)
	// Settled is told how many keys of a call reached which end.
	Settled(app string, recalled, dead int)
}

// App is an app whose slots are run.
type App struct {
	Name    string
	Store   *keystore.Store
	Tokens  Tokens
	Limited bool // the app has a rate: a permit that was missed is not used late
	Latency *Latency
	robots  robots
	Zone    *time.Location // in which the month of its budget turns; nil: Asia/Shanghai

	// stopped is when a settle last said that the app rests or is held: permits given before are not used.
	stopped atomic.Pointer[time.Time]
	// told is what this process's log last said of the app's holds.
	told       atomic.Int32
	lore       lore
	unanswered unanswered
	trouble    trouble
}

// passed says whether the app was told to stop since a permit was given: then the call would most likely be refused.
func (a *App) passed(given time.Time) bool {
	at := a.stopped.Load()
	return at != nil && at.After(given)
}

// Config is the settings of a Dispatcher.
type Config struct {
	Policy Policy
	Slice  time.Duration // for how long a run goes on before it makes room for others
}

// Deps is what a Dispatcher is given.
type Deps struct {
	Service  Service
	Observer Observer
	Log      *zap.Logger
	// After does what a reply of the key store asks for: enqueues due slots, sets alarms. It is called after each script.
	After func(ctx context.Context, app string, r *keystore.Reply) error
	// Stopping is closed when no new batch is to be begun.
	Stopping <-chan struct{}
}

// Dispatcher runs slots. It is safe for concurrent use.
type Dispatcher struct {
	cfg  Config
	deps Deps
	apps map[string]*App
}

// New makes a dispatcher for some apps.
func New(cfg Config, deps Deps, apps []*App) (*Dispatcher, error) {
	if err := cfg.Policy.Validate(); err != nil {
		return nil, err
	}
	if cfg.Slice <= 0 {
		return nil, fmt.Errorf("the time slice of a run must be positive: %v", cfg.Slice)
	}
	d := &Dispatcher{cfg: cfg, deps: deps, apps: map[string]*App{}}
	for _, a := range apps {
		d.apps[a.Name] = a
	}
	return d, nil
}

const (
	// soon is when a task comes back that could not do its work for no fault of the keys: Redis blinked, another run has the slot.
	soon = 2 * time.Second
	// settleTime bounds how long the outcome of a call is tried to be written. It is less than the queue's lease of 30 s: past
	// that another worker has the slot anyway.
	settleTime = 20 * time.Second
	// callTime bounds a call beyond the client's own timeout, lest a run never ends.
	callTime = 60 * time.Second
)

// Run runs a slot once: until nothing is ready for it, its slice is over, or its batch has to wait. nil means that the task
// is done; a *flow.Later that it has to run again.
func (d *Dispatcher) Run(ctx context.Context, appName string, slot int, generation int64, retry int) error {
	app := d.apps[appName]
	if app == nil {
		return &flow.Later{Delay: time.Minute, Err: fmt.Errorf("app %q is not in this worker's configuration; its keys wait until it is", appName)}
	}
	r, err := app.Store.Attach(ctx, slot, generation, retry)
	if err != nil {
		return &flow.Later{Delay: soon, Err: err}
	}
	run := &run{Dispatcher: d, app: app, at: flow.SlotRun{Slot: slot, Generation: generation}, until: time.Now().Add(d.cfg.Slice)}
	return run.loop(ctx, r)
}

// run is one run of a slot.
type run struct {
	*Dispatcher
	app   *App
	at    flow.SlotRun
	until time.Time // the end of its slice
	delay time.Duration
	cause error // of the last call that has to be made again
	visit *visit

	// Of the batch that is bound now:
	made    int       // calls
	began   time.Time // the first of them
	silent  bool      // the last of them was not answered
	metered int       // of those, the ones that the service counts for the month
}

func (r *run) loop(ctx context.Context, reply *keystore.Reply) error {
	for {
		afterErr := r.deps.After(ctx, r.app.Name, reply)
		if reply.Status != keystore.StatusBatch {
			return r.end(reply, afterErr)
		}
		// A wake-up that could not be enqueued here is in the next reply again: a slot stays due until its task attaches.
		r.at.Run = reply.Batch.Run
		next, err := r.visited(ctx, reply)
		if err != nil {
			return &flow.Later{Delay: soon, Err: err}
		}
		reply = next
	}
}

// end turns the last reply of a run into what the queue is to do with the task.
func (r *run) end(reply *keystore.Reply, afterErr error) error {
	switch reply.Status {
	case keystore.StatusHeld:
		cause := r.cause
		if cause == nil {
			cause = errors.New("the batch waits for its next try")
		}
		return &flow.Later{Delay: max(r.delay, reply.Rest, 10*time.Millisecond), Blame: true, Err: cause}
	case keystore.StatusRefused:
		// The retry count goes up though nothing failed: a task that was made anew, because somebody had deleted the slot's, begins to
		// count at zero and is refused until it has come up to the count that the slot has seen. A delivery that is
		// refused because it is old has lost its lease, and the queue takes no word of it.
		return &flow.Later{Delay: soon, Blame: true, Err: errors.New("another run has this slot; this one changes nothing")}
	}
	if afterErr != nil {
		return &flow.Later{Delay: soon, Err: fmt.Errorf("enqueue what is owed: %w", afterErr)}
	}
	return nil
}

// batch makes the call of the batch that the slot holds and settles it.
func (r *run) batch(ctx context.Context, reply *keystore.Reply) (*keystore.Reply, error) {
	b := reply.Batch
	d := newDecider(r.cfg.Policy, b, reply.Now)
	d.zone = r.app.Zone
	r.made, r.metered = 0, 0
	d.rate, d.front = r.app.lore.rate(b.RobotCode), r.app.lore.front(b)
	// The token comes before the permit: one that has to be fetched first would hold up several calls, which then went all at
	// once and were too many for their second.
	token, err := r.token(ctx)
	var dec decision
	if err != nil {
		dec = r.noToken(d, err)
	} else {
		if !r.waitForPermit(ctx, b, keystore.Permit{From: reply.Local.Add(b.Wait), Given: reply.Local}) {
			return r.giveUp(ctx)
		}
		d.now = reply.Now.Add(time.Since(reply.Local))
		// Only now, though no call may follow: batches that are passed over must not use up permits faster than they come.
		if dec, ok := r.withoutCall(d); ok {
			return r.conclude(ctx, b, dec)
		}
		var made bool
		if dec, made = r.call(ctx, d, token); !made {
			return r.giveUp(ctx)
		}
	}
	r.app.lore.learn(b, dec)
	return r.conclude(ctx, b, dec)
}

// withoutCall decides about a batch that was just claimed, where what is known of its incident makes a call a waste, or may do so soon.
func (r *run) withoutCall(d *decider) (decision, bool) {
	if d.batch.Note != "" || d.batch.Tries > 0 {
		return decision{}, false
	}
	if dec, ok := d.closed(); ok {
		return dec, true
	}
	if !d.hurries() && r.app.lore.pass(d.batch, d.now, d.now.Add(r.app.Store.Life())) {
		return d.passOver(), true
	}
	return decision{}, false
}

// endsAfter says whether the run ends with a batch: when it is to stop, or its slice is over. A search for a bad key goes on for as long
// again, since on its way through the queue it would lose the company that it has in its calls.
func (r *run) endsAfter(next flow.Next) bool {
	switch next {
	case flow.NextClaim:
		return r.stopping() || time.Now().After(r.until)
	case flow.NextCall:
		return r.stopping() || time.Now().After(r.until.Add(r.cfg.Slice))
	}
	return false
}

// conclude writes what a batch came to, and gives what the slot does next.
func (r *run) conclude(ctx context.Context, b *flow.Batch, dec decision) (*keystore.Reply, error) {
	if r.endsAfter(dec.Next) {
		dec.Next = flow.NextYield
	}
	dec.Metered = r.metered
	answered := time.Now()
	next, err := r.settle(ctx, b, dec.Settlement)
	if err != nil {
		return nil, err
	}
	if r.made > 0 {
		r.app.unanswered.observe(r.app.Latency, answered.Sub(r.began)+min(time.Since(answered), mostSettle), r.silent)
	}
	r.delay = dec.delay
	if dec.Rest > 0 || dec.Hold != nil {
		r.app.stopped.Store(&next.Local)
	}
	if next.Status != keystore.StatusRefused { // then nothing was written: the run that has the slot will tell
		r.count(dec.Settlement)
		r.tellHold(ctx, b, dec)
	}
	return next, nil
}

func (r *run) count(s flow.Settlement) {
	recalled, dead := 0, 0
	for _, o := range s.Outcomes {
		switch o.Fate {
		case flow.FateRecalled:
			recalled++
		case flow.FateDead:
			dead++
		}
	}
	r.deps.Observer.Settled(r.app.Name, recalled, dead)
}

func (r *run) stopping() bool {
	select {
	case <-r.deps.Stopping:
		return true
	default:
		return false
	}
}

// giveUp hands the slot on with its batch still bound, before a call was made.
func (r *run) giveUp(ctx context.Context) (*keystore.Reply, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	return r.app.Store.GiveUp(ctx, r.at, r.metered)
}

// settle writes the outcome of a call that was made, as long as that makes sense: the messages are recalled, whatever
// becomes of this process or of Redis.
func (r *run) settle(ctx context.Context, b *flow.Batch, s flow.Settlement) (*keystore.Reply, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		reply, err := r.app.Store.Settle(ctx, r.at, b.ID, s)
		if err == nil {
			return reply, nil
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("the outcome of a call could not be written, its keys will be called again: %w", err)
		case <-t.C:
		}
	}
}
