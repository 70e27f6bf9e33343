package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"dingrecall/tasks"
)

func TestFormatPayload(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("key-%d", i))
	}
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	letter := tasks.DeadLetter{V: 1, App: "main", RobotCode: "dingrobot", Keys: []string{"a", "b"}, Code: "invalid.processQueryKey", Message: "无效 <key>",
		RequestID: "req", Attempts: 2, Class: "bulk", Incident: "inc", SentAt: 1_700_000_000_000, SentAts: []int64{0, 1_700_000_060_000}, DiedAt: 1_700_000_100_000,
		RetainUntil: 1_700_001_000_000, Ambiguous: true, Batch: 7}
	raw := tasks.DeadLetter{V: 1, Keys: []string{}, Code: tasks.CodeSubmissionMalformed, Message: "m", DiedAt: 1, RetainUntil: 2, Origin: "x (recall:submit in recall)"}
	raw.SetRaw([]byte("\xff\x00"))
	for name, c := range map[string]struct{ typ, payload, want string }{
		"submission": {tasks.TypeSubmit, `{"v":1,"keys":["k+/="],"robotCode":"r","sentAt":1700000000000,"note":"n","incident":"i"}`,
			`{"robotCode":"r","incident":"i","note":"n","sentAt":"2023-11-14 22:13:20 UTC","keyCount":1,"keys":["k+/="]}`},
		"many keys": {tasks.TypeSubmit, encode(tasks.Submission{V: 1, RobotCode: "r", Keys: many}),
			`{"robotCode":"r","keyCount":1000,"keys":["key-0","key-1","key-2","... and 997 more"]}`},
		"submission to a group": {tasks.TypeSubmit, `{"v":2,"keys":["k"],"robotCode":"r","chat":"group","openConversationId":"cid+/="}`,
			`{"robotCode":"r","chat":"group","openConversationId":"cid+/=","keyCount":1,"keys":["k"]}`},
		"letter of a private chat": {tasks.TypeDead, `{"v":2,"code":"c","message":"m","robotCode":"r","chat":"private","openConversationId":"cid","keys":["k"],"retainUntil":1}`,
			`{"code":"c","message":"m","robotCode":"r","chat":"private","openConversationId":"cid","class":"default","attempts":0,"keptUntil":"1970-01-01 00:00:00 UTC","keyCount":1,"keys":["k"]}`},
		"dead letter": {tasks.TypeDead, encode(letter), `{"code":"invalid.processQueryKey","message":"无效 <key>","requestId":"req",` +
			`"ambiguous":"a call's answer was lost: these messages may have been recalled after all","app":"main","robotCode":"dingrobot","incident":"inc","class":"bulk","attempts":2,` +
			`"diedAt":"2023-11-14 22:15:00 UTC","keptUntil":"2023-11-14 22:30:00 UTC","sentFrom":"2023-11-14 22:13:20 UTC","sentTo":"2023-11-14 22:14:20 UTC","keyCount":2,"keys":["a","b"]}`},
		"raw letter": {tasks.TypeDead, encode(raw), `{"code":"submission.malformed","message":"m","class":"default","attempts":0,"diedAt":"1970-01-01 00:00:00 UTC","keptUntil":"1970-01-01 00:00:00 UTC",` +
			`"keyCount":0,"origin":"x (recall:submit in recall)","submission":"2 bytes that are not text: ff00"}`},
		"alarm":         {tasks.TypeAlarm, `{"v":1,"app":"main","at":1700000000000}`, `{"app":"main","at":"2023-11-14 22:13:20 UTC"}`},
		"dispatch":      {tasks.TypeDispatch, `{"v":1,"app":"main","slot":3,"generation":9}`, `{"v":1,"app":"main","slot":3,"generation":9}`},
		"malformed":     {tasks.TypeSubmit, `{"keys":`, `{"keys":`},
		"bad key":       {tasks.TypeSubmit, `{"v":1,"robotCode":"r","keys":["a",5]}`, `{"v":1,"robotCode":"r","keys":["a",5]}`},
		"not text":      {"other", "\x00\x01", "2 bytes that are not text: 0001"},
		"indented":      {"other", "{\n\t\"a\": 1\n}", "{\n\t\"a\": 1\n}"},
		"long":          {"other", strings.Repeat("é", 3000), strings.Repeat("é", 2048) + "... (6000 bytes in all)"},
		"empty":         {"other", "", ""},
		"dead, not one": {tasks.TypeDead, `[]`, `[]`},
	} {
		if got := formatPayload(c.typ, []byte(c.payload)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func TestSentAt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all  int64
		each []int64
		want sending
	}{
		{0, nil, sending{}},
		{0, []int64{0, 0}, sending{}},
		{0, []int64{0, 1_700_000_000_000}, sending{SentFrom: "not told for all", SentTo: "2023-11-14 22:13:20 UTC"}},
		{1_700_000_000_000, []int64{0, 0}, sending{SentAt: "2023-11-14 22:13:20 UTC"}},
		{5, []int64{1_700_000_000_000, 1_700_000_000_000}, sending{SentAt: "2023-11-14 22:13:20 UTC"}},
	} {
		if got := sentAt(c.all, c.each); got != c.want {
			t.Errorf("%d %v: %+v, want %+v", c.all, c.each, got, c.want)
		}
	}
}
