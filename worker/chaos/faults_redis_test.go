package chaos

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"time"

	"dingrecall/worker/internal/proctest"
)

// crashRedis ends Redis as a crash does, and gives the moment.
func (w *world) crashRedis() time.Time {
	at := time.Now()
	if err := w.redis.Kill(); err != nil {
		w.Fatal(err)
	}
	return at
}

func (w *world) restartRedis() {
	if err := w.redis.Restart(); err != nil {
		w.Fatal(err)
	}
	w.over = time.Now()
}

// killRedis: what Redis acknowledged is on disk, so that nothing may be called twice.
func killRedis(w *world) {
	for range 2 {
		w.crashRedis()
		w.pause(w.between(0, 3*time.Second))
		w.restartRedis()
		w.pause(w.between(0, 2*time.Second))
	}
}

// killRedisEverysec: Redis may forget what it had not handed to the system. It does that before it answers, but while the disk is busy it holds back for
// up to two seconds.
func killRedisEverysec(w *world) {
	for range 2 {
		at := w.crashRedis()
		w.forgot = append(w.forgot, span{at.Add(-2 * time.Second), time.Now().Add(noted)})
		w.pause(w.between(0, 3*time.Second))
		w.restartRedis()
		w.windows = append(w.windows, span{at.Add(-2*time.Second - written), time.Now()})
		w.pause(w.between(0, 2*time.Second))
	}
}

const (
	// noted is by when what was told to a producer is in the ledger of the test.
	noted = 100 * time.Millisecond
	// written is by when what a call came to is in Redis, on a busy machine.
	written = 500 * time.Millisecond
)

// cutPower: a crash of the whole machine takes with it what was not on disk yet. That is the end of the file, up to a second of it, and
// what Redis had not written to the file: it holds that back for up to two seconds while the disk is busy.
func cutPower(w *world) {
	lost := span{from: time.Now().Add(-2 * time.Second)}
	onDisk := w.aofSize()
	w.pause(w.between(0, time.Second))
	w.crashRedis()
	lost.to = time.Now().Add(noted)
	if err := os.Truncate(w.aof(), onDisk); err != nil {
		w.Fatal(err)
	}
	w.forgot = append(w.forgot, lost)
	w.pause(w.between(0, 3*time.Second))
	w.restartRedis()
	w.windows = append(w.windows, span{lost.from.Add(-written), time.Now()}) // calls that were claimed before the crash may begin after it
	w.pause(w.between(0, 2*time.Second))
}

// aof gives the file that Redis appends to.
func (w *world) aof() string {
	names, err := filepath.Glob(filepath.Join(w.redis.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil || len(names) != 1 {
		w.Fatalf("%v, %v", names, err)
	}
	return names[0]
}

func (w *world) aofSize() int64 {
	info, err := os.Stat(w.aof())
	if err != nil {
		w.Fatal(err)
	}
	return info.Size()
}

// redisGone: workers try for 20 s to write what their calls came to. Then those calls are made again.
func redisGone(w *world) {
	at := w.crashRedis()
	w.pause(30 * time.Second)
	w.windows = append(w.windows, span{at.Add(-written), time.Now()})
	w.restartRedis()
}

func cutConnections(w *world) {
	for range 12 {
		w.ownProxy.Cut()
		for _, a := range w.agents {
			a.proxy.Cut()
		}
		w.pause(w.between(0, 700*time.Millisecond))
	}
}

// misbehave has all proxies behave in a manner for some seconds.
func (w *world) misbehave(m proctest.Manner, from, to int) {
	w.behave(m)
	w.pause(w.between(time.Duration(from)*time.Second, time.Duration(to)*time.Second))
	w.behave(proctest.Manner{})
}

func delayReplies(w *world) { w.misbehave(proctest.Manner{Delay: 2 * time.Second}, 8, 16) }

func tearReplies(w *world) { w.misbehave(proctest.Manner{Torn: 0.2}, 4, 8) }

func failAcknowledgements(w *world) { w.misbehave(proctest.Manner{Unacknowledged: 0.9}, 4, 10) }

func flushScripts(w *world) {
	for range 20 {
		if err := w.rdb.ScriptFlush(context.Background()).Err(); err != nil {
			w.Fatal(err)
		}
		w.pause(w.between(0, 400*time.Millisecond))
	}
}

// readOnly has Redis follow a master that is not there: it keeps what it has, and refuses all writes with READONLY.
func readOnly(w *world) {
	ctx := context.Background()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	_ = listener.Close()
	if err := w.rdb.ReplicaOf(ctx, host, port).Err(); err != nil {
		w.Fatal(err)
	}
	w.pause(w.between(4*time.Second, 12*time.Second))
	if err := w.rdb.ReplicaOf(ctx, "NO", "ONE").Err(); err != nil {
		w.Fatal(err)
	}
}

// outOfMemory has Redis refuse all that could need more memory.
func outOfMemory(w *world) {
	ctx := context.Background()
	limit := func(bytes string) {
		if err := w.rdb.ConfigSet(ctx, "maxmemory", bytes).Err(); err != nil {
			w.Fatal(err)
		}
	}
	limit("1")
	w.pause(w.between(4*time.Second, 12*time.Second))
	limit("0")
}
