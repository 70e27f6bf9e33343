package worker_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

// benchKeys is a broadcast to 2 million people, at 20 a message.
const benchKeys = 100_000

// BenchmarkPipeline takes the whole way of keys, from the client to recalled, on a real Redis, against a simulator in this process that
// answers at once and has no limit: what is measured is this program, with the simulator's share of the processors.
//
// all: submission, admission and drain at once. drain: the keys are admitted before the clock starts.
func BenchmarkPipeline(b *testing.B) {
	b.Run("all", func(b *testing.B) { benchPipeline(b, false) })
	b.Run("drain", func(b *testing.B) { benchPipeline(b, true) })
}

// spent is what a round took: of the clock, and of the processors by this process (the simulator's share included) and by Redis. Where
// others use the machine as well, the latter tell more.
type spent struct{ wall, process, redis time.Duration }

func (s *spent) add(o spent) {
	s.wall, s.process, s.redis = s.wall+o.wall, s.process+o.process, s.redis+o.redis
}

func benchPipeline(b *testing.B, drainOnly bool) {
	var total spent
	for n := range b.N {
		total.add(benchRound(b, madeKeys(n*benchKeys, benchKeys, simulator.Good), drainOnly))
	}
	keys := float64(b.N) * benchKeys
	b.ReportMetric(0, "ns/op") // of 100,000 keys and their making: of no interest
	b.ReportMetric(keys/total.wall.Seconds(), "keys/s")
	b.ReportMetric(float64(total.process.Microseconds())/keys, "process-µs/key")
	b.ReportMetric(float64(total.redis.Microseconds())/keys, "redis-µs/key")
}

func benchRound(b *testing.B, keys []string, drainOnly bool) spent {
	rdb := redistest.Real(b)
	bd := setup(b, rdb, simulator.Config{ForgetKeys: true}, func(c *worker.Config) {
		c.MaxSlots, c.Linger = 64, time.Second
	})
	bd.calls.forget = true
	release := func() {}
	if drainOnly {
		release = bd.holdBack()
	}
	w, err := worker.New(bd.cfg, worker.Deps{Redis: rdb, Log: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	began := bd.clock()
	bd.submitAtOnce(keys)
	if drainOnly {
		bd.untilAccepted(len(keys))
		began = bd.clock()
		release()
	}
	st := bd.untilSettled(len(keys))
	ended := bd.clock()
	if st.Total.Recalled != int64(len(keys)) {
		b.Fatalf("%d of %d keys recalled", st.Total.Recalled, len(keys))
	}
	return spent{ended.wall - began.wall, ended.process - began.process, ended.redis - began.redis}
}

// clock reads what was spent so far.
func (b *bundle) clock() spent {
	b.t.Helper()
	info, err := b.rdb.Info(context.Background(), "cpu").Result()
	if err != nil {
		b.t.Fatal(err)
	}
	s := spent{wall: time.Since(benchBegan)}
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		var seconds float64
		_, line, _ := strings.Cut(info, "\n"+name+":")
		if _, err := fmt.Sscan(line, &seconds); err != nil {
			b.t.Fatalf("%s: %v", name, err)
		}
		s.redis += time.Duration(seconds * float64(time.Second))
	}
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.t.Fatal(err)
	}
	s.process = time.Duration(use.Utime.Nano() + use.Stime.Nano())
	return s
}

var benchBegan = time.Now()

// submitAtOnce has four producers share the keys.
func (b *bundle) submitAtOnce(keys []string) {
	b.t.Helper()
	var all sync.WaitGroup
	const producers = 4
	for p := range producers {
		all.Go(func() {
			part := keys[p*len(keys)/producers : (p+1)*len(keys)/producers]
			if _, err := b.client.Recall(context.Background(), robot, part, tasks.Incident("storm")); err != nil {
				b.t.Error(err)
			}
		})
	}
	all.Wait()
}
