package tasks

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRecallValidates(t *testing.T) {
	t.Parallel()
	many := make([]string, 25) // all empty
	tests := []struct {
		name  string
		robot string
		keys  []string
		opts  []Option
		want  []string
		bad   []int
	}{
		{"no robot", "", []string{"a"}, nil, []string{`robotCode "" is empty`}, nil},
		{"robot with a space", "ding ", []string{"a"}, nil, []string{"robotCode", "space"}, nil},
		{"robot with a control character", "di\nng", []string{"a"}, nil, []string{"control"}, nil},
		{"robot too long", strings.Repeat("r", 129), []string{"a"}, nil, []string{"129 bytes", "at most 128"}, nil},
		{"no keys", testRobot, nil, nil, []string{"no keys"}, nil},
		{"bad keys", testRobot, []string{"a", "", "b\x00", " c", "d\xff", strings.Repeat("k", 513), "\ufeffe", "f", "g\u00a0"}, nil,
			[]string{`key 1 "": is empty`, `key 2 "b\x00": contains a control`, "key 3", "space", "key 4", "UTF-8", "513 bytes", "byte order mark"},
			[]int{1, 2, 3, 4, 5, 6, 8}},
		{"many bad keys", testRobot, many, nil, []string{"key 9 ", "and 15 more keys"}, seq(25)},
		{"group", testRobot, []string{"a"}, []Option{GroupChat("")}, []string{"openConversationId is missing or empty"}, nil},
		{"group too long", testRobot, []string{"a"}, []Option{GroupChat(strings.Repeat("c", 257))}, []string{"257 bytes", "at most 256"}, nil},
		{"private with a control character", testRobot, []string{"a"}, []Option{PrivateChat("ci\x1fd")}, []string{`openConversationId "ci\x1fd"`, "control"}, nil},
		{"private with a damaged character", testRobot, []string{"a"}, []Option{PrivateChat("ci\xff")}, []string{"UTF-8"}, nil},
		{"no such chat", testRobot, []string{"a"}, []Option{InConversation(Conversation{Chat: "thread", OpenConversationID: "c"})}, []string{`chat "thread"`}, nil},
		{"no chat at all", testRobot, []string{"a"}, []Option{InConversation(Conversation{OpenConversationID: "c"})}, []string{"without a chat"}, nil},
		{"two conversations", testRobot, []string{"a"}, []Option{GroupChat("c"), PrivateChat("c")}, []string{"two conversations"}, nil},
		{"incident", testRobot, []string{"a"}, []Option{Incident("a\tb")}, []string{"incident", "control"}, nil},
		{"note", testRobot, []string{"a"}, []Option{Note(strings.Repeat("n", 513))}, []string{"note", "513"}, nil},
		{"class", testRobot, []string{"a"}, []Option{WithClass("hurry")}, []string{`unknown class "hurry"`, "urgent, default or bulk"}, nil},
		{"future", testRobot, []string{"a"}, []Option{SentAt(testNow.Add(11 * time.Minute))}, []string{"11m0s in the future"}, nil},
		{"seconds", testRobot, []string{"a"}, []Option{SentAt(time.UnixMilli(testNow.Unix()))}, []string{"is it seconds?"}, nil},
		{"1970", testRobot, []string{"a"}, []Option{SentAt(time.UnixMilli(0))}, []string{"1970"}, nil},
		{"microseconds", testRobot, []string{"a"}, []Option{SentAt(time.UnixMilli(testNow.UnixMicro()))}, []string{"is it microseconds?"}, nil},
		{"times too few", testRobot, []string{"a", "b"}, []Option{SentAts([]time.Time{testNow})}, []string{"1 times for 2 keys"}, nil},
		{"one time wrong", testRobot, []string{"a", "b"}, []Option{SentAts([]time.Time{testNow, testNow.Add(time.Hour)})},
			[]string{"key 1", "in the future"}, []int{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			queue := &fakeQueue{}
			client := newClient(queue, nil)
			client.now = func() time.Time { return testNow }
			_, err := client.Recall(t.Context(), tt.robot, tt.keys, tt.opts...)
			var invalid *ValidationError
			if !errors.As(err, &invalid) {
				t.Fatalf("error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			var bad []int
			for _, p := range invalid.Keys {
				bad = append(bad, p.Index)
			}
			if !slices.Equal(bad, tt.bad) {
				t.Errorf("bad keys %v, want %v", bad, tt.bad)
			}
			if len(queue.ids) != 0 || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("queued %v, error %q", queue.ids, err)
			}
		})
	}
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}
