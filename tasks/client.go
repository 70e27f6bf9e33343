package tasks

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// enqueuer is what a [Client] needs of asynq.
type enqueuer interface {
	EnqueueContext(ctx context.Context, task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error)
}

// Client hands keys to the queue. It may be used by any number of goroutines at once. One Client serves a whole program.
type Client struct {
	queue  enqueuer
	now    func() time.Time
	close  func() error
	closed atomic.Bool
}

// NewClient returns a client with a Redis connection of its own, which is made with the first call, and closed by [Client.Close].
func NewClient(opt asynq.RedisConnOpt) *Client {
	if isNil(opt) {
		return newClient(nil, nil)
	}
	c := asynq.NewClient(opt)
	return newClient(c, c.Close)
}

// NewClientFromRedis returns a client on an existing Redis connection, which [Client.Close] leaves open.
func NewClientFromRedis(rdb redis.UniversalClient) *Client {
	if isNil(rdb) {
		return newClient(nil, nil)
	}
	return newClient(asynq.NewClientFromRedisClient(rdb), nil)
}

func newClient(queue enqueuer, closeFn func() error) *Client {
	return &Client{queue: queue, now: time.Now, close: closeFn}
}

// isNil also sees the nil pointer in an interface, which otherwise is a panic somewhere inside go-redis.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

// Close ends the client. Calls after it fail with [ErrClosed]. It may be called more than once.
func (c *Client) Close() error {
	if c.closed.Swap(true) || c.close == nil {
		return nil
	}
	if err := c.close(); err != nil {
		return fmt.Errorf("close the connection to Redis: %w", err)
	}
	return nil
}

// Receipt says what a call of [Client.Recall] did.
type Receipt struct {
	// Submissions is how many tasks the call stands for, those that were queued already included.
	Submissions int
	// Keys is how many distinct keys the call had.
	Keys int
	// Duplicates is how many keys were left out because the call had them already. len(keys) = Keys + Duplicates.
	Duplicates int
	// TaskIDs are the ids of the tasks in asynq, in the order of the keys.
	TaskIDs []string
	// AlreadyQueued is how many of the submissions an earlier call had queued, and were not done yet.
	AlreadyQueued int
}

// Recall asks for the recall of messages that one robot sent, by the processQueryKeys that batchSend answered with (or
// the calls that send to a group or a private chat: see [GroupChat] and [PrivateChat]). A nil error means that every key is in Redis. What became of them later, the workers know.
//
// Everything is checked before anything is queued; a [*ValidationError] lists what is wrong. A key that comes more than once is
// sent once; of different sending times the latest counts (not told is later than any), because a needless call costs less than
// a message left standing. Keys are queued in their order, in submissions of at most [MaxKeysPerSubmission].
//
// When queueing fails on the way, or ctx ends, the error is a [*PartialError], which says which keys are in. Make the same call again then: a
// submission is identified by its content, so one that is queued already counts as done ([Receipt].AlreadyQueued).
// asynq forgets a submission's identity once a worker has finished with it; the same call then queues it again, and the workers, who
// remember each key, make nothing of it.
func (c *Client) Recall(ctx context.Context, robotCode string, keys []string, opts ...Option) (Receipt, error) {
	o, err := c.check(robotCode, keys, opts)
	if err != nil {
		return Receipt{}, err
	}
	distinct, sentAts := fold(keys, o)
	receipt := Receipt{Keys: len(distinct), Duplicates: len(keys) - len(distinct)}
	total := (len(distinct) + MaxKeysPerSubmission - 1) / MaxKeysPerSubmission
	for from := 0; from < len(distinct); from += MaxKeysPerSubmission {
		to := min(from+MaxKeysPerSubmission, len(distinct))
		s := Submission{RobotCode: robotCode, Conversation: o.where, Keys: distinct[from:to], Incident: o.incident, Note: o.note}
		s.SentAt, s.SentAts = compact(sentAts[from:to])
		id, existed, err := c.submit(ctx, s, o.class)
		if err != nil {
			err = fmt.Errorf("put submission %d of %d into queue %q: %w", receipt.Submissions+1, total, o.class.Queue(), err)
			return receipt, &PartialError{Submitted: distinct[:from:from], Remaining: distinct[from:], Err: err}
		}
		receipt.Submissions++
		receipt.TaskIDs = append(receipt.TaskIDs, id)
		if existed {
			receipt.AlreadyQueued++
		}
	}
	return receipt, nil
}

// submit queues one submission, and says whether it was queued already.
func (c *Client) submit(ctx context.Context, s Submission, class Class) (id string, existed bool, err error) {
	if err := ctx.Err(); err != nil {
		return "", false, err
	}
	if c.queue == nil || c.closed.Load() {
		return "", false, ErrClosed
	}
	id = SubmitTaskID(s, class)
	task, opts := newSubmitTask(s, class, id)
	_, err = c.queue.EnqueueContext(ctx, task, opts...)
	switch {
	case err == nil:
		return id, false, nil
	case errors.Is(err, asynq.ErrTaskIDConflict):
		return id, true, nil
	}
	// asynq puts a code of its own in front, which tells a reader nothing.
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "UNKNOWN: ") {
		err = inner
	}
	// asynq writes the cause of some errors as text only, so errors.Is would not find the end of the context.
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return "", false, err
}

// fold drops the keys that the call has already had, and returns for each remaining one when it was sent.
func fold(keys []string, o options) (distinct []string, sentAts []int64) {
	distinct = make([]string, 0, len(keys))
	sentAts = make([]int64, 0, len(keys))
	at := make(map[string]int, len(keys))
	for i, key := range keys {
		sentAt := o.sentAtOf(i)
		if j, ok := at[key]; ok {
			if sentAt == 0 || (sentAts[j] != 0 && sentAt > sentAts[j]) {
				sentAts[j] = sentAt
			}
			continue
		}
		at[key] = len(distinct)
		distinct = append(distinct, key)
		sentAts = append(sentAts, sentAt)
	}
	return distinct, sentAts
}

// compact writes equal sending times as one. They differ only where the caller gave SentAts, whose entries of 0 then stay 0.
func compact(sentAts []int64) (int64, []int64) {
	for _, t := range sentAts {
		if t != sentAts[0] {
			return 0, sentAts
		}
	}
	return sentAts[0], nil
}
