package keyfile

import (
	"context"
	"strings"
	"testing"

	"dingrecall/tasks"
)

func TestConversations(t *testing.T) {
	t.Parallel()
	const header = "key,robot,chat,openConversationId\n"
	group := Options{Conversation: tasks.Conversation{Chat: tasks.ChatGroup}}
	tests := []struct {
		name, content string
		opts          Options
		rows, bad     []string
	}{
		{name: "csv", content: header + "a,r,group,cid1\nb,r,Private,cid+/=\nc,r,,\nd,r,sales team,\n",
			rows: []string{"2 a r - group cid1", "3 b r - private cid+/=", "4 c r -", "5 d r -"}},
		{name: "csv: half of it", content: header + "a,r,group,\nb,r,,cid\nc,r,thread,cid\n",
			bad: []string{"2 openConversationId is missing", "3 does not say of what", `4 chat "thread" is neither group nor private`}},
		{name: "csv: what cannot be one", content: header + "a,r,group,c d\nb,r,group,c\x07d\nc,r,group," + strings.Repeat("c", 257) + "\nd,r,group,c\u200bd\ne,r,group,\"c\nd\"\n",
			bad: []string{"2 blank", "3 control character", "4 257 bytes", "5 invisible", "6 control character"}},
		{name: "csv: the chat by option", opts: group, content: "key,robot,conversation_id\na,r,cid1\nb,r,\n", rows: []string{"2 a r - group cid1", "3 b r -"}},
		{name: "plain: all of one group", opts: Options{Robot: "r", Conversation: tasks.Conversation{Chat: tasks.ChatGroup, OpenConversationID: "cid"}},
			content: "a\nb\n", rows: []string{"1 a r - group cid", "2 b r - group cid"}},
		{name: "the row goes before the option", opts: Options{Conversation: tasks.Conversation{Chat: tasks.ChatGroup, OpenConversationID: "cid"}},
			content: header + "a,r,private,cid2\nb,r,group,\nc,r,private,\nd,r,,cid3\ne,r,,\n",
			rows:    []string{"2 a r - private cid2", "3 b r - group cid", "5 d r - group cid3", "6 e r - group cid"}, bad: []string{"4 openConversationId is missing"}},
		{name: "ndjson: a log of groupMessages/send", opts: group,
			content: `{"request":{"robotCode":"r","openConversationId":"cid1","msgKey":"m"},"response":{"processQueryKey":"a"}}` + "\n" +
				`{"processQueryKey":"b","robotCode":"r","chat":"private","openConversationId":"cid2"}` + "\n" +
				`{"processQueryKey":"c","robotCode":"r","chat":{"id":7}}` + "\n" + `{"processQueryKey":"d","robotCode":"r","openConversationId":["x"]}`,
			rows: []string{"1 a r - group cid1", "2 b r - private cid2", "3 c r -"}, bad: []string{"4 openconversationid is neither text nor a number"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rows, bad := scan(t, open(t, test.content, test.opts))
			equal(t, "rows", rows, test.rows)
			if len(bad) != len(test.bad) {
				t.Fatalf("bad lines %q, want %q", bad, test.bad)
			}
			for i, want := range test.bad {
				number, reason, _ := strings.Cut(want, " ")
				if !strings.HasPrefix(bad[i], number+" ") || !strings.Contains(bad[i], reason) {
					t.Errorf("bad line %q, want %q", bad[i], want)
				}
			}
		})
	}
}

func TestConversationOptions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		content string
		where   tasks.Conversation
		want    string
	}{
		"which group?":           {"a\n", tasks.Conversation{Chat: "group"}, "give its openConversationId with --conversation"},
		"which group? csv":       {"key,chat\na,\n", tasks.Conversation{Chat: "group"}, "give its openConversationId with --conversation"},
		"group or private?":      {"a\n", tasks.Conversation{OpenConversationID: "cid"}, "give --chat"},
		"no such chat":           {"a\n", tasks.Conversation{Chat: "thread", OpenConversationID: "cid"}, `"thread" is neither group nor private`},
		"a control character":    {"a\n", tasks.Conversation{Chat: "group", OpenConversationID: "c\x1fd"}, "control character"},
		"a blank":                {"a\n", tasks.Conversation{Chat: "group", OpenConversationID: "c d"}, "blank"},
		"fine":                   {"a\n", tasks.Conversation{Chat: "group", OpenConversationID: "cid"}, ""},
		"the rows say the chats": {"key,chat\na,group\n", tasks.Conversation{OpenConversationID: "cid"}, ""},
	} {
		f, err := Open(write(t, test.content), Options{Robot: "r", Conversation: test.where})
		if err == nil {
			_ = f.Close()
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestCheckCountsByTarget: the same key in two conversations is two keys.
func TestCheckCountsByTarget(t *testing.T) {
	t.Parallel()
	f := open(t, "key,robot,chat,openConversationId\na,r,group,c\na,r,group,c\na,r,private,c\na,r,,\na,r,group,d\na,s,,\n", Options{})
	s, err := Check(context.Background(), f, nil)
	if err != nil || s.Distinct != 5 || s.Duplicates != 1 || len(s.Targets) != 5 || s.Conversations() != 3 || strings.Join(s.Robots(), " ") != "r s" {
		t.Errorf("%+v, robots %q, %v", s, s.Robots(), err)
	}
}

func TestSetKeepsTargetsApart(t *testing.T) {
	t.Parallel()
	var s Set
	in := func(robot, chat, id string) Target {
		return Target{robot, tasks.Conversation{Chat: chat, OpenConversationID: id}}
	}
	for i, of := range []Target{in("r", "", ""), in("r", "group", "c"), in("r", "private", "c"), in("r", "group", "ca"), in("rgroup", "", "")} {
		for _, key := range []string{"k", "ak"} {
			if !s.Add(of, key) || s.Add(of, key) {
				t.Errorf("%d: %s of %s", i, key, of)
			}
		}
	}
}
