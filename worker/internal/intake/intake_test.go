package intake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/intake"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

var now = time.UnixMilli(1_790_000_000_000)

const retention = 24 * time.Hour

// bundle is an intake with a store, a graveyard and wake-ups of the test's own, each of which can be told to fail.
type bundle struct {
	in       *intake.Intake
	admitted []keystore.Admission
	letters  map[string]tasks.DeadLetter // by id
	buried   int                         // letters enqueued, also where they were there already
	woken    []string                    // apps
	observed map[string]int

	admitErr, afterErr, buryErr error
}

// Admit implements intake.Store.
func (b *bundle) Admit(_ context.Context, a keystore.Admission) (keystore.Admitted, *keystore.Reply, error) {
	if b.admitErr != nil {
		return keystore.Admitted{}, nil, b.admitErr
	}
	b.admitted = append(b.admitted, a)
	return keystore.Admitted{Accepted: len(a.Keys)}, &keystore.Reply{Status: keystore.StatusOK}, nil
}

// Admitted implements intake.Observer.
func (b *bundle) Admitted(app string, a keystore.Admitted) { b.observed["admitted "+app] += a.Accepted }

// Malformed implements intake.Observer.
func (b *bundle) Malformed(code string, keys int) { b.observed[code] += max(keys, 1) }

func setup() *bundle {
	b := &bundle{letters: map[string]tasks.DeadLetter{}, observed: map[string]int{}}
	b.in = intake.New(intake.Deps{
		AppOf: func(robotCode string) (string, intake.Store, bool) { return "main", b, robotCode != "stranger" },
		After: func(_ context.Context, app string, _ *keystore.Reply) error {
			if b.afterErr == nil {
				b.woken = append(b.woken, app)
			}
			return b.afterErr
		},
		Bury: func(_ context.Context, l tasks.DeadLetter, id string) error {
			if b.buryErr != nil {
				return b.buryErr
			}
			b.buried++
			if _, ok := b.letters[id]; !ok {
				b.letters[id] = l
			}
			return nil
		},
		Observer: b, Now: func() time.Time { return now }, Retention: retention,
	})
	return b
}

func task(payload string) intake.Task {
	return intake.Task{ID: "id-1", Type: tasks.TypeSubmit, Queue: tasks.QueueUrgent, Class: tasks.ClassUrgent, Payload: []byte(payload)}
}

// letter gives the one dead letter there is, which must be one that a worker can read later.
func (b *bundle) letter(t *testing.T, id string) tasks.DeadLetter {
	t.Helper()
	l, ok := b.letters[id]
	if !ok || len(b.letters) != 1 {
		t.Fatalf("no letter %s, or not it alone: %v", id, b.letters)
	}
	made, _ := tasks.NewDeadTask(l, id)
	back, err := tasks.DecodeDeadLetter(made.Payload())
	if err != nil {
		t.Fatalf("the letter cannot be read: %v", err)
	}
	return back
}

// TestWhatCannotBeReadBecomesADeadLetter: with code and reason, byte for byte, and never an error.
func TestWhatCannotBeReadBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, payload, says string }{
		{"nothing", ``, "payload is empty; a JSON object is wanted"},
		{"no JSON", `robot k1 k2`, "payload is not a JSON object"},
		{"an array", `["k1"]`, "payload is not a JSON object"},
		{"null", `null`, "payload is not a JSON object"},
		{"cut short", `{"v":1,"robotCode":"r","keys":["k1"`, "payload is not valid JSON"},
		{"not UTF-8", "{\"v\":1,\"robotCode\":\"r\",\"keys\":[\"\xff\"]}", "payload is not valid UTF-8; JSON text is wanted"},
		{"newer", `{"v":3,"robotCode":7}`, "payload has version 3, made by a newer producer"},
		{"no robot", `{"v":1,"keys":["k1"]}`, "robotCode is missing or empty"},
		{"robot of another type", `{"v":1,"robotCode":7,"keys":["k1"]}`, "robotCode is a JSON number; a string is wanted"},
		{"robot too long", `{"v":1,"robotCode":"` + strings.Repeat("r", 129) + `","keys":["k1"]}`, "is 129 bytes long; at most 128 are allowed"},
		{"no keys", `{"v":1,"robotCode":"r"}`, "keys is missing or empty"},
		{"keys of another type", `{"v":1,"robotCode":"r","keys":"k1"}`, "field keys is a JSON string; an array of strings is wanted"},
		{"too many keys", `{"v":1,"robotCode":"r","keys":[` + strings.Repeat(`"k",`, 10_000) + `"k"]}`, "keys has 10001 entries; at most 10000 are allowed"},
		{"times do not fit", `{"v":1,"robotCode":"r","keys":["k1","k2"],"sentAts":[1790000000000]}`, "sentAts has 1 entries for 2 keys"},
		{"seconds", `{"v":1,"robotCode":"r","keys":["k1"],"sentAt":1790000000}`, "is it seconds? milliseconds are wanted"},
		{"no conversation", `{"v":2,"robotCode":"r","keys":["k1"],"chat":"group"}`, "openConversationId is missing or empty"},
		{"conversation too long", `{"v":2,"robotCode":"r","keys":["k1"],"chat":"group","openConversationId":"` + strings.Repeat("c", 257) + `"}`, "is 257 bytes long; at most 256"},
		{"conversation with a mark of ours", `{"v":2,"robotCode":"r","keys":["k1"],"chat":"group","openConversationId":"c\u001fd"}`, "contains a control character"},
		{"robot with a mark of ours", `{"v":1,"robotCode":"r\u001fgroup\u001fc","keys":["k1"]}`, "contains a control character"},
		{"incident too long", `{"v":1,"robotCode":"r","keys":["k1"],"incident":"` + strings.Repeat("i", 129) + `"}`, "incident"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup()
			for range 2 { // the acknowledgement may be lost
				if err := b.in.Submit(context.Background(), task(c.payload)); err != nil {
					t.Fatalf("it would run again for ever: %v", err)
				}
			}
			l := b.letter(t, "dead:id-1:submission.malformed")
			if l.Code != tasks.CodeSubmissionMalformed || !strings.Contains(l.Message, c.says) {
				t.Errorf("%s: %q, want %q in it", l.Code, l.Message, c.says)
			}
			if !bytes.Equal(l.Raw(), []byte(c.payload)) {
				t.Errorf("kept %q", l.Raw())
			}
			if l.Class != tasks.ClassUrgent || l.Origin != "id-1 (recall:submit in recall-urgent)" || l.DiedAt != now.UnixMilli() || l.RetainUntil != now.Add(retention).UnixMilli() {
				t.Errorf("%+v", l)
			}
			if len(b.admitted) > 0 || b.observed[tasks.CodeSubmissionMalformed] != 2 {
				t.Errorf("admitted %v, observed %v", b.admitted, b.observed)
			}
		})
	}
}

func TestATaskOfAnotherTypeBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	b := setup()
	other := task(`{"v":1,"robotCode":"r","keys":["k1"]}`)
	other.Type = "mail:send"
	if err := b.in.Submit(context.Background(), other); err != nil {
		t.Fatal(err)
	}
	if l := b.letter(t, "dead:id-1:submission.malformed"); l.Message != `a task of type "mail:send" has no business in queue "recall-urgent"` || len(l.Raw()) == 0 {
		t.Errorf("%+v", l)
	}
}

func TestBadKeysGoApartAndGoodOnesOn(t *testing.T) {
	t.Parallel()
	b := setup()
	future := now.Add(time.Hour).UnixMilli()
	payload := fmt.Sprintf(`{"v":1,"robotCode":"r","incident":"storm","keys":["k1","",7,"k 2\u0000","k3","k4"],"sentAts":[0,0,0,1780000000000,%d,1780000000001],"sentAt":1785000000000}`, future)
	for range 2 {
		if err := b.in.Submit(context.Background(), task(payload)); err != nil {
			t.Fatal(err)
		}
	}
	l := b.letter(t, "dead:id-1:key.malformed")
	if l.Code != tasks.CodeKeyMalformed || l.RobotCode != "r" || l.Incident != "storm" || l.Message != `key 1 "": is empty (and 3 more)` {
		t.Errorf("%+v", l)
	}
	if !slices.Equal(l.Keys, []string{"", "7", "k 2\x00", "k3"}) || !slices.Equal(l.SentAts, []int64{1785000000000, 1785000000000, 1780000000000, future}) {
		t.Errorf("keys %q, times %v", l.Keys, l.SentAts)
	}
	if len(b.admitted) != 2 {
		t.Fatalf("admitted %v", b.admitted)
	}
	a := b.admitted[0]
	if a.RobotCode != "r" || a.Class != flow.Urgent || a.Incident != "storm" || !slices.Equal(a.Keys, []string{"k1", "k4"}) || a.Force || a.Fence != 0 {
		t.Errorf("%+v", a)
	}
	if len(a.SentAts) != 2 || a.SentAts[0].UnixMilli() != 1785000000000 || a.SentAts[1].UnixMilli() != 1780000000001 {
		t.Errorf("times %v", a.SentAts)
	}
	if !slices.Equal(b.woken, []string{"main", "main"}) || b.observed["admitted main"] != 4 || b.observed[tasks.CodeKeyMalformed] != 8 {
		t.Errorf("woken %v, observed %v", b.woken, b.observed)
	}
}

func TestATimeInTheFutureIsNoTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ahead time.Duration
		ok    bool
		says  string
	}{{tasks.MaxSentAtAhead, true, ""}, {tasks.MaxSentAtAhead + time.Millisecond, false, "is 10m0s in the future (check the producer's clock)"},
		{time.Duration(1 << 61), false, "in the future"}} {
		b := setup()
		if err := b.in.Submit(context.Background(), task(fmt.Sprintf(`{"v":1,"robotCode":"r","keys":["k1","k2"],"sentAt":%d}`, now.Add(c.ahead).UnixMilli()))); err != nil {
			t.Fatal(err)
		}
		if c.ok {
			if len(b.letters) != 0 || len(b.admitted) != 1 {
				t.Errorf("%v ahead: %v", c.ahead, b.letters)
			}
			continue
		}
		l := b.letter(t, "dead:id-1:key.malformed")
		if len(b.admitted) != 0 || len(l.Keys) != 2 || !strings.Contains(l.Message, c.says) {
			t.Errorf("%v ahead: admitted %v, %+v", c.ahead, b.admitted, l)
		}
	}
}

func TestARobotThatNobodyTakes(t *testing.T) {
	t.Parallel()
	b := setup()
	for range 2 {
		if err := b.in.Submit(context.Background(), task(`{"v":1,"robotCode":"stranger","keys":["k1",""],"sentAt":1780000000000,"incident":"storm"}`)); err != nil {
			t.Fatal(err)
		}
	}
	l, ok := b.letters["dead:id-1:robot.unconfigured"]
	if !ok || len(b.letters) != 2 || len(b.admitted) != 0 {
		t.Fatalf("%v", b.letters)
	}
	if l.Code != tasks.CodeRobotUnconfigured || l.RobotCode != "stranger" || !slices.Equal(l.Keys, []string{"k1"}) || l.SentAtOf(0) != 1780000000000 || l.Incident != "storm" || l.App != "" ||
		!strings.Contains(l.Message, `"stranger"`) || !strings.Contains(l.Message, "then replay this") {
		t.Errorf("%+v", l)
	}
}

// TestFailuresAreForLater: what Redis could not do is done again, and nobody is to blame.
func TestFailuresAreForLater(t *testing.T) {
	t.Parallel()
	blink := errors.New("redis blinked")
	const good, bad, partly = `{"v":1,"robotCode":"r","keys":["k1"]}`, `{`, `{"v":1,"robotCode":"r","keys":["k1",""]}`
	for _, c := range []struct {
		name    string
		payload string
		spoil   func(b *bundle, err error)
	}{
		{"admit", good, func(b *bundle, err error) { b.admitErr = err }},
		{"after", good, func(b *bundle, err error) { b.afterErr = err }},
		{"bury what cannot be read", bad, func(b *bundle, err error) { b.buryErr = err }},
		{"bury a key", partly, func(b *bundle, err error) { b.buryErr = err }},
		{"bury a stranger's", `{"v":1,"robotCode":"stranger","keys":["k1"]}`, func(b *bundle, err error) { b.buryErr = err }},
	} {
		b := setup()
		c.spoil(b, blink)
		err := b.in.Submit(context.Background(), task(c.payload))
		var l *flow.Later
		if !errors.As(err, &l) || l.Blame || l.Delay <= 0 || l.Delay > 10*time.Second || !errors.Is(err, blink) {
			t.Errorf("%s: %v", c.name, err)
		}
		c.spoil(b, nil)
		if err := b.in.Submit(context.Background(), task(c.payload)); err != nil {
			t.Errorf("%s, the second time: %v", c.name, err)
		}
		if len(b.admitted)+len(b.letters) == 0 || len(b.letters) != b.buried {
			t.Errorf("%s: admitted %v, letters %v", c.name, b.admitted, b.letters)
		}
	}
}

// TestTwiceIsOnce on a key store: the keys, their letters and their counts.
func TestTwiceIsOnce(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		p := keystore.Params{Slots: 1, SlotsCap: 2, Life: 24 * time.Hour, LedgerTTL: 48 * time.Hour, Letter: 10, ProbeMax: time.Minute}
		store := keystore.New(rdb, "main", func() keystore.Params { return p }, nil)
		b := setup()
		in := intake.New(intake.Deps{
			AppOf:    func(string) (string, intake.Store, bool) { return "main", store, true },
			After:    func(context.Context, string, *keystore.Reply) error { return nil },
			Bury:     func(context.Context, tasks.DeadLetter, string) error { return nil },
			Observer: b, Now: time.Now, Retention: retention,
		})
		payload := []byte(`{"v":1,"robotCode":"r","keys":["` + strings.Join(manyKeys(1200), `","`) + `","k0"],"incident":"storm"}`)
		for i, class := range []tasks.Class{tasks.ClassBulk, tasks.ClassBulk, tasks.ClassUrgent} {
			if err := in.Submit(context.Background(), intake.Task{ID: fmt.Sprint(i), Type: tasks.TypeSubmit, Class: class, Payload: payload}); err != nil {
				t.Fatal(err)
			}
		}
		st, err := store.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if st.Total.Accepted != 1200 || st.Total.Waiting != 1200 || len(st.Groups) != 1 || st.Groups[0].Incident != "storm" {
			t.Errorf("%+v", st)
		}
		if b.observed["admitted main"] != 1200 {
			t.Errorf("observed %v", b.observed)
		}
		recs, err := store.Lookup(context.Background(), "r", []string{"k0", "k1199"})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			if r.Class != flow.Urgent || r.State != flow.Waiting {
				t.Errorf("%+v", r)
			}
		}
	})
}

func manyKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%d", i)
	}
	return keys
}

func TestClassesAndMoments(t *testing.T) {
	t.Parallel()
	for c, want := range map[tasks.Class]flow.Class{tasks.ClassUrgent: flow.Urgent, tasks.ClassDefault: flow.Default, tasks.ClassBulk: flow.Bulk, "": flow.Default} {
		if got := intake.ClassOf(c); got != want {
			t.Errorf("%q is %v", c, got)
		}
	}
	if !intake.Moment(0).IsZero() || intake.Moment(1780000000000).UnixMilli() != 1780000000000 {
		t.Error("moments")
	}
}

// TestConcurrentSubmissions is for the race detector.
func TestConcurrentSubmissions(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	n := 0
	in := intake.New(intake.Deps{
		AppOf: func(string) (string, intake.Store, bool) { return "", nil, false },
		Bury: func(context.Context, tasks.DeadLetter, string) error {
			mu.Lock()
			defer mu.Unlock()
			n++
			return nil
		},
		Observer: nobody{}, Now: time.Now,
	})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := in.Submit(context.Background(), task(`{"v":1,"robotCode":"r","keys":["k1"]}`)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n != 20 {
		t.Errorf("%d of 20", n)
	}
}

type nobody struct{}

func (nobody) Admitted(string, keystore.Admitted) {}
func (nobody) Malformed(string, int)              {}

func TestTheConversationGoesAlong(t *testing.T) {
	t.Parallel()
	b := setup()
	want := flow.Conversation{Chat: "private", OpenConversationID: "cid+/="}
	if err := b.in.Submit(context.Background(), task(`{"v":2,"robotCode":"r","chat":"private","openConversationId":"cid+/=","keys":["k1","k 2\n"]}`)); err != nil {
		t.Fatal(err)
	}
	if len(b.admitted) != 1 || b.admitted[0].Conversation != want || b.admitted[0].RobotCode != "r" {
		t.Errorf("admitted %+v", b.admitted)
	}
	if l := b.letter(t, "dead:id-1:key.malformed"); l.V != 2 || flow.Conversation(l.Conversation) != want {
		t.Errorf("the letter of its bad key: %+v", l)
	}
	b = setup()
	if err := b.in.Submit(context.Background(), task(`{"v":2,"robotCode":"stranger","chat":"private","openConversationId":"cid+/=","keys":["k1"]}`)); err != nil {
		t.Fatal(err)
	}
	if l := b.letter(t, "dead:id-1:robot.unconfigured"); l.V != 2 || flow.Conversation(l.Conversation) != want {
		t.Errorf("the letter of a robot that no app takes: %+v", l)
	}
}

// TestOneTargetTooManyDoesNotLoop: what the key store will not take the next time either is kept, with the reason.
func TestOneTargetTooManyDoesNotLoop(t *testing.T) {
	t.Parallel()
	b := setup()
	b.admitErr = fmt.Errorf("on the way: %w", keystore.ErrTargetLimit)
	if err := b.in.Submit(context.Background(), task(`{"v":2,"robotCode":"r","chat":"group","openConversationId":"cid","keys":["k1","k2"]}`)); err != nil {
		t.Fatal(err)
	}
	if l := b.letter(t, "dead:id-1:target.limit"); !slices.Equal(l.Keys, []string{"k1", "k2"}) || l.OpenConversationID != "cid" || !strings.Contains(l.Message, "65,534") {
		t.Errorf("%+v", l)
	}
}
