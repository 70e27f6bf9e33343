package simulator

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func chatJSON(robot, conversation string, keys ...string) string {
	return string(encode(recallRequest{robot, conversation, keys}))
}

func TestChatRecallsAreChecked(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ body, code string }{
		"no conversation":      {chatJSON(testRobot, "", "k"), "invalidParameter.param.invalid"},
		"no robot":             {chatJSON("", "cid", "k"), "invalidParameter.param.invalid"},
		"a number":             {`{"robotCode":"r","openConversationId":7,"processQueryKeys":["k"]}`, "invalidParameter.param.invalid"},
		"a control character":  {chatJSON(testRobot, "ci\x1fd", "k"), "invalid.openConversationId"},
		"too long":             {chatJSON(testRobot, strings.Repeat("c", 257), "k"), "invalid.openConversationId"},
		"no keys":              {chatJSON(testRobot, "cid"), "invalidParameter.processQueryKey.missing"},
		"too many":             {chatJSON(testRobot, "cid", strings.Split(strings.Repeat("k,", 21), ",")...), "invalidParameter.processQueryKeys.overMax"},
		"a robot that is none": {chatJSON("nobody", "cid", "k"), "invalidParameter.robotCode"},
	} {
		for _, path := range []string{groupPath, privatePath} {
			b := setup(t, Config{Robots: []string{testRobot, "r"}})
			if got := b.post(path, tc.body); got.status != 400 || got.code() != tc.code {
				t.Errorf("%s, %s: %d %s, want %s", name, path, got.status, got.body, tc.code)
			}
		}
	}
	b := setup(t, Config{})
	if got := b.post(groupPath, chatJSON(testRobot, strings.Repeat("c", 256), "k")); got.status != 200 {
		t.Errorf("the longest openConversationId: %d %s", got.status, got.body)
	}
	if got := b.post("/v1.0/robot/groupMessages/batchRecall", chatJSON(testRobot, "cid", "k")); got.status != 404 {
		t.Errorf("there is no such path: %d %s", got.status, got.body)
	}
}

// TestKeysBelongToTheirConversation asks for every key in every conversation: only its own recalls it.
func TestKeysBelongToTheirConversation(t *testing.T) {
	t.Parallel()
	homes := map[string]KeyInfo{
		"one":     {Robot: testRobot},
		"group":   {Robot: testRobot, Chat: ChatGroup, Conversation: "cid1"},
		"other":   {Robot: testRobot, Chat: ChatGroup, Conversation: "cid2"},
		"private": {Robot: testRobot, Chat: ChatPrivate, Conversation: "cid1"},
	}
	paths := map[string]string{"": recallPath, ChatGroup: groupPath, ChatPrivate: privatePath}
	b := setup(t, Config{RegisteredOnly: true, AlreadyRecalled: AlreadyInvalid})
	for key, info := range homes {
		b.sim.RegisterKey(key, info)
	}
	all := slices.Sorted(maps.Keys(homes))
	for _, own := range all {
		home := homes[own]
		success, failed := b.lists(b.post(paths[home.Chat], chatJSON(testRobot, home.Conversation, all...)))
		if !slices.Equal(success, []string{own}) || len(failed) != len(all)-1 {
			t.Errorf("%s: recalled %v, failed %v", own, success, failed)
		}
		for key, reason := range failed {
			if reason != codeForeign {
				t.Errorf("%s: %s failed with %s", own, key, reason)
			}
		}
	}
	// Recalled in its own conversation, a key is not foreign there.
	if _, failed := b.lists(b.post(groupPath, chatJSON(testRobot, "cid1", "group"))); failed["group"] != codeInvalidKey {
		t.Errorf("asked again: %v", failed)
	}
	if st := b.sim.Stats(); st.KeysRecalled != 4 || st.Calls != 5 {
		t.Errorf("%d keys recalled in %d calls", st.KeysRecalled, st.Calls)
	}
}

func TestKeysNobodyRegisteredAreOfWhoeverAsks(t *testing.T) {
	t.Parallel()
	var seen []RecallSeen
	b := setup(t, Config{OnRecall: func(r RecallSeen) { seen = append(seen, r) }})
	for path, conversation := range map[string]string{groupPath: "cid1", privatePath: "cid2"} {
		key := b.key(Good)
		if success, failed := b.lists(b.post(path, chatJSON(testRobot, conversation, key))); !slices.Equal(success, []string{key}) {
			t.Errorf("%s: failed %v", path, failed)
		}
		last := seen[len(seen)-1]
		if last.Chat != chats[path] || last.Conversation != conversation || last.Robot != testRobot {
			t.Errorf("seen %+v", last)
		}
	}
}

// TestLostAnswersAreConsistent: what a lost answer was about is recalled, and readStatus says so.
func TestLostAnswersAreConsistent(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	lost, cut, idle := b.key(Good), b.key(Good), b.key(Good)
	strike := func(f Fault, key string) {
		if err := b.sim.SetFaults(FaultRule{Fault: f, Probability: 1}); err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: an answer came", f)
				}
			}()
			b.recall(key)
		}()
	}
	strike(FaultLostAnswer, lost)
	strike(FaultCut, cut)
	for key, want := range map[string]string{lost: "RECALLED", cut: "SUCCESS", idle: "SUCCESS"} {
		q := url.Values{"robotCode": {testRobot}, "processQueryKey": {key}}
		got := b.do(request(http.MethodGet, "/v1.0/robot/oToMessages/readStatus?"+q.Encode(), b.token, ""))
		if !strings.Contains(got.body, `"sendStatus":"`+want+`"`) {
			t.Errorf("%d %s, want %s", got.status, got.body, want)
		}
	}
}
