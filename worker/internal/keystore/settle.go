package keystore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
)

const (
	// settleAtOnce is how many scripts of a process settle at once: one is worked on while the next lies ready.
	settleAtOnce = 2
	// settleTogether is how many batches a script settles at most, in which Redis does nothing else.
	settleTogether = 16
)

// settling is what a process has to settle. Batches that are ready while others are on their way go together in the next script: half of what
// a settlement costs does not depend on how many there are.
type settling struct {
	mu      sync.Mutex
	waiting []*settlement
	scripts int // on their way
}

// settlement is a batch that is to be settled. done is closed when reply or err is there.
type settlement struct {
	args  []any
	reply *Reply
	err   error
	done  chan struct{}
}

// Settle writes the outcome of the call of a batch and, in the same step, claims the next or does what o.Next says.
// Sent again, it changes nothing and is answered with what the slot holds now.
func (s *Store) Settle(ctx context.Context, at flow.SlotRun, batch int64, o flow.Settlement) (*Reply, error) {
	t := &settlement{args: settleArgs(at, batch, o), done: make(chan struct{})}
	if s.settling.add(t) {
		go s.settleWaiting(context.WithoutCancel(ctx))
	}
	select {
	case <-t.done:
		return t.reply, t.err
	case <-ctx.Done():
		s.settling.drop(t)
		return nil, fmt.Errorf("key store of app %q: settle: %w", s.app, ctx.Err())
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

// add puts a settlement to those that wait, and says whether a script more is to go.
func (w *settling) add(t *settlement) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, t)
	if w.scripts >= settleAtOnce {
		return false
	}
	w.scripts++
	return true
}

// drop forgets a settlement that nobody waits for any more, if it is not on its way yet.
func (w *settling) drop(t *settlement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.waiting {
		if w.waiting[i] == t {
			w.waiting = append(w.waiting[:i], w.waiting[i+1:]...)
			return
		}
	}
}

// next takes what the next script is to settle; nothing waits: nil, and one script less is on its way.
func (w *settling) next() []*settlement {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.waiting), settleTogether)
	if n == 0 {
		w.scripts--
		return nil
	}
	batch := append([]*settlement(nil), w.waiting[:n]...)
	w.waiting = append(w.waiting[:0], w.waiting[n:]...)
	return batch
}

// settleWaiting settles until nothing waits.
func (s *Store) settleWaiting(ctx context.Context) {
	for {
		together := s.settling.next()
		if together == nil {
			return
		}
		err := s.settleAll(ctx, together)
		var refused redis.Error
		if len(together) > 1 && errors.As(err, &refused) { // one of them cannot be settled: it must not keep the others from it
			for i := range together {
				if err := s.settleAll(ctx, together[i:i+1]); err != nil {
					together[i].err = err
				}
			}
			err = nil
		}
		for _, t := range together {
			if err != nil {
				t.err = err
			}
			close(t.done)
		}
	}
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
