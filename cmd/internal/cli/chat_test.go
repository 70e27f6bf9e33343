package cli

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
)

// chatCSV is a file of keys of all three kinds, registered with a simulator that refuses them anywhere else; the last key's row has the
// wrong group.
func chatCSV(t *testing.T, sim *simulator.Simulator) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("processQueryKey,robotCode,chat,openConversationId,sentAt\n")
	at := time.Now().Add(-time.Hour)
	row := func(n int, chat, id string) {
		key := simulator.MakeKey(9, uint64(n), simulator.Good, at)
		if sim != nil {
			sim.RegisterKey(key, simulator.KeyInfo{Robot: "dingone", SentAt: at, Chat: chat, Conversation: strings.TrimPrefix(id, "wrong-")})
		}
		b.WriteString(key + ",dingone," + chat + "," + id + "," + at.UTC().Format(time.RFC3339) + "\n")
	}
	for i := range 25 {
		row(4*i, "", "")
		row(4*i+1, "group", "cidone==")
		row(4*i+2, "group", "cidtwo==")
		row(4*i+3, "private", "cidone==")
	}
	row(100, "group", "wrong-cidone==")
	return writeAt(t, filepath.Join(t.TempDir(), "keys.csv"), b.String())
}

func TestRunRecallsKeysOfAllKindsOfChats(t *testing.T) {
	t.Parallel()
	sim, environ := service(t, simulator.Config{RegisteredOnly: true}, nil)
	path, out := chatCSV(t, sim), filepath.Join(t.TempDir(), "out.csv")
	got := runWith(t.Context(), nil, environ, "run", path, "--report", out, "--rate", "0", "--progress", "plain")
	wantCode(t, got, ExitSomeDead, "100 of 101 keys recalled, 1 dead", "recalling 101 keys of 1 robot in 4 groups and private chats")
	seen := map[string]int{}
	for _, row := range readReport(t, out) {
		seen[strings.TrimSpace(row["state"]+" "+row["chat"]+" "+row["openConversationId"])+" "+row["code"]]++
	}
	for what, n := range map[string]int{
		"recalled ": 25, "recalled group cidone== ": 25, "recalled group cidtwo== ": 25, "recalled private cidone== ": 25, "dead group wrong-cidone== not.allowed.robotCode": 1,
	} {
		if seen[what] != n {
			t.Errorf("%d rows %q, want %d; all: %v", seen[what], what, n, seen)
		}
	}
	// Resumed: what is recalled is left out in its conversation, and the report carries it on.
	next := filepath.Join(t.TempDir(), "next.csv")
	got = runWith(t.Context(), nil, environ, "run", path, "--resume", out, "--report", next, "--rate", "0", "--progress", "none")
	wantCode(t, got, ExitSomeDead, "0 of 1 key recalled, 1 dead", "")
	if rows := readReport(t, next); len(rows) != 101 {
		t.Errorf("%d rows", len(rows))
	}
	if st := sim.Stats(); st.KeysRecalled != 100 || st.KeysAskedRecalled != 0 {
		t.Errorf("recalled %d, asked again %d", st.KeysRecalled, st.KeysAskedRecalled)
	}
}

func TestDryRunCountsCallsOfEachConversation(t *testing.T) {
	t.Parallel()
	got := run(t, oneApp, "run", chatCSV(t, nil), "--dry-run")
	wantCode(t, got, ExitOK, "calls       9 (up to 20 keys a call, one robot a call, and one conversation)", "")
	plain := writeAt(t, filepath.Join(t.TempDir(), "keys.txt"), "a\nb\n")
	got = run(t, oneApp, "run", plain, "--dry-run", "--robot", "r", "--chat", "Group", "--conversation", "cid")
	wantCode(t, got, ExitOK, "robots      1, in 1 group or private chat", "")
	for want, args := range map[string][]string{
		"give its openConversationId with --conversation": {"--chat", "group"},
		"give --chat":                    {"--conversation", "cid"},
		"is neither group nor private":   {"--chat", "thread", "--conversation", "cid"},
		"contains a control character":   {"--chat", "group", "--conversation", "c\x1fd"},
		"is 257 bytes long; at most 256": {"--chat", "group", "--conversation", strings.Repeat("c", 257)},
	} {
		got := run(t, oneApp, append([]string{"run", plain, "--dry-run", "--robot", "r"}, args...)...)
		wantCode(t, got, ExitBadInput, "", want)
	}
}

func TestConversationsReadWell(t *testing.T) {
	t.Parallel()
	rdb, environ := queueOnly(t)
	letter := tasks.DeadLetter{V: 2, App: "main", RobotCode: "dingone", Conversation: tasks.Conversation{Chat: "group", OpenConversationID: "cid=="}, Code: "c", Keys: []string{"k"}}
	bury(t, rdb, letter, tasks.DeadLetter{App: "main", RobotCode: "dingone", Code: "c", Keys: []string{"k"}, Ambiguous: true})
	got := run(t, environ, "dead", "list")
	wantCode(t, got, ExitOK, "  dingone  group cid==  ", "")
	if lines := strings.Split(got.out, "\n"); !strings.HasSuffix(lines[2], "  ambiguous") {
		t.Errorf("no word of the lost answer:\n%s", got.out)
	}
	wantCode(t, run(t, environ, "dead", "show", "dead:1"), ExitOK, "chat        group cid==\n", "")
	wantCode(t, run(t, environ, "dead", "list", "--conversation", "cid==", "--json"), ExitOK, `"robotCode":"dingone","chat":"group","openConversationId":"cid=="`, "")
	wantCode(t, run(t, environ, "dead", "list", "--conversation", "cid"), ExitOK, "no dead letters of that kind", "")
	wantCode(t, run(t, environ, "dead", "list", "--ambiguous"), ExitOK, "1 dead letter with 1 key", "")

	view := statusView{Apps: []statusApp{{App: "main", RateShare: 1, Groups: []statusGroup{
		{RobotCode: "dingone", statusCounts: statusCounts{Total: 1, Recalled: 1}},
		{RobotCode: "dingone", Conversation: letter.Conversation, statusCounts: statusCounts{Total: 2, Waiting: 2}},
		{RobotCode: "dingone", Conversation: tasks.Conversation{Chat: "private", OpenConversationID: "cid=="}, statusCounts: statusCounts{Total: 3, Waiting: 3}},
	}}}}
	var b bytes.Buffer
	if err := view.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n  dingone                     ", "\n  dingone group cid==         ", "\n  dingone private chat cid==  "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	text, err := json.Marshal(view.Apps[0].Groups[1])
	if err != nil || !strings.Contains(string(text), `"robotCode":"dingone","chat":"group","openConversationId":"cid=="`) {
		t.Errorf("%s, %v", text, err)
	}
}
