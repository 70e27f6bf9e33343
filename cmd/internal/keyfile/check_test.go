package keyfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	content := "processQueryKey,robotCode,sentAt\n" +
		"a,r1,2026-11-23T09:04:59.999Z\n" +
		"b,r1,2026-11-23T09:00:00Z\n" +
		"a,r1,2026-11-22T01:00:00Z\n" + // again: the first one counts
		"a,r2,2026-11-23T09:05:00Z\n" + // another robot's key
		"# no row\n\n" +
		"c,r2,\n" +
		"d,r2,soon\n" +
		"done,r1,\n"
	f := open(t, content, Options{Skip: func(_ Target, key string) bool { return key == "done" }})
	var seen []Bad
	got, err := Check(context.Background(), f, func(b Bad) error {
		b.Raw = bytes.Clone(b.Raw)
		seen = append(seen, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	bad := Bad{Line: 9, Text: "d,r2,soon", Reason: `sentAt "soon" is neither RFC 3339 (2026-11-23T09:30:00+08:00) nor epoch milliseconds`}
	nine := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	want := Summary{
		Name: f.Name(), Format: FormatCSV, Rows: 5, Distinct: 4, Duplicates: 1, Skipped: 1, Comments: 1, Blank: 1, BadLines: 1, Bad: []Bad{bad},
		Targets: map[Target]*TargetSummary{
			{RobotCode: "r1"}: {Keys: 2, Sent: map[int64]int{nine.Unix(): 2}},
			{RobotCode: "r2"}: {Keys: 2, WithoutSentAt: 1, Sent: map[int64]int{nine.Unix() + 300: 1}},
		},
		Oldest: nine, Newest: nine.Add(5 * time.Minute), WithoutSentAt: 1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	bad.Raw = []byte("d,r2,soon")
	if !reflect.DeepEqual(seen, []Bad{bad}) {
		t.Errorf("the callback saw %+v", seen)
	}
}

func TestCheckKeepsFewBadLines(t *testing.T) {
	t.Parallel()
	f := open(t, "a\n"+strings.Repeat("b b\n", 50), Options{Robot: "r"})
	got, err := Check(context.Background(), f, nil)
	if err != nil || got.BadLines != 50 || len(got.Bad) != KeptBad || got.Bad[KeptBad-1].Line != KeptBad+1 {
		t.Errorf("%+v, %v", got, err)
	}
	stop := errors.New("stop")
	if _, err := Check(context.Background(), f, func(Bad) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the callback's error came back as %v", err)
	}
}

func TestCheckNoKeys(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"# nothing\n", "processQueryKey,robotCode\n", "key\n# nothing\n\n"} {
		var fileErr *Error
		_, err := Check(context.Background(), open(t, content, Options{Robot: "r"}), nil)
		if !errors.As(err, &fileErr) || !strings.Contains(err.Error(), "has no keys in it") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// What was set aside, once mended, is a key file again.
func TestSetAsideAndMend(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, content string
		mend          *strings.Replacer
		aside         string
		rows          []string
	}{
		{"plain", "a\nb b\nc\nd d\n", strings.NewReplacer("b b", "bb", "d d", "dd"),
			"# line 2: the key has a blank in it\nb b\n# line 4: the key has a blank in it\nd d\n", []string{"2 bb r -", "4 dd r -"}},
		{"csv", "\ufeffprocessQueryKey;robotCode;sentAt;note\na;r;;\nb;;;x\nc;r;;\nd;\"r\nd\";;\n", strings.NewReplacer("b;", "b;r2", "\"r\nd\"", "r3"),
			"processQueryKey;robotCode;sentAt;note\n# line 3: the line names no robot: add its robotCode, or give one for all such lines with --robot\nb;;;x\n" +
				"# line 5: the robotCode contains a control character\nd;\"r\nd\";;\n", []string{"3 b r2 -", "5 d r3 -"}},
		{"ndjson", "{\"key\":\"a\"}\n{\"key\":\"b\"\n", strings.NewReplacer(`"b"`, `"b"}`),
			"# line 2: the line is no complete JSON object: one object a line is wanted, as jq -c writes\n{\"key\":\"b\"\n", []string{"2 b r -"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			opts := Options{Robot: "r"}
			if tt.name == "csv" {
				opts.Robot = ""
			}
			f := open(t, tt.content, opts)
			path := filepath.Join(t.TempDir(), "bad")
			w := NewBadWriter(path, f)
			got, err := Check(context.Background(), f, w.Write)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			aside, err := os.ReadFile(path)
			if err != nil || string(aside) != tt.aside {
				t.Fatalf("%v, set aside:\n%s\nwant\n%s", err, aside, tt.aside)
			}
			again := open(t, string(aside), opts)
			if s, err := Check(context.Background(), again, nil); err != nil || s.Rows != 0 || s.BadLines != got.BadLines {
				t.Errorf("read again unmended: %+v, %v", s, err)
			}
			rows, bad := scan(t, open(t, tt.mend.Replace(string(aside)), opts))
			equal(t, "mended rows", rows, tt.rows)
			equal(t, "mended bad", bad, nil)

			if err := NewBadWriter(path, f).Write(Bad{}); err == nil || !strings.Contains(err.Error(), "file exists") {
				t.Errorf("an older file was overwritten: %v", err)
			}
		})
	}
	none := filepath.Join(t.TempDir(), "bad")
	w := NewBadWriter(none, open(t, "a\n", Options{Robot: "r"}))
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a file without bad lines was made")
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	var s Set
	if s.Has(Target{RobotCode: "r"}, "a") || s.Len() != 0 {
		t.Error("the empty set has something")
	}
	if !s.Add(Target{RobotCode: "r"}, "a") || s.Add(Target{RobotCode: "r"}, "a") || !s.Add(Target{RobotCode: "ra"}, "") || !s.Add(Target{RobotCode: "r"}, strings.Repeat("a", 512)) {
		t.Error("Add is wrong about what is new")
	}
	if !s.Has(Target{RobotCode: "r"}, "a") || s.Has(Target{RobotCode: ""}, "ra") || s.Has(Target{RobotCode: "R"}, "a") || s.Len() != 3 {
		t.Error("Has is wrong")
	}
}

// Every line that is neither blank nor a comment is either a row or a bad line, in order, whatever is in the file.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		k1 + "\n" + k2, "processQueryKey,robotCode\n\"a\",\"r\nb,r\n\"\"\"\",r\n", "key;sentAt\n\"a\n\n\";1795426200000\n# x\n",
		`{"processQueryKey":"a","body":"{\"robotCode\":\"r\"}","ts":1.7e12}` + "\n\"b\"\n{}", "#\n\n", `{"a":{"b":[1,"]}",{}]},"key":"x"}`,
	} {
		f.Add([]byte(s), "")
		f.Add([]byte(s), "plain")
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte, name string) {
		format, err := ParseFormat(name)
		if err != nil {
			return
		}
		path := filepath.Join(dir, "fuzz")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := Open(path, Options{Robot: "r", Format: format})
		if err != nil {
			return
		}
		defer file.Close()
		last, told := 0, 0
		next := func(line int) {
			told++
			if line <= last {
				t.Fatalf("line %d after line %d", line, last)
			}
			last = line
		}
		n, err := file.pass(context.Background(), func(r Row) error {
			next(r.Line)
			if r.Key == "" || r.RobotCode == "" || r.HasSentAt == r.SentAt.IsZero() {
				t.Fatalf("a row that is none: %+v", r)
			}
			return nil
		}, func(b Bad) error {
			next(b.Line)
			if b.Reason == "" || strings.ContainsAny(b.Reason+b.Text, "\n\r\x00") {
				t.Fatalf("bad line %+v", b)
			}
			return nil
		})
		if err != nil {
			return // damaged gzip
		}
		if lines := bytes.Count(content, []byte{'\n'}) + 1; format != FormatCSV && file.Format() != FormatCSV && !file.Compressed() {
			if total := told + n.blank + n.comments; total != lines && total != lines-1 {
				t.Fatalf("%d lines, of which %d rows or bad, %d blank, %d comments", lines, told, n.blank, n.comments)
			}
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	const lines = 1_000_000
	key := func(i int) string { return fmt.Sprintf("Kna29Ra5pdJznx1ghavbumkQKwDzgf%013d=", i) }
	formats := map[string]struct {
		head string
		line func(i int) string
	}{
		"plain": {"", func(i int) string { return key(i) + "\n" }},
		"csv":   {"processQueryKey,robotCode,sentAt\n", func(i int) string { return key(i) + ",dingue4kfzdxbyn0pjqd," + fmt.Sprint(1795400000000+i) + "\n" }},
		"ndjson": {"", func(i int) string {
			return `{"processQueryKey":"` + key(i) + `","robotCode":"dingue4kfzdxbyn0pjqd","invalidStaffIdList":[],"flowControlledStaffIdList":[]}` + "\n"
		}},
	}
	for name, format := range formats {
		b.Run(name, func(b *testing.B) {
			var content strings.Builder
			content.WriteString(format.head)
			for i := range lines {
				content.WriteString(format.line(i))
			}
			f := open(b, content.String(), Options{Robot: "r"})
			content.Reset()
			b.ReportAllocs()
			for b.Loop() {
				s, err := Check(context.Background(), f, nil)
				if err != nil || s.Distinct != lines {
					b.Fatalf("%+v, %v", s, err)
				}
			}
			b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
