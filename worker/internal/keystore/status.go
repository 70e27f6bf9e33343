package keystore

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
)

// Counts says how many keys are in which state.
type Counts struct {
	Accepted  int64
	Waiting   int64 // for their turn or for later
	Bound     int64
	Recalled  int64
	Dead      int64
	Cancelled int64
}

// Add counts other keys in, too.
func (c *Counts) Add(o Counts) {
	c.Accepted += o.Accepted
	c.Waiting += o.Waiting
	c.Bound += o.Bound
	c.Recalled += o.Recalled
	c.Dead += o.Dead
	c.Cancelled += o.Cancelled
}

// Group is the counts of one target in one incident.
type Group struct {
	RobotCode string
	flow.Conversation
	Incident string // "" = none
	Counts   Counts
}

// Target gives whose keys the group counts.
func (g Group) Target() flow.Target {
	return flow.Target{RobotCode: g.RobotCode, Conversation: g.Conversation}
}

// named reads the name of a target for people. One that another version made is shown as it is.
func named(name string) flow.Target {
	target, err := flow.ParseTarget(name)
	if err != nil {
		return flow.Target{RobotCode: strconv.Quote(name)}
	}
	return target
}

// HoldStatus says why an app is at rest.
type HoldStatus struct {
	flow.Reason
	Since     time.Time
	NextProbe time.Time
}

// RobotHold is a robot, or a conversation of one, that is at rest while its app goes on, or that its app is held for.
type RobotHold struct {
	flow.Target
	HoldStatus
}

// AppStatus is a consistent picture of an app: everything in it was read in one transaction.
type AppStatus struct {
	App    string
	At     time.Time // by Redis's clock
	Total  Counts
	Groups []Group // by incident and target, sorted
	Slots  int     // not idle
	Held   int     // of those, waiting out a backoff
	Later  int64   // of the waiting keys, those that wait for later
	Outbox int64   // dead letters that the queue does not have yet
	Hold   *HoldStatus
	Robots []RobotHold // those that are held, sorted by code
	Share  float64     // of the configured rate that is in use, after throttle answers
	Rest   time.Time   // until when nobody calls because the service said that it was too much; zero: no rest
	LastOK time.Time

	Budget   *BudgetStatus // of this month; nil: no calls are counted
	Settings *Settings     // what the workers last said; nil: none did
}

// Status reads how the app stands.
func (s *Store) Status(ctx context.Context) (AppStatus, error) {
	st, err := s.readStatus(ctx)
	if err != nil {
		return AppStatus{}, fmt.Errorf("key store of app %q: status: %w", s.app, err)
	}
	return st, nil
}

func (s *Store) readStatus(ctx context.Context) (AppStatus, error) {
	slots, err := s.rdb.HKeys(ctx, name(s.app, "slots")).Result()
	if err != nil {
		return AppStatus{}, err
	}
	for {
		var q statusQuery
		_, err = s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			q.read(ctx, p, s.app, slots)
			return nil
		})
		if err != nil {
			return AppStatus{}, err
		}
		// A slot that was woken before the transaction may hold keys already: they would be taken to wait. There are few slots, and
		// each makes this go round once at most.
		if more := q.unread(slots); len(more) > 0 {
			slots = append(slots, more...)
			continue
		}
		now := q.now.Val()
		if s.now != nil {
			now = s.now()
		}
		return q.status(s.app, now)
	}
}

// unread gives the slots that are not idle and were not read.
func (q *statusQuery) unread(slots []string) (more []string) {
	for i := range q.busy.Val() {
		if !slices.Contains(slots, i) {
			more = append(more, i)
		}
	}
	return more
}

type statusQuery struct {
	counts, robots, incidents, meta, busy, held *redis.MapStringStringCmd
	heldRobots, settings, lanes                 *redis.MapStringStringCmd
	later, outbox                               *redis.IntCmd
	now                                         *redis.TimeCmd
	bound                                       []*redis.SliceCmd
}

func (q *statusQuery) read(ctx context.Context, p redis.Pipeliner, app string, slots []string) {
	q.counts = p.HGetAll(ctx, name(app, "count"))
	q.robots = p.HGetAll(ctx, name(app, "robot", "name"))
	q.incidents = p.HGetAll(ctx, name(app, "incident", "name"))
	q.meta = p.HGetAll(ctx, name(app, "meta"))
	q.busy = p.HGetAll(ctx, name(app, "slots"))
	q.held = p.HGetAll(ctx, name(app, "held"))
	q.heldRobots = p.HGetAll(ctx, name(app, "heldrobots"))
	q.settings = p.HGetAll(ctx, name(app, "settings"))
	q.lanes = p.HGetAll(ctx, name(app, "n"))
	q.later = p.ZCard(ctx, name(app, "later"))
	q.outbox = p.HLen(ctx, name(app, "outbox"))
	q.now = p.Time(ctx)
	for _, i := range slots {
		q.bound = append(q.bound, p.HMGet(ctx, name(app, "slot", i), "rid", "keys"))
	}
}

func (q *statusQuery) status(app string, now time.Time) (AppStatus, error) {
	meta := q.meta.Val()
	st := AppStatus{App: app, At: now, Slots: len(q.busy.Val()), Held: len(q.held.Val()), Later: q.later.Val(), Outbox: q.outbox.Val()}
	st.LastOK = millis(meta["ok_at"])
	limit, err := readPace(meta["pace"])
	if err != nil {
		return st, err
	}
	st.Share, st.Rest = limit.share(now), limit.rest(now)
	if meta["hold_code"] != "" {
		st.Hold = &HoldStatus{Reason: flow.Reason{Code: meta["hold_code"], Message: meta["hold_message"]},
			Since: millis(meta["hold_since"]), NextProbe: millis(meta["hold_until"])}
	}
	if err := q.addBudget(&st, now); err != nil {
		return st, err
	}
	if st.Robots, err = q.robotHolds(); err != nil {
		return st, err
	}
	groups, err := q.groups()
	if err != nil {
		return st, err
	}
	if err := q.addBound(groups); err != nil {
		return st, err
	}
	for id, g := range groups {
		c := &g.Counts
		c.Waiting = c.Accepted - c.Recalled - c.Dead - c.Cancelled - c.Bound
		target := named(q.robots.Val()[id.robot])
		g.RobotCode, g.Conversation, g.Incident = target.RobotCode, target.Conversation, q.incidents.Val()[id.incident]
		st.Total.Add(*c)
		st.Groups = append(st.Groups, *g)
	}
	sort.Slice(st.Groups, func(i, j int) bool {
		a, b := st.Groups[i], st.Groups[j]
		if a.Incident != b.Incident {
			return a.Incident < b.Incident
		}
		return a.Target().Name() < b.Target().Name()
	})
	return st, nil
}

// robotHolds reads what scripts/lib/5_hold.lua writes.
func (q *statusQuery) robotHolds() ([]RobotHold, error) {
	var out []RobotHold
	for id, v := range q.heldRobots.Val() {
		part := strings.SplitN(v, "\n", 3)
		times := strings.Fields(part[0])
		if len(part) != 3 || len(times) != 4 {
			return nil, errShape
		}
		target, err := flow.ParseTarget(q.robots.Val()[id])
		if err != nil {
			return nil, err
		}
		out = append(out, RobotHold{Target: target, HoldStatus: HoldStatus{Reason: flow.Reason{Code: part[1], Message: part[2]},
			Since: millis(times[2]), NextProbe: millis(times[0])}})
	}
	slices.SortFunc(out, func(a, b RobotHold) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// addBudget tells how the month's calls stand, and that the app is held where they are why it makes no calls.
func (q *statusQuery) addBudget(st *AppStatus, now time.Time) (err error) {
	if st.Settings, err = decodeSettings(q.settings.Val()); err != nil {
		return err
	}
	if st.Budget, err = decodeBudget(q.meta.Val(), st.Settings, now); err != nil || st.Hold != nil {
		return err
	}
	urgent, others := int64(0), int64(0)
	for lane, n := range q.lanes.Val() {
		v, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			return errShape
		}
		if strings.HasPrefix(lane, "0:") {
			urgent += v
		} else {
			others += v
		}
	}
	st.Hold = st.Budget.hold(urgent == 0 && others > 0)
	if st.Hold != nil && st.Hold.Since.IsZero() { // the limit was lowered to what is used already
		st.Hold.Since = now
	}
	return nil
}

type groupID struct{ robot, incident string }

func (q *statusQuery) groups() (map[groupID]*Group, error) {
	groups := map[groupID]*Group{}
	for field, v := range q.counts.Val() {
		part := strings.Split(field, ":")
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || len(part) != 3 {
			return nil, errShape
		}
		id := groupID{part[0], part[1]}
		if groups[id] == nil {
			groups[id] = &Group{}
		}
		c := &groups[id].Counts
		switch part[2] {
		case "a":
			c.Accepted = n
		case "r":
			c.Recalled = n
		case "d":
			c.Dead = n
		case "c":
			c.Cancelled = n
		default:
			return nil, errShape
		}
	}
	return groups, nil
}

// addBound counts the keys of the slots. A bound key's incident stands in its record.
func (q *statusQuery) addBound(groups map[groupID]*Group) error {
	for _, cmd := range q.bound {
		v := cmd.Val()
		rid, ok1 := v[0].(string)
		items, ok2 := v[1].(string)
		if !ok1 || !ok2 {
			continue // no batch is bound to it
		}
		for len(items) > 0 {
			p, rest, err := cutPack(items)
			if err != nil {
				return err
			}
			id := groupID{rid, strconv.Itoa(int(p.record[3])<<8 | int(p.record[4]))}
			if groups[id] == nil {
				groups[id] = &Group{}
			}
			groups[id].Counts.Bound += int64(len(p.keys))
			items = rest
		}
	}
	return nil
}

func millis(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

// BusySlots gives every slot that is not idle, with its generation: each is owed a task.
func (s *Store) BusySlots(ctx context.Context) ([]flow.DueSlot, error) {
	m, err := s.rdb.HGetAll(ctx, name(s.app, "slots")).Result()
	if err != nil {
		return nil, fmt.Errorf("key store of app %q: slots: %w", s.app, err)
	}
	out := make([]flow.DueSlot, 0, len(m))
	for slot, gen := range m {
		i, err1 := strconv.Atoi(slot)
		g, err2 := strconv.ParseInt(gen, 10, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("key store of app %q: slots: %w", s.app, errShape)
		}
		out = append(out, flow.DueSlot{Slot: i, Generation: g})
	}
	return out, nil
}
