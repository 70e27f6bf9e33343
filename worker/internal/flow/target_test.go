package flow_test

import (
	"testing"

	"dingrecall/worker/internal/flow"
)

func TestTargetNames(t *testing.T) {
	t.Parallel()
	in := func(chat, id string) flow.Conversation { return flow.Conversation{Chat: chat, OpenConversationID: id} }
	seen := map[string]flow.Target{}
	for _, test := range []struct {
		target     flow.Target
		name, text string
	}{
		{flow.Target{RobotCode: "ding1"}, "ding1", "ding1"},
		{flow.Target{RobotCode: "ding1 group cid"}, "ding1 group cid", "ding1 group cid"},
		{flow.Target{RobotCode: "ding1", Conversation: in("group", "cid+/=")}, "ding1\x1fgroup\x1fcid+/=", "ding1 in group cid+/="},
		{flow.Target{RobotCode: "ding1", Conversation: in("private", "cid+/=")}, "ding1\x1fprivate\x1fcid+/=", "ding1 in private chat cid+/="},
		{flow.Target{RobotCode: "ding1", Conversation: in("group", "private")}, "ding1\x1fgroup\x1fprivate", "ding1 in group private"},
		{flow.Target{RobotCode: "机器人", Conversation: in("group", "会话")}, "机器人\x1fgroup\x1f会话", "机器人 in group 会话"},
	} {
		if got := test.target.Name(); got != test.name {
			t.Errorf("%+v is named %q, want %q", test.target, got, test.name)
		}
		if got := test.target.String(); got != test.text {
			t.Errorf("%+v reads %q, want %q", test.target, got, test.text)
		}
		back, err := flow.ParseTarget(test.name)
		if err != nil || back != test.target {
			t.Errorf("%q parses to %+v (%v), want %+v", test.name, back, err, test.target)
		}
		if other, taken := seen[test.name]; taken {
			t.Errorf("%+v and %+v have one name", other, test.target)
		}
		seen[test.name] = test.target
	}
}

func TestNamesOfOtherVersionsAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ding1\x1f", "ding1\x1fgroup", "ding1\x1fgroup\x1f", "ding1\x1fthread\x1fcid", "ding1\x1f\x1fcid", "ding1\x1fgroup\x1fcid\x1fx"} {
		if got, err := flow.ParseTarget(name); err == nil {
			t.Errorf("%q parses to %+v", name, got)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add("ding1")
	f.Add("ding1\x1fgroup\x1fcid")
	f.Add("\x1fprivate\x1f\x1f")
	f.Fuzz(func(t *testing.T, name string) {
		if target, err := flow.ParseTarget(name); err == nil && target.Name() != name {
			t.Errorf("%q parses to %+v, whose name is %q", name, target, target.Name())
		}
	})
}
