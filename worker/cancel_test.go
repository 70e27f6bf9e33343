package worker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

const otherRobot = "dingrobottwo"

// twoApps gives a robot to each of two apps.
func twoApps(c *worker.Config) {
	c.Apps[0].Robots = []string{robot}
	credentials := upstream.Credentials{AppKey: "key2", AppSecret: "secret"}
	c.Apps = append(c.Apps, worker.App{Name: "other", Credentials: credentials, Robots: []string{otherRobot}})
}

// ofIncident gives the counts of an incident in an app.
func (b *bundle) ofIncident(app, incident string) worker.Counts {
	b.t.Helper()
	found, err := b.insp.Incident(context.Background(), incident, app)
	if errors.Is(err, worker.ErrUnknownIncident) {
		return worker.Counts{}
	}
	if err != nil || len(found) != 1 || found[0].App != app {
		b.t.Fatalf("%+v, %v", found, err)
	}
	return found[0].Counts
}

// TestCancel: what waits of the incident ends without a call, also what comes later; another incident of the same robot goes on.
func TestCancel(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, twoApps)
		release := b.holdBack()
		b.start()
		storm, flood, late := madeKeys(0, 90, simulator.Good), madeKeys(1000, 50, simulator.Good), madeKeys(2000, 7, simulator.Good)
		b.recall(storm, tasks.Incident("storm"))
		b.recall(flood, tasks.Incident("flood"))
		if _, err := b.client.Recall(context.Background(), otherRobot, storm, tasks.Incident("storm")); err != nil {
			t.Fatal(err)
		}
		b.untilAccepted(140)
		until(t, "the other app's are accepted", func() bool { return b.ofIncident("other", "storm").Accepted == 90 })
		waiting := []worker.AppIncident{{App: appName, Counts: worker.Counts{Accepted: 90, Waiting: 90}}}
		if got, err := b.insp.Cancel(context.Background(), "storm", appName); err != nil || !slices.Equal(got, waiting) {
			t.Fatalf("%+v, %v", got, err)
		}
		release()
		b.untilSettled(140)
		b.recall(late, tasks.Incident("storm"))
		b.untilSettled(147)
		until(t, "the other app's are recalled", func() bool { return b.ofIncident("other", "storm").Recalled == 90 })
		if got := b.ofIncident(appName, "storm"); got != (worker.Counts{Accepted: 97, Cancelled: 97}) {
			t.Errorf("storm: %+v", got)
		}
		if got := b.ofIncident(appName, "flood"); got != (worker.Counts{Accepted: 50, Recalled: 50}) {
			t.Errorf("flood: %+v", got)
		}
		for _, c := range b.calls.inOrder() {
			if c.Robot == robot && slices.ContainsFunc(c.Keys, func(k string) bool { return slices.Contains(storm, k) || slices.Contains(late, k) }) {
				t.Errorf("a call has cancelled keys: %v", c.Keys)
			}
		}
		if letters := b.letters(); len(letters) != 0 {
			t.Errorf("%d dead letters", len(letters))
		}
		// Again, and everywhere: what is over stays as it is.
		want := []worker.AppIncident{
			{App: appName, Counts: worker.Counts{Accepted: 97, Cancelled: 97}},
			{App: "other", Counts: worker.Counts{Accepted: 90, Recalled: 90}},
		}
		if got, err := b.insp.Cancel(context.Background(), "storm", ""); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err := b.insp.Incident(context.Background(), "storm", ""); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestCancelIsLookedAfterAtOnce: a worker that has nothing to do before the linger is over comes to the keys all the same.
func TestCancelIsLookedAfterAtOnce(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, func(c *worker.Config) { c.Linger = 10 * time.Minute })
		b.start()
		b.recall(madeKeys(0, 3, simulator.Good), tasks.Incident("storm"))
		if _, err := b.client.Recall(context.Background(), otherRobot, madeKeys(10, 4, simulator.Good), tasks.Incident("flood")); err != nil {
			t.Fatal(err)
		}
		b.untilAccepted(7)
		if _, err := b.insp.Cancel(context.Background(), "storm", ""); err != nil {
			t.Fatal(err)
		}
		until(t, "they are cancelled", func() bool { return b.ofIncident(appName, "storm").Cancelled == 3 })
		if got := b.ofIncident(appName, "flood"); got != (worker.Counts{Accepted: 4, Waiting: 4}) || b.calls.count() != 0 {
			t.Errorf("%+v, and %d calls", got, b.calls.count())
		}
	})
}

// TestCancelOnHold: a hold is said, and what it keeps ends with it, without a call.
func TestCancelOnHold(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{Faults: []simulator.FaultRule{{Fault: simulator.FaultPermission, Probability: 1}}}, func(c *worker.Config) {
			c.ProbeBase, c.ProbeMax = time.Hour, time.Hour
		})
		b.start()
		b.recall(madeKeys(0, 60, simulator.Good), tasks.Incident("storm"))
		until(t, "the app is held, and all wait", func() bool { st := b.status(); return st.Hold != nil && st.Total.Waiting == 60 })
		got, err := b.insp.Cancel(context.Background(), "storm", "")
		if err != nil || len(got) != 1 || got[0].Counts.Waiting != 60 || got[0].Hold != b.status().Hold.Code {
			t.Fatalf("%+v, %v", got, err)
		}
		calls := b.calls.count()
		if _, err := b.insp.Release(context.Background(), appName); err != nil {
			t.Fatal(err)
		}
		b.untilSettled(60)
		if got := b.ofIncident(appName, "storm"); got.Cancelled != 60 || b.calls.count() != calls {
			t.Errorf("%+v, and %d calls more", got, b.calls.count()-calls)
		}
	})
}

func TestCancelOfWhatNobodyKnows(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, nil)
		b.start()
		b.recall(madeKeys(0, 3, simulator.Good), tasks.Incident("storm"))
		b.recall(madeKeys(10, 3, simulator.Good))
		b.untilSettled(6)
		for _, c := range [][2]string{{"flood", ""}, {"", ""}, {"storm", "other"}, {"storm", "nope"}} {
			if got, err := b.insp.Cancel(context.Background(), c[0], c[1]); !errors.Is(err, worker.ErrUnknownIncident) || len(got) != 0 {
				t.Errorf("%q in %q: %+v, %v", c[0], c[1], got, err)
			}
		}
		if got := b.status().Total; got.Recalled != 6 {
			t.Errorf("%+v", got)
		}
	})
}
