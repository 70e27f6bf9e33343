package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"dingrecall/tasks"
)

// DeadTask is a dead letter as it stands in the queue.
type DeadTask struct {
	ID     string
	Letter tasks.DeadLetter
	Until  time.Time // the end of its retention
	State  string    // as the queue names it: scheduled, archived, pending (a replay on its way), retry, active
}

// DeadFilter chooses dead letters; an empty field matches all.
type DeadFilter struct {
	App, RobotCode, Conversation, Incident, Code string // Conversation is an openConversationId
	Ambiguous                                    bool   // only those of which an answer was lost
}

func (f DeadFilter) match(l tasks.DeadLetter) bool {
	return (f.App == "" || f.App == l.App) && (f.RobotCode == "" || f.RobotCode == l.RobotCode) &&
		(f.Conversation == "" || f.Conversation == l.OpenConversationID) && (!f.Ambiguous || l.Ambiguous) &&
		(f.Incident == "" || f.Incident == l.Incident) && (f.Code == "" || f.Code == l.Code)
}

// ErrNoDeadLetter is the error for an id that no dead letter has.
var ErrNoDeadLetter = errors.New("there is no such dead letter")

const pageSize = 500

// DeadLetters calls f for every dead letter that the filter chooses, those whose retention ends first going first; those that were
// replayed in vain, which wait among the queue's retries, and archived ones come last. It reads
// page by page: letters that come or go meanwhile may be missed. An error of f ends it.
func (i *Inspector) DeadLetters(ctx context.Context, filter DeadFilter, f func(DeadTask) error) error {
	lists := []func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){i.insp.ListScheduledTasks, i.insp.ListRetryTasks, i.insp.ListArchivedTasks}
	for _, list := range lists {
		for page := 1; ; page++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			infos, err := list(tasks.QueueDead, asynq.PageSize(pageSize), asynq.Page(page))
			if errors.Is(err, asynq.ErrQueueNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("list dead letters: %w", err)
			}
			for _, info := range infos {
				d, err := deadTask(info)
				if err != nil || !filter.match(d.Letter) {
					continue // no dead letter of ours: asynqmon shows it, and the worker sorts it out
				}
				if err := f(d); err != nil {
					return err
				}
			}
			if len(infos) < pageSize {
				break
			}
		}
	}
	return nil
}

func deadTask(info *asynq.TaskInfo) (DeadTask, error) {
	l, err := tasks.DecodeDeadLetter(info.Payload)
	if err != nil {
		return DeadTask{}, err
	}
	return DeadTask{ID: info.ID, Letter: l, Until: time.UnixMilli(l.RetainUntil), State: info.State.String()}, nil
}

// DeadLetter gives one dead letter, or ErrNoDeadLetter.
func (i *Inspector) DeadLetter(_ context.Context, id string) (DeadTask, error) {
	info, err := i.insp.GetTaskInfo(tasks.QueueDead, id)
	if errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound) {
		return DeadTask{}, fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
	}
	if err != nil {
		return DeadTask{}, fmt.Errorf("read dead letter %s: %w", id, err)
	}
	return deadTask(info)
}

// Replay has the keys of a dead letter waiting again, as soon as a worker takes the task up.
func (i *Inspector) Replay(_ context.Context, id string) error {
	return i.onDead(id, "replay", i.insp.RunTask)
}

// Purge removes a dead letter for good. What became of its keys stays in the ledger until that is over.
func (i *Inspector) Purge(_ context.Context, id string) error {
	return i.onDead(id, "purge", i.insp.DeleteTask)
}

func (i *Inspector) onDead(id, what string, do func(queue, id string) error) error {
	err := do(tasks.QueueDead, id)
	if errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound) {
		return fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
	}
	if err != nil {
		return fmt.Errorf("%s dead letter %s: %w", what, id, err)
	}
	return nil
}
