package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/tasks"
)

// maxBuffered is how many keys a feeder holds back, over all targets, to fill submissions up: a bound on memory.
const maxBuffered = 50_000

// feeder hands the keys of a file to the queue, in submissions of one target. What it makes of a file depends on nothing but the
// file and the names, so that the same file twice makes the same submissions.
type feeder struct {
	client   *tasks.Client
	class    tasks.Class
	incident string
	queued   func(ids []string) // told of each submission in Redis; called by feed's goroutine

	submitted     atomic.Int64 // keys in Redis; may be read while feed runs
	submissions   int
	alreadyQueued int

	targets  map[keyfile.Target]*feedBuffer
	buffered int
}

type feedBuffer struct {
	keys   []string
	sentAt []time.Time
}

// feed submits all keys of the file, each once. On an error those that were handed over stay so.
func (f *feeder) feed(ctx context.Context, file *keyfile.File) error {
	f.targets = map[keyfile.Target]*feedBuffer{}
	var seen keyfile.Set
	err := file.Each(ctx, func(r keyfile.Row) error {
		if !seen.Add(r.Target(), r.Key) {
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
	b := f.targets[r.Target()]
	if b == nil {
		b = &feedBuffer{}
		f.targets[r.Target()] = b
	}
	b.keys, b.sentAt = append(b.keys, r.Key), append(b.sentAt, r.SentAt)
	f.buffered++
	if len(b.keys) == tasks.MaxKeysPerSubmission {
		return f.flush(ctx, r.Target())
	}
	if f.buffered >= maxBuffered {
		return f.flushAll(ctx)
	}
	return nil
}

func (f *feeder) flushAll(ctx context.Context) error {
	all := slices.Collect(maps.Keys(f.targets))
	slices.SortFunc(all, func(a, b keyfile.Target) int {
		return cmp.Or(strings.Compare(a.RobotCode, b.RobotCode), strings.Compare(a.Chat, b.Chat), strings.Compare(a.OpenConversationID, b.OpenConversationID))
	})
	for _, target := range all {
		if err := f.flush(ctx, target); err != nil {
			return err
		}
	}
	return nil
}

func (f *feeder) flush(ctx context.Context, to keyfile.Target) error {
	b := f.targets[to]
	if len(b.keys) == 0 {
		return nil
	}
	receipt, err := f.client.Recall(ctx, to.RobotCode, b.keys, tasks.InConversation(to.Conversation),
		tasks.SentAts(b.sentAt), tasks.Incident(f.incident), tasks.WithClass(f.class))
	var partial *tasks.PartialError
	if errors.As(err, &partial) {
		f.submitted.Add(int64(len(partial.Submitted)))
	}
	f.submissions += receipt.Submissions
	f.alreadyQueued += receipt.AlreadyQueued
	f.queued(receipt.TaskIDs)
	if err != nil {
		return fmt.Errorf("handing keys of robot %s to the queue: %w", to, err)
	}
	f.submitted.Add(int64(receipt.Keys))
	f.buffered -= len(b.keys)
	b.keys, b.sentAt = b.keys[:0], b.sentAt[:0]
	return nil
}
