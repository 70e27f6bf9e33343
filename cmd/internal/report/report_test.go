package report

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/tasks"
)

var (
	sentAt   = time.Date(2026, 11, 23, 9, 0, 0, 123_456_789, time.FixedZone("", 8*3600))
	finished = time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	rows     = []Row{
		{Key: "+1=", RobotCode: "r1", State: StateRecalled, RequestID: "q1", Attempts: 1, SentAt: sentAt, FinishedAt: finished, Incident: "sale"},
		{Key: "=2=", RobotCode: "r1", State: "dead", Code: "invalid.processQueryKey", Message: "无效, \"the\nkey\"", RequestID: "q2", Attempts: 3, SentAt: sentAt, Ambiguous: true},
		{Key: "-3=", RobotCode: "r2", State: "waiting"},
		{Key: "+1=", RobotCode: "r2", State: StateRecalled, Attempts: 2},
		{Key: "-3=", RobotCode: "r2", Conversation: tasks.Conversation{Chat: "group", OpenConversationID: "c+/="}, State: StateRecalled, Attempts: 1},
	}
)

const header = "processQueryKey,robotCode,state,code,message,requestId,attempts,sentAt,finishedAt,incident,ambiguous,chat,openConversationId\n"

func text(t *testing.T) string {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if w.Rows() != len(rows) {
		t.Errorf("Rows() = %d", w.Rows())
	}
	return buf.String()
}

func save(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.csv")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestText(t *testing.T) {
	t.Parallel()
	want := header +
		"+1=,r1,recalled,,,q1,1,2026-11-23T01:00:00.123Z,2026-11-23T02:00:00.000Z,sale,,,\n" +
		"=2=,r1,dead,invalid.processQueryKey,\"无效, \"\"the\nkey\"\"\",q2,3,2026-11-23T01:00:00.123Z,,,yes,,\n" +
		"-3=,r2,waiting,,,,0,,,,,,\n" +
		"+1=,r2,recalled,,,,2,,,,,,\n" +
		"-3=,r2,recalled,,,,1,,,,,group,c+/=\n"
	if got := text(t); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A report is a key file: the same keys, robots and moments come back from it.
func TestReportIsKeyFile(t *testing.T) {
	t.Parallel()
	f, err := keyfile.Open(save(t, text(t)), keyfile.Options{Now: func() time.Time { return finished }})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	err = f.Scan(context.Background(), func(r keyfile.Row) error {
		got = append(got, fmt.Sprint(r.Key, " ", r.Target().String(), " ", r.HasSentAt && r.SentAt.Equal(sentAt.Truncate(time.Millisecond))))
		return nil
	}, func(b keyfile.Bad) error {
		t.Errorf("line %d: %s", b.Line, b.Reason)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "+1= r1 true|=2= r1 true|-3= r2 false|+1= r2 false|-3= r2 in group c+/= false"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// docs/files.md shows a report with these columns, which the reader understands.
func TestDocumentedReport(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/files.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(page), "```csv report\n")
	block, _, closed := strings.Cut(block, "```")
	if !ok || !closed || !strings.HasPrefix(block, header) {
		t.Fatalf("the page's report is %q", block)
	}
	got, err := readRecalled(strings.NewReader(block))
	if err != nil || got.Rows != 2 || got.Set.Len() != 1 || got.Warning != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReadRecalled(t *testing.T) {
	t.Parallel()
	whole := text(t)
	const row = ",r,recalled,,,,1,,,,,,\n"
	tests := []struct {
		name, content string
		rows, keys    int
		warning, err  string // part of it; empty means none
	}{
		{"whole", whole, 5, 3, "", ""},
		{"only a header", header, 0, 0, "", ""},
		{"saved by a spreadsheet", "\ufeff" + strings.ReplaceAll(strings.ReplaceAll(header+"a"+row, ",", ";"), "\n", "\r\n"), 1, 1, "", ""},
		{"columns of somebody's own", "state,note,robotCode,processQueryKey\nrecalled,x,r,a\n", 1, 1, "", ""},
		{"no end of line at the end", header + "a" + strings.TrimSuffix(row, "\n"), 1, 1, "", ""},
		{"cut in a row", header + "a" + row + "b,r,recalled,,", 1, 1, "last line is cut off", ""},
		{"cut in a key", header + "a" + row + "b", 1, 1, "last line is cut off", ""},
		{"of before there were conversations", "processQueryKey,robotCode,state,code,message,requestId,attempts,sentAt,finishedAt,incident\na,r,recalled,,,,1,,,\n", 1, 1, "", ""},
		{"cut in quotes", header + "a" + row + "b,r,dead,,\"some", 1, 1, "last line is cut off", ""},
		{"damaged in the middle", header + "a" + row + "b,r\nc" + row, 0, 0, "", "damaged (line 3 has 2 cells, and not 13)"},
		{"bare quote in the middle", header + "a" + row + "b\"" + row + "c" + row, 0, 0, "", "damaged"},
		{"plain keys", "a\nb\n", 0, 0, "", "not a report"},
		{"a key file", "processQueryKey,robotCode\na,r\n", 0, 0, "", "not a report"},
		{"empty", "", 0, 0, "", "not a report"},
		{"not text", "\x1f\x8b\x08\x00\"\n\"x", 0, 0, "", "not a report"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ReadRecalled(save(t, tt.content))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %q, want one line with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Rows != tt.rows || got.Set.Len() != tt.keys {
				t.Errorf("%d rows, %d keys; want %d, %d", got.Rows, got.Set.Len(), tt.rows, tt.keys)
			}
			if (got.Warning == "") != (tt.warning == "") || !strings.Contains(got.Warning, tt.warning) {
				t.Errorf("warning %q, want %q", got.Warning, tt.warning)
			}
		})
	}
	got, err := ReadRecalled(save(t, whole))
	if err != nil {
		t.Fatal(err)
	}
	for pair, want := range map[[2]string]bool{{"r1", "+1="}: true, {"r2", "+1="}: true, {"r1", "=2="}: false, {"r2", "-3="}: false, {"r2", "=2="}: false} {
		if got.Has(keyfile.Target{RobotCode: pair[0]}, pair[1]) != want {
			t.Errorf("Has(%q) is not %v", pair, want)
		}
	}
	if !got.Has(keyfile.Target{RobotCode: "r2", Conversation: rows[4].Conversation}, "-3=") {
		t.Error("the key of a group is not recalled")
	}
	if _, err := ReadRecalled(filepath.Join(t.TempDir(), "none.csv")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a missing report: %v", err)
	}
}

// Cut anywhere behind its header, a report never tells of a key as recalled that it did not have so, and never fails.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	whole := text(t)
	for n := len(header); n <= len(whole); n++ {
		got, err := readRecalled(strings.NewReader(whole[:n]))
		if err != nil {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
		has := 0
		for _, pair := range [][2]string{{"r1", "+1="}, {"r2", "+1="}} {
			if got.Has(keyfile.Target{RobotCode: pair[0]}, pair[1]) {
				has++
			}
		}
		if got.Has(keyfile.Target{RobotCode: "r2", Conversation: rows[4].Conversation}, "-3=") {
			has++
		}
		if n < len(whole)-len("c+/=\n") && has != got.Set.Len() {
			t.Fatalf("cut after %d bytes: keys that were not recalled", n)
		}
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	list := func(dir string) string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "out.csv")
	if err := os.WriteFile(path, []byte("an older one"), 0o600); err != nil {
		t.Fatal(err)
	}

	aborted, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	aborted.Abort()
	if err := aborted.Commit(); err != nil {
		t.Errorf("Commit after Abort: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "an older one" || list(dir) != "out.csv" {
		t.Errorf("Abort left %q in %q", b, list(dir))
	}

	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(rows[0]); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "an older one" {
		t.Error("the report appeared before Commit")
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	got, err := ReadRecalled(path)
	if err != nil || !got.Has(keyfile.Target{RobotCode: "r1"}, "+1=") || list(dir) != "out.csv" {
		t.Errorf("after Commit: %+v, %v, in %q", got, err, list(dir))
	}

	for _, bad := range []string{dir, filepath.Join(dir, "none", "out.csv")} {
		if _, err := Create(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("Create(%q): %v", bad, err)
		}
	}
}

// A report that cannot take its name keeps its rows, and the error says where.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out.csv")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(rows[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // in the way of the rename
		t.Fatal(err)
	}
	err = f.Commit()
	if err == nil || !strings.Contains(err.Error(), f.temp.Name()) {
		t.Fatalf("Commit: %v", err)
	}
	if got, err := ReadRecalled(f.temp.Name()); err != nil || got.Rows != 1 {
		t.Errorf("what was left: %+v, %v", got, err)
	}
}
