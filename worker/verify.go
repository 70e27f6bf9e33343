package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker/internal/deadletter"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

// VerifyResult is what came of asking about a key, or why nobody asked.
type VerifyResult string

// The results.
const (
	VerifyRecalled   VerifyResult = "recalled"   // the message is recalled; a key that was dead is recalled now
	VerifyStands     VerifyResult = "stands"     // the message stands; the key is dead, and no longer ambiguous
	VerifyProcessing VerifyResult = "processing" // the service is still at it: ask again later
	VerifyFailed     VerifyResult = "failed"     // the service did not answer, or refused: the key stays as it was
	VerifySkipped    VerifyResult = "skipped"    // asking would tell nothing, so no call was spent
	verifyAsk        VerifyResult = ""           // to be asked
)

// Verified is a key and what came of it.
type Verified struct {
	App    string    // "" where no configured app knows the key
	Key    KeyRecord // as it was before
	Result VerifyResult
	Why    string // of VerifySkipped and VerifyFailed, in a few words
	Code   string // of VerifyFailed: the service's
	inVain bool   // of VerifyFailed: for no reason of the key's own
}

// VerifyPlan is what a Verifier would do: which keys it would ask about, at the cost of a call of the month for each.
type VerifyPlan struct {
	keys    []Verified
	seen    map[plannedKey]bool
	letters map[letterBatch]bool // whose letters are to be put right
}

// plannedKey is what makes a key the same: two letters may have it, and a call answers for both.
type plannedKey struct {
	app    string
	target Target
	key    string
}

// add adds a key, once.
func (p *VerifyPlan) add(k Verified) {
	id := plannedKey{k.App, k.Key.Target(), k.Key.Key}
	if p.seen[id] {
		return
	}
	if p.seen == nil {
		p.seen = map[plannedKey]bool{}
	}
	p.seen[id] = true
	p.keys = append(p.keys, k)
}

type letterBatch struct {
	app   string
	batch int64
}

// Keys gives every key of the plan, those included that nobody will ask about.
func (p *VerifyPlan) Keys() []Verified { return p.keys }

// Calls is how many calls the plan costs, by app.
func (p *VerifyPlan) Calls() map[string]int {
	n := map[string]int{}
	for _, k := range p.keys {
		if k.Result == verifyAsk {
			n[k.App]++
		}
	}
	return n
}

// Verifier asks the service what became of messages whose keys died without a certain answer (readStatus), and settles the matter in the
// key store and in the dead letters. Its calls take the app's permits, in turn with those of the workers. It needs no running worker.
type Verifier struct{ p *pipeline }

// ErrAppHeld is the error where an app is on hold: no call is spent on it.
var ErrAppHeld = errors.New("the app is on hold")

// NewVerifier checks the settings and wires a verifier. Close must be called.
func NewVerifier(cfg Config, deps Deps) (*Verifier, error) {
	w, err := New(cfg, deps)
	if err != nil {
		return nil, err
	}
	return &Verifier{p: w.p}, nil
}

// Close ends what the verifier has open. Redis stays the caller's.
func (v *Verifier) Close() {
	v.p.wakeups.stop()
	v.p.client.Close()
}

// Plan looks keys up, of a robot (of whatever robot, with robotCode ""), and adds them to a plan. With onlyAmbiguous, dead keys of which
// no answer was lost are left alone as well.
func (v *Verifier) Plan(ctx context.Context, plan *VerifyPlan, robotCode string, keys []string, onlyAmbiguous bool) error {
	return v.plan(ctx, plan, "", robotCode, keys, onlyAmbiguous)
}

// PlanOf is Plan for keys of one target.
func (v *Verifier) PlanOf(ctx context.Context, plan *VerifyPlan, target Target, keys []string, onlyAmbiguous bool) error {
	return v.plan(ctx, plan, target.Name(), target.RobotCode, keys, onlyAmbiguous)
}

// PlanLetter is PlanOf for the keys of a dead letter. The letter is put right even where all is settled already: whoever did that may
// have died before.
func (v *Verifier) PlanLetter(ctx context.Context, plan *VerifyPlan, l tasks.DeadLetter) error {
	if l.Batch != 0 {
		plan.touch(l.App, l.Batch)
	}
	target := Target{RobotCode: l.RobotCode, Conversation: flow.Conversation(l.Conversation)}
	return v.PlanOf(ctx, plan, target, l.Keys, true)
}

func (p *VerifyPlan) touch(app string, batch int64) {
	if p.letters == nil {
		p.letters = map[letterBatch]bool{}
	}
	p.letters[letterBatch{app, batch}] = true
}

func (v *Verifier) plan(ctx context.Context, plan *VerifyPlan, name, robotCode string, keys []string, onlyAmbiguous bool) error {
	now, err := v.p.redisNow(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(keys))
	for _, app := range v.p.cfg.Apps {
		recs, err := v.p.apps[app.Name].store.Lookup(ctx, name, keys)
		if err != nil {
			return err
		}
		for _, r := range recs {
			if r.State == flow.Unknown || robotCode != "" && r.RobotCode != robotCode {
				continue
			}
			known[r.Key] = true
			k := Verified{App: app.Name, Key: r}
			k.Result, k.Why = v.worthAsking(r, now, onlyAmbiguous)
			if r.State == flow.Dead {
				plan.touch(app.Name, r.Batch)
			}
			plan.add(k)
		}
	}
	for _, key := range keys {
		if !known[key] {
			known[key] = true
			plan.add(Verified{Key: KeyRecord{Key: key, RobotCode: robotCode}, Result: VerifySkipped, Why: "no configured app knows the key"})
		}
	}
	return nil
}

// worthAsking says whether asking about a key can settle anything.
func (v *Verifier) worthAsking(r KeyRecord, now time.Time, onlyAmbiguous bool) (VerifyResult, string) {
	switch {
	case r.State == flow.Waiting || r.State == flow.Bound:
		return VerifySkipped, "it is " + r.State.String() + ": workers recall it"
	case r.State == flow.Recalled:
		return VerifySkipped, "it is recalled"
	case r.State != flow.Dead:
		return VerifySkipped, "it is " + r.State.String()
	case onlyAmbiguous && !r.Ambiguous:
		return VerifySkipped, "no answer was lost: the message stands"
	case r.Chat != "":
		return VerifySkipped, "the service tells the status of one-to-one messages only: look into the chat"
	case !now.Before(r.Deadline.Add(v.p.cfg.Margin)):
		return VerifySkipped, "its 24 hours are over, and with them the service's answers"
	}
	return verifyAsk, ""
}

// Run asks about every key of the plan that is worth it, one after the other, writes what it hears, and tells each of every key, also of those
// that nobody asked about. Then it puts the dead letters right. An error ends the asking: an app on hold (ErrAppHeld), a service that
// refuses every call or fails at several in a row, Redis. What was heard before is written.
func (v *Verifier) Run(ctx context.Context, plan *VerifyPlan, each func(Verified) error) error {
	// What the key store still has in its outbox is brought into the queue first, to be put right there.
	for app := range plan.Calls() {
		if err := v.drain(ctx, app); err != nil {
			return err
		}
	}
	err := v.ask(ctx, plan, each)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, v.settleLetters(ctx, plan.letters))
}

func (v *Verifier) drain(ctx context.Context, app string) error {
	_, err := deadletter.Drain(ctx, app, v.p.apps[app].store, v.p.queue.bury, v.p.cfg.DeadRetention)
	return err
}

// asksInVain is how many calls in a row may come to nothing: a service that fails is not asked for every key, each at a call of the month.
const asksInVain = 5

func (v *Verifier) ask(ctx context.Context, plan *VerifyPlan, each func(Verified) error) error {
	var inVain []*Verified // in a row
	for i := range plan.keys {
		k := &plan.keys[i]
		if k.Result == verifyAsk {
			if n := len(inVain); n == asksInVain {
				last := inVain[n-1]
				return fmt.Errorf("app %q: %d calls in a row came to nothing, the last of them for robot %q: %s: %s", last.App, n, last.Key.RobotCode, last.Code, last.Why)
			}
			if err := v.one(ctx, v.p.apps[k.App], k); err != nil {
				return err
			}
			if k.inVain {
				inVain = append(inVain, k)
			} else {
				inVain = nil
			}
		}
		if err := each(*k); err != nil {
			return err
		}
	}
	return nil
}

// one asks about a key and writes the answer.
func (v *Verifier) one(ctx context.Context, app *appState, k *Verified) error {
	status, err := v.readStatus(ctx, app, k)
	if err != nil || k.Result == VerifyFailed {
		return err
	}
	switch status.Status {
	case upstream.StatusProcessing:
		k.Result = VerifyProcessing
		return nil
	case upstream.StatusRecalled:
		k.Result = VerifyRecalled
	default:
		k.Result = VerifyStands
	}
	// The call was made, and its answer is worth writing, whatever becomes of the caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	finding := keystore.Finding{Key: k.Key.Key, Batch: k.Key.Batch, Recalled: k.Result == VerifyRecalled}
	_, reply, err := app.store.Verify(ctx, k.Key.Target(), status.RequestID, []keystore.Finding{finding})
	if err != nil {
		return err
	}
	return v.p.wakeups.after(ctx, app.Name, reply)
}

const (
	// writeTime bounds the writing of an answer, and a call beyond the client's own timeout.
	writeTime = 30 * time.Second
	// longWait is a wait for a permit that somebody who looks on would take for the end.
	longWait = 5 * time.Second
	// throttledAsks bounds how often a call is made again because it was too many.
	throttledAsks = 10
)

// readStatus makes the call for a key, as often as it is throttled. An error ends the asking; a failure that is about the key is
// written into k.
func (v *Verifier) readStatus(ctx context.Context, app *appState, k *Verified) (upstream.MessageStatus, error) {
	token, err := app.tokens.Get(ctx)
	if err != nil {
		return upstream.MessageStatus{}, fmt.Errorf("app %q: %w", app.Name, err)
	}
	rest, renewed := time.Duration(0), false
	for range throttledAsks {
		if err := v.permit(ctx, app, rest); err != nil {
			return upstream.MessageStatus{}, err
		}
		rest = 0
		status, err := v.p.client.ReadStatus(ctx, token, k.Key.RobotCode, k.Key.Key)
		if err == nil {
			return status, nil
		}
		var e *upstream.Error
		if ctx.Err() != nil || !errors.As(err, &e) {
			return status, err
		}
		verdict := e.Verdict(1)
		switch verdict.Scope {
		case upstream.Throttled:
			rest = max(verdict.Rest, time.Second)
			continue
		case upstream.TokenStale:
			if renewed {
				return status, fmt.Errorf("app %q: %w", app.Name, err)
			}
			renewed = true
			if token, err = app.tokens.Renew(ctx, token); err != nil {
				return status, fmt.Errorf("app %q: %w", app.Name, err)
			}
			continue
		case upstream.AppHold, upstream.BudgetHold:
			return status, fmt.Errorf("app %q: %w", app.Name, err)
		}
		if e.Class == upstream.ClassNotSent {
			return status, fmt.Errorf("app %q: %w", app.Name, err)
		}
		k.Result, k.Code, k.Why, k.inVain = VerifyFailed, verdict.Code, verdict.Message, verdict.Scope != upstream.KeyDead
		return status, nil
	}
	return upstream.MessageStatus{}, fmt.Errorf("app %q: the service throttles every call; try again later", app.Name)
}

// permit waits for the app's next permit.
func (v *Verifier) permit(ctx context.Context, app *appState, rest time.Duration) error {
	from, held, err := app.store.Spend(ctx, rest)
	if err != nil {
		return err
	}
	if held {
		return fmt.Errorf("app %q: %w: \"recall status\" says why", app.Name, ErrAppHeld)
	}
	wait := time.Until(from)
	if wait > longWait {
		v.p.log.Warn("the app's calls rest, and verify waits", zap.String("app", app.Name), zap.Duration("wait", wait.Round(time.Second)))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
