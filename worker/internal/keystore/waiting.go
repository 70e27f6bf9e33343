package keystore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
)

// BucketSize is how exactly the deadlines of waiting keys are known.
const BucketSize = 5 * time.Minute

// WaitingKeys is keys of a target, class and incident that wait, and whose deadlines lie within BucketSize.
type WaitingKeys struct {
	Class    flow.Class
	Target   string    // the robot, and the conversation that the messages went to: flow.Target.Name
	Incident string    // "" = none
	From     time.Time // no deadline is earlier; zero: nothing is known of it, they wait for later
	Keys     int
}

// mostSamples bounds for how many buckets of robots with several incidents it is looked which incident the keys are of.
const mostSamples = 2000

// Waiting tells which keys wait, by the deadlines of their buckets. st is the app's status, read just before: the counts of its groups say
// how many keys of each incident wait. The buckets do not know incidents: where a robot has several, a few packs of each bucket are
// looked at, and the buckets are shared out so that the sums are right. It costs a command for each robot and class, and a few for
// each bucket of robots with several incidents.
func (s *Store) Waiting(ctx context.Context, st AppStatus) ([]WaitingKeys, error) {
	w := waiting{store: s, incidents: map[string]map[string]float64{}}
	for _, g := range st.Groups {
		if g.Counts.Waiting > 0 {
			target := g.Target().Name()
			if w.incidents[target] == nil {
				w.incidents[target] = map[string]float64{}
			}
			w.incidents[target][g.Incident] += float64(g.Counts.Waiting)
		}
	}
	if len(w.incidents) == 0 {
		return nil, nil
	}
	if err := w.read(ctx); err != nil {
		return nil, fmt.Errorf("key store of app %q: waiting keys: %w", s.app, err)
	}
	var out []WaitingKeys
	for _, robot := range slices.Sorted(maps.Keys(w.incidents)) {
		out = append(out, w.share(robot)...)
	}
	return out, nil
}

type waiting struct {
	store     *Store
	incidents map[string]map[string]float64 // by robot: how many keys of each incident wait
	buckets   map[string][]*waitingBucket   // by robot
}

// waitingBucket is a bucket of a robot and class.
type waitingBucket struct {
	class  flow.Class
	rid    string
	number string
	from   time.Time
	keys   float64
	seen   map[string]float64 // keys by incident, of the packs that were looked at
}

// read reads how many keys are in which bucket.
func (w *waiting) read(ctx context.Context) error {
	rdb, app := w.store.rdb, w.store.app
	lanes, err := rdb.HKeys(ctx, name(app, "n")).Result()
	if err != nil || len(lanes) == 0 {
		return err
	}
	robots, err := rdb.HGetAll(ctx, name(app, "robot", "name")).Result()
	if err != nil {
		return err
	}
	sizes := make([]*redis.MapStringStringCmd, len(lanes))
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, lane := range lanes {
			sizes[i] = p.HGetAll(ctx, name(app, "b", lane))
		}
		return nil
	}); err != nil {
		return err
	}
	w.buckets = map[string][]*waitingBucket{}
	var several []*waitingBucket
	for i, lane := range lanes {
		class, rid, _ := strings.Cut(lane, ":")
		c, err := strconv.Atoi(class)
		if err != nil {
			return errShape
		}
		robot := named(robots[rid]).Name() // as Status has it
		for number, size := range sizes[i].Val() {
			n, err1 := strconv.ParseInt(number, 10, 64)
			keys, err2 := strconv.Atoi(size)
			if err1 != nil || err2 != nil {
				return errShape
			}
			if keys <= 0 {
				continue
			}
			b := &waitingBucket{class: flow.Class(c), rid: rid, number: number, from: time.Unix(n*int64(BucketSize/time.Second), 0), keys: float64(keys)}
			w.buckets[robot] = append(w.buckets[robot], b)
			if len(w.incidents[robot]) > 1 && len(several) < mostSamples {
				several = append(several, b)
			}
		}
	}
	return w.sample(ctx, several)
}

// sample looks which incidents the keys of buckets are of: at both ends of their lists and in between.
func (w *waiting) sample(ctx context.Context, buckets []*waitingBucket) error {
	if len(buckets) == 0 {
		return nil
	}
	rdb, app := w.store.rdb, w.store.app
	names, err := rdb.HGetAll(ctx, name(app, "incident", "name")).Result()
	if err != nil {
		return err
	}
	list := func(b *waitingBucket) string { return name(app, "w", int(b.class), b.rid, b.number) }
	lengths := make([]*redis.IntCmd, len(buckets))
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, b := range buckets {
			lengths[i] = p.LLen(ctx, list(b))
		}
		return nil
	}); err != nil {
		return err
	}
	type look struct {
		bucket *waitingBucket
		pack   *redis.StringCmd
	}
	var looks []look
	_, err = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, b := range buckets {
			n := lengths[i].Val()
			const most = 9
			for j := range min(n, most) {
				looks = append(looks, look{b, p.LIndex(ctx, list(b), j*max(n-1, 1)/max(min(n, most)-1, 1))})
			}
		}
		return nil
	})
	if err != nil && err != redis.Nil { //nolint:errorlint // go-redis gives it as it is; a pack that is gone meanwhile is no fault
		return err
	}
	for _, l := range looks {
		p, _, err := cutPack(l.pack.Val())
		if err != nil {
			continue // taken meanwhile
		}
		if l.bucket.seen == nil {
			l.bucket.seen = map[string]float64{}
		}
		l.bucket.seen[names[strconv.Itoa(int(p.record[3])<<8|int(p.record[4]))]] += float64(len(p.keys))
	}
	return nil
}

// share gives the keys of a robot to its incidents.
func (w *waiting) share(robot string) []WaitingKeys {
	incidents, buckets := w.incidents[robot], w.buckets[robot]
	slices.SortFunc(buckets, func(a, b *waitingBucket) int { return a.from.Compare(b.from) })
	names := slices.Sorted(maps.Keys(incidents))
	cells := fit(buckets, names, incidents)
	var out []WaitingKeys
	for j, incident := range names {
		sum, given := 0.0, 0
		for i, b := range buckets {
			sum += cells[i][j]
			n := int(sum+0.5) - given // rounded so that the sum is right
			if n > 0 {
				out = append(out, WaitingKeys{Class: b.class, Target: robot, Incident: incident, From: b.from, Keys: n})
				given += n
			}
		}
		if later := int(incidents[incident]+0.5) - given; later > 0 {
			out = append(out, WaitingKeys{Class: flow.Default, Target: robot, Incident: incident, Keys: later})
		}
	}
	return out
}

// fit shares out the keys of buckets among incidents: by what was seen of each bucket, and so that both sums are right as nearly as can
// be (iterative proportional fitting).
func fit(buckets []*waitingBucket, names []string, totals map[string]float64) [][]float64 {
	cells := make([][]float64, len(buckets))
	for i, b := range buckets {
		cells[i] = make([]float64, len(names))
		seen := 0.0
		for _, n := range b.seen {
			seen += n
		}
		for j, incident := range names {
			if seen > 0 {
				cells[i][j] = b.keys * (b.seen[incident]/seen + 1e-4) // what was not seen may be there all the same
			} else {
				cells[i][j] = b.keys * totals[incident]
			}
		}
	}
	for range 20 {
		for i, b := range buckets {
			sum := 0.0
			for _, v := range cells[i] {
				sum += v
			}
			for j := range cells[i] {
				cells[i][j] *= b.keys / max(sum, 1e-9)
			}
		}
		for j, incident := range names {
			sum := 0.0
			for i := range cells {
				sum += cells[i][j]
			}
			if over := sum / totals[incident]; over > 1 { // less: the others wait for later
				for i := range cells {
					cells[i][j] /= over
				}
			}
		}
	}
	return cells
}

// Said is what was last said of an app that is seen from afar and not by the worker that makes its calls: so it is said once, and not by each
// worker.
type Said struct {
	Keys   int       // that will miss their windows
	At     time.Time // when that was said; zero: it was not
	Budget string    // the code of the hold, where the month's calls are why keys wait; "" = they are not
}

// Said reads what was said last.
func (s *Store) Said(ctx context.Context) (Said, error) {
	m, err := s.rdb.HGetAll(ctx, name(s.app, "said")).Result()
	if err != nil {
		return Said{}, fmt.Errorf("key store of app %q: read what was said: %w", s.app, err)
	}
	said := Said{At: millis(m["at"]), Budget: m["budget"]}
	if m["keys"] == "" {
		return said, nil
	}
	if said.Keys, err = strconv.Atoi(m["keys"]); err != nil {
		return Said{}, fmt.Errorf("key store of app %q: read what was said: %w", s.app, errShape)
	}
	return said, nil
}

// Say writes down what is said now.
func (s *Store) Say(ctx context.Context, v Said) error {
	at := int64(0)
	if !v.At.IsZero() {
		at = v.At.UnixMilli()
	}
	if err := s.rdb.HSet(ctx, name(s.app, "said"), "keys", v.Keys, "at", at, "budget", v.Budget).Err(); err != nil {
		return fmt.Errorf("key store of app %q: write what is said: %w", s.app, err)
	}
	return nil
}
