package deadletter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/worker/internal/deadletter"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

const retention = 90 * 24 * time.Hour

var errBlink = errors.New("redis blinked")

func params() keystore.Params {
	return keystore.Params{Slots: 4, SlotsCap: 8, Life: 24 * time.Hour, LedgerTTL: 48 * time.Hour, Letter: 50, ProbeMax: time.Minute}
}

func newStore(rdb *redis.Client, app string) *keystore.Store {
	return keystore.New(rdb, app, params, nil)
}

func names(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%03d", i)
	}
	return keys
}

// kill admits keys and has them die of a code in calls.
func kill(t *testing.T, s *keystore.Store, keys []string, code string) {
	t.Helper()
	killIn(t, s, flow.Conversation{}, keys, code)
}

func killIn(t *testing.T, s *keystore.Store, where flow.Conversation, keys []string, code string) {
	t.Helper()
	ctx := context.Background()
	_, r, err := s.Admit(ctx, keystore.Admission{RobotCode: "robot", Conversation: where, Keys: keys, Class: flow.Urgent, Incident: "storm", SentAt: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	at := flow.SlotRun{Slot: r.Due[0].Slot, Generation: r.Due[0].Generation}
	for r, err = s.Attach(ctx, at.Slot, at.Generation, 0); err == nil && r.Status == keystore.StatusBatch; {
		outcomes := slices.Repeat([]flow.Outcome{{Fate: flow.FateDead, Code: code, Message: "words"}}, len(r.Batch.Keys))
		at.Run = r.Batch.Run
		r, err = s.Settle(ctx, at, r.Batch.ID, flow.Settlement{Outcomes: outcomes, Counted: true, RequestID: "rid", Next: flow.NextClaim})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// bundle is a handler of dead letters on a key store for each app.
type bundle struct {
	h           *deadletter.Handler
	stores      map[string]*keystore.Store
	home        map[string]string // robot -> app
	now         time.Time         // Redis's clock; zero: the real one
	nowErr      error
	afterErr    error
	resubmitted []string
	over        []tasks.DeadLetter
	revived     []int
}

func setup(rdb *redis.Client) *bundle {
	b := &bundle{stores: map[string]*keystore.Store{"main": newStore(rdb, "main"), "other": newStore(rdb, "other")}, home: map[string]string{"robot": "main"}}
	b.h = deadletter.NewHandler(deadletter.Deps{
		AppOf: func(robotCode string) (string, deadletter.Store, bool) {
			app, ok := b.home[robotCode]
			return app, b.stores[app], ok
		},
		After: func(context.Context, string, *keystore.Reply) error { return b.afterErr },
		Resubmit: func(_ context.Context, id string, class tasks.Class, payload []byte) error {
			b.resubmitted = append(b.resubmitted, id+" "+string(class)+" "+string(payload))
			return nil
		},
		Now: func(ctx context.Context) (time.Time, error) {
			if b.now.IsZero() && b.nowErr == nil {
				return rdb.Time(ctx).Result()
			}
			return b.now, b.nowErr
		},
		Over: func(l tasks.DeadLetter) { b.over = append(b.over, l) }, Replayed: func(_ tasks.DeadLetter, n int) { b.revived = append(b.revived, n) },
	})
	return b
}

func (b *bundle) states(t *testing.T, app string, keys []string) map[flow.State]int {
	t.Helper()
	recs, err := b.stores[app].Lookup(context.Background(), "robot", keys)
	if err != nil {
		t.Fatal(err)
	}
	out := map[flow.State]int{}
	for _, r := range recs {
		out[r.State]++
	}
	return out
}

// dead has keys die and gives their letters.
func (b *bundle) dead(t *testing.T, keys []string) []tasks.DeadLetter {
	t.Helper()
	kill(t, b.stores["main"], keys, "system.error")
	g := &graveyard{}
	if _, err := deadletter.Drain(context.Background(), "main", b.stores["main"], g.bury, retention); err != nil {
		t.Fatal(err)
	}
	var out []tasks.DeadLetter
	for _, l := range g.letters {
		out = append(out, l)
	}
	return out
}

func (b *bundle) run(t *testing.T, l tasks.DeadLetter) error {
	t.Helper()
	task, _ := tasks.NewDeadTask(l, "id")
	return b.h.Run(context.Background(), "id", task.Payload())
}

func TestRunEarlyIsAReplayRunAtItsTimeIsTheEnd(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(rdb)
		keys := names(20)
		l := b.dead(t, keys)[0]
		end := time.UnixMilli(l.RetainUntil)
		for _, at := range []time.Time{end, end.Add(time.Hour), end.Add(-time.Hour)} { // the last hours count as over: clocks differ
			b.now = at
			if err := b.run(t, l); err != nil {
				t.Fatal(err)
			}
		}
		if len(b.over) != 3 || len(b.revived) != 0 || b.states(t, "main", keys)[flow.Dead] != 20 {
			t.Errorf("over %d, revived %v, %v", len(b.over), b.revived, b.states(t, "main", keys))
		}
		b.now = end.Add(-3 * time.Hour)
		for range 2 { // the acknowledgement may be lost
			if err := b.run(t, l); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.states(t, "main", keys); !slices.Equal(b.revived, []int{20, 0}) || got[flow.Waiting] != 20 || len(b.over) != 3 {
			t.Errorf("revived %v, %v", b.revived, got)
		}
	})
}

func TestAReplayIsFencedByItsBatch(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(rdb)
		first := b.dead(t, names(5))[0]
		if err := b.run(t, first); err != nil {
			t.Fatal(err)
		}
		second := b.dead(t, names(5))[0] // they die again, in another batch
		if first.Batch == second.Batch {
			t.Fatal("one batch")
		}
		if err := b.run(t, first); err != nil {
			t.Fatal(err)
		}
		if got := b.states(t, "main", names(5)); got[flow.Dead] != 5 {
			t.Errorf("a letter of an earlier death revived the keys: %v", got)
		}
		if err := b.run(t, second); err != nil {
			t.Fatal(err)
		}
		if got := b.states(t, "main", names(5)); got[flow.Waiting] != 5 {
			t.Errorf("%v", got)
		}
	})
}

func TestARobotThatMovedToAnotherApp(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(rdb)
		l := b.dead(t, names(5))[0]
		b.home["robot"] = "other"
		kill(t, b.stores["other"], []string{"x"}, "system.error") // so that its batches have other numbers
		for range 2 {
			if err := b.run(t, l); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.states(t, "other", names(5)); got[flow.Waiting] != 5 || !slices.Equal(b.revived, []int{5, 0}) {
			t.Errorf("%v, revived %v", got, b.revived)
		}
		if got := b.states(t, "main", names(5)); got[flow.Dead] != 5 {
			t.Errorf("in the old app: %v", got)
		}
		// The new app has numbers of its own for its batches: the old one's is no fence there.
		kill(t, b.stores["other"], names(5), "system.error")
		if err := b.run(t, l); err != nil || b.states(t, "other", names(5))[flow.Waiting] != 5 {
			t.Errorf("%v, %v", err, b.states(t, "other", names(5)))
		}
		delete(b.home, "robot")
		stays(t, b.run(t, l), `no app of the configuration takes robot "robot"`)
	})
}

// stays checks that a letter is kept, for long and without blame, and why.
func stays(t *testing.T, err error, why string) {
	t.Helper()
	var later *flow.Later
	if !errors.As(err, &later) || later.Blame || later.Delay < time.Minute || !strings.Contains(err.Error(), why) {
		t.Errorf("%v, want it to stay because %s", err, why)
	}
}

func TestWhatCannotBeReplayedStays(t *testing.T) {
	t.Parallel()
	b := setup(redistest.Mini(t))
	for _, payload := range []string{"", "{", `{"v":1}`, `{"v":99,"code":"c"}`, `{"v":1,"code":"c","keys":["k"],"retainUntil":1}`} {
		stays(t, b.h.Run(context.Background(), "id", []byte(payload)), "this is no dead letter")
	}
	now := time.Now()
	letter := func(change func(l *tasks.DeadLetter)) tasks.DeadLetter {
		l := tasks.DeadLetter{Code: "c", RobotCode: "robot", Keys: []string{"k1", "k2"}, Class: tasks.ClassBulk, DiedAt: now.UnixMilli(), RetainUntil: now.Add(retention).UnixMilli()}
		change(&l)
		return l
	}
	stays(t, b.run(t, letter(func(l *tasks.DeadLetter) { l.Code, l.Keys = tasks.CodeKeyMalformed, []string{"k1", ""} })), "a key of this letter cannot be a key (it is empty)")
	stays(t, b.run(t, letter(func(l *tasks.DeadLetter) { l.SentAts = []int64{0, now.UnixMicro()} })), "is it microseconds? milliseconds are wanted")
	stays(t, b.run(t, letter(func(l *tasks.DeadLetter) { l.SentAt = now.Unix() })), "is it seconds? milliseconds are wanted")
	stays(t, b.run(t, letter(func(l *tasks.DeadLetter) { l.RobotCode = "stranger" })), `takes robot "stranger"`)
	if len(b.revived)+len(b.over) != 0 || b.states(t, "main", []string{"k1", "k2"})[flow.Unknown] != 2 {
		t.Errorf("revived %v, over %v", b.revived, b.over)
	}
}

func TestASubmissionThatCouldNotBeReadIsReadAgain(t *testing.T) {
	t.Parallel()
	b := setup(redistest.Mini(t))
	for _, raw := range []string{`{"v":2}`, "\xff\x00"} {
		l := tasks.DeadLetter{Code: tasks.CodeSubmissionMalformed, Class: tasks.ClassUrgent, DiedAt: time.Now().UnixMilli(), RetainUntil: time.Now().Add(retention).UnixMilli()}
		l.SetRaw([]byte(raw))
		if err := b.run(t, l); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(b.resubmitted, []string{`id urgent {"v":2}`, "id urgent \xff\x00"}) {
		t.Errorf("%q", b.resubmitted)
	}
	// One that was empty has nothing to be read again, and is no reason to fail.
	l := tasks.DeadLetter{Code: tasks.CodeSubmissionMalformed, DiedAt: time.Now().UnixMilli(), RetainUntil: time.Now().Add(retention).UnixMilli()}
	if err := b.run(t, l); err != nil {
		stays(t, err, "")
	}
}

func TestFailuresAreForLater(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	b := setup(rdb)
	l := b.dead(t, names(3))[0]
	check := func(what string, err error) {
		t.Helper()
		var later *flow.Later
		if !errors.As(err, &later) || later.Blame || later.Delay <= 0 || later.Delay > 10*time.Second {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.nowErr = errBlink
	check("no clock", b.run(t, l))
	b.nowErr, b.afterErr = nil, errBlink
	check("nothing enqueued", b.run(t, l))
	if len(b.revived) != 0 {
		t.Errorf("told of a replay that is to be done again: %v", b.revived)
	}
	b.afterErr = nil
	if err := b.run(t, l); err != nil || b.states(t, "main", names(3))[flow.Waiting] != 3 {
		t.Errorf("%v", err)
	}
	_ = rdb.Close()
	b.now = time.Now()
	check("no Redis", b.run(t, l))
}

func TestClassesSurvive(t *testing.T) {
	t.Parallel()
	for _, class := range tasks.Classes() {
		b := setup(redistest.Mini(t))
		now := time.Now()
		l := tasks.DeadLetter{Code: "c", RobotCode: "robot", Keys: []string{"k1"}, Class: class, DiedAt: now.UnixMilli(), RetainUntil: now.Add(retention).UnixMilli(), Incident: "storm"}
		if err := b.run(t, l); err != nil {
			t.Fatal(err)
		}
		recs, err := b.stores["main"].Lookup(context.Background(), "robot", []string{"k1"})
		if err != nil {
			t.Fatal(err)
		}
		if recs[0].Class.String() != string(class) || recs[0].Incident != "storm" {
			j, _ := json.Marshal(recs)
			t.Errorf("%s: %s", class, j)
		}
	}
}

// TestAReplayGoesToTheSameConversation: one key may be dead in several; the letter of one revives no other.
func TestAReplayGoesToTheSameConversation(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(rdb)
		all := []flow.Conversation{{}, {Chat: flow.ChatGroup, OpenConversationID: "cid"}, {Chat: flow.ChatPrivate, OpenConversationID: "cid"}}
		for _, where := range all {
			killIn(t, b.stores["main"], where, names(3), "system.error")
		}
		g := &graveyard{}
		if _, err := deadletter.Drain(context.Background(), "main", b.stores["main"], g.bury, retention); err != nil {
			t.Fatal(err)
		}
		for _, l := range g.letters {
			if l.Conversation == tasks.Conversation(all[1]) {
				if err := b.run(t, l); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, where := range all {
			target := flow.Target{RobotCode: "robot", Conversation: where}
			recs, err := b.stores["main"].Lookup(context.Background(), target.Name(), names(3))
			if err != nil {
				t.Fatal(err)
			}
			want := flow.Dead
			if where == all[1] {
				want = flow.Waiting
			}
			for _, r := range recs {
				if r.State != want || r.Target() != target {
					t.Errorf("%s: %+v, want %s", target, r, want)
				}
			}
		}
	})
}
