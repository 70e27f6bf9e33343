package worker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
	"dingrecall/worker/internal/redistest"
)

// TestKeysOfAllKindsOfChats sends keys of one robot through the whole pipeline, mixed: one-to-one, of two groups and of a private chat. The
// simulator knows which key belongs where, and refuses it anywhere else.
func TestKeysOfAllKindsOfChats(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{RegisteredOnly: true}, nil)
		homes := []tasks.Conversation{
			{},
			{Chat: tasks.ChatGroup, OpenConversationID: "cidKeBBLx5x7EeiodoA5w8Q+A=="},
			{Chat: tasks.ChatGroup, OpenConversationID: "cid2"},
			{Chat: tasks.ChatPrivate, OpenConversationID: "cid2"},
		}
		const each = 110 // six calls
		keys := goodKeys(each * len(homes))
		b.start()
		for part := range 11 { // ten keys at a time, so that all wait together
			for i, home := range homes {
				some := keys[each*i+10*part : each*i+10*part+10]
				for _, key := range some {
					b.sim.RegisterKey(key, simulator.KeyInfo{Robot: robot, Chat: home.Chat, Conversation: home.OpenConversationID})
				}
				b.recall(some, tasks.InConversation(home), tasks.Incident("storm"))
			}
		}
		st := b.untilSettled(len(keys))
		if st.Total.Recalled != int64(len(keys)) {
			t.Errorf("recalled %d of %d", st.Total.Recalled, len(keys))
		}
		if len(st.Groups) != len(homes) {
			t.Errorf("%d groups", len(st.Groups))
		}
		for i, home := range homes {
			target := worker.Target{RobotCode: robot, Conversation: worker.Conversation(home)}
			recs, err := b.insp.KeysOf(context.Background(), target, keys[each*i:each*(i+1)])
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range recs {
				if r.State != worker.KeyRecalled || r.Target() != target || r.Incident != "storm" {
					t.Errorf("%+v", r)
				}
			}
		}
		sim := b.sim.Stats()
		if sim.KeysRecalled != int64(len(keys)) || sim.KeysAskedAgain != 0 || sim.Overlaps != 0 {
			t.Errorf("the simulator: recalled %d, asked again %d, overlaps %d", sim.KeysRecalled, sim.KeysAskedAgain, sim.Overlaps)
		}
		for _, c := range b.calls.inOrder() {
			home := tasks.Conversation{Chat: c.Chat, OpenConversationID: c.Conversation}
			if i := slices.Index(homes, home); i < 0 || len(c.Keys) > 20 || c.Robot != robot {
				t.Errorf("a call of %d keys for %+v", len(c.Keys), home)
			}
		}
	})
}

// TestAKeyInTheWrongConversationDies, and can be seen there, and its replay goes there again.
func TestAKeyInTheWrongConversationDies(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, simulator.Config{RegisteredOnly: true}, nil)
		b.sim.RegisterKey("key", simulator.KeyInfo{Robot: robot, Chat: simulator.ChatGroup, Conversation: "cid1"})
		b.start()
		b.recall([]string{"key"}, tasks.GroupChat("cid2"), tasks.WithClass(tasks.ClassUrgent))
		b.untilSettled(1)
		letter := b.untilLetters(1)[0]
		want := tasks.Conversation{Chat: tasks.ChatGroup, OpenConversationID: "cid2"}
		if letter.Letter.Code != "not.allowed.robotCode" || letter.Letter.Conversation != want || letter.Letter.V != tasks.PayloadVersionChat {
			t.Errorf("%+v", letter.Letter)
		}
		for conversation, n := range map[string]int{"cid2": 1, "cid1": 0} {
			found := 0
			err := b.insp.DeadLetters(context.Background(), worker.DeadFilter{Conversation: conversation}, func(worker.DeadTask) error { found++; return nil })
			if err != nil || found != n {
				t.Errorf("%d letters of conversation %s, %v", found, conversation, err)
			}
		}
		b.sim.RegisterKey("key", simulator.KeyInfo{Robot: robot, Chat: simulator.ChatGroup, Conversation: "cid2"})
		if err := b.insp.Replay(context.Background(), letter.ID); err != nil {
			t.Fatal(err)
		}
		until(t, "the replayed key is recalled", func() bool { return b.status().Total.Recalled == 1 })
		var got []string
		for _, c := range b.calls.inOrder() {
			got = append(got, fmt.Sprint(c.Chat, " ", c.Conversation))
		}
		if !slices.Equal(got, []string{"group cid2", "group cid2"}) {
			t.Errorf("calls %q", got)
		}
	})
}
