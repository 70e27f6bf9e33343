package tasks

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDecodeSubmissionRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, payload string
		want          string
	}{
		{"nothing", ``, "payload is empty"},
		{"null", `null`, "not a JSON object"},
		{"array", `["a"]`, "not a JSON object"},
		{"text", `robot1,key1`, "not a JSON object"},
		{"cut off", `{"robotCode":"r","keys":["a"`, "not valid JSON at byte 28"},
		{"trailing", `{"robotCode":"r","keys":["a"]} x`, "not valid JSON"},
		{"not UTF-8", "{\"robotCode\":\"r\",\"keys\":[\"a\xff\"]}", "not valid UTF-8"},
		{"no robot", `{"keys":["a"]}`, "robotCode is missing"},
		{"bad robot", `{"robotCode":" r","keys":["a"]}`, `robotCode " r" begins or ends with a space`},
		{"robot is a number", `{"robotCode":7,"keys":["a"]}`, "robotCode is a JSON number; a string is wanted"},
		{"no keys", `{"robotCode":"r"}`, "keys is missing or empty"},
		{"empty keys", `{"robotCode":"r","keys":[]}`, "keys is missing or empty"},
		{"null keys", `{"robotCode":"r","keys":null}`, "keys is missing or empty"},
		{"one key as text", `{"robotCode":"r","keys":"a"}`, "keys is a JSON string; an array of strings is wanted"},
		{"too many keys", `{"robotCode":"r","keys":["a"` + strings.Repeat(`,"a"`, MaxKeysPerTask) + `]}`, "10001 entries; at most 10000"},
		{"too long", `{"robotCode":"r","keys":["` + strings.Repeat("a", MaxPayloadBytes) + `"]}`, "at most 8388608"},
		{"newer", `{"v":3,"robot":"r","keys":{"a":1}}`, "version 3, made by a newer producer"},
		{"newer, version last", `{"robotCode":{},"keys":7,"v":3}`, "version 3, made by a newer producer"},
		{"negative version", `{"v":-1,"robotCode":"r","keys":["a"]}`, "version -1"},
		{"version as text", `{"v":"1","robotCode":"r","keys":["a"]}`, "v is a JSON string; a whole number is wanted"},
		{"time as text", `{"robotCode":"r","keys":["a"],"sentAt":"2026-11-20"}`, "sentAt is a JSON string; a whole number of milliseconds"},
		{"time with a fraction", `{"robotCode":"r","keys":["a"],"sentAt":1795176000000.5}`, "a whole number of milliseconds"},
		{"time in seconds", `{"robotCode":"r","keys":["a"],"sentAt":1795176000}`, "is it seconds? milliseconds are wanted"},
		{"negative time", `{"robotCode":"r","keys":["a"],"sentAt":-5}`, "negative"},
		{"times too few", `{"robotCode":"r","keys":["a","b"],"sentAts":[1795176000000]}`, "sentAts has 1 entries for 2 keys"},
		{"conversation without chat", `{"v":2,"robotCode":"r","keys":["a"],"openConversationId":"cid"}`, `openConversationId "cid" comes without a chat`},
		{"chat without conversation", `{"v":2,"robotCode":"r","keys":["a"],"chat":"group"}`, "openConversationId is missing or empty"},
		{"unknown chat", `{"v":2,"robotCode":"r","keys":["a"],"chat":"thread","openConversationId":"cid"}`, `chat "thread" is neither group nor private`},
		{"conversation too long", `{"v":2,"robotCode":"r","keys":["a"],"chat":"group","openConversationId":"` + strings.Repeat("c", 257) + `"}`, "is 257 bytes long; at most 256"},
		{"conversation with a control character", `{"v":2,"robotCode":"r","keys":["a"],"chat":"private","openConversationId":"c\u001fd"}`, "contains a control character"},
		{"conversation with a space", `{"v":2,"robotCode":"r","keys":["a"],"chat":"private","openConversationId":"cid "}`, "begins or ends with a space"},
		{"conversation is a number", `{"v":2,"robotCode":"r","keys":["a"],"chat":"group","openConversationId":7}`, "openConversationId is a JSON number; a string is wanted"},
		{"bad incident", `{"robotCode":"r","keys":["a"],"incident":"a\nb"}`, `incident "a\nb" contains a control character`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := DecodeSubmission([]byte(tt.payload))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v\nwant one line with %q", err, tt.want)
			}
		})
	}
}

func TestDecodeSubmissionAccepts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, payload string
		want          Submission
	}{
		{"the least", `{"robotCode":"r","keys":["a"]}`, Submission{}},
		{"version 0", `{"v":0,"robotCode":"r","keys":["a"]}`, Submission{}},
		{"unknown fields", ` {"robotCode":"r","keys":["a"],"priority":{"x":[1]}}` + "\n", Submission{}},
		{"nulls", `{"robotCode":"r","keys":["a"],"sentAt":null,"sentAts":null,"incident":null}`, Submission{}},
		{"everything", `{"v":1,"robotCode":"r","keys":["a"],"sentAt":1795176000000,"sentAts":[1795176000001],"incident":"i","note":"n"}`,
			Submission{SentAt: 1795176000000, SentAts: []int64{1795176000001}, Incident: "i", Note: "n"}},
		{"a long note is cut", `{"robotCode":"r","keys":["a"],"note":"` + strings.Repeat("é", 300) + `x"}`,
			Submission{Note: strings.Repeat("é", 256)}},
		{"a cut note stays UTF-8", `{"robotCode":"r","keys":["a"],"note":"x` + strings.Repeat("é", 300) + `"}`,
			Submission{Note: "x" + strings.Repeat("é", 255)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, problems, err := DecodeSubmission([]byte(tt.payload))
			tt.want.V, tt.want.RobotCode, tt.want.Keys = 1, "r", []string{"a"}
			if err != nil || len(problems) > 0 || string(encode(got)) != string(encode(tt.want)) {
				t.Errorf("got  %s, %v, %v\nwant %s", encode(got), problems, err, encode(tt.want))
			}
		})
	}
}

func TestDecodeSubmissionKeepsGoodKeys(t *testing.T) {
	t.Parallel()
	payload := `{"robotCode":"r","sentAt":1795176000000,
		"keys":   ["good1","","a\u0000",7,"good2"," x",null,"\ud800","slow","good1"],
		"sentAts":[1795176000001,0,0,0,0,0,0,0,1795176000,1795176000009]}`
	s, problems, err := DecodeSubmission([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"good1", "good2", "good1"}; !slices.Equal(s.Keys, want) {
		t.Errorf("keys %q, want %q", s.Keys, want)
	}
	if want := []int64{1795176000001, 0, 1795176000009}; !slices.Equal(s.SentAts, want) {
		t.Errorf("times %v, want %v", s.SentAts, want)
	}
	if got := s.SentAtOf(1); got != 1795176000000 {
		t.Errorf("an entry of 0 means %d, want sentAt", got)
	}
	want := []string{
		`key 1 "": is empty`, `key 2 "a\x00": contains a control character`, `key 3 "7": is not a string`, `key 5 " x": begins or ends with a space`,
		`key 6 "null": is not a string`, `key 7 "�": is not valid UTF-8 (it was damaged on the way)`,
		`key 8 "slow": sentAt 1795176000 is too small (is it seconds? milliseconds are wanted)`,
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(problems) == 7 && (problems[0].SentAt != 1795176000000 || problems[6].SentAt != 1795176000) {
		t.Errorf("times of the problems: %+v", problems)
	}
}

func TestTakeFuture(t *testing.T) {
	t.Parallel()
	now := testNow.UnixMilli()
	ahead := func(d time.Duration) int64 { return now + d.Milliseconds() }
	tests := []struct {
		name   string
		s      Submission
		keys   []string
		taken  []int
		sentAt []int64
	}{
		{"not told", Submission{}, []string{"a", "b"}, nil, nil},
		{"a clock that is a little ahead", Submission{SentAt: ahead(MaxSentAtAhead)}, []string{"a", "b"}, nil, nil},
		{"the future", Submission{SentAt: ahead(MaxSentAtAhead + 1e6)}, nil, []int{0, 1}, nil},
		{"one of two", Submission{SentAts: []int64{ahead(time.Hour), now}}, []string{"b"}, []int{0}, []int64{now}},
		{"one by the common time", Submission{SentAt: ahead(time.Hour), SentAts: []int64{now, 0}}, []string{"a"}, []int{1}, []int64{now}},
		{"far beyond", Submission{SentAts: []int64{1<<63 - 1, 0}}, []string{"b"}, []int{0}, []int64{0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := tt.s
			s.Keys = []string{"a", "b"}
			var taken []int
			for _, p := range s.TakeFuture(testNow) {
				taken = append(taken, p.Index)
				if p.SentAt <= now || !strings.Contains(p.Reason, "sentAt") {
					t.Errorf("problem %+v", p)
				}
			}
			if !slices.Equal(s.Keys, tt.keys) || !slices.Equal(taken, tt.taken) || !slices.Equal(s.SentAts, tt.sentAt) {
				t.Errorf("keys %v, taken %v, times %v", s.Keys, taken, s.SentAts)
			}
		})
	}
}

func TestDecodeOthers(t *testing.T) {
	t.Parallel()
	dispatch := func(b []byte) (any, error) { return DecodeDispatch(b) }
	alarm := func(b []byte) (any, error) { return DecodeAlarm(b) }
	dead := func(b []byte) (any, error) { return DecodeDeadLetter(b) }
	tests := []struct {
		name    string
		decode  func([]byte) (any, error)
		payload string
		want    string // of the error; "" for none
	}{
		{"dispatch", dispatch, `{"app":"a","slot":0,"generation":1}`, ""},
		{"dispatch without app", dispatch, `{"slot":0,"generation":1}`, "app is missing"},
		{"dispatch with a bad slot", dispatch, `{"app":"a","slot":-1}`, "slot -1 is negative"},
		{"dispatch with a bad generation", dispatch, `{"app":"a","generation":-1}`, "generation -1 is negative"},
		{"dispatch, slot as text", dispatch, `{"app":"a","slot":"1"}`, "slot is a JSON string; a whole number is wanted"},
		{"dispatch of a newer version", dispatch, `{"v":2}`, "newer producer"},
		{"alarm", alarm, `{"app":"a","at":1795176000000}`, ""},
		{"alarm without app", alarm, `{"at":1795176000000}`, "app is missing"},
		{"alarm in the past of everything", alarm, `{"app":"a","at":-1}`, "negative"},
		{"dead of a group", dead, `{"v":2,"app":"a","robotCode":"r","chat":"group","openConversationId":"c","keys":["k"],"code":"c","retainUntil":1}`, ""},
		{"dead of half a conversation", dead, `{"v":2,"app":"a","robotCode":"r","chat":"group","keys":["k"],"code":"c","retainUntil":1}`, "openConversationId is missing"},
		{"dead of a newer version", dead, `{"v":3}`, "newer producer"},
		{"dead", dead, `{"app":"a","robotCode":"r","keys":["k"],"code":"c","retainUntil":1}`, ""},
		{"dead, unreadable", dead, `{"keys":[],"code":"submission.malformed","submission":"x","retainUntil":1}`, ""},
		{"dead, an empty payload", dead, `{"keys":[],"code":"submission.malformed","retainUntil":1}`, ""},
		{"dead without code", dead, `{"robotCode":"r","keys":["k"],"retainUntil":1}`, "code is missing"},
		{"dead without anything", dead, `{"code":"c","retainUntil":1}`, "neither keys nor"},
		{"dead without robot", dead, `{"keys":["k"],"code":"c","retainUntil":1}`, "robotCode is missing"},
		{"dead with few times", dead, `{"robotCode":"r","keys":["k","l"],"sentAts":[1],"code":"c","retainUntil":1}`, "1 entries for 2 keys"},
		{"dead without an end", dead, `{"robotCode":"r","keys":["k"],"code":"c"}`, "retainUntil is missing"},
		{"dead of an unknown class", dead, `{"robotCode":"r","keys":["k"],"code":"c","class":"slow","retainUntil":1}`, `unknown class "slow"`},
		{"dead, ambiguous as text", dead, `{"ambiguous":"yes"}`, "ambiguous is a JSON string; true or false is wanted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := tt.decode([]byte(tt.payload))
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestDeadLetterRaw(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "{\"robotCode\":", "\xff\x00binary", "<&>\u2028"} {
		d := DeadLetter{Code: CodeSubmissionMalformed, RetainUntil: 1}
		d.SetRaw([]byte(raw))
		task, _ := NewDeadTask(d, "x")
		got, err := DecodeDeadLetter(task.Payload())
		if err != nil || !bytes.Equal(got.Raw(), []byte(raw)) {
			t.Errorf("raw %q came back as %q, %v", raw, got.Raw(), err)
		}
		if got.Class != ClassDefault || got.Keys == nil {
			t.Errorf("letter %+v", got)
		}
	}
}

func TestIsReplay(t *testing.T) {
	t.Parallel()
	died := testNow.UnixMilli()
	tests := []struct {
		retention, after time.Duration
		want             bool
	}{
		{90 * 24 * time.Hour, 0, true},
		{90 * 24 * time.Hour, 90*24*time.Hour - 3*time.Hour, true},
		{90 * 24 * time.Hour, 90*24*time.Hour - time.Hour, false},
		{90 * 24 * time.Hour, 90 * 24 * time.Hour, false},
		{10 * time.Second, 8 * time.Second, true},
		{10 * time.Second, 9500 * time.Millisecond, false},
		{0, 0, false},
		{-time.Hour, 0, false},
	}
	for _, tt := range tests {
		d := DeadLetter{DiedAt: died, RetainUntil: died + tt.retention.Milliseconds()}
		if got := d.IsReplay(testNow.Add(tt.after)); got != tt.want {
			t.Errorf("retention %v, run after %v: replay %v", tt.retention, tt.after, got)
		}
	}
}

// FuzzDecode feeds every decoder: none may panic, what one accepts must survive being written and read again, and no key is lost.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"v":2}`, `{"robotCode":"r","keys":["a",7,null,{"x":[]},""],"sentAts":[0,1,2,3,4]}`,
		`{"v":1,"robotCode":"r","keys":["a"],"sentAt":1795176000000,"incident":"i","note":"n"}`,
		`{"app":"a","slot":1,"generation":2}`, `{"app":"a","at":1795176000000}`, "{\"keys\":[\"\xff\"]}",
		`{"app":"a","robotCode":"r","keys":["k"],"code":"c","class":"bulk","retainUntil":5,"submissionBase64":"/w=="}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if s, problems, err := DecodeSubmission(payload); err == nil {
			if len(s.Keys)+len(problems) == 0 || len(s.Keys)+len(problems) > MaxKeysPerTask {
				t.Fatalf("%d keys and %d problems", len(s.Keys), len(problems))
			}
			for _, p := range problems {
				_ = p.String()
			}
			if len(s.Keys) > 0 {
				task, _ := NewSubmitTask(s, ClassDefault)
				again, more, err := DecodeSubmission(task.Payload())
				if err != nil || len(more) > 0 || fmt.Sprint(again) != fmt.Sprint(s) {
					t.Fatalf("%v came back as %v, %v, %v", s, again, more, err)
				}
			}
		}
		if d, err := DecodeDispatch(payload); err == nil {
			task, _ := NewDispatchTask(d)
			if again, err := DecodeDispatch(task.Payload()); err != nil || again != d {
				t.Fatalf("%v came back as %v, %v", d, again, err)
			}
		}
		if a, err := DecodeAlarm(payload); err == nil {
			task, _ := NewAlarmTask(a)
			if again, err := DecodeAlarm(task.Payload()); err != nil || again.App != a.App || again.At < a.At {
				t.Fatalf("%v came back as %v, %v", a, again, err)
			}
		}
		if d, err := DecodeDeadLetter(payload); err == nil {
			_ = d.IsReplay(testNow)
			task, _ := NewDeadTask(d, "x")
			if again, err := DecodeDeadLetter(task.Payload()); err != nil || !slices.Equal(again.Keys, d.Keys) || !bytes.Equal(again.Raw(), d.Raw()) {
				t.Fatalf("%v came back as %v, %v", d, again, err)
			}
		}
	})
}
