package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
)

const (
	// settleAtOnce is how many scripts of an app settle at once, in a process: one is worked on while the next lies ready.
	settleAtOnce = 2
	// settleTogether is how many batches a script settles at most, in which Redis does nothing else.
	settleTogether = 16
)

// settling is what a process has to settle. Batches that are ready while others are on their way go together in the next script: half of what
// a settlement costs does not depend on how many there are. Whoever settles does it for those that wait as well.
type settling struct {
	mu      sync.Mutex
	waiting []*settlement
	scripts int // on their way, or about to be
}

// settlement is a batch that is to be settled.
type settlement struct {
	args  []any
	lead  chan struct{} // closed when its caller is to settle it, and those that wait with it
	done  chan struct{} // closed when reply or err is there
	reply *Reply
	err   error
}

// errLeft is the error of settlements that another's script was to write whose caller went away meanwhile.
var errLeft = errors.New("whoever was to settle it went away")

// Settle writes the outcome of the call of a batch and, in the same step, claims the next or does what o.Next says.
// Sent again, it changes nothing and is answered with what the slot holds now.
func (s *Store) Settle(ctx context.Context, at flow.SlotRun, batch int64, o flow.Settlement) (*Reply, error) {
	args := settleArgs(at, batch, o)
	for {
		t := &settlement{args: args, lead: make(chan struct{}), done: make(chan struct{})}
		s.settling.add(t)
		select {
		case <-t.lead:
			s.settleWaiting(ctx, t)
		case <-t.done:
		case <-ctx.Done():
			s.settling.leave(t)
			return nil, fmt.Errorf("key store of app %q: settle: %w", s.app, ctx.Err())
		}
		if !errors.Is(t.err, errLeft) {
			return t.reply, t.err
		}
	}
}

func settleArgs(at flow.SlotRun, batch int64, o flow.Settlement) []any {
	outs, rows := encodeOutcomes(o.Outcomes)
	rest, holdCode, holdMessage, probe, ofRobot := "", "", "", "0", 0
	if o.Rest > 0 {
		rest = strconv.FormatInt(o.Rest.Milliseconds(), 10)
	}
	if o.Hold != nil {
		holdCode, holdMessage = o.Hold.Code, o.Hold.Message
		probe, ofRobot = strconv.FormatInt(o.Hold.Probe.Milliseconds(), 10), flag(o.Hold.PerhapsRobot)
	}
	robotCode, robotMessage := "", ""
	if o.DeadRobot != nil {
		robotCode, robotMessage = o.DeadRobot.Code, o.DeadRobot.Message
	}
	args := []any{0, at.Slot, at.Generation, at.Run, batch, outs, flag(o.Counted), o.RequestID, string(o.Next),
		o.Cut, o.Tries, o.Note, rest, holdCode, holdMessage, probe, flag(o.Answered), robotCode, robotMessage, ofRobot, o.Metered, o.Fill}
	for _, r := range rows {
		args = append(args, r[0], r[1], r[2])
	}
	args[0] = len(args) - 1
	return args
}

// add has a settlement settled by its caller where not enough scripts are on their way, and else has it wait.
func (w *settling) add(t *settlement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.scripts >= settleAtOnce {
		w.waiting = append(w.waiting, t)
		return
	}
	w.scripts++
	close(t.lead)
}

// take gives what may go with a settlement in its script.
func (w *settling) take() []*settlement {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.waiting), settleTogether-1)
	with := slices.Clone(w.waiting[:n])
	w.waiting = slices.Delete(w.waiting, 0, n)
	return with
}

// next ends a script: the first that waits is to be settled by its caller.
func (w *settling) next() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.scripts--
		return
	}
	close(w.waiting[0].lead)
	w.waiting = slices.Delete(w.waiting, 0, 1)
}

// leave forgets a settlement whose caller went away, if it is not on its way yet.
func (w *settling) leave(t *settlement) {
	w.mu.Lock()
	at := slices.Index(w.waiting, t)
	if at >= 0 {
		w.waiting = slices.Delete(w.waiting, at, at+1)
	}
	w.mu.Unlock()
	select {
	case <-t.lead:
		w.next()
	default:
	}
}

// settleWaiting settles a batch, and with it others that wait.
func (s *Store) settleWaiting(ctx context.Context, first *settlement) {
	with := s.settling.take()
	err := errLeft // of the others, also should this caller's goroutine end in a panic
	defer func() {
		for _, t := range with {
			switch {
			case err != nil:
				t.err = err
			case t.reply == nil && t.err == nil: // it was not come to
				t.err = errLeft
			}
			close(t.done)
		}
		s.settling.next()
	}()
	together := append([]*settlement{first}, with...)
	failed := s.settleAll(ctx, together)
	switch {
	case failed == nil:
		err = nil
	case ctx.Err() != nil:
		first.err = failed
	case len(with) > 0 && ofScript(failed): // the first of them cannot be settled: it must not keep the others from it
		err = nil
		first.err = s.settleAlone(ctx, first)
		for _, t := range with {
			if alone := s.settleAlone(ctx, t); ctx.Err() == nil {
				t.err = alone
			}
		}
	default:
		first.err, err = failed, failed
	}
}

// ofScript says whether it is the script that failed, and not Redis that refuses, or cannot be reached.
func ofScript(err error) bool {
	var told redis.Error
	return errors.As(err, &told) && !redis.IsReadOnlyError(err) && !redis.IsOOMError(err) && !redis.IsLoadingError(err) && !redis.IsMasterDownError(err)
}

func (s *Store) settleAlone(ctx context.Context, t *settlement) error {
	if err := s.settleAll(ctx, []*settlement{t}); err != nil {
		return err
	}
	return t.err
}

// settleAll settles batches with one script. An error is of all of them.
func (s *Store) settleAll(ctx context.Context, together []*settlement) error {
	var args []any
	for _, t := range together {
		args = append(args, t.args...)
	}
	r, err := s.step(ctx, "settle", settleScript, args...)
	if err != nil {
		return err
	}
	if len(r.extra) != len(together) {
		return fmt.Errorf("key store of app %q: settle: %w", s.app, errShape)
	}
	for i, t := range together {
		if t.reply, t.err = r.of(r.extra[i]); t.err != nil {
			t.err = fmt.Errorf("key store of app %q: settle: %w", s.app, t.err)
		}
	}
	return nil
}

// encodeOutcomes gives two characters for each key: the fate, a capital where the key is ambiguous, and a row of the table of what fates need.
func encodeOutcomes(outcomes []flow.Outcome) (string, [][3]string) {
	outs := make([]byte, 0, 2*len(outcomes))
	var rows [][3]string
	index := map[[3]string]int{}
	for _, o := range outcomes {
		row := byte('0')
		if o.Fate == flow.FateDead || o.Fate == flow.FateLater || o.Fate == flow.FateSolo {
			r := [3]string{o.Code, o.Message, o.Request}
			if o.Fate != flow.FateDead {
				r = [3]string{strconv.FormatInt(o.Delay.Milliseconds(), 10)}
			}
			i, ok := index[r]
			if !ok {
				i = len(rows)
				index[r] = i
				rows = append(rows, r)
			}
			row = byte('0' + i)
		}
		fate := byte(o.Fate)
		if o.Ambiguous {
			fate -= 'a' - 'A'
		}
		outs = append(outs, fate, row)
	}
	return string(outs), rows
}
