package keystore

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"pgregory.net/rapid"

	"dingrecall/worker/internal/flow"
)

// lawKeys are the keys of the law test: most of the usual shape, some odd.
var lawKeys = append(testKeys(0, 70), "x", "a key of thirty-one characters!", "a key of thirty-two characters!!", "ключ", testKey(1)[:43]+"A")

// lawEvent is what was done in a step.
type lawEvent struct {
	kind       string
	at         flow.SlotRun
	retry      int
	batch      *flow.Batch
	settlement *flow.Settlement
	admission  *Admission
	incident   string
	found      map[string]bool // keys that the service was asked about: is the message recalled?
	reply      *Reply
	now        int64
	together   []lawEvent // the settlements of one script, each with its own reply
}

// parts gives what was done, one by one.
func (e lawEvent) parts() []lawEvent {
	if e.together != nil {
		return e.together
	}
	return []lawEvent{e}
}

// lawSettled is what a settlement said of a key.
type lawSettled struct {
	flow.Outcome
	by lawEvent
}

// lawKey is a key as the model has it.
type lawKey struct {
	state    flow.State
	class    flow.Class
	att      int
	amb      bool
	incident string
	sent     int64 // s
	deadline int64 // s
	batch    int64 // in which it died
	later    int64 // ms, where it waits for later
	solo     bool
	note     string // in which step it last changed, for messages
}

// lawSlot is a slot as the raw data had it before a step.
type lawSlot struct {
	rawSlot
	retry int
}

type lawModel struct {
	keys      map[string]*lawKey // by robot and key
	slots     map[int]lawSlot
	letters   []Letter // drained
	incidents map[string]bool
	cancelled map[string]bool
	condemned map[string]bool // robots that a settlement said are dead
	held      bool            // the app, or a robot
	seen      map[string]bool // letters
}

func newLawModel() *lawModel {
	return &lawModel{keys: map[string]*lawKey{}, slots: map[int]lawSlot{}, incidents: map[string]bool{}, cancelled: map[string]bool{},
		condemned: map[string]bool{}, seen: map[string]bool{}}
}

func robotKey(robot, key string) string { return robot + " " + key }

// begin takes in the slots as they are.
func (m *lawModel) begin(c *recount) {
	for i, s := range c.slots {
		m.slots[i] = lawSlot{rawSlot: *s, retry: c.field("slot:"+strconv.Itoa(i), "retry")}
	}
	m.held = c.strs["meta"]["hold_code"] != "" || len(c.strs["heldrobots"]) > 0
}

// owns tells whether a run still has its slot, and the batch.
func (m *lawModel) owns(at flow.SlotRun, batch int64) bool {
	s, ok := m.slots[at.Slot]
	return ok && s.state == "running" && s.gen == at.Generation && s.run == at.Run && s.batch == batch
}

// expect gives what an admission must say, and takes in what it accepts.
func (m *lawModel) expect(a Admission, now int64, life time.Duration) (n Admitted) {
	m.incidents[a.Incident] = true
	delete(m.incidents, "")
	for i, key := range a.Keys {
		sent := a.SentAt
		if len(a.SentAts) > 0 {
			sent = a.SentAts[i]
		}
		if sent.IsZero() {
			sent = time.UnixMilli(now)
		}
		id := robotKey(a.RobotCode, key)
		k := m.keys[id]
		switch {
		case k == nil:
			n.Accepted++
			m.keys[id] = &lawKey{state: flow.Waiting, class: a.Class, incident: a.Incident, sent: sent.Unix(), deadline: sent.Unix() + int64(life/time.Second)}
		case k.state == flow.Waiting && k.later <= now && a.Class < k.class:
			n.Raised++
			k.class = a.Class
		case k.state == flow.Dead && a.Force && (a.Fence == 0 || a.Fence == k.batch):
			n.Revived++
			*k = lawKey{state: flow.Waiting, class: a.Class, amb: k.amb, incident: k.incident, sent: k.sent, deadline: k.deadline}
		default:
			n.Known++
		}
	}
	return n
}

// wantStatus is what a script must say where that does not depend on what waits.
func (m *lawModel) wantStatus(e lawEvent) []Status {
	s := m.slots[e.at.Slot]
	other := s.state == "" || s.state == "idle" || s.gen != e.at.Generation
	switch {
	case e.kind == "cancel" && !m.incidents[e.incident]:
		return []Status{StatusIdle}
	case e.kind == "release":
		return []Status{StatusOK, StatusIdle}
	case e.kind != "attach" && e.kind != "settle" && e.kind != "takeover":
		return []Status{StatusOK}
	case other:
		return []Status{StatusStale}
	case e.kind == "attach" && e.retry < s.retry, e.kind != "attach" && s.run != e.at.Run:
		return []Status{StatusRefused}
	case e.kind == "takeover":
		return []Status{StatusDue}
	case e.kind == "settle" && s.batch != e.batch.ID && s.state == "running":
		return []Status{StatusBatch}
	case e.kind == "settle" && (s.batch != e.batch.ID || s.state != "running"):
		return []Status{Status(s.state)}
	default:
		return []Status{StatusBatch, StatusIdle, StatusDue, StatusHeld}
	}
}

// follow compares the raw data after a step with what the step may have done, and takes them in.
func (m *lawModel) follow(c *recount, e lawEvent, n *lawTally) {
	settled, changes := map[string]lawSettled{}, false
	for _, part := range e.parts() {
		changes = m.followPart(c, part, settled, n) || changes
	}
	if e.kind == "cancel" {
		m.cancelled[e.incident] = true
	}
	if len(c.keys) != len(m.keys) {
		c.fault("%d keys are in the ledgers, %d were accepted", len(c.keys), len(m.keys))
	}
	letters := m.readLetters(c)
	for _, raw := range c.keys {
		id := robotKey(c.robots[raw.rid], raw.key)
		k := m.keys[id]
		if k == nil {
			c.fault("key %s was never accepted", id)
			continue
		}
		m.move(c, e, k, raw, id, settled, changes, letters, n)
	}
	for _, part := range e.parts() {
		m.checkBatch(c, part, changes)
	}
	m.begin(c)
}

// followPart checks the status of one reply, and takes in what it settles. True where it may have written outcomes and bound keys.
func (m *lawModel) followPart(c *recount, e lawEvent, settled map[string]lawSettled, n *lawTally) bool {
	want := m.wantStatus(e)
	if !slices.Contains(want, e.reply.Status) {
		c.fault("the status is %s and must be one of %v; slot before: %+v", e.reply.Status, want, m.slots[e.at.Slot])
	}
	switch {
	case e.reply.Status == StatusStale:
		n.Stale++
		return false
	case e.reply.Status == StatusRefused:
		n.Refused++
		return false
	case e.kind == "settle" && m.owns(e.at, e.batch.ID):
		m.settle(e, settled)
		return true
	}
	return e.kind == "attach"
}

// settle takes in what a settlement that counts says of each key.
func (m *lawModel) settle(e lawEvent, settled map[string]lawSettled) {
	if e.settlement.DeadRobot != nil {
		m.condemned[e.batch.RobotCode] = true
	}
	for i, b := range e.batch.Keys {
		o := e.settlement.Outcomes[i]
		id := robotKey(e.batch.RobotCode, b.Key)
		settled[id] = lawSettled{o, e}
		k := m.keys[id]
		if i < e.batch.Cut && e.settlement.Counted {
			k.att++
		}
		k.amb = k.amb || o.Ambiguous
		k.solo = k.solo || o.Fate == flow.FateSolo
		if o.Fate == flow.FateLater || o.Fate == flow.FateSolo {
			k.later = e.now + o.Delay.Milliseconds()
		}
	}
}

// readLetters gives the dead letters of the outbox by robot and key.
func (m *lawModel) readLetters(c *recount) map[string]Letter {
	byKey := map[string]Letter{}
	for id, s := range c.strs["outbox"] {
		l, err := decodeLetter(id, s)
		if err != nil {
			c.fault("dead letter %s: %v", id, err)
			continue
		}
		if len(l.Keys) > 7 {
			c.fault("dead letter %s has %d keys", id, len(l.Keys))
		}
		for _, key := range l.Keys {
			id := robotKey(l.RobotCode, key)
			if old, ok := byKey[id]; !ok || old.Batch < l.Batch {
				byKey[id] = l
			}
		}
	}
	return byKey
}

// move checks the way of one key in a step.
func (m *lawModel) move(c *recount, e lawEvent, k *lawKey, raw *rawKey, id string, settled map[string]lawSettled, changes bool, letters map[string]Letter, n *lawTally) {
	o, mine := settled[id]
	fault := func(what string) {
		c.fault("key %s: %v to %v: %s (it waits in %v, settled %v %+v; last %s)", id, k.state, raw.state, what, raw.places, mine, o.Outcome, k.note)
	}
	closed := k.deadline*1000 <= e.now
	was := k.state
	back := mine && o.Fate != flow.FateRecalled && o.Fate != flow.FateDead // it may then have been claimed again, and swept
	switch raw.state {
	case flow.Waiting:
		if was == flow.Recalled || was == flow.Dead || was == flow.Cancelled {
			fault("it was at its end")
		}
		if was == flow.Bound && !back && (!changes || e.kind != "attach" || !m.held) {
			fault("nobody gave it back")
		}
		if raw.later != (k.later > e.now) {
			fault(fmt.Sprintf("later %v, and it is to wait until %d, now %d", raw.later, k.later, e.now))
		}
	case flow.Bound:
		if was != flow.Bound && (was != flow.Waiting || !changes || k.later > e.now) {
			fault("it cannot have been claimed")
		}
	case flow.Recalled:
		if was == flow.Dead && e.found[id] {
			break
		}
		if was != flow.Recalled && (was != flow.Bound || !mine || o.Fate != flow.FateRecalled) {
			fault("no answer said so")
		}
	case flow.Cancelled:
		if was != flow.Cancelled && (!m.cancelled[k.incident] || k.incident == "" || (was == flow.Bound && !back && e.kind != "attach")) {
			fault("nobody cancelled it")
		}
	case flow.Dead:
		if was != flow.Dead {
			m.die(c, k, raw, id, o, mine && o.Fate == flow.FateDead, closed, letters[id])
		}
	}
	if _, asked := e.found[id]; asked && was == flow.Dead {
		k.amb = false
	}
	if raw.state != was || mine {
		k.note = fmt.Sprintf("%s at %d", e.kind, e.now)
	}
	m.tally(k.state, raw.state, raw.later, closed, n)
	k.state = raw.state
	if !raw.later {
		k.later = 0
	}
	if raw.class != k.class || raw.deadline != k.deadline || c.incs[raw.inc] != k.incident {
		fault(fmt.Sprintf("class %v, deadline %d, incident %q; the model says %+v", raw.class, raw.deadline, c.incs[raw.inc], *k))
	}
	if raw.state != flow.Bound && (raw.att != k.att || (raw.flags%2 == 1) != k.amb || raw.solo() != k.solo) {
		fault(fmt.Sprintf("attempts %d, flags %d; the model says %+v", raw.att, raw.flags, *k))
	}
}

func (m *lawModel) tally(was, is flow.State, later, closed bool, n *lawTally) {
	if was == is {
		return
	}
	switch is {
	case flow.Recalled:
		n.Recalled++
	case flow.Cancelled:
		n.Cancelled++
	case flow.Dead:
		n.Dead++
		if closed {
			n.Closed++
		}
	case flow.Waiting:
		if later {
			n.Deferred++
		}
	}
}

// die checks the letter of a key that died in this step.
func (m *lawModel) die(c *recount, k *lawKey, raw *rawKey, id string, o lawSettled, settled, closed bool, l Letter) {
	code := ""
	switch {
	case settled:
		code = o.Code
	case closed:
		code = "window.closed"
	case m.condemned[c.robots[raw.rid]]:
		code = "invalidParameter.robotCode"
	default:
		c.fault("key %s died of %q, and there was no reason to", id, l.Reason.Code)
	}
	sent := int64(-1)
	if i := slices.Index(l.Keys, raw.key); i >= 0 {
		sent = l.SentAts[i].Unix()
	}
	if l.Reason.Code != code || l.Attempts != k.att || l.Ambiguous != k.amb || l.Incident != k.incident || l.Class != k.class || sent != k.sent {
		c.fault("key %s, %+v, died of %q and has the letter %+v", id, *k, code, l)
	}
	request := o.Request
	if settled && request == "" {
		request = o.by.settlement.RequestID
	}
	if settled && (l.RequestID != request || l.Reason.Message != o.Message || l.Batch != o.by.batch.ID) {
		c.fault("key %s was settled with %+v in batch %d and has the letter %+v", id, o.Outcome, o.by.batch.ID, l)
	}
	k.batch = l.Batch
}

// checkBatch checks the batch that a reply hands out.
func (m *lawModel) checkBatch(c *recount, e lawEvent, changes bool) {
	b := e.reply.Batch
	if b == nil {
		return
	}
	var want []string
	for _, k := range b.Keys {
		id := robotKey(b.RobotCode, k.Key)
		want = append(want, id)
		own := m.keys[id]
		if own == nil {
			c.fault("the batch has key %s, which nobody accepted", id)
			continue
		}
		if changes && (own.deadline*1000 <= e.now && e.kind == "attach" || own.att != k.Attempts || own.amb != k.Ambiguous || own.class != k.Class || own.solo != k.Solo || own.deadline != k.Deadline.Unix()) {
			c.fault("the batch has key %+v at %d; the model says %+v", k, e.now, *own)
		}
	}
	s := c.slots[e.at.Slot]
	var got []string
	for _, k := range s.keys {
		raw := c.keys[k]
		got = append(got, robotKey(c.robots[raw.rid], raw.key))
	}
	if !slices.Equal(got, want) || s.batch != b.ID || s.run != b.Run || s.state != "running" {
		c.fault("slot %d is %+v, the reply hands out %+v", e.at.Slot, *s, *b)
	}
	if solo := slices.IndexFunc(b.Keys, func(k flow.BoundKey) bool { return k.Solo }); solo >= 0 && len(b.Keys) > 1 && b.Tries == 0 && b.Note == "" {
		c.fault("key %s must go alone, and goes with %d", b.Keys[solo].Key, len(b.Keys)-1)
	}
}

// deliver notes letters as drained and gives their names. The queue takes each once.
func (m *lawModel) deliver(letters []Letter) (ids []string) {
	for _, l := range letters {
		ids = append(ids, l.ID)
		if !m.seen[l.ID] {
			m.seen[l.ID] = true
			m.letters = append(m.letters, l)
		}
	}
	return ids
}

// lawSettlement draws what a call came to.
func lawSettlement(t *rapid.T, b *flow.Batch) flow.Settlement {
	o := flow.Settlement{Counted: true, RequestID: rapid.SampledFrom([]string{"req-1", "req-2", ""}).Draw(t, "request"),
		Next: rapid.SampledFrom([]flow.Next{flow.NextClaim, flow.NextClaim, flow.NextYield, flow.NextCall, flow.NextHeld}).Draw(t, "next")}
	kinds := map[string][]flow.Fate{
		"good": {flow.FateRecalled}, "mixed": {flow.FateRecalled, flow.FateRecalled, flow.FateDead, flow.FateLater, flow.FateSolo, flow.FateWait, flow.FateKeep},
		"keep": {flow.FateKeep}, "hold": {flow.FateWait}, "wait": {flow.FateWait}, "throttled": {flow.FateKeep}, "dead": {flow.FateDead}, "split": {flow.FateWait, flow.FatePark, flow.FateKeep},
	}
	kind := rapid.SampledFrom([]string{"good", "good", "mixed", "mixed", "keep", "hold", "wait", "throttled", "dead", "split"}).Draw(t, "kind")
	kept := 0
	for range b.Keys {
		out := flow.Outcome{Fate: rapid.SampledFrom(kinds[kind]).Draw(t, "fate"), Ambiguous: rapid.IntRange(0, 9).Draw(t, "ambiguous") == 0}
		switch out.Fate {
		case flow.FateDead:
			out.Code, out.Message = rapid.SampledFrom([]string{"system.error", "invalid.processQueryKey"}).Draw(t, "code"), "words\nand more of them"
			out.Request = rapid.SampledFrom([]string{"", "req-0"}).Draw(t, "its request")
		case flow.FateLater, flow.FateSolo:
			out.Delay = rapid.SampledFrom([]time.Duration{10 * time.Millisecond, time.Second, 10 * time.Minute}).Draw(t, "delay")
		case flow.FateKeep, flow.FatePark:
			kept++
		}
		o.Outcomes = append(o.Outcomes, out)
	}
	if kept > 0 {
		o.Cut, o.Tries, o.Note = rapid.IntRange(1, kept).Draw(t, "cut"), b.Tries+1, "a note"
		o.Fill = rapid.SampledFrom([]int{0, 1, 5, 20}).Draw(t, "fill")
	}
	switch kind {
	case "good":
		o.Answered = true
	case "hold":
		o.Counted, o.Hold = false, &flow.Hold{Reason: flow.Reason{Code: "IpNotInWhiteList", Message: "m"}, Probe: time.Minute,
			PerhapsRobot: rapid.Bool().Draw(t, "perhaps the robot")}
	case "wait":
		o.Counted = rapid.Bool().Draw(t, "counted")
	case "throttled":
		o.Counted, o.Rest = false, time.Second
	case "dead":
		if rapid.Bool().Draw(t, "robot") {
			o.DeadRobot = &flow.Reason{Code: "invalidParameter.robotCode", Message: "no such robot"}
		}
	}
	return o
}

// checkEnd: every accepted key is at an end, and nothing is left that would keep anybody at work.
func (w *lawWorld) checkEnd() {
	c := w.check(w.t)
	for id, k := range w.model.keys {
		if k.state != flow.Recalled && k.state != flow.Dead && k.state != flow.Cancelled {
			w.t.Fatalf("in the end key %s is %v: %+v", id, k.state, *k)
		}
	}
	for i, s := range c.slots {
		if s.state != "idle" {
			w.t.Fatalf("in the end slot %d is %s", i, s.state)
		}
	}
	for n, members := range c.zsets {
		if len(members) > 0 {
			w.t.Fatalf("in the end %s has %v", n, members)
		}
	}
	if len(c.strs["n"]) > 0 || len(c.lists) > 0 {
		w.t.Fatalf("in the end there are counters %v, lists %v", c.strs["n"], c.lists)
	}
}
