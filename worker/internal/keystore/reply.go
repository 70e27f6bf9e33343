package keystore

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"dingrecall/worker/internal/flow"
)

// Status is what a script says of the slot (or of what it was asked).
type Status string

// The statuses.
const (
	StatusOK      Status = "ok"
	StatusBatch   Status = "batch"   // a batch is bound to the slot: call it
	StatusIdle    Status = "idle"    // nothing is ready: the run ends
	StatusDue     Status = "due"     // the slot goes on in a new task: the run ends
	StatusHeld    Status = "held"    // the batch waits out a backoff: the run ends with an error
	StatusStale   Status = "stale"   // the task is not the slot's any more: the run ends
	StatusRefused Status = "refused" // another run has the slot: the run ends with an error without blame
)

// Reply is the answer of a script, checked.
type Reply struct {
	Status Status
	Due    []flow.DueSlot // tasks that are owed
	Next   time.Time      // the next moment at which Wake is owed; zero = none
	Outbox int            // dead letters to be drained
	Now    time.Time      // the clock that the script went by
	Local  time.Time      // the moment of Now on this process's clock: what Batch.Wait counts from
	Batch  *flow.Batch    // of StatusBatch
	Rest   time.Duration  // of StatusHeld: the app rests for so long; 0 = it does not
	extra  []any
}

var errShape = errors.New("the script's reply has an unexpected shape")

func decodeReply(v any) (*Reply, error) {
	a, ok := v.([]any)
	if !ok || len(a) != 6 {
		return nil, errShape
	}
	status, ok1 := a[0].(string)
	due, ok2 := a[1].([]any)
	next, ok3 := a[2].(int64)
	outbox, ok4 := a[3].(int64)
	now, ok5 := a[4].(int64)
	extra, ok6 := a[5].([]any)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || len(due)%2 != 0 {
		return nil, errShape
	}
	r := &Reply{Status: Status(status), Outbox: int(outbox), Now: time.UnixMicro(now), extra: extra}
	if next > 0 {
		r.Next = time.UnixMilli(next)
	}
	for i := 0; i < len(due); i += 2 {
		slot, err1 := number(due[i])
		gen, err2 := number(due[i+1])
		if err1 != nil || err2 != nil {
			return nil, errShape
		}
		r.Due = append(r.Due, flow.DueSlot{Slot: int(slot), Generation: gen})
	}
	return r, r.decodeExtra()
}

// decodeExtra reads what the script adds about a slot.
func (r *Reply) decodeExtra() (err error) {
	switch {
	case r.Status == StatusBatch:
		r.Batch, err = decodeBatch(r.extra)
	case r.Status == StatusHeld && len(r.extra) > 0:
		var ms int64
		ms, err = number(r.extra[0])
		r.Rest = time.Duration(ms) * time.Millisecond
	}
	return err
}

// of gives the part of a reply to several settlements that one of them gets.
func (r *Reply) of(v any) (*Reply, error) {
	a, ok := v.([]any)
	if !ok || len(a) != 2 {
		return nil, errShape
	}
	status, ok1 := a[0].(string)
	extra, ok2 := a[1].([]any)
	if !ok1 || !ok2 {
		return nil, errShape
	}
	if status == "error" {
		if len(extra) != 1 {
			return nil, errShape
		}
		return nil, fmt.Errorf("%v", extra[0])
	}
	one := *r
	one.Status, one.extra = Status(status), extra
	return &one, one.decodeExtra()
}

func (r *Reply) ints(n int) ([]int64, error) {
	if len(r.extra) != n {
		return nil, errShape
	}
	out := make([]int64, n)
	for i, v := range r.extra {
		x, err := number(v)
		if err != nil {
			return nil, err
		}
		out[i] = x
	}
	return out, nil
}

func number(v any) (int64, error) {
	switch x := v.(type) {
	case int64:
		return x, nil
	case string:
		n, err := strconv.ParseInt(x, 10, 64)
		if err != nil {
			return 0, errShape
		}
		return n, nil
	default:
		return 0, errShape
	}
}

func decodeBatch(a []any) (*flow.Batch, error) {
	if len(a) != 9 {
		return nil, errShape
	}
	var n [9]int64
	for _, i := range []int{0, 1, 3, 4, 6, 7} {
		x, ok := a[i].(int64)
		if !ok {
			return nil, errShape
		}
		n[i] = x
	}
	robot, ok1 := a[2].(string)
	note, ok2 := a[5].(string)
	items, ok3 := a[8].(string)
	if !ok1 || !ok2 || !ok3 {
		return nil, errShape
	}
	keys, err := decodeBound(items)
	if err != nil {
		return nil, err
	}
	target, err := flow.ParseTarget(robot)
	if err != nil {
		return nil, err
	}
	b := &flow.Batch{ID: n[0], Run: n[1], RobotCode: target.RobotCode, Conversation: target.Conversation, Cut: int(n[3]), Tries: int(n[4]), Note: note, Keys: keys,
		Wait: time.Duration(n[6]) * time.Microsecond}
	if n[7] > 0 {
		b.LastOK = time.UnixMilli(n[7])
	}
	if b.Cut < 1 || b.Cut > len(keys) || len(keys) > flow.MaxBatch {
		return nil, fmt.Errorf("a batch of %d keys with %d to call", len(keys), b.Cut)
	}
	return b, nil
}

const daySeconds = 86400

// decodeBound reads the keys of a batch, which come in packs.
func decodeBound(s string) ([]flow.BoundKey, error) {
	keys := make([]flow.BoundKey, 0, flow.MaxBatch)
	today := time.Now().Unix() / daySeconds
	for len(s) > 0 {
		p, rest, err := cutPack(s)
		if err != nil {
			return nil, err
		}
		like := boundLike(p.record, fullDay(today, int64(p.day)))
		for _, stored := range p.keys {
			if like.Key, err = unpack(stored); err != nil {
				return nil, err
			}
			keys = append(keys, like)
		}
		s = rest
	}
	return keys, nil
}

// boundLike gives what all keys of a pack share.
func boundLike(rec string, day int64) flow.BoundKey {
	flags := rec[0]
	deadline := int64(rec[5])<<16 | int64(rec[6])<<8 | int64(rec[7])
	return flow.BoundKey{Class: flow.Class(flags / 2 % 4), Ambiguous: flags%2 == 1, Solo: flags/64 == 1, Attempts: int(rec[2]), Incident: int(rec[3])<<8 | int(rec[4]),
		Deadline: time.Unix(deadline+(day-100)*daySeconds, 0)}
}

// fullDay gives the day nearest to today whose number modulo 250 is m: the ledger is kept for less than that.
func fullDay(today, m int64) int64 {
	d := today - ((today-m)%250+250)%250
	if today-d > 225 { // a clock that is a little behind Redis's
		d += 250
	}
	return d
}
