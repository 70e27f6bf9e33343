package worker_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

func TestAllKeysAreRecalledInFullCalls(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, nil)
		b.start()
		b.recall(goodKeys(2010), tasks.Incident("storm"))
		st := b.untilSettled(2010)
		sim := b.sim.Stats()
		if st.Total.Recalled != 2010 || sim.KeysRecalled != 2010 {
			t.Errorf("recalled %d, the simulator says %d", st.Total.Recalled, sim.KeysRecalled)
		}
		if sim.KeysAskedAgain != 0 || sim.Overlaps != 0 || sim.MaxKeysInCall > 20 {
			t.Errorf("asked again %d, overlaps %d, most keys in a call %d", sim.KeysAskedAgain, sim.Overlaps, sim.MaxKeysInCall)
		}
		if sim.Calls > 102 {
			t.Errorf("%d calls for 2,010 keys: 101 are enough", sim.Calls)
		}
	})
}

func TestBadKeysDieWithTheirCodes(t *testing.T) {
	t.Parallel()
	for _, style := range []simulator.Failure{simulator.FailSingle, simulator.FailWhole} {
		t.Run(string(style), func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
				b := setup(t, rdb, simulator.Config{Failure: style}, nil)
				b.start()
				bad := map[simulator.Kind]string{simulator.Expired: "robot.processQueryKey.expired", simulator.Unknown: "invalid.processQueryKey",
					simulator.Foreign: "not.allowed.robotCode", simulator.SystemErrorAlways: "system.error"}
				keys, n := goodKeys(200), 1000
				want := map[string]string{}
				for kind, code := range bad {
					for i, k := range madeKeys(n, 3, kind) {
						want[k] = code
						keys[i*50+len(want)] = k
					}
					n += 1000
				}
				b.recall(keys, tasks.Incident("storm"))
				st := b.untilSettled(200)
				if st.Total.Dead != 12 || st.Total.Recalled != 188 {
					t.Errorf("dead %d, recalled %d", st.Total.Dead, st.Total.Recalled)
				}
				recs, err := b.insp.Keys(context.Background(), robot, keys)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range recs {
					code, isBad := want[r.Key]
					if isBad != (r.State == worker.KeyDead) || r.Code != code {
						t.Errorf("%s is %s with code %q, want code %q", r.Key, r.State, r.Code, code)
					}
					if isBad && (r.Attempts == 0 || r.RequestID == "" || r.Incident != "storm") {
						t.Errorf("dead without all that is to be known: %+v", r)
					}
				}
				until(t, "all dead letters are in their queue", func() bool {
					n := 0
					for _, d := range b.letters() {
						n += len(d.Letter.Keys)
					}
					return n == 12
				})
				sim := b.sim.Stats()
				if sim.Overlaps != 0 || sim.KeysAskedAfterTold != 0 {
					t.Errorf("overlaps %d, asked after told %d", sim.Overlaps, sim.KeysAskedAfterTold)
				}
			})
		})
	}
}
