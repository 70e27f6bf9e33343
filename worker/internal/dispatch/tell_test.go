package dispatch

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

const permission = "Forbidden.AccessDenied.AccessTokenPermissionDenied"

// TestWhatIsToldOfHolds: who is held, that the app goes on without one of its robots, and that all is well again. Each once.
func TestWhatIsToldOfHolds(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		logged, logs := observer.New(zap.InfoLevel)
		b.deps.Log = zap.New(logged)
		var mended atomic.Bool
		b.service.answer = func(_ int, c fakeCall) (upstream.Answer, error) {
			if c.robot == "robot" && !mended.Load() {
				return upstream.Answer{}, serviceError(403, permission)
			}
			return allRecalled(c.keys), nil
		}
		said := func(what ...string) {
			t.Helper()
			var got []string
			for _, e := range logs.TakeAll() {
				got = append(got, e.Message)
				if e.Level == zap.ErrorLevel && (e.ContextMap()["robot"] != "robot" || e.ContextMap()["code"] != permission) {
					t.Errorf("%v", e.ContextMap())
				}
			}
			if !slices.Equal(got, what) {
				t.Errorf("said %q, not %q", got, what)
			}
		}
		release := func(robot string) {
			t.Helper()
			if _, _, err := b.store.Release(context.Background(), robot); err != nil {
				t.Fatal(err)
			}
			b.runAll()
		}
		b.admit(100)
		b.runAll()
		said("the app is held: no call is made until this is mended; the keys wait")
		b.admitKeys("good", names(60)...)
		release("")
		said("a call was answered as it should: the app goes on, and robots of it stay on hold (recall status names them)")
		b.admitKeys("other", names(60)...)
		b.runAll()
		said()
		mended.Store(true)
		release("robot")
		said("a call was answered as it should: nothing is held any more")
		if got := b.states(100); got[flow.Recalled] != 100 {
			t.Errorf("%v", got)
		}
	})
}

// TestAHeldRobotIsTold where its app has shown that it may call.
func TestAHeldRobotIsTold(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, func(p *keystore.Params) { p.Slots, p.SlotsCap = 1, 1 })
		logged, logs := observer.New(zap.InfoLevel)
		b.deps.Log = zap.New(logged)
		b.service.answer = func(n int, c fakeCall) (upstream.Answer, error) {
			if c.robot == "robot" && n > 1 {
				// Another robot's call, with a later permit, ends first.
				key := keystore.Prefix(testApp) + "meta"
				if err := b.rdb.HSet(context.Background(), key, "ok_rid", 999, "ok_from", time.Now().Add(time.Minute).UnixMicro()).Err(); err != nil {
					t.Error(err)
				}
				return upstream.Answer{}, serviceError(403, permission)
			}
			return allRecalled(c.keys), nil
		}
		b.admit(60)
		b.runAll()
		e := logs.All()
		if len(e) != 1 || e[0].Level != zap.ErrorLevel || e[0].ContextMap()["robot"] != "robot" ||
			e[0].Message != "a robot is held: none of its keys is called until this is mended; they wait, and other robots go on" {
			t.Errorf("%+v", e)
		}
		if st := b.status(); st.Hold != nil || len(st.Robots) != 1 {
			t.Errorf("%+v, %+v", st.Hold, st.Robots)
		}
	})
}

func (b *bundle) admitKeys(robot string, keys ...string) {
	b.t.Helper()
	if _, _, err := b.store.Admit(context.Background(), keystore.Admission{RobotCode: robot, Keys: keys, Class: flow.Urgent}); err != nil {
		b.t.Fatal(err)
	}
}

// runAll runs due slots, one after the other, until none is.
func (b *bundle) runAll() {
	b.t.Helper()
	for range 100 {
		r, err := b.store.Wake(context.Background())
		if err != nil {
			b.t.Fatal(err)
		}
		if len(r.Due) == 0 {
			return
		}
		if err := b.run(r.Due[0], 0); err != nil {
			b.t.Fatal(err)
		}
	}
	b.t.Fatal("still slots are due")
}
