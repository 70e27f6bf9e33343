package dispatch

import (
	"context"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

// TestCallsAreOfOneConversation: keys of all three kinds wait together, and no call mixes them.
func TestCallsAreOfOneConversation(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(25)
		want := []upstream.Target{{RobotCode: "robot"}, {RobotCode: "robot"}}
		for _, where := range []flow.Conversation{{Chat: flow.ChatGroup, OpenConversationID: "cid"}, {Chat: flow.ChatPrivate, OpenConversationID: "cid"}} {
			// The same keys: in another conversation they are others.
			if _, _, err := b.store.Admit(context.Background(), keystore.Admission{RobotCode: "robot", Conversation: where, Keys: names(3), Class: flow.Urgent}); err != nil {
				t.Fatal(err)
			}
			want = append(want, upstream.Target{RobotCode: "robot", Chat: where.Chat, OpenConversationID: where.OpenConversationID})
		}
		if err := b.run(at, 0); err != nil {
			t.Fatal(err)
		}
		var got []upstream.Target
		for _, c := range b.service.seen() {
			got = append(got, c.to)
		}
		byName := func(a, b upstream.Target) int { return slices.Compare([]string{a.Chat}, []string{b.Chat}) }
		if slices.SortFunc(got, byName); !slices.Equal(got, want) {
			t.Errorf("calls %+v, want %+v", got, want)
		}
		if b.observer.recalled != 31 {
			t.Errorf("recalled %d of 31", b.observer.recalled)
		}
	})
}

// TestAVerdictOnATargetSparesTheOthers: the service says of one conversation that it does not exist.
func TestAVerdictOnATargetSparesTheOthers(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		at := b.admit(30)
		gone := flow.Conversation{Chat: flow.ChatGroup, OpenConversationID: "gone"}
		if _, _, err := b.store.Admit(context.Background(), keystore.Admission{RobotCode: "robot", Conversation: gone, Keys: names(50), Class: flow.Urgent}); err != nil {
			t.Fatal(err)
		}
		b.service.answer = func(_ int, c fakeCall) (upstream.Answer, error) {
			if c.to.OpenConversationID == "gone" {
				return upstream.Answer{}, &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassService, Status: 400, Code: "invalid.openConversationId", RequestID: "rid"}
			}
			return allRecalled(c.keys), nil
		}
		if err := b.run(at, 0); err != nil {
			t.Fatal(err)
		}
		calls := 0
		for _, c := range b.service.seen() {
			if c.to.OpenConversationID == "gone" {
				calls++
			}
		}
		st := b.status()
		if calls != 2 || st.Total.Recalled != 30 || st.Total.Dead != 50 {
			t.Errorf("%d calls for the conversation that is none; recalled %d, dead %d", calls, st.Total.Recalled, st.Total.Dead)
		}
	})
}
