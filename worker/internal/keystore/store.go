package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
)

// Params is what the scripts have to know of an app's settings. The zero value is not usable: see Validate.
type Params struct {
	Slots     int           // calls in flight at most, 1 to 255
	SlotsCap  int           // slots at most, those that wait out a backoff included; at least Slots
	Linger    time.Duration // how long fewer than a full call wait for company; 0 = not at all
	Life      time.Duration // from sending to the deadline: the window less the margin; whole seconds
	LedgerTTL time.Duration // how long the ledger of a day outlives the day
	Interval  time.Duration // between two calls of the app; 0 = no limit
	Admit     int           // keys that one script takes in, in which Redis does nothing else; 0 = MaxAdmit
	Letter    int           // keys in one dead letter at most
	ProbeMax  time.Duration // the longest time between two probes of a held app
	Budget    Budget        // of the calendar month; the zero value counts calls in no month
	Stuck     time.Duration // a call that goes on for longer no longer keeps another from being made in its place; 0 = 5 s
	Lease     time.Duration // for how long after its permit a call is left to the run that makes it, should the queue give its task out again; 0 = not
}

// Validate tells what is wrong with the parameters.
func (p Params) Validate() error {
	switch {
	case p.Slots < 1 || p.Slots > 255 || p.SlotsCap < p.Slots || p.SlotsCap > 255:
		return fmt.Errorf("slots must be 1 to 255 and at most the cap: %d, cap %d", p.Slots, p.SlotsCap)
	case p.Linger < 0 || p.Interval < 0 || p.Stuck < 0:
		return errors.New("linger, interval and when a call is stuck must not be negative")
	case p.Life < time.Second:
		return fmt.Errorf("the window less the margin must be at least a second: %v", p.Life)
	case p.LedgerTTL < 48*time.Hour:
		return fmt.Errorf("the ledger must outlive its day by 48 hours at least: %v", p.LedgerTTL)
	case p.LedgerTTL > 200*24*time.Hour:
		return fmt.Errorf("the ledger cannot be kept for longer than 200 days: %v", p.LedgerTTL)
	case p.Admit < 0 || p.Admit > MaxAdmit:
		return fmt.Errorf("a script can take in 1 to %d keys, and not %d", MaxAdmit, p.Admit)
	case p.Letter < 1 || p.ProbeMax < time.Second:
		return errors.New("a dead letter holds one key at least, and probes are a second apart at least")
	}
	return p.Budget.Validate()
}

// stuck gives Stuck with its default.
func (p Params) stuck() time.Duration { return cmp.Or(p.Stuck, 5*time.Second) }

// Store is the key store of one app. It is safe for concurrent use.
type Store struct {
	rdb    redis.UniversalClient
	app    string
	params func() Params
	now    func() time.Time // nil: Redis's clock
	offset offset

	settling  settling
	admitting chan struct{} // has an entry for each script on its way that takes keys in
}

// New makes the key store of an app. params is asked at each step, since the number of slots follows the latency of calls.
// now is for tests; nil means Redis's own clock, which is the same for all workers.
func New(rdb redis.UniversalClient, app string, params func() Params, now func() time.Time) *Store {
	return &Store{rdb: rdb, app: app, params: params, now: now, admitting: make(chan struct{}, admitAtOnce)}
}

// App gives the app whose keys these are.
func (s *Store) App() string { return s.app }

// Life is how long after it was sent a key can be called.
func (s *Store) Life() time.Duration { return s.params().Life }

func (s *Store) clockArg() string {
	if s.now == nil {
		return ""
	}
	return strconv.FormatInt(s.now().UnixMilli(), 10)
}

// run runs a script with the arguments that all of them share in front of its own.
func (s *Store) run(ctx context.Context, what string, sc *redis.Script, args ...any) (any, error) {
	all := append(s.scriptArgs(), args...)
	v, err := sc.Run(ctx, s.rdb, []string{name(s.app, "meta")}, all...).Result()
	if err != nil {
		return nil, fmt.Errorf("key store of app %q: %s: %w", s.app, what, err)
	}
	return v, nil
}

// scriptArgs gives the arguments that all scripts share: see 0_base.lua.
func (s *Store) scriptArgs() []any {
	p := s.params()
	return []any{s.clockArg(), p.Slots, p.SlotsCap, p.Linger.Milliseconds(), int64(p.Life / time.Second), int64(p.LedgerTTL / time.Second),
		p.Interval.Microseconds(), p.Letter, p.ProbeMax.Milliseconds(), p.Budget.arg(s.Now()), p.stuck().Milliseconds()}
}

func (s *Store) step(ctx context.Context, what string, sc *redis.Script, args ...any) (*Reply, error) {
	sent := time.Now()
	v, err := s.run(ctx, what, sc, args...)
	received := time.Now()
	if err != nil {
		return nil, err
	}
	r, err := decodeReply(v)
	if err != nil {
		return nil, fmt.Errorf("key store of app %q: %s: %w", s.app, what, err)
	}
	r.Local = received
	if s.now == nil {
		r.Local = s.offset.local(r.Now, sent, received)
	}
	return r, nil
}

// Admission is what a producer hands in for one robot, or for one conversation of it.
type Admission struct {
	RobotCode string
	flow.Conversation
	Keys     []string
	SentAt   time.Time   // when all were sent; zero = as the admission happens
	SentAts  []time.Time // where they differ: one for each key, zero as above
	Class    flow.Class
	Incident string
	Force    bool  // revive keys that are dead
	Fence    int64 // with Force: only those that died in this batch; 0 = any
	// Each is given the reply of every script that takes a part of the keys in, but of the last, as soon as it is there: what it asks for
	// need not wait for the other parts. An error of it ends the admission. nil: nobody is interested.
	Each func(*Reply) error
}

// Admitted tells what became of an admission.
type Admitted struct {
	Accepted int // new keys
	Known    int // keys that were accepted before, and that nothing was done to
	Raised   int // keys that waited and were moved to a more urgent class; not in Known
	Revived  int // dead keys that wait again
}

// ErrTargetLimit is the error of an admission for a robot or a conversation that is one more than an app can have in a Redis.
var ErrTargetLimit = errors.New("the app has keys of 65,534 robots and conversations in this Redis, and can have no more")

// MaxAdmit is how many keys a script takes in at most: their packs are the arguments of one command, and Lua bounds those.
const MaxAdmit = 200

// Admit takes keys in, each once, and wakes slots for them. Calling it again with the same keys changes nothing. When it
// fails, some of the keys may be in; calling again is how to get the others in.
func (s *Store) Admit(ctx context.Context, a Admission) (Admitted, *Reply, error) {
	if len(a.SentAts) > 0 && len(a.SentAts) != len(a.Keys) {
		return Admitted{}, nil, fmt.Errorf("%d keys with %d times", len(a.Keys), len(a.SentAts))
	}
	var total Admitted
	var last *Reply
	step := cmp.Or(s.params().Admit, MaxAdmit)
	for from := 0; from < len(a.Keys); from += step {
		if from > 0 && a.Each != nil {
			if err := a.Each(last); err != nil {
				return total, last, err
			}
		}
		to := min(from+step, len(a.Keys))
		r, err := s.admitPart(ctx, admitArgs(a, from, to))
		if err != nil && strings.Contains(err.Error(), "target.limit") { // see scripts/lib/1_name.lua
			return total, last, fmt.Errorf("key store of app %q: %w", s.app, ErrTargetLimit)
		}
		if err != nil {
			return total, last, err
		}
		n, err := r.ints(4)
		if err != nil {
			return total, last, fmt.Errorf("key store of app %q: admit: %w", s.app, err)
		}
		total.Accepted += int(n[0])
		total.Known += int(n[1])
		total.Raised += int(n[2])
		total.Revived += int(n[3])
		last = r
	}
	return total, last, nil
}

// admitAtOnce is how many scripts of an app take keys in at once, in a process. It keeps Redis busy; more would only have the scripts of calls, and of
// urgent keys, stand behind them.
const admitAtOnce = 3

func (s *Store) admitPart(ctx context.Context, args []any) (*Reply, error) {
	select {
	case s.admitting <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("key store of app %q: admit: %w", s.app, ctx.Err())
	}
	defer func() { <-s.admitting }()
	return s.step(ctx, "admit", admitScript, args...)
}

func admitArgs(a Admission, from, to int) []any {
	args := make([]any, 0, 6+2*(to-from))
	sent := unix(a.SentAt)
	if len(a.SentAts) > 0 {
		sent = ""
	}
	target := flow.Target{RobotCode: a.RobotCode, Conversation: a.Conversation}
	args = append(args, target.Name(), int(a.Class), a.Incident, flag(a.Force), a.Fence, sent)
	for _, k := range a.Keys[from:to] {
		args = append(args, pack(k))
	}
	if len(a.SentAts) > 0 {
		for _, t := range a.SentAts[from:to] {
			args = append(args, unix(t))
		}
	}
	return args
}

func unix(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.Unix(), 10)
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Wake looks for keys whose moment has come and wakes slots for them. It is harmless at any time.
func (s *Store) Wake(ctx context.Context) (*Reply, error) {
	return s.step(ctx, "wake", wakeScript)
}

// Cancel marks an incident: none of its keys is called any more. False when no key was ever accepted under that name.
func (s *Store) Cancel(ctx context.Context, incident string) (bool, *Reply, error) {
	r, err := s.step(ctx, "cancel", cancelScript, incident)
	if err != nil {
		return false, nil, err
	}
	return r.Status == StatusOK, r, nil
}

// Release ends the hold of a target, by its name, or with "" that of the app. False when there was none.
func (s *Store) Release(ctx context.Context, target string) (bool, *Reply, error) {
	r, err := s.step(ctx, "release", releaseScript, target)
	if err != nil {
		return false, nil, err
	}
	return r.Status == StatusOK, r, nil
}

// ToldHold says whether the settlement of a batch held something, or for another reason than before: of several calls
// that are refused together one has something to tell. robot: what was held is the robot alone, and its app goes on.
func (s *Store) ToldHold(ctx context.Context, batch int64) (news, robot bool, err error) {
	told, err := s.rdb.HGet(ctx, name(s.app, "meta"), "hold_told").Result()
	if errors.Is(err, redis.Nil) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("key store of app %q: read the hold: %w", s.app, err)
	}
	for line := range strings.Lines(told) {
		if of, what, _ := strings.Cut(strings.TrimSpace(line), " "); of == strconv.FormatInt(batch, 10) {
			return true, what == "robot", nil
		}
	}
	return false, false, nil
}

// IsHeld says whether the app is held, and how many of its robots are.
func (s *Store) IsHeld(ctx context.Context) (app bool, robots int, err error) {
	v, err := s.rdb.HMGet(ctx, name(s.app, "meta"), "hold_code", "heldrobots").Result()
	if err != nil {
		return false, 0, fmt.Errorf("key store of app %q: read the hold: %w", s.app, err)
	}
	if n, ok := v[1].(string); ok {
		if robots, err = strconv.Atoi(n); err != nil {
			return false, 0, fmt.Errorf("key store of app %q: read the hold: %w", s.app, errShape)
		}
	}
	return v[0] != nil, robots, nil
}

// NewReader makes a store for reading only: Status, Lookup, BusySlots, Outbox.
func NewReader(rdb redis.UniversalClient, app string) *Store {
	p := Params{Slots: 1, SlotsCap: 1, Life: time.Second, LedgerTTL: 48 * time.Hour, Letter: 1, ProbeMax: time.Second}
	return New(rdb, app, func() Params { return p }, nil)
}

// Register makes the app known to whoever inspects this Redis.
func (s *Store) Register(ctx context.Context) error {
	if err := s.rdb.SAdd(ctx, appsName, s.app).Err(); err != nil {
		return fmt.Errorf("key store of app %q: register: %w", s.app, err)
	}
	return nil
}

// Apps gives the apps that were registered in a Redis.
func Apps(ctx context.Context, rdb redis.UniversalClient) ([]string, error) {
	apps, err := rdb.SMembers(ctx, appsName).Result()
	if err != nil {
		return nil, fmt.Errorf("key store: list apps: %w", err)
	}
	return apps, nil
}
