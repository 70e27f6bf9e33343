package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"dingrecall/cmd/internal/report"
	"dingrecall/config"
	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
)

// accountTimeout bounds the look-up of what became of the keys, after the work is over.
const accountTimeout = 10 * time.Minute

// embeddedIntake is how many submissions are taken in at once where Redis is in this process. Two, so that an alarm need not wait for a
// submission.
const embeddedIntake = 2

// embeddedAdmit is how many keys are taken in as one step there: its scripts run many times slower than a redis-server's, and calls that
// wait behind a long one miss their permits.
const embeddedAdmit = 50

// embeddedLinger is for how long keys wait for company at most where Redis is in this process: all that can come is in the file, so
// the last few of each robot wait in vain.
const embeddedLinger = 300 * time.Millisecond

// job is one run: from a checked file to the last word about it.
type job struct {
	app      *app
	cfg      *config.Config
	flags    runFlags
	in       *keyInput
	earlier  *earlierReport // nil without --resume
	report   *report.File   // nil without --report
	progress *progress

	rdb     *redis.Client
	insp    *worker.Inspector
	sim     *simulator.Simulator // nil for the real service
	worker  *worker.Worker
	started time.Time
	closers []func() // run in reverse order
}

// do does the whole job.
func (j *job) do(ctx context.Context) error {
	j.started = j.app.Now()
	if j.in.summary.Distinct == 0 {
		return j.nothingLeft(ctx)
	}
	defer j.close()
	if err := j.start(ctx); err != nil {
		return err
	}
	j.progress.note("recalling %s of %s, incident %s", counted(j.in.summary.Distinct, "key", "keys"),
		j.in.robots(), j.in.incident)
	j.progress.note("%s", j.foretell())
	end, stopped, err := j.work(ctx)
	j.progress.finish()
	if end == endInterrupted {
		j.progress.note("interrupted: finishing the calls in flight")
		j.progress.note("a second interrupt ends at once, without a report")
	}
	j.worker.Stop()
	return j.conclude(ctx, end, stopped, err)
}

// nothingLeft is the end of a run whose keys an earlier report has as recalled, all of them.
func (j *job) nothingLeft(ctx context.Context) error {
	if j.earlier == nil {
		return badInput(fmt.Errorf("%s has no good line; nothing was sent", j.in.summary.Name))
	}
	t, err := j.account(ctx)
	if err == nil {
		err = j.commitReport()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(j.app.Out, "Nothing left to do: %s.\n", t.carriedText(j.flags.resume))
	j.printReport(t, false)
	return nil
}

// foretell says in a few words what the plan says.
func (j *job) foretell() string {
	p := j.app.makePlan(j.cfg, j.in.summary)
	text := "about " + counted(p.Calls, "call", "calls")
	if p.Seconds > 0 {
		text += ", " + roughly(time.Duration(p.Seconds*float64(time.Second))) + " at the set rate"
	}
	if p.Closed > 0 {
		text += "; of " + counted(p.Closed, "key", "keys") + " the window is closed already"
	}
	if p.TooLate > 0 {
		text += "; of " + counted(p.TooLate, "key", "keys") + " it will close before their turn"
	}
	return text
}

// start brings up what the job works with: the simulator, Redis, the worker.
func (j *job) start(ctx context.Context) error {
	if j.flags.simulate {
		sim, server, err := startSimulator(j.flags.sim, j.cfg)
		if err != nil {
			return err
		}
		j.sim = sim
		j.closers = append(j.closers, func() { _ = server.Close() })
	}
	if err := j.openRedis(ctx); err != nil {
		return err
	}
	j.insp = worker.NewInspector(j.rdb, appNames(j.cfg))
	if j.flags.simulate && j.flags.redisSet {
		if err := j.refuseRealWork(ctx); err != nil {
			return err
		}
	}
	log := j.cfg.Log
	if !j.flags.logLevelSet {
		log.Level = "warn" // what the worker tells of its routine would only hide the bar
	}
	if log.Format == "auto" {
		log.Format = "console" // beside lines for a person
	}
	wc := workerConfig(j.cfg)
	if !j.flags.redisSet {
		// The Redis in this process does one thing at a time: more would only make the calls wait behind the taking in of keys.
		wc.IntakeConcurrency = min(wc.IntakeConcurrency, embeddedIntake)
		wc.AdmitAtOnce = embeddedAdmit
		wc.Linger = min(wc.Linger, embeddedLinger)
	}
	w, err := worker.New(wc, worker.Deps{Redis: j.rdb, Log: j.app.newLogger(log, j.progress)})
	if err != nil {
		return fmt.Errorf("setting up the worker: %w", err)
	}
	j.worker = w
	j.closers = append(j.closers, w.Stop)
	if !j.flags.simulate {
		if err := checkCredentials(ctx, j.cfg, j.in, w); err != nil {
			return err
		}
	}
	// The worker ends by Stop, which lets calls finish, and not by the context of an interrupt.
	if err := w.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("starting the worker: %w", err)
	}
	return nil
}

// openRedis connects to the Redis of --redis, or starts one in this process.
func (j *job) openRedis(ctx context.Context) error {
	if j.flags.redisSet {
		rdb, err := openRedis(ctx, j.cfg.Redis)
		if err != nil {
			return err
		}
		j.rdb = rdb
		j.closers = append(j.closers, func() { _ = rdb.Close() })
		return nil
	}
	mr, err := miniredis.Run() // on a free port of 127.0.0.1
	if err != nil {
		return fmt.Errorf("starting the Redis in this process: %w", err)
	}
	if j.app.Getenv("GOGC") == "" {
		// Its scripts make much garbage beside a heap that stays: collecting it half as often saves a fifth of the processor, and the
		// calls keep to their moments.
		before := debug.SetGCPercent(embeddedGC)
		j.closers = append(j.closers, func() { debug.SetGCPercent(before) })
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tickExpiry(mr, stop)
	}()
	j.rdb = redis.NewClient(&redis.Options{Addr: mr.Addr(), DisableIdentity: true})
	j.closers = append(j.closers, func() {
		_ = j.rdb.Close()
		close(stop)
		<-stopped
		mr.Close()
	})
	return nil
}

// embeddedGC is by how many percent the heap may grow before it is collected, where Redis is in this process.
const embeddedGC = 400

// tickExpiry lets keys expire. Left alone, miniredis stops the clock of its expiries; told to follow it, it walks all keys at every
// command.
func tickExpiry(mr *miniredis.Miniredis, stop <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-stop:
			return
		case now := <-ticker.C:
			mr.FastForward(now.Sub(last))
			last = now
		}
	}
}

// refuseRealWork makes sure that a simulated run shares its Redis with nobody: its worker would take others' keys for recalled, and
// others' workers would recall its own.
func (j *job) refuseRealWork(ctx context.Context) error {
	why := func() (string, error) {
		n, err := workersAt(j.rdb)
		if err != nil || n > 0 {
			return "a worker runs there", err
		}
		apps, err := j.insp.Apps(ctx)
		if err != nil {
			return "", err
		}
		for _, app := range apps {
			if app != simulatedApp {
				return "it holds keys of app " + app, nil
			}
		}
		waiting, err := submissionsAt(j.rdb)
		if err != nil || !waiting {
			return "", err
		}
		return "submissions wait there", nil
	}
	reason, err := why()
	if err != nil {
		return explainRedis(err, j.cfg.Redis)
	}
	if reason == "" {
		return nil
	}
	return badInput(fmt.Errorf("--simulate wants a Redis of its own, and not %s database %d: %s; leave --redis away, or name an empty database (redis://%s/15)",
		j.cfg.Redis.Addr, j.cfg.Redis.DB, reason, j.cfg.Redis.Addr))
}

func (j *job) close() {
	for i := len(j.closers) - 1; i >= 0; i-- {
		j.closers[i]()
	}
	j.closers = nil
}

// work hands the keys over and waits for them.
func (j *job) work(ctx context.Context) (ending, []string, error) {
	queue := newSubmissions(j.rdb, j.in.class)
	feed := &feeder{client: tasks.NewClientFromRedis(j.rdb), class: j.in.class, incident: j.in.incident, queued: queue.add}
	feedCtx, cancel := context.WithCancel(ctx)
	fed, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		fed <- feed.feed(feedCtx, j.in.file)
	}()
	defer func() {
		cancel()
		<-ended // nobody reads the file, nor writes to Redis, when this returns
	}()
	return j.follow(ctx, queue, fed)
}

// follow watches the keys until each has come to its end. It says how that was, and which apps were in the way.
func (j *job) follow(ctx context.Context, queue *submissions, fed <-chan error) (ending, []string, error) {
	w := &watch{
		status: j.insp.Status, gone: queue.gone, calls: j.calls, incident: j.in.incident, total: j.in.summary.Distinct,
		windows:  newWindows(j.in.summary, j.started, j.cfg.Worker.Window, j.cfg.Worker.Margin),
		holdWait: j.flags.holdWait, awaitOutbox: j.flags.redisSet, progress: j.progress, now: time.Now,
	}
	end, err := w.until(ctx, fed)
	if end == endDone && err == nil && j.flags.redisSet {
		end, w.stopped, err = j.awaitOthers(ctx)
	}
	return end, w.stopped, j.explain(err)
}

// explain puts an error of Redis into words. One that says how far the keys came says what to do already.
func (j *job) explain(err error) error {
	var partial *tasks.PartialError
	if err == nil || errors.As(err, &partial) || !j.flags.redisSet {
		return err
	}
	return explainRedis(err, j.cfg.Redis)
}

// othersEvery is the pause between two looks for keys that another incident has.
const othersEvery = 2 * time.Second

// awaitOthers waits for keys of the file that were handed over before, under another incident: the counts of this one do not have
// them.
func (j *job) awaitOthers(ctx context.Context) (ending, []string, error) {
	told := false
	for {
		t, err := j.tally(ctx, nil)
		switch {
		case ctx.Err() != nil:
			return endInterrupted, nil, nil
		case err != nil:
			return endFailed, nil, err
		case t.waiting == 0:
			return endDone, nil, nil
		}
		st, err := j.insp.Status(ctx)
		if err != nil && ctx.Err() == nil {
			return endFailed, nil, err
		}
		var held []string
		for _, app := range st.Apps {
			if app.Hold != nil {
				held = append(held, fmt.Sprintf("app %s (%s)", app.App, describeHold(app)))
			}
		}
		if len(held) > 0 {
			return endHeld, held, nil
		}
		if !told {
			j.progress.note("%s before, under another incident; waiting for %s", counted(t.waiting, "key was handed over", "keys were handed over"), pick(t.waiting == 1, "it", "them"))
			told = true
		}
		select {
		case <-ctx.Done():
			return endInterrupted, nil, nil
		case <-time.After(othersEvery):
		}
	}
}

// calls is how many calls this process made; -1 where the worker does not say.
func (j *job) calls() int64 {
	if w, ok := any(j.worker).(interface{ Calls() int64 }); ok && j.worker != nil {
		return w.Calls()
	}
	return -1
}
