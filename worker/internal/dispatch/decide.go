package dispatch

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
)

// note is what is remembered of a batch between two calls of it, in the slot's record.
type note struct {
	FirstFail int64 `json:"f,omitempty"` // ms, of the first failure in a row
	Isolating bool  `json:"i,omitempty"` // the batch was split to find the key that fails it
	RobotBad  bool  `json:"r,omitempty"` // the service said once that there is no such robot
	Unsent    int   `json:"u,omitempty"` // tries in a row that came to no call, or that no key can be blamed for

	Probed int     `json:"p,omitempty"` // keys that were called alone to find how far the front reaches
	Groups []group `json:"g,omitempty"` // of the last Bound keys of the batch, whose fingerprint is Sum
	Bound  int     `json:"n,omitempty"`
	Sum    uint32  `json:"h,omitempty"`
}

// plain is the note without what is known of single keys.
func (n note) plain() note {
	n.Groups, n.Bound, n.Sum, n.Probed = nil, 0, 0, 0
	return n
}

func readNote(s string) note {
	var n note
	if s != "" {
		// A note that cannot be read was written by another version: the search for a bad key starts again.
		_ = json.Unmarshal([]byte(s), &n)
	}
	return n
}

func (n note) String() string {
	b, err := json.Marshal(n)
	if err != nil || string(b) == "{}" { // a few plain fields: it cannot fail
		return ""
	}
	return string(b)
}

// mostAttempts is what the key store counts of a key.
const mostAttempts = 255

// longestRest is for how long a run keeps its slot through a throttle; a longer one is waited out without a handler.
const longestRest = 5 * time.Second

// decision is what a call came to.
type decision struct {
	flow.Settlement
	delay time.Duration // of NextHeld: until the next try
	scope upstream.Scope
	hint  string
}

// decider decides about one call of one batch. It is pure: everything that it goes by is in here.
type decider struct {
	policy Policy
	batch  *flow.Batch
	now    time.Time // of the key store
	note   note
	zone   *time.Location // of the app's month
	rate   float64        // the share of bad keys that is to be expected
	front  front          // of the keys' incident
}

func newDecider(p Policy, b *flow.Batch, now time.Time) *decider {
	return &decider{policy: p, batch: b, now: now, note: readNote(b.Note), rate: usualRate}
}

// answered decides about a call that was answered, key by key.
func (d *decider) answered(requestID string, verdicts []upstream.Verdict) decision {
	out := d.begin(requestID)
	if denied(verdicts) {
		v := verdicts[0]
		out.scope, out.hint, out.Counted = upstream.RobotDead, v.Hint, true
		d.robot(&out, v)
		return out
	}
	out.scope, out.Counted, out.Answered = upstream.Done, true, true
	for i, v := range verdicts {
		out.Outcomes[i] = d.keyOutcome(d.batch.Keys[i], v)
	}
	d.pursue(&out, d.groups())
	return out
}

// keyOutcome is the fate of a key of which the answer, or the error, spoke by itself.
func (d *decider) keyOutcome(k flow.BoundKey, v upstream.Verdict) flow.Outcome {
	o := flow.Outcome{Ambiguous: v.Ambiguous}
	switch v.Scope {
	case upstream.Done:
		o.Fate = flow.FateRecalled
	case upstream.KeyDead, upstream.RobotDead:
		o.Fate, o.Code, o.Message = flow.FateDead, v.Code, v.Message
	default:
		limit := d.policy.MaxAttempts
		if v.Scope == upstream.Unknown {
			limit = d.policy.UnknownAttempts
		}
		if !v.Blameless && k.Attempts+1 >= limit {
			o.Fate, o.Code, o.Message = flow.FateDead, v.Code, v.Message
			break
		}
		o.Fate, o.Delay = flow.FateLater, max(v.Rest, d.policy.backoff(k.Attempts+1))
	}
	return o
}

// failed decides about a call that failed as a whole.
func (d *decider) failed(e *upstream.Error) decision {
	v := e.Verdict(d.batch.Cut)
	if e.Partial != nil && e.Op == upstream.OpRecall && !(v.Scope.BlamesNoKey() && e.Partial.AsError() != nil) {
		return d.partly(e, v)
	}
	return d.judged(e, v)
}

// partly decides where the error's body spoke of single keys: those are settled by it, the others come back later.
func (d *decider) partly(e *upstream.Error, v upstream.Verdict) decision {
	out := d.begin(e.RequestID)
	out.scope, out.hint, out.Counted = v.Scope, v.Hint, true
	for i, kv := range e.Verdicts(d.batch.Called()) {
		if kv.Scope == upstream.BatchKey || kv.Scope == upstream.RobotDead { // said of others too, or not confirmed yet
			kv.Scope = upstream.Transient
		}
		out.Outcomes[i] = d.keyOutcome(d.batch.Keys[i], kv)
	}
	d.fill(&out, d.batch.Cut, len(d.batch.Keys), flow.FateWait)
	if v.Scope == upstream.Throttled {
		out.Rest, out.Counted = max(v.Rest, time.Second), false
	}
	return out
}

func (d *decider) judged(e *upstream.Error, v upstream.Verdict) decision {
	out := d.begin(e.RequestID)
	out.scope, out.hint = v.Scope, v.Hint
	out.Counted = !v.Blameless
	switch v.Scope { // what is said of keys or a robot is said to an app that may call
	case upstream.KeyDead, upstream.BatchKey, upstream.RobotDead:
		out.Answered = e.Class == upstream.ClassService
	default:
	}
	switch v.Scope {
	case upstream.Throttled:
		d.throttled(&out, v)
	case upstream.AppHold, upstream.BudgetHold, upstream.TokenStale:
		d.held(&out, v)
	case upstream.RobotDead:
		d.robot(&out, v)
	case upstream.KeyDead:
		d.fill(&out, 0, d.batch.Cut, flow.FateDead)
		d.because(&out, v)
		d.pursue(&out, d.groups())
	case upstream.BatchKey:
		d.batchKey(&out, e, v)
	default:
		d.trouble(&out, e, v)
	}
	if v.Ambiguous {
		for i := range d.batch.Cut {
			out.Outcomes[i].Ambiguous = true
		}
	}
	return out
}

// begin gives a decision that keeps nothing and goes on with the next batch.
func (d *decider) begin(requestID string) decision {
	return decision{Settlement: flow.Settlement{Outcomes: make([]flow.Outcome, len(d.batch.Keys)), RequestID: requestID, Next: flow.NextClaim}}
}

func (d *decider) fill(out *decision, from, to int, fate flow.Fate) {
	for i := from; i < to; i++ {
		out.Outcomes[i].Fate = fate
	}
}

// because gives every key that dies the verdict's code and message.
func (d *decider) because(out *decision, v upstream.Verdict) {
	for i := range out.Outcomes {
		if out.Outcomes[i].Fate == flow.FateDead {
			out.Outcomes[i].Code, out.Outcomes[i].Message = v.Code, v.Message
		}
	}
}

// again keeps the whole batch as it is.
func (d *decider) again(out *decision, next flow.Next, tries int, n note) {
	d.fill(out, 0, len(d.batch.Keys), flow.FateKeep)
	out.Next, out.Cut, out.Tries, out.Note = next, d.batch.Cut, tries, n.String()
}

// throttled: the batch goes again when the app may call again; a short rest keeps the slot.
func (d *decider) throttled(out *decision, v upstream.Verdict) {
	out.Rest = max(v.Rest, time.Second)
	if out.Rest <= longestRest {
		d.again(out, flow.NextCall, d.batch.Tries, d.note)
		return
	}
	d.again(out, flow.NextHeld, d.batch.Tries, d.note)
	out.delay = out.Rest
}

// held: no call of the app can succeed, so the keys go back to wait with the others.
func (d *decider) held(out *decision, v upstream.Verdict) {
	d.fill(out, 0, len(d.batch.Keys), flow.FateWait)
	message := v.Message
	if v.Hint != "" {
		if message != "" {
			message += "; "
		}
		message += v.Hint
	}
	probe := max(d.policy.Probe, v.Rest)
	if v.Scope == upstream.BudgetHold {
		probe = max(probe, untilProbe(d.now, d.zone))
	}
	out.Hold = &flow.Hold{Reason: flow.Reason{Code: v.Code, Message: message}, Probe: probe, PerhapsRobot: perhapsRobot(v)}
}

// perhapsRobot is true for a refusal that may be one robot's: the permission to do this. Addresses, credentials and the month's calls are
// the app's.
func perhapsRobot(v upstream.Verdict) bool {
	return v.Scope == upstream.AppHold && strings.HasPrefix(v.Code, "Forbidden.") && !strings.Contains(v.Code, "WhiteList")
}

// robot: no such robot, or no such conversation of it. A second call confirms it before all keys die that wait for the batch's target.
// Those of the robot's other conversations are left to find out for themselves: that the answer is about more than the call it
// was given to is not known, and to be wrong about it would leave messages standing that could be recalled.
func (d *decider) robot(out *decision, v upstream.Verdict) {
	if !d.note.RobotBad {
		n := d.note
		n.RobotBad = true
		d.again(out, flow.NextCall, d.batch.Tries, n)
		return
	}
	d.fill(out, 0, len(d.batch.Keys), flow.FateDead)
	d.because(out, v)
	out.DeadRobot = &flow.Reason{Code: v.Code, Message: v.Message}
}

// batchKey: at least one key of several is bad. The message may name it; else it is looked for.
func (d *decider) batchKey(out *decision, e *upstream.Error, v upstream.Verdict) {
	if named := len(e.Keys); named > 0 && named < d.batch.Cut {
		for i, k := range d.batch.Keys {
			out.Outcomes[i].Fate = flow.FateWait
			if i < d.batch.Cut && slices.Contains(e.Keys, k.Key) {
				out.Outcomes[i].Fate = flow.FateDead
			}
		}
		d.because(out, v)
		return
	}
	d.split(out, group{Code: v.Code, Message: v.Message, RequestID: e.RequestID})
}

// withoutToken decides where no call was made because there is no token: nothing is known of the keys, however the request for
// the token went.
func (d *decider) withoutToken(e *upstream.Error) decision {
	v := e.Verdict(d.batch.Cut)
	v.Blameless, v.Ambiguous = true, false
	out := d.begin("")
	out.scope, out.hint = v.Scope, v.Hint
	switch v.Scope {
	case upstream.AppHold, upstream.BudgetHold:
		d.held(&out, v)
	default:
		d.unsent(&out, v)
	}
	return out
}

// unsent keeps a batch that no call was made with. That is not counted as a try: a batch that waited for hours for a connection
// would be split at the first trouble after it.
func (d *decider) unsent(out *decision, v upstream.Verdict) {
	n := d.note
	n.Unsent++
	d.again(out, flow.NextHeld, d.batch.Tries, n)
	out.delay = max(v.Rest, d.policy.backoff(n.Unsent))
}

// trouble: what may pass, or what nobody knows. The batch is tried again with backoff. It is split where other batches of
// the app succeed meanwhile, for then one of its keys is to blame and not the service. Where each key was given its reason there is nothing
// to look for: then all of them are.
func (d *decider) trouble(out *decision, e *upstream.Error, v upstream.Verdict) {
	if v.Blameless {
		d.unsent(out, v)
		return
	}
	n := d.note
	n.Unsent = 0
	if n.FirstFail == 0 {
		n.FirstFail = d.now.UnixMilli()
	}
	limit, split := d.policy.MaxAttempts, d.policy.SplitAfter
	if v.Scope == upstream.Unknown {
		limit, split = d.policy.UnknownAttempts, d.policy.UnknownAttempts
	}
	tries := d.batch.Tries + 1
	othersSucceed := !d.batch.LastOK.IsZero() && d.batch.LastOK.UnixMilli() > n.FirstFail
	switch {
	case d.batch.Cut == 1:
		d.alone(out, v, limit)
	case n.Isolating:
		d.split(out, group{Soft: true})
	case e.Partial != nil && (tries >= split && othersSucceed || tries >= 3*limit):
		d.byReasons(out, e, tries > split && tries < 3*limit)
	case tries >= split && othersSucceed, v.Scope != upstream.Unknown && tries >= 3*limit:
		d.note = n
		d.note.Isolating = true
		d.split(out, group{Soft: true})
	case v.Scope == upstream.Unknown && tries >= limit:
		d.fill(out, 0, len(d.batch.Keys), flow.FateDead)
		d.because(out, v)
	default:
		d.again(out, flow.NextHeld, tries, n)
		out.delay = max(v.Rest, d.policy.backoff(tries))
	}
}

// byReasons believes what the answer says of each key, though all were told the same: they wait, and die when they have had their attempts.
// Keys that are bad for ever with such a reason and get into one call cost, together, a dozen calls where others are recalled
// meanwhile, and three times the attempts of a key where nothing is: by halves it would be several for each of them. At the end of an
// outage a call may fail that was on its way when others succeeded already; keys that have met more failures than it takes to suspect them
// are spared once, to be asked anew.
func (d *decider) byReasons(out *decision, e *upstream.Error, spare bool) {
	for i, v := range e.Verdicts(d.batch.Called()) {
		k := d.batch.Keys[i]
		if spare && k.Attempts+1 < min(3*d.policy.MaxAttempts, mostAttempts) {
			k.Attempts = 0
		}
		out.Outcomes[i] = d.keyOutcome(k, v)
	}
	d.fill(out, d.batch.Cut, len(d.batch.Keys), flow.FateWait)
}

// alone: a single key failed by itself. It waits without a slot, and goes alone from then on if it sank others before.
func (d *decider) alone(out *decision, v upstream.Verdict, limit int) {
	k := d.batch.Keys[0]
	o := flow.Outcome{Fate: flow.FateLater, Delay: max(v.Rest, d.policy.backoff(k.Attempts+1))}
	if d.note.Isolating || k.Solo {
		o.Fate = flow.FateSolo
	}
	if k.Attempts+1 >= limit {
		o = flow.Outcome{Fate: flow.FateDead, Code: v.Code, Message: v.Message}
	}
	out.Outcomes[0] = o
	d.pursue(out, d.groups())
}
