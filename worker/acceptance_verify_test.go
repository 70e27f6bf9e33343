package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

func (b *bundle) verifier() *worker.Verifier {
	b.t.Helper()
	v, err := worker.NewVerifier(b.cfg, worker.Deps{Redis: b.rdb})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(v.Close)
	return v
}

// verify runs a plan and counts what came of its keys.
func (b *bundle) verify(v *worker.Verifier, plan *worker.VerifyPlan) (map[worker.VerifyResult]int, error) {
	n := map[worker.VerifyResult]int{}
	err := v.Run(context.Background(), plan, func(k worker.Verified) error {
		n[k.Result]++
		return nil
	})
	return n, err
}

// planLetters plans all dead letters.
func (b *bundle) planLetters(v *worker.Verifier) *worker.VerifyPlan {
	b.t.Helper()
	plan := &worker.VerifyPlan{}
	for _, d := range b.letters() {
		if err := v.PlanLetter(context.Background(), plan, d.Letter); err != nil {
			b.t.Fatal(err)
		}
	}
	return plan
}

// TestLostAnswersAreRetriedAndCount: what a lost call had done is found out by the next call, whichever way the service answers for keys
// that are recalled already.
func TestLostAnswersAreRetriedAndCount(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{Faults: []simulator.FaultRule{{Fault: simulator.FaultLostAnswer, Every: 3}}}, nil)
		b.start()
		b.recall(goodKeys(200), tasks.Incident("storm"))
		st := b.untilSettled(200)
		if st.Total.Recalled != 200 || b.sim.Stats().Faults["lost-answer"] == 0 {
			t.Errorf("%+v, lost answers %d", st.Total, b.sim.Stats().Faults["lost-answer"])
		}
		// That they were ambiguous for a while stays to be seen.
		recs, err := b.insp.Keys(context.Background(), robot, goodKeysSeen(b))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(recs, func(r worker.KeyRecord) bool { return r.Ambiguous }) {
			t.Error("no key was marked as ambiguous")
		}
	})
}

func goodKeysSeen(b *bundle) (keys []string) {
	for _, c := range b.calls.inOrder() {
		keys = append(keys, c.Keys...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// dieAmbiguous has 15 keys die in one letter after a lost answer: ten that it recalled, three that stand and two of which the service
// will say nothing.
func (b *bundle) dieAmbiguous() []string {
	b.t.Helper()
	if err := b.sim.SetFaults(simulator.FaultRule{Fault: simulator.FaultLostAnswer, Times: 1}); err != nil {
		b.t.Fatal(err)
	}
	keys := goodKeys(15)
	for _, key := range keys[10:] {
		b.sim.RegisterKey(key, simulator.KeyInfo{Robot: robot, Kind: simulator.Unknown})
	}
	b.start()
	b.recall(keys, tasks.WithClass(tasks.ClassUrgent), tasks.Incident("storm"), tasks.SentAt(time.Now().Add(-time.Hour)))
	st := b.untilSettled(15)
	letters := b.untilLetters(1)
	if st.Total.Dead != 15 || !letters[0].Letter.Ambiguous || len(letters[0].Letter.Keys) != 15 || letters[0].Letter.Code != "invalid.processQueryKey" {
		b.t.Fatalf("%+v, letters %+v", st.Total, letters)
	}
	for _, key := range keys[10:13] {
		b.sim.RegisterKey(key, simulator.KeyInfo{Robot: robot})
	}
	return keys
}

// TestVerifySettlesTheMatter is the whole way of lost answers: the retry's failure proves nothing, the keys die as ambiguous, and readStatus
// says what became of each. Counts, records and dead letters agree afterwards.
func TestVerifySettlesTheMatter(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{AlreadyRecalled: simulator.AlreadyInvalid}, nil)
		keys := b.dieAmbiguous()
		original := b.letters()[0]
		v := b.verifier()
		plan := b.planLetters(v)
		if calls := plan.Calls(); calls[appName] != 15 || len(plan.Keys()) != 15 {
			t.Errorf("the plan: %v calls, %d keys", calls, len(plan.Keys()))
		}
		got, err := b.verify(v, plan)
		if want := map[worker.VerifyResult]int{worker.VerifyRecalled: 10, worker.VerifyStands: 3, worker.VerifyFailed: 2}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%v, %v; want %v", got, err, want)
		}
		b.checkVerified(keys, original)

		// Again: what is certain costs no call any more; neither does a letter that a verifier left behind when it died.
		asked := b.sim.Stats().ReadStatusCalls
		b.buryAgain(original)
		plan = b.planLetters(v)
		if calls := plan.Calls(); calls[appName] != 2 { // once, though two letters have them
			t.Errorf("the second plan: %v calls", calls)
		}
		if _, err := b.verify(v, plan); err != nil {
			t.Fatal(err)
		}
		if n := b.sim.Stats().ReadStatusCalls - asked; n != 2 {
			t.Errorf("%d calls the second time", n)
		}
		b.checkVerified(keys, original)

		// A replay takes up the keys that stand, with those that nobody knows of, and no other.
		for _, d := range b.letters() {
			if err := b.insp.Replay(context.Background(), d.ID); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "the keys that stood are recalled", func() bool { return b.status().Total.Recalled == 13 })
		b.untilSettled(15)
		if st := b.sim.Stats(); st.KeysRecalled != 13 {
			t.Errorf("the simulator: %d recalled", st.KeysRecalled)
		}
	})
}

// checkVerified looks at all places that speak of the keys of dieAmbiguous after they were verified.
func (b *bundle) checkVerified(keys []string, original worker.DeadTask) {
	b.t.Helper()
	st := b.status()
	if st.Total.Recalled != 10 || st.Total.Dead != 5 || st.Total.Accepted != 15 {
		b.t.Errorf("counts %+v", st.Total)
	}
	recs, err := b.insp.Keys(context.Background(), robot, keys)
	if err != nil {
		b.t.Fatal(err)
	}
	for i, r := range recs {
		want := worker.KeyRecalled
		if i >= 10 {
			want = worker.KeyDead
		}
		if r.State != want || r.Ambiguous != (i >= 13) {
			b.t.Errorf("key %d: %+v", i, r)
		}
	}
	var got []string
	for _, d := range b.letters() {
		for i, key := range d.Letter.Keys {
			got = append(got, fmt.Sprint(slices.Index(keys, key), " ", d.Letter.Ambiguous))
			if d.Letter.SentAtOf(i) != original.Letter.SentAtOf(slices.Index(original.Letter.Keys, key)) {
				b.t.Errorf("key %s has lost its time", key)
			}
		}
		l := d.Letter
		if l.Batch != original.Letter.Batch || l.RetainUntil != original.Letter.RetainUntil || l.Code != original.Letter.Code || l.Incident != "storm" || d.State != "scheduled" {
			b.t.Errorf("letter %s: %+v", d.ID, l)
		}
	}
	slices.Sort(got)
	if want := []string{"10 false", "11 false", "12 false", "13 true", "14 true"}; !slices.Equal(got, want) {
		b.t.Errorf("the letters have %v, want %v", got, want)
	}
}

// buryAgain puts a letter back, as if whoever put it right had died before it was removed.
func (b *bundle) buryAgain(d worker.DeadTask) {
	b.t.Helper()
	task, opts := tasks.NewDeadTask(d.Letter, d.ID)
	if _, err := asynq.NewClientFromRedisClient(b.rdb).Enqueue(task, opts...); err != nil {
		b.t.Fatal(err)
	}
}

func TestVerifySparesCallsThatTellNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{}, nil)
		b.start()
		old, recent := time.Now().Add(-25*time.Hour), time.Now().Add(-time.Hour)
		good := goodKeys(1)[0]
		b.recall([]string{good}, tasks.WithClass(tasks.ClassUrgent))
		b.recall([]string{"late"}, tasks.WithClass(tasks.ClassUrgent), tasks.SentAt(old))
		b.sim.RegisterKey("bad", simulator.KeyInfo{Robot: robot, Kind: simulator.Unknown})
		b.recall([]string{"bad"}, tasks.WithClass(tasks.ClassUrgent), tasks.SentAt(recent))
		b.sim.RegisterKey("chat", simulator.KeyInfo{Robot: robot, Kind: simulator.Unknown, Chat: "group", Conversation: "cid"})
		b.recall([]string{"chat"}, tasks.WithClass(tasks.ClassUrgent), tasks.GroupChat("cid"))
		b.untilSettled(4)
		v := b.verifier()
		for _, test := range []struct {
			onlyAmbiguous bool
			why           []string
			calls         int
		}{
			{true, []string{"it is recalled", "no answer was lost: the message stands", "no answer was lost: the message stands", "no answer was lost: the message stands", "no configured app knows the key"}, 0},
			{false, []string{"it is recalled", "its 24 hours are over, and with them the service's answers", "",
				"the service tells the status of one-to-one messages only: look into the chat", "no configured app knows the key"}, 1},
		} {
			plan := &worker.VerifyPlan{}
			if err := v.Plan(context.Background(), plan, robot, []string{good, "late", "bad", "chat", "nobody's"}, test.onlyAmbiguous); err != nil {
				t.Fatal(err)
			}
			var why []string
			for _, k := range plan.Keys() {
				why = append(why, k.Why)
			}
			if !slices.Equal(why, test.why) || plan.Calls()[appName] != test.calls {
				t.Errorf("%q, %v calls\nwant %q", why, plan.Calls(), test.why)
			}
		}
		if n := b.sim.Stats().ReadStatusCalls; n != 0 {
			t.Errorf("%d calls for a plan", n)
		}
	})
}

// TestVerifyKeepsToLimits: it waits where it is throttled, renews a token that was refused, and stops where the app may not call.
func TestVerifyKeepsToLimits(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{AlreadyRecalled: simulator.AlreadyInvalid}, nil)
		b.dieAmbiguous()
		v := b.verifier()
		plan := b.planLetters(v)
		if err := b.sim.SetFaults(simulator.FaultRule{Fault: simulator.FaultPermission, API: simulator.APIReadStatus, Probability: 1}); err != nil {
			t.Fatal(err)
		}
		if n, err := b.verify(v, plan); err == nil || len(n) > 0 || b.sim.Stats().ReadStatusCalls != 1 {
			t.Errorf("without the permission: %v, %v, %d calls", n, err, b.sim.Stats().ReadStatusCalls)
		}
		if err := b.sim.SetFaults(simulator.FaultRule{Fault: simulator.FaultBusy, API: simulator.APIReadStatus, Times: 1}); err != nil {
			t.Fatal(err)
		}
		b.sim.RevokeTokens()
		if n, err := b.verify(v, b.planLetters(v)); err != nil || n[worker.VerifyRecalled] != 10 || n[worker.VerifyStands] != 3 {
			t.Errorf("%v, %v", n, err)
		}
		if st := b.sim.Stats(); st.Faults["busy-429"] != 1 || b.status().Share >= 1 {
			t.Errorf("throttled %d times, and the rate is not less: %v", st.Faults["busy-429"], b.status().Share)
		}
		if err := b.rdb.HSet(context.Background(), "dingrecall:{"+appName+"}:meta", "hold_code", "x", "hold_until", time.Now().Add(time.Hour).UnixMilli(), "hold_every", 60000).Err(); err != nil {
			t.Fatal(err)
		}
		asked := b.sim.Stats().ReadStatusCalls
		n, err := b.verify(v, b.planLetters(v))
		delete(n, worker.VerifySkipped) // settled before, and its old letter is not gone yet
		if !errors.Is(err, worker.ErrAppHeld) || len(n) > 0 || b.sim.Stats().ReadStatusCalls != asked {
			t.Errorf("on hold: %v, %v, %d calls", n, err, b.sim.Stats().ReadStatusCalls-asked)
		}
	})
}

// TestVerifyEndsWhereCallsComeToNothing: a service that fails is not asked for every key. What it says of single keys does not count.
func TestVerifyEndsWhereCallsComeToNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{AlreadyRecalled: simulator.AlreadyInvalid}, nil)
		keys := b.dieAmbiguous()
		for _, test := range []struct {
			fault simulator.Fault
			calls int64
			ends  bool
		}{
			{simulator.FaultSystemError, 5, true}, {simulator.FaultRobotUnknown, 5, true}, {simulator.FaultEmpty200, 5, true}, {simulator.FaultKeyInvalid, 15, false},
		} {
			if err := b.sim.SetFaults(simulator.FaultRule{Fault: test.fault, API: simulator.APIReadStatus, Probability: 1}); err != nil {
				t.Fatal(err)
			}
			v, asked := b.verifier(), b.sim.Stats().ReadStatusCalls
			n, err := b.verify(v, b.planLetters(v))
			calls := b.sim.Stats().ReadStatusCalls - asked
			if calls != test.calls || int64(n[worker.VerifyFailed]) != calls || (err != nil) != test.ends {
				t.Errorf("%s: %d calls, %v, %v", test.fault, calls, n, err)
			}
		}
		// One answer in between, and it goes on.
		if err := b.sim.SetFaults(simulator.FaultRule{Fault: simulator.FaultSystemError, API: simulator.APIReadStatus, To: 4}); err != nil {
			t.Fatal(err)
		}
		v := b.verifier()
		if n, err := b.verify(v, b.planLetters(v)); err != nil || n[worker.VerifyRecalled] == 0 || n[worker.VerifyFailed] < 4 {
			t.Errorf("%v, %v of %d keys", n, err, len(keys))
		}
	})
}
