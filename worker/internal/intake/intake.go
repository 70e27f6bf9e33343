// Package intake takes submissions into the key store: it decodes and checks the payload of a recall:submit task, admits its
// keys, wakes slots for them, and only then lets the task be acknowledged. What cannot be admitted becomes a dead letter with
// the reason: the task never fails for what is in it, so it can neither loop nor end in the queue's archive.
package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

// Task is a task as it came from the queue.
type Task struct {
	ID, Type, Queue string
	Class           tasks.Class
	Payload         []byte
}

// Store admits keys of one app.
type Store interface {
	Admit(ctx context.Context, a keystore.Admission) (keystore.Admitted, *keystore.Reply, error)
}

// Observer is told what came in.
type Observer interface {
	Admitted(app string, a keystore.Admitted)
	Malformed(code string, keys int)
}

// Deps is what an Intake is given.
type Deps struct {
	// AppOf gives the app that takes a robot, and its store.
	AppOf func(robotCode string) (app string, store Store, ok bool)
	// After does what a reply of the key store asks for.
	After func(ctx context.Context, app string, r *keystore.Reply) error
	// Bury enqueues a dead letter; with an id that exists it does nothing.
	Bury     func(ctx context.Context, l tasks.DeadLetter, id string) error
	Observer Observer
	Now      func() time.Time
	// Retention of the dead letters made here.
	Retention time.Duration
}

// Intake is the first stage. It is safe for concurrent use.
type Intake struct{ deps Deps }

// New makes the stage.
func New(deps Deps) *Intake { return &Intake{deps: deps} }

// soon is when a submission comes back that met a Redis that blinked.
const soon = 2 * time.Second

// Submit takes a submission in. A nil error means that each of its keys is in the key store or in a dead letter.
func (in *Intake) Submit(ctx context.Context, t Task) error {
	if err := in.submit(ctx, t); err != nil {
		return &flow.Later{Delay: soon, Err: err}
	}
	return nil
}

func (in *Intake) submit(ctx context.Context, t Task) error {
	if t.Type != tasks.TypeSubmit {
		return in.unreadable(ctx, t, fmt.Sprintf("a task of type %q has no business in queue %q", t.Type, t.Queue))
	}
	s, problems, err := tasks.DecodeSubmission(t.Payload)
	if err != nil {
		return in.unreadable(ctx, t, err.Error())
	}
	problems = append(problems, s.TakeFuture(in.deps.Now())...)
	if err := in.buryKeys(ctx, t, s, problems); err != nil {
		return err
	}
	if len(s.Keys) == 0 {
		return nil
	}
	app, store, ok := in.deps.AppOf(s.RobotCode)
	if !ok {
		return in.homeless(ctx, t, s)
	}
	a := admission(s, t.Class)
	a.Each = func(r *keystore.Reply) error { return in.deps.After(ctx, app, r) }
	admitted, reply, err := store.Admit(ctx, a)
	in.deps.Observer.Admitted(app, admitted)     // also where not all are in: to the next try these are known
	if errors.Is(err, keystore.ErrTargetLimit) { // it would be so the next time as well
		return in.unadmitted(ctx, t, s, tasks.CodeTargetLimit, err.Error())
	}
	if err != nil {
		return err
	}
	return in.deps.After(ctx, app, reply)
}

func admission(s tasks.Submission, class tasks.Class) keystore.Admission {
	a := keystore.Admission{RobotCode: s.RobotCode, Conversation: flow.Conversation(s.Conversation), Keys: s.Keys, Class: ClassOf(class), Incident: s.Incident}
	if len(s.SentAts) == 0 {
		a.SentAt = Moment(s.SentAt)
		return a
	}
	a.SentAts = make([]time.Time, len(s.Keys))
	for i := range s.Keys {
		a.SentAts[i] = Moment(s.SentAtOf(i))
	}
	return a
}

// Moment reads epoch milliseconds; 0 is the zero time: not told.
func Moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// ClassOf gives the key store's class for a task's.
func ClassOf(c tasks.Class) flow.Class {
	switch c {
	case tasks.ClassUrgent:
		return flow.Urgent
	case tasks.ClassBulk:
		return flow.Bulk
	default:
		return flow.Default
	}
}

// unreadable buries a submission of which nothing can be used, byte for byte.
func (in *Intake) unreadable(ctx context.Context, t Task, why string) error {
	l := in.letter(t, tasks.CodeSubmissionMalformed, why)
	l.SetRaw(t.Payload)
	in.deps.Observer.Malformed(l.Code, 0)
	return in.bury(ctx, t, l)
}

// buryKeys buries the keys of a submission that cannot be keys; the others go on.
func (in *Intake) buryKeys(ctx context.Context, t Task, s tasks.Submission, problems []tasks.KeyProblem) error {
	if len(problems) == 0 {
		return nil
	}
	l := in.letter(t, tasks.CodeKeyMalformed, problems[0].String())
	if more := len(problems) - 1; more > 0 {
		l.Message += fmt.Sprintf(" (and %d more)", more)
	}
	l.RobotCode, l.Conversation, l.Incident = s.RobotCode, s.Conversation, s.Incident
	for _, p := range problems {
		l.Keys = append(l.Keys, p.Key)
		l.SentAts = append(l.SentAts, p.SentAt)
	}
	in.deps.Observer.Malformed(l.Code, len(problems))
	return in.bury(ctx, t, l)
}

// homeless buries the keys of a robot that no app takes; they can be replayed once one does.
func (in *Intake) homeless(ctx context.Context, t Task, s tasks.Submission) error {
	return in.unadmitted(ctx, t, s, tasks.CodeRobotUnconfigured,
		fmt.Sprintf("no app of the configuration takes robot %q: name it under an app's robots, or give one app \"*\", then replay this", s.RobotCode))
}

// unadmitted buries all keys of a submission that the key store cannot take as things are.
func (in *Intake) unadmitted(ctx context.Context, t Task, s tasks.Submission, code, why string) error {
	l := in.letter(t, code, why)
	l.RobotCode, l.Conversation, l.Incident, l.Keys, l.SentAt, l.SentAts = s.RobotCode, s.Conversation, s.Incident, s.Keys, s.SentAt, s.SentAts
	in.deps.Observer.Malformed(l.Code, len(s.Keys))
	return in.bury(ctx, t, l)
}

func (in *Intake) letter(t Task, code, message string) tasks.DeadLetter {
	now := in.deps.Now()
	return tasks.DeadLetter{Code: code, Message: message, Class: t.Class, DiedAt: now.UnixMilli(),
		RetainUntil: now.Add(in.deps.Retention).UnixMilli(), Origin: tasks.OriginOf(t.ID, t.Type, t.Queue)}
}

func (in *Intake) bury(ctx context.Context, t Task, l tasks.DeadLetter) error {
	return in.deps.Bury(ctx, l, tasks.DeadSubmissionTaskID(t.ID, l.Code))
}
