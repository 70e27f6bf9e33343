package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/tasks"
)

// maxBuffered is how many keys a feeder holds back, over all robots, to fill submissions up: a bound on memory.
const maxBuffered = 50_000

// feeder hands the keys of a file to the queue, in submissions of one robot. What it makes of a file depends on nothing but the
// file and the names, so that the same file twice makes the same submissions.
type feeder struct {
	client   *tasks.Client
	class    tasks.Class
	incident string
	queued   func(ids []string) // told of each submission in Redis; called by feed's goroutine

	submitted     atomic.Int64 // keys in Redis; may be read while feed runs
	submissions   int
	alreadyQueued int

	robots   map[string]*feedBuffer
	buffered int
}

type feedBuffer struct {
	keys   []string
	sentAt []time.Time
}

// feed submits all keys of the file, each once. On an error those that were handed over stay so.
func (f *feeder) feed(ctx context.Context, file *keyfile.File) error {
	f.robots = map[string]*feedBuffer{}
	var seen keyfile.Set
	err := file.Each(ctx, func(r keyfile.Row) error {
		if !seen.Add(r.RobotCode, r.Key) {
			return nil
		}
		return f.add(ctx, r)
	})
	if err != nil {
		return err
	}
	return f.flushAll(ctx)
}

func (f *feeder) add(ctx context.Context, r keyfile.Row) error {
	b := f.robots[r.RobotCode]
	if b == nil {
		b = &feedBuffer{}
		f.robots[r.RobotCode] = b
	}
	b.keys, b.sentAt = append(b.keys, r.Key), append(b.sentAt, r.SentAt)
	f.buffered++
	if len(b.keys) == tasks.MaxKeysPerSubmission {
		return f.flush(ctx, r.RobotCode)
	}
	if f.buffered >= maxBuffered {
		return f.flushAll(ctx)
	}
	return nil
}

func (f *feeder) flushAll(ctx context.Context) error {
	names := make([]string, 0, len(f.robots))
	for robot := range f.robots {
		names = append(names, robot)
	}
	slices.Sort(names)
	for _, robot := range names {
		if err := f.flush(ctx, robot); err != nil {
			return err
		}
	}
	return nil
}

func (f *feeder) flush(ctx context.Context, robot string) error {
	b := f.robots[robot]
	if len(b.keys) == 0 {
		return nil
	}
	receipt, err := f.client.Recall(ctx, robot, b.keys,
		tasks.SentAts(b.sentAt), tasks.Incident(f.incident), tasks.WithClass(f.class))
	var partial *tasks.PartialError
	if errors.As(err, &partial) {
		f.submitted.Add(int64(len(partial.Submitted)))
	}
	f.submissions += receipt.Submissions
	f.alreadyQueued += receipt.AlreadyQueued
	f.queued(receipt.TaskIDs)
	if err != nil {
		return fmt.Errorf("handing keys of robot %s to the queue: %w", robot, err)
	}
	f.submitted.Add(int64(receipt.Keys))
	f.buffered -= len(b.keys)
	b.keys, b.sentAt = b.keys[:0], b.sentAt[:0]
	return nil
}
