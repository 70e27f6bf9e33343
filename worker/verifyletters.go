package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/hibiken/asynq"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
)

// settleLetters brings the dead letters of some batches into line with the ledger: keys that are recalled leave their letter, and keys
// whose messages are certain to stand get a letter that does not call them ambiguous. It may be done again, and half-way.
func (v *Verifier) settleLetters(ctx context.Context, batches map[letterBatch]bool) error {
	if len(batches) == 0 {
		return nil
	}
	// Gathered before any is changed: each change shifts the pages that the others are listed on.
	var letters []DeadTask
	insp := NewInspector(v.p.rdb, nil)
	err := insp.DeadLetters(ctx, DeadFilter{Ambiguous: true}, func(d DeadTask) error {
		if batches[letterBatch{d.Letter.App, d.Letter.Batch}] && v.p.apps[d.Letter.App] != nil {
			letters = append(letters, d)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range letters {
		if err := v.settleLetter(ctx, insp, d); err != nil {
			return err
		}
	}
	return nil
}

// settleLetter puts what is left of a letter in its place. The new letters come first: should this process die in between, a key stands in
// two letters of one batch, whose replay is one, and which are put right the next time.
func (v *Verifier) settleLetter(ctx context.Context, insp *Inspector, d DeadTask) error {
	left, err := v.whatIsLeft(ctx, d.Letter)
	if err != nil {
		return err
	}
	if len(left) == 1 && left[0].Ambiguous && len(left[0].Keys) == len(d.Letter.Keys) {
		return nil // nothing is settled yet
	}
	// One that somebody is just having replayed is about to be gone: deleted, its replay would be lost with it.
	if now, err := insp.DeadLetter(ctx, d.ID); errors.Is(err, ErrNoDeadLetter) || err == nil && now.State != d.State {
		return nil
	} else if err != nil {
		return err
	}
	for _, l := range left {
		if err := v.p.queue.bury(ctx, l, remainderID(d.ID, l)); err != nil {
			return fmt.Errorf("put dead letter %s right: %w", d.ID, err)
		}
	}
	err = insp.Purge(ctx, d.ID)
	if errors.Is(err, ErrNoDeadLetter) || errors.Is(err, asynq.ErrTaskNotFound) {
		return nil // somebody replayed or purged it meanwhile
	}
	return err
}

// whatIsLeft gives the letters that take the place of one: of the keys that are ambiguous as before, and of those that are certain to stand.
func (v *Verifier) whatIsLeft(ctx context.Context, l tasks.DeadLetter) ([]tasks.DeadLetter, error) {
	target := Target{RobotCode: l.RobotCode, Conversation: flow.Conversation(l.Conversation)}
	recs, err := v.p.apps[l.App].store.Lookup(ctx, target.Name(), l.Keys)
	if err != nil {
		return nil, err
	}
	open, certain := l, l
	certain.Ambiguous = false
	for _, part := range []*tasks.DeadLetter{&open, &certain} {
		part.Keys, part.SentAts = nil, nil
	}
	for i, r := range recs { // one for each key, since the target is named
		part := &open
		switch {
		case r.State == flow.Recalled:
			continue
		case r.State == flow.Dead && r.Batch == l.Batch && !r.Ambiguous:
			part = &certain
		}
		part.Keys = append(part.Keys, l.Keys[i])
		if len(l.SentAts) > 0 {
			part.SentAts = append(part.SentAts, l.SentAts[i])
		}
	}
	var left []tasks.DeadLetter
	for _, part := range []tasks.DeadLetter{open, certain} {
		if len(part.Keys) > 0 {
			left = append(left, part)
		}
	}
	return left, nil
}

// remainderMark stands between the id of a letter and what tells its remainders apart.
const remainderMark = ":rest-"

// remainderID names what is left of a letter by what is in it, so that putting a letter right twice makes it once.
func remainderID(id string, l tasks.DeadLetter) string {
	id, _, _ = strings.Cut(id, remainderMark)
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%v %q", l.Ambiguous, l.Keys) // a hash never fails
	return id + remainderMark + hex.EncodeToString(h.Sum(nil)[:6])
}
