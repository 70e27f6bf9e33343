package worker

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestTheSameLineIsWrittenOnceInAWhile(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	q := newQueueLog(zap.New(core))
	now := time.Unix(1_790_000_000, 0)
	q.now = func() time.Time { return now }
	for range 1000 {
		q.Error("Dequeue error: dial tcp 127.0.0.1:6379: connection refused")
		q.Warn("recoverer: could not list")
	}
	now = now.Add(sameLineEvery - 1)
	q.Error("Dequeue error: another cause")
	if n := logs.Len(); n != 2 {
		t.Fatalf("%d lines within %v", n, sameLineEvery)
	}
	now = now.Add(1)
	q.Error("Dequeue error: i/o timeout")
	last := logs.All()[2]
	if last.Message != "Dequeue error: i/o timeout" || last.Level != zapcore.ErrorLevel || last.ContextMap()["not_written"] != int64(1000) {
		t.Errorf("%+v", last)
	}
	now = now.Add(sameLineEvery)
	q.Error("Dequeue error: i/o timeout")
	if last := logs.All()[3]; len(last.Context) != 0 {
		t.Errorf("nothing was left out, and it says so: %v", last.Context)
	}
}

func TestLevelsOfTheQueuesLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	q := newQueueLog(zap.New(core))
	q.Debug("a")
	q.Info("b")
	q.Warn("c", " and ", 4)
	q.Error("d")
	q.Fatal("e") // and goes on
	q.Error("")
	q.Error("7 tasks")
	want := []zapcore.Level{zapcore.DebugLevel, zapcore.DebugLevel, zapcore.WarnLevel, zapcore.ErrorLevel, zapcore.ErrorLevel, zapcore.ErrorLevel, zapcore.ErrorLevel}
	for i, e := range logs.All() {
		if e.Level != want[i] || e.LoggerName != "asynq" {
			t.Errorf("line %d: %v of %s", i, e.Level, e.LoggerName)
		}
	}
	if logs.Len() != len(want) || logs.All()[2].Message != "c and 4" {
		t.Errorf("%v", logs.All())
	}
}

func TestTheQueuesLogForgets(t *testing.T) {
	t.Parallel()
	q := newQueueLog(zap.NewNop())
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 1000 {
				q.Error(fmt.Sprintf("%c%c%c of worker %d", 'a'+j%26, 'a'+j/26%26, 'a'+j/676, i))
			}
		})
	}
	all.Wait()
	if n := len(q.seen); n == 0 || n > maxKinds {
		t.Errorf("%d kinds of lines are remembered", n)
	}
}
