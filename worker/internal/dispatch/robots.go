package dispatch

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

// robots is what the calls of one app tell of its robots, so that a robot that does not exist costs two calls, however many slots have
// keys of it. It lives in the process: another worker makes up its own mind.
//
// Of a robot that has not answered yet one call goes at a time, and the others wait for its answer, which takes the latency of a call once
// in the life of a process. The same after an answer that there is no such robot; the next call confirms that or not.
type robots struct {
	mu    sync.Mutex // guards all below
	known map[string]*robot
}

// robot is what is known of one robot.
type robot struct {
	asking  chan struct{} // closed when the one call under way is over; nil: none is
	exists  bool          // its last answer did not deny it
	denied  bool          // its last answer said that there is no such robot
	goneAt  time.Time     // when a second answer said so; zero: never
	said    time.Time     // when that was last logged; zero: never
	why     flow.Reason
	request string // id of that answer
	warned  bool   // that its robotCode may be wrong
}

// maxRobots bounds what is remembered. What is forgotten costs a call that waits.
const maxRobots = 10_000

// visit is one batch's way to a call and back.
type visit struct {
	all   *robots
	robot *robot
	leads chan struct{} // of a visit that others wait for
	// denied: the service said before this call that there is no such robot.
	denied bool
	// gone: a second answer confirmed it after the batch was bound, so no call is to be made.
	gone    bool
	why     flow.Reason
	request string    // id of that answer
	told    *decision // what the call came to; nil: none was made
}

// visited makes the call of a batch when the robot may be called, and hears what came of it when that is written.
func (r *run) visited(ctx context.Context, reply *keystore.Reply) (*keystore.Reply, error) {
	permit := reply.Local.Add(reply.Batch.Wait)
	v, ok := r.app.robots.visit(ctx, r.deps.Stopping, reply.Batch.Target().Name(), reply.Local, permit)
	if !ok {
		return r.giveUp(ctx)
	}
	r.visit = v
	defer v.end()
	if v.gone {
		return r.gone(ctx, reply)
	}
	return r.batch(ctx, reply)
}

// gone settles a batch of a robot of which two other calls said that it does not exist: no call is made.
func (r *run) gone(ctx context.Context, reply *keystore.Reply) (*keystore.Reply, error) {
	s := newDecider(r.cfg.Policy, reply.Batch, reply.Now).robotGone(r.visit)
	if r.stopping() || time.Now().After(r.until) {
		s.Next = flow.NextYield
	}
	next, err := r.settle(ctx, reply.Batch, s)
	if err == nil && next.Status != keystore.StatusRefused {
		r.count(s)
	}
	return next, err
}

// visit waits until a call of the robot may go. bound is when its batch was handed out, permit when its call may be made. ok is false where the
// run has to end first. Whoever has a visit ends it, after the outcome of the call is written.
func (a *robots) visit(ctx context.Context, stopping <-chan struct{}, code string, bound, permit time.Time) (v *visit, ok bool) {
	// A call whose moment is still to come must not be the one that others wait for whose moments are earlier.
	if early := time.Until(permit); early > 0 && !a.exists(code) {
		moment := time.NewTimer(early)
		defer moment.Stop()
		if !waitFor(ctx, stopping, moment.C) {
			return nil, false
		}
	}
	for {
		v, wait := a.enter(code, bound)
		if wait == nil {
			return v, true
		}
		if !waitFor(ctx, stopping, wait) {
			return nil, false
		}
	}
}

// waitFor is false where the run has to end first.
func waitFor[T any](ctx context.Context, stopping <-chan struct{}, what <-chan T) bool {
	select {
	case <-what:
		return true
	case <-stopping:
		return false
	case <-ctx.Done():
		return false
	}
}

// exists is true of a robot whose calls need not wait for one another.
func (a *robots) exists(code string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.known[code]
	return r != nil && r.exists
}

func (a *robots) enter(code string, bound time.Time) (*visit, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.robot(code)
	v := &visit{all: a, robot: r, denied: r.denied}
	switch {
	case bound.Before(r.goneAt):
		v.gone, v.why, v.request = true, r.why, r.request
	case r.exists:
	case r.asking != nil:
		return nil, r.asking
	default:
		r.asking = make(chan struct{})
		v.leads = r.asking
	}
	return v, nil
}

// robot gives what is known of a robot. The lock is held.
func (a *robots) robot(code string) *robot {
	r := a.known[code]
	if r != nil {
		return r
	}
	if len(a.known) >= maxRobots {
		for other, o := range a.known {
			if o.asking == nil {
				delete(a.known, other)
			}
		}
	}
	if a.known == nil {
		a.known = map[string]*robot{}
	}
	r = &robot{}
	a.known[code] = r
	return r
}

// end hears what the call came to, and lets the next one go.
func (v *visit) end() {
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	r, dec := v.robot, v.told
	switch {
	case dec == nil:
	case dec.DeadRobot != nil:
		// Its waiting keys are marked by now, so whatever is bound after this moment came after it. That is asked about, since somebody may
		// have mended it, but once: a producer that goes on with a wrong robotCode would spend two calls on each few keys.
		r.goneAt, r.why, r.request, r.denied, r.exists = time.Now(), *dec.DeadRobot, dec.RequestID, true, false
	case dec.scope == upstream.RobotDead:
		r.denied, r.exists = true, false
	case dec.Answered:
		r.denied, r.exists = false, true
	default: // trouble says nothing of the robot, and need not be met one call at a time
		r.exists = !r.denied
	}
	if v.leads != nil {
		close(v.leads)
		r.asking = nil
	}
}

// warn is true the first time.
func (v *visit) warn() bool {
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	first := !v.robot.warned
	v.robot.warned = true
	return first
}

// sayGone is true when it is to be logged that the robot does not exist: at first, and now and then as keys keep coming.
func (v *visit) sayGone(now time.Time) bool {
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	if !v.robot.said.IsZero() && now.Sub(v.robot.said) < sayAgain {
		return false
	}
	v.robot.said = now
	return true
}

// robotGone has the batch die of what was said of its robot.
func (d *decider) robotGone(v *visit) flow.Settlement {
	out := d.begin(v.request)
	d.fill(&out, 0, len(d.batch.Keys), flow.FateDead)
	d.because(&out, upstream.Verdict{Code: v.why.Code, Message: v.why.Message})
	return out.Settlement
}

// denied is true where the answer has it of every key that there is no such robot: the same as if the call had failed with it.
func denied(verdicts []upstream.Verdict) bool {
	for _, v := range verdicts {
		if v.Scope != upstream.KeyDead || v.Code != upstream.CodeNoSuchRobot {
			return false
		}
	}
	return len(verdicts) > 0
}

// suspect is true where every key of an answer of several died of what a wrong robotCode would explain as well.
func suspect(verdicts []upstream.Verdict) bool {
	for _, v := range verdicts {
		if v.Scope != upstream.KeyDead || !v.RobotSuspect {
			return false
		}
	}
	return len(verdicts) > 1
}

// reportRobot logs what a person should hear of a robot.
func (r *run) reportRobot(b *flow.Batch, dec decision, answer upstream.Answer, e *upstream.Error) {
	about := []zap.Field{zap.String("app", r.app.Name), zap.String("robot", b.RobotCode), zap.Int("keys", b.Cut)}
	switch {
	case dec.DeadRobot != nil:
		if !r.visit.sayGone(time.Now()) {
			return
		}
		r.deps.Log.Error("there is no such robot, two calls said: all of its waiting keys are dead letters, to be replayed when that is mended",
			append(about, zap.String("code", dec.DeadRobot.Code), zap.String("hint", dec.hint), zap.String("request_id", dec.RequestID))...)
	case e == nil && len(answer.Failed) == b.Cut:
		if verdicts := answer.Verdicts(b.Called()); suspect(verdicts) {
			r.reportSuspect("every key of a call was refused for what a wrong robotCode would explain: are they this robot's?", verdicts[0], about)
		}
	case e != nil && b.Cut == 1:
		// A service that fails whole calls says it of several keys also where one of them is meant.
		if v := e.Verdict(1); v.RobotSuspect && v.Scope == upstream.KeyDead && r.app.lore.noneGood(b.RobotCode) {
			r.reportSuspect("no key of the robot was recalled, and those asked were refused for what a wrong robotCode would explain: are they this robot's?",
				v, about)
		}
	}
}

func (r *run) reportSuspect(what string, v upstream.Verdict, about []zap.Field) {
	if r.visit.warn() {
		r.deps.Log.Warn(what, append(about, zap.String("code", v.Code), zap.String("hint", v.Hint))...)
	}
}
