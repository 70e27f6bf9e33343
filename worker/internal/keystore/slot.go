package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
)

// Attach begins a run of a slot: the first step of every run of its task. retry is the retry count of the task as the queue
// tells it; a delivery older than one already seen is refused, and so is one of a task whose run is in a call (Params.Lease).
func (s *Store) Attach(ctx context.Context, slot int, generation int64, retry int) (*Reply, error) {
	return s.step(ctx, "attach", attachScript, slot, generation, retry, s.params().Lease.Milliseconds())
}

// Permit is the right to make one call.
type Permit struct {
	From  time.Time // from when on the call may be made
	Given time.Time // when it was given
}

// Permit takes another permit for a batch that is bound, where the one it had was used or has passed. call says which call of
// the batch by this run it is for, counted from 1. ok is false when the batch is no longer this run's, or when no call is to be made:
// the app rests for long, or is held, or the month's calls are spent.
func (s *Store) Permit(ctx context.Context, at flow.SlotRun, batch int64, call int) (p Permit, ok bool, err error) {
	r, err := s.step(ctx, "permit", permitScript, at.Slot, at.Generation, at.Run, batch, s.lead().Microseconds(), call)
	if err != nil || r.Status != StatusOK {
		return Permit{}, false, err
	}
	n, err := r.ints(1)
	if err != nil {
		return Permit{}, false, err
	}
	return Permit{From: r.Local.Add(time.Duration(n[0]) * time.Microsecond), Given: r.Local}, true, nil
}

// mostLead bounds how far ahead a permit is asked for.
const mostLead = 100 * time.Millisecond

// lead gives how long the reply to a script is likely to take.
func (s *Store) lead() time.Duration {
	if s.now != nil {
		return 0
	}
	return min(mostLead, s.offset.usual()*3/2)
}

// Takeover makes the slot of a run that is known to be gone due at its next generation, with its batch still bound. Whether it called
// is not known, so what was counted for it stays counted.
func (s *Store) Takeover(ctx context.Context, at flow.SlotRun) (*Reply, error) {
	return s.step(ctx, "takeover", takeoverScript, at.Slot, at.Generation, at.Run, "")
}

// GiveUp is Takeover by the run itself, which has made so many calls of its batch that the month counts.
func (s *Store) GiveUp(ctx context.Context, at flow.SlotRun, metered int) (*Reply, error) {
	return s.step(ctx, "give up", takeoverScript, at.Slot, at.Generation, at.Run, metered)
}

// Stalled says whether keys wait while a call goes on for longer than it should: whoever makes it may be gone, and then nobody else
// looks after the keys. Two reads.
func (s *Store) Stalled(ctx context.Context) (bool, error) {
	var oldest *redis.ZSliceCmd
	var waiting *redis.StringCmd
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		oldest = p.ZRangeWithScores(ctx, name(s.app, "calling"), 0, 0)
		waiting = p.HGet(ctx, name(s.app, "meta"), "waiting")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("key store of app %q: look for calls that hang: %w", s.app, err)
	}
	n, calls := waiting.Val(), oldest.Val()
	return n != "" && n != "0" && len(calls) > 0 && calls[0].Score <= float64(s.Now().Add(-s.params().stuck()).UnixMilli()), nil
}

// RunOf tells which generation and run a slot is at; both are 0 for a slot that was never used.
func (s *Store) RunOf(ctx context.Context, slot int) (flow.SlotRun, error) {
	v, err := s.rdb.HMGet(ctx, name(s.app, "slot", slot), "gen", "run").Result()
	if err != nil {
		return flow.SlotRun{}, fmt.Errorf("key store of app %q: slot %d: %w", s.app, slot, err)
	}
	at := flow.SlotRun{Slot: slot}
	for i, to := range []*int64{&at.Generation, &at.Run} {
		if v[i] == nil {
			continue
		}
		if *to, err = number(v[i]); err != nil {
			return flow.SlotRun{}, fmt.Errorf("key store of app %q: slot %d: %w", s.app, slot, err)
		}
	}
	return at, nil
}
