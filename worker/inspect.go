package worker

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
)

// What the key store says of apps and keys, under the names that the command, the page and the API use.
type (
	// Counts says how many keys are in which state.
	Counts = keystore.Counts
	// Group is the counts of one robot in one incident.
	Group = keystore.Group
	// RobotHold is a robot that is at rest.
	RobotHold = keystore.RobotHold
	// AppStatus is how an app stands, read in one transaction.
	AppStatus = keystore.AppStatus
	// KeyRecord is what became of a key.
	KeyRecord = keystore.KeyRecord
	// KeyState is where a key is.
	KeyState = flow.State
	// Target is a robot, or one conversation of it. Its String is for people.
	Target = flow.Target
	// Conversation is where messages went that were not sent one-to-one. It converts to and from that of package tasks.
	Conversation = flow.Conversation
)

// The states of a key.
const (
	KeyUnknown   = flow.Unknown
	KeyWaiting   = flow.Waiting
	KeyBound     = flow.Bound
	KeyRecalled  = flow.Recalled
	KeyDead      = flow.Dead
	KeyCancelled = flow.Cancelled
)

// QueueStatus is how a queue stands.
type QueueStatus struct {
	Queue     string
	Pending   int
	Active    int
	Scheduled int
	Retry     int
	Archived  int
	Paused    bool
}

// Status is how everything stands.
type Status struct {
	Apps   []AppStatus
	Queues []QueueStatus
}

// Inspector reads what stands in Redis and does what operators ask for. It needs no running worker, but what it starts (a
// replay, say) is done by one. It is safe for concurrent use.
type Inspector struct {
	rdb  redis.UniversalClient
	insp *asynq.Inspector
	apps []string
}

// NewInspector makes an inspector on a Redis connection, which stays the caller's. apps names apps to look at beside those
// that workers have registered in this Redis; it may be nil.
func NewInspector(rdb redis.UniversalClient, apps []string) *Inspector {
	return &Inspector{rdb: rdb, insp: asynq.NewInspectorFromRedisClient(rdb), apps: apps}
}

// Apps gives the names of all apps, sorted.
func (i *Inspector) Apps(ctx context.Context) ([]string, error) {
	known, err := keystore.Apps(ctx, i.rdb)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(known, i.apps)
	sort.Strings(all)
	return slices.Compact(all), nil
}

// Status reads how everything stands.
func (i *Inspector) Status(ctx context.Context) (Status, error) {
	var st Status
	apps, err := i.Apps(ctx)
	if err != nil {
		return st, err
	}
	for _, app := range apps {
		a, err := keystore.NewReader(i.rdb, app).Status(ctx)
		if err != nil {
			return st, err
		}
		st.Apps = append(st.Apps, a)
	}
	st.Queues, err = i.queues()
	return st, err
}

func (i *Inspector) queues() ([]QueueStatus, error) {
	known, err := i.insp.Queues() // GetQueueInfo tells a queue that nobody has used yet by text alone
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	var out []QueueStatus
	for _, q := range tasks.Queues() {
		if !slices.Contains(known, q) {
			out = append(out, QueueStatus{Queue: q})
			continue
		}
		info, err := i.insp.GetQueueInfo(q)
		if err != nil {
			return nil, fmt.Errorf("read queue %s: %w", q, err)
		}
		out = append(out, QueueStatus{Queue: q, Pending: info.Pending, Active: info.Active, Scheduled: info.Scheduled,
			Retry: info.Retry, Archived: info.Archived, Paused: info.Paused})
	}
	return out, nil
}

// Keys tells what became of keys, in their order: for each a record under every target that has it (of the robot robotCode only, where
// that is not ""), or one in the state KeyUnknown.
func (i *Inspector) Keys(ctx context.Context, robotCode string, keys []string) ([]KeyRecord, error) {
	return i.lookUp(ctx, "", Target{RobotCode: robotCode}, keys)
}

// KeysOf is Keys of one target.
func (i *Inspector) KeysOf(ctx context.Context, target Target, keys []string) ([]KeyRecord, error) {
	return i.lookUp(ctx, target.Name(), target, keys)
}

// lookUp looks keys up under a name, "" for whatever target. Of the records found it gives those of the robot wanted.
func (i *Inspector) lookUp(ctx context.Context, name string, wanted Target, keys []string) ([]KeyRecord, error) {
	apps, err := i.Apps(ctx)
	if err != nil {
		return nil, err
	}
	found := make([][]KeyRecord, len(keys))
	for _, app := range apps {
		recs, err := keystore.NewReader(i.rdb, app).Lookup(ctx, name, keys)
		if err != nil {
			return nil, err
		}
		at := 0
		for _, r := range recs {
			for keys[at] != r.Key {
				at++
			}
			if r.State != flow.Unknown && (wanted.RobotCode == "" || wanted.RobotCode == r.RobotCode) {
				found[at] = append(found[at], r)
			}
		}
	}
	var out []KeyRecord
	for n, recs := range found {
		if len(recs) == 0 {
			recs = []KeyRecord{{Key: keys[n], RobotCode: wanted.RobotCode, Conversation: wanted.Conversation, State: flow.Unknown}}
		}
		out = append(out, recs...)
	}
	return out, nil
}
