// Package deadletter brings dead letters from the key store's outbox into the queue recall-dead, and does what is owed when
// one of them runs: early, somebody asked for a replay and its keys wait again; at its time, its retention is over.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

// Outbox is where the key store leaves the dead letters of an app.
type Outbox interface {
	Outbox(ctx context.Context, n int) ([]keystore.Letter, error)
	Delivered(ctx context.Context, ids []string) error
}

// Bury enqueues a dead letter; with an id that exists it does nothing.
type Bury func(ctx context.Context, l tasks.DeadLetter, id string) error

const drainAtOnce = 100

// Drain moves all dead letters of an app's outbox into the queue. It may be run by several workers at once, and again after
// it failed half-way: the id of a letter is its own.
func Drain(ctx context.Context, app string, box Outbox, bury Bury, retention time.Duration) (moved int, err error) {
	for {
		letters, err := box.Outbox(ctx, drainAtOnce)
		if err != nil {
			return moved, err
		}
		if len(letters) == 0 {
			return moved, nil
		}
		ids := make([]string, 0, len(letters))
		for _, l := range letters {
			if err := bury(ctx, letterTask(app, l, retention), "dead:"+app+":"+l.ID); err != nil {
				return moved, fmt.Errorf("enqueue dead letter %s of app %q: %w", l.ID, app, err)
			}
			ids = append(ids, l.ID)
		}
		if err := box.Delivered(ctx, ids); err != nil {
			return moved, err
		}
		moved += len(ids)
	}
}

func letterTask(app string, l keystore.Letter, retention time.Duration) tasks.DeadLetter {
	out := tasks.DeadLetter{App: app, RobotCode: l.RobotCode, Conversation: tasks.Conversation(l.Conversation), Keys: l.Keys, Code: l.Reason.Code, Message: l.Reason.Message,
		RequestID: l.RequestID, Attempts: l.Attempts, Class: classOf(l.Class), Incident: l.Incident, DiedAt: l.DiedAt.UnixMilli(),
		Ambiguous: l.Ambiguous, Batch: l.Batch, RetainUntil: l.DiedAt.Add(retention).UnixMilli()}
	same := true
	for _, t := range l.SentAts {
		same = same && t.Equal(l.SentAts[0])
	}
	if same {
		out.SentAt = l.SentAts[0].UnixMilli()
		return out
	}
	for _, t := range l.SentAts {
		out.SentAts = append(out.SentAts, t.UnixMilli())
	}
	return out
}

func classOf(c flow.Class) tasks.Class {
	switch c {
	case flow.Urgent:
		return tasks.ClassUrgent
	case flow.Bulk:
		return tasks.ClassBulk
	default:
		return tasks.ClassDefault
	}
}

// Store admits keys of one app.
type Store interface {
	Admit(ctx context.Context, a keystore.Admission) (keystore.Admitted, *keystore.Reply, error)
}

// Deps is what a Handler is given.
type Deps struct {
	// AppOf gives the app that takes a robot now, and its store.
	AppOf func(robotCode string) (app string, store Store, ok bool)
	// After does what a reply of the key store asks for.
	After func(ctx context.Context, app string, r *keystore.Reply) error
	// Resubmit runs the raw payload of a submission that could not be read again through intake.
	Resubmit func(ctx context.Context, taskID string, class tasks.Class, payload []byte) error
	// Now is Redis's clock, so that one worker's clock that jumped replays nothing.
	Now func(ctx context.Context) (time.Time, error)
	// Over is told of every letter whose retention was over, Replayed of every replay.
	Over     func(l tasks.DeadLetter)
	Replayed func(l tasks.DeadLetter, revived int)
}

// Handler runs dead letters. It is safe for concurrent use.
type Handler struct{ deps Deps }

// NewHandler makes the handler of recall:dead tasks.
func NewHandler(deps Deps) *Handler { return &Handler{deps: deps} }

const soon = 2 * time.Second

// Run does what is owed when a dead letter runs. Running it twice replays once: the batch in which its keys died is the fence.
func (h *Handler) Run(ctx context.Context, taskID string, payload []byte) error {
	l, err := tasks.DecodeDeadLetter(payload)
	if err != nil {
		// Nothing can be replayed from it, and dropping it would lose what somebody put there: it stays, with the reason.
		return &flow.Later{Delay: 24 * time.Hour, Err: fmt.Errorf("this is no dead letter: %w", err)}
	}
	now, err := h.deps.Now(ctx)
	if err != nil {
		return &flow.Later{Delay: soon, Err: err}
	}
	if !l.IsReplay(now) {
		h.deps.Over(l)
		return nil
	}
	if raw := l.Raw(); len(raw) > 0 {
		return h.deps.Resubmit(ctx, taskID, l.Class, raw)
	}
	return h.replay(ctx, l, now)
}

func (h *Handler) replay(ctx context.Context, l tasks.DeadLetter, now time.Time) error {
	for i, k := range l.Keys {
		if err := tasks.CheckKey(k); err != nil {
			return h.keep(l, now, fmt.Errorf("a key of this letter cannot be a key (it %w): send it again as it should be, and purge this", err))
		}
		if err := tasks.CheckSentAt(l.SentAtOf(i), now); err != nil {
			return h.keep(l, now, fmt.Errorf("when a key of this letter was sent cannot be true (%w): send it again as it should be, and purge this", err))
		}
	}
	app, store, ok := h.deps.AppOf(l.RobotCode)
	if !ok {
		return h.keep(l, now, fmt.Errorf("no app of the configuration takes robot %q: configure it, then run this again", l.RobotCode))
	}
	admitted, reply, err := store.Admit(ctx, admission(l, app))
	if errors.Is(err, keystore.ErrTargetLimit) {
		return h.keep(l, now, err)
	}
	if err != nil {
		return &flow.Later{Delay: soon, Err: err}
	}
	if err := h.deps.After(ctx, app, reply); err != nil {
		return &flow.Later{Delay: soon, Err: err}
	}
	h.deps.Replayed(l, admitted.Revived+admitted.Accepted)
	return nil
}

// keep leaves a letter that cannot be replayed where it is, until its retention is over or it is run again.
func (h *Handler) keep(l tasks.DeadLetter, now time.Time, why error) error {
	return &flow.Later{Delay: max(time.Minute, time.UnixMilli(l.RetainUntil).Sub(now)), Err: why}
}

func admission(l tasks.DeadLetter, app string) keystore.Admission {
	a := keystore.Admission{RobotCode: l.RobotCode, Conversation: flow.Conversation(l.Conversation), Keys: l.Keys, Class: flowClass(l.Class), Incident: l.Incident, Force: true}
	if l.App == app {
		a.Fence = l.Batch // the numbers of another app's batches mean nothing here
	}
	a.SentAts = make([]time.Time, len(l.Keys))
	for i := range l.Keys {
		if ms := l.SentAtOf(i); ms != 0 {
			a.SentAts[i] = time.UnixMilli(ms)
		}
	}
	return a
}

func flowClass(c tasks.Class) flow.Class {
	switch c {
	case tasks.ClassUrgent:
		return flow.Urgent
	case tasks.ClassBulk:
		return flow.Bulk
	default:
		return flow.Default
	}
}
