package worker

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// queueLog gives asynq's log lines to zap. While Redis is away asynq writes the same line again and again, from every one of its
// loops: each kind is let through once in a while, with a count.
type queueLog struct {
	log  *zap.Logger
	now  func() time.Time
	mu   sync.Mutex
	seen map[string]*seenLine // by the first words of a line; guarded by mu
}

type seenLine struct {
	at     time.Time
	silent int
}

const (
	sameLineEvery = 10 * time.Second
	maxKinds      = 100
)

func newQueueLog(log *zap.Logger) *queueLog {
	return &queueLog{log: log.Named("asynq").WithOptions(zap.AddCallerSkip(1)), now: time.Now, seen: map[string]*seenLine{}}
}

// pass says whether a line is to be written, and how many of its kind were not.
func (q *queueLog) pass(text string) (silent int, ok bool) {
	kind := text
	if i := strings.IndexAny(kind, ":=0123456789"); i > 0 {
		kind = kind[:i]
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.seen[kind]
	now := q.now()
	if s == nil {
		if len(q.seen) >= maxKinds {
			clear(q.seen)
		}
		q.seen[kind] = &seenLine{at: now}
		return 0, true
	}
	if now.Sub(s.at) < sameLineEvery {
		s.silent++
		return 0, false
	}
	silent = s.silent
	*s = seenLine{at: now}
	return silent, true
}

func (q *queueLog) write(level func(string, ...zap.Field), args []any) {
	text := strings.TrimSpace(fmt.Sprint(args...))
	silent, ok := q.pass(text)
	if !ok {
		return
	}
	if silent > 0 {
		level(text, zap.Int("not_written", silent))
		return
	}
	level(text)
}

// Debug implements asynq.Logger.
func (q *queueLog) Debug(args ...any) { q.write(q.log.Debug, args) }

// Info implements asynq.Logger. What asynq tells of its own start and stop is of interest to whoever debugs it.
func (q *queueLog) Info(args ...any) { q.write(q.log.Debug, args) }

// Warn implements asynq.Logger.
func (q *queueLog) Warn(args ...any) { q.write(q.log.Warn, args) }

// Error implements asynq.Logger.
func (q *queueLog) Error(args ...any) { q.write(q.log.Error, args) }

// Fatal implements asynq.Logger. It must not end the process: that is for main to decide.
func (q *queueLog) Fatal(args ...any) { q.write(q.log.Error, args) }
