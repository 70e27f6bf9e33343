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
	// told is set while the last thing said of the app in this process's log is that it is held.
	told atomic.Bool
	lore lore
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
	made    int // calls
	metered int // of those, the ones that the service counts for the month
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
	next, err := r.settle(ctx, b, dec.Settlement)
	if err != nil {
		return nil, err
	}
	r.delay = dec.delay
	if dec.Rest > 0 || dec.Hold != nil {
		r.app.stopped.Store(&next.Local)
	}
	if next.Status != keystore.StatusRefused { // then nothing was written: the run that has the slot will tell
		r.count(dec.Settlement)
		r.tellHold(ctx, dec, next)
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

// late is how long after its moment a permit may still be used. The limiter spaces calls by 2 % more than the rate asks for, so
// that calls which are this late still keep to the rate in every second.
const late = 12 * time.Millisecond

// maxPermits bounds how often a machine that is late each time takes another permit.
const maxPermits = 20

// waitForPermit waits for the moment at which the call may be made, and takes another permit where that was missed (the
// scheduler was late, or the process was stopped), or where the service has had enough meanwhile. False means that the call is not to be made.
func (r *run) waitForPermit(ctx context.Context, b *flow.Batch, p keystore.Permit) bool {
	for range maxPermits {
		if !r.sleep(ctx, time.Until(p.From)) {
			return false
		}
		if !r.app.passed(p.Given) && (!r.app.Limited || time.Since(p.From) <= late) {
			return true
		}
		var ok bool
		var err error
		if p, ok, err = r.app.Store.Permit(ctx, r.at, b.ID, r.made+1); err != nil || !ok {
			return false // without Redis, or where the batch is no longer this run's, nothing may be called
		}
	}
	return true
}

// anotherPermit takes a permit for a second call of the same batch and waits for it.
func (r *run) anotherPermit(ctx context.Context, b *flow.Batch) bool {
	p, ok, err := r.app.Store.Permit(ctx, r.at, b.ID, r.made+1)
	return err == nil && ok && r.waitForPermit(ctx, b, p)
}

func (r *run) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return !r.stopping() && ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.deps.Stopping:
		return false
	case <-ctx.Done():
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

// token gives the app's token. It is waited for also while the worker ends: other slots share the request.
func (r *run) token(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	return r.app.Tokens.Get(ctx)
}

// call makes the call and decides what it came to. made is false where its token was refused and it was not made again.
func (r *run) call(ctx context.Context, d *decider, token string) (dec decision, made bool) {
	b := d.batch
	d.note.RobotBad = d.note.RobotBad || r.visit.denied
	answer, took, err := r.once(ctx, token, b)
	if err != nil && upstreamError(err).Verdict(b.Cut).Scope == upstream.TokenStale {
		r.deps.Observer.Called(r.app.Name, upstream.TokenStale, b.Cut, took)
		if token, err = r.renew(ctx, token); err != nil {
			return r.noToken(d, err), true
		}
		if !r.anotherPermit(ctx, b) { // a token that ends is refused to all slots at once: all call a second time
			return decision{}, false
		}
		answer, took, err = r.once(ctx, token, b)
	}
	if err != nil {
		e := upstreamError(err)
		dec = d.failed(e)
		r.cause = e
		r.report(dec, e)
	} else {
		dec = d.answered(answer.RequestID, answer.Verdicts(b.Called()))
	}
	r.visit.told = &dec
	r.reportRobot(b, dec, answer)
	r.deps.Observer.Called(r.app.Name, dec.scope, b.Cut, took)
	return dec, true
}

// renew gives the token that replaces one that was refused.
func (r *run) renew(ctx context.Context, stale string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	return r.app.Tokens.Renew(ctx, stale)
}

// once makes the call, to its end also where the worker is to stop meanwhile.
func (r *run) once(ctx context.Context, token string, b *flow.Batch) (upstream.Answer, time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	began := time.Now()
	to := upstream.Target{RobotCode: b.RobotCode, Chat: b.Chat, OpenConversationID: b.OpenConversationID}
	answer, err := r.deps.Service.Recall(ctx, token, to, b.Called())
	took := time.Since(began)
	r.app.Latency.Observe(took)
	r.made++
	if err == nil || metered(upstreamError(err)) {
		r.metered++
	}
	return answer, took, err
}

// noToken decides where no call was made because there is no token. No attempt is counted, whatever the reason.
func (r *run) noToken(d *decider, err error) decision {
	e := upstreamError(err)
	dec := d.withoutToken(e)
	r.cause = e
	r.report(dec, e)
	return dec
}

// report logs what a person should hear of: what an operator has to mend, and what nobody knows.
func (r *run) report(dec decision, e *upstream.Error) {
	switch {
	case dec.Hold != nil: // tellHold does, once the key store knows whether it is news
	case dec.scope == upstream.Unknown:
		r.deps.Log.Warn("an answer that is in no table", zap.String("app", r.app.Name), zap.Error(e))
	default:
		r.deps.Log.Debug("a call failed", zap.String("app", r.app.Name), zap.String("scope", dec.scope.String()), zap.Error(e))
	}
}

// tellHold logs that the app, or the robot, is held, which is one line however many calls, workers and probes are refused; and that it
// goes on.
func (r *run) tellHold(ctx context.Context, dec decision, settled *keystore.Reply) {
	app := zap.String("app", r.app.Name)
	switch {
	case dec.Hold != nil:
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), soon)
		defer cancel()
		news, err := r.app.Store.ToldHold(ctx, settled)
		if err != nil || news { // twice is better than never
			r.app.told.Store(true)
			r.deps.Log.Error("held: no call is made until this is mended; the keys wait", app, zap.String("code", dec.Hold.Code),
				zap.String("hint", dec.hint), zap.Duration("next_probe_in", dec.Hold.Probe), zap.Error(r.cause))
			return
		}
		r.deps.Log.Debug("another call says why it is held", app, zap.String("code", dec.Hold.Code))
	case dec.Answered && r.app.told.Load():
		if held, err := r.app.Store.IsHeld(ctx); err == nil && !held && r.app.told.Swap(false) {
			r.deps.Log.Info("a call was answered as it should: nothing is held any more", app)
		}
	}
}

// upstreamError gives the one error type of package upstream; anything else there is a bug, which must not stop the keys.
func upstreamError(err error) *upstream.Error {
	var e *upstream.Error
	if errors.As(err, &e) {
		return e
	}
	return &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassNotSent, Message: err.Error(), Err: err}
}
