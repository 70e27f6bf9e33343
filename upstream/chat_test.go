package upstream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dingrecall/upstream/simulator"
)

func TestTargetsThatAreNotSent(t *testing.T) {
	t.Parallel()
	client := serve(t, respond(500, "a request was sent"))
	for name, target := range map[string]Target{
		"no conversation":         {testRobot, ChatGroup, ""},
		"no chat":                 {testRobot, "", "cid"},
		"unknown chat":            {testRobot, "thread", "cid"},
		"a control character":     {testRobot, ChatGroup, "ci\x1fd"},
		"a control character, C1": {testRobot, ChatPrivate, "ci\u0085d"},
		"too long":                {testRobot, ChatPrivate, strings.Repeat("c", 257)},
		"no UTF-8":                {testRobot, ChatPrivate, "c\xff"},
	} {
		_, err := client.Recall(t.Context(), testToken, target, testKeys(1))
		if e := asError(t, err); e.Class != ClassRequest || e.Code != CodeRequestConversation || e.Verdict(1).Scope != RobotDead {
			t.Errorf("%s: %+v", name, e)
		}
	}
	_, err := client.Recall(t.Context(), testToken, Target{"", ChatGroup, "cid"}, testKeys(1))
	if e := asError(t, err); e.Code != CodeRequestRobot {
		t.Errorf("no robot: %+v", e)
	}
}

// TestChatsOnTheWire holds the client to the simulator, which knows nothing of it: each kind of target reaches its own endpoint with
// its own body, and a key of another conversation is refused.
func TestChatsOnTheWire(t *testing.T) {
	t.Parallel()
	var seen []simulator.RecallSeen
	sim, client := simulated(t, simulator.Config{RegisteredOnly: true, OnRecall: func(r simulator.RecallSeen) { seen = append(seen, r) }})
	targets := []Target{
		{RobotCode: testRobot},
		{testRobot, ChatGroup, `cid+/="\<é>` + strings.Repeat("c", 200)},
		{testRobot, ChatGroup, "cid2"},
		{testRobot, ChatPrivate, "cid2"},
	}
	keys := make([]string, len(targets))
	for i, to := range targets {
		keys[i] = fmt.Sprintf("key+/=%d", i)
		sim.RegisterKey(keys[i], simulator.KeyInfo{Robot: testRobot, Chat: to.Chat, Conversation: to.OpenConversationID})
	}
	for i, to := range targets {
		answer, err := client.Recall(context.Background(), testToken, to, keys)
		if err != nil {
			t.Fatalf("%+v: %v", to, err)
		}
		if !slices.Equal(answer.Recalled, keys[i:i+1]) || len(answer.Failed) != len(keys)-1 {
			t.Errorf("%+v: %+v", to, answer)
		}
		for _, v := range answer.Verdicts(keys) {
			if v.Scope != Done && v.Code != "not.allowed.robotCode" {
				t.Errorf("%+v: %+v", to, v)
			}
		}
		if got := seen[i]; got.Chat != to.Chat || got.Conversation != to.OpenConversationID || got.Robot != testRobot {
			t.Errorf("%+v was seen as %+v", to, got)
		}
	}
}
