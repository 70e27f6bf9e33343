package keystore

import (
	"context"
	goflag "flag"
	"testing"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/redistest"
)

var (
	recountAt  = goflag.String("recount", "", "have TestRecount look at the Redis at this `address`, and change nothing there")
	recountApp = goflag.String("recount.app", "main", "the app to look at")
)

// TestRecount holds the counters of an app against its raw data, by the clock of its Redis: of one that it makes up, or, for other tests
// that break things around running workers, of one that they name.
func TestRecount(t *testing.T) {
	t.Parallel()
	var b *bundle
	if *recountAt != "" {
		rdb := redis.NewClient(&redis.Options{Addr: *recountAt})
		defer rdb.Close()
		b = newBundle(rdb)
		b.app = *recountApp
		now, err := rdb.Time(context.Background()).Result()
		if err != nil {
			t.Fatal(err)
		}
		*b.clock = now
		b.Store = New(rdb, b.app, func() Params { return *b.params }, nil)
	} else {
		b = newBundle(redistest.Mini(t))
		_, r := b.admit(t, Admission{RobotCode: robot, Keys: testKeys(0, 30), Incident: "some"})
		b.attach(t, r.Due[0], 0)
	}
	t.Logf("%+v", b.check(t).counts())
}
