package keyfile

import (
	"strings"
	"testing"
	"time"
)

func TestRows(t *testing.T) {
	t.Parallel()
	const header = "processQueryKey,robotCode,sentAt\n"
	long := strings.Repeat("x", MaxLineBytes+100)
	tests := []struct {
		name, content string
		opts          Options
		rows, bad     []string // bad: line number and part of the reason
	}{
		{name: "plain: what is no key", opts: Options{Robot: "r"},
			content: k1 + "\nKna 29\nKna\u200b29\nKna\u00e9\n\xff\xfe\n" + strings.Repeat("k", 513) + "\na,b\n{\"key\":\"a\"}\nKna\ufffd\na\x07b\n" + k2,
			rows:    []string{"1 " + k1 + " r -", "4 Kna\u00e9 r -", "11 " + k2 + " r -"},
			bad:     []string{"2 blank", "3 invisible", "5 UTF-8", "6 at most 512", "7 no bare key", "8 no bare key", "9 UTF-8", "10 control"}},
		{name: "plain, named: anything goes", opts: Options{Robot: "r", Format: FormatPlain}, content: "a,b\n{x}\n", rows: []string{"1 a,b r -", "2 {x} r -"}},
		{name: "a line too long", opts: Options{Robot: "r"}, content: k1 + "\n" + long + "\n" + k2 + "\n",
			rows: []string{"1 " + k1 + " r -", "3 " + k2 + " r -"}, bad: []string{"2 longer than 1048576"}},
		{name: "the longest line", opts: Options{Robot: "r"}, content: k1 + "\n" + long[:MaxLineBytes] + "\r\n" + k2,
			rows: []string{"1 " + k1 + " r -", "3 " + k2 + " r -"}, bad: []string{"2 at most 512"}},

		{name: "csv: quotes", content: header + `"` + k1 + `","r""1",` + "\n" + ` a , r2 ,` + "\n" + `a"b,r2,` + "\n",
			rows: []string{"2 " + k1 + ` r"1 -`, "3 a r2 -", `4 a"b r2 -`}},
		{name: "csv: other columns, in any order, with line ends in them", content: "note;sentAt;robotCode;processQueryKey\n\"two\n\nlines; \"\"here\"\"\";;r;a\nx;;r;b\n",
			rows: []string{"2 a r -", "5 b r -"}},
		{name: "csv: lines to skip", content: header + "\n# comment\na,r,\n,,\n #,,\n#1,r,\n#\n",
			rows: []string{"4 a r -", "7 #1 r -"}, bad: []string{"6 names no robot"}},
		{name: "csv: short and long rows", content: "robotCode,processQueryKey,sentAt\nr\nr,a\nr,b,,x,y\n", rows: []string{"3 a r -", "4 b r -"}, bad: []string{"2 the row has 1 cells, and the key should be in cell 2"}},
		{name: "csv: a missing key", content: header + ",r,\n", bad: []string{"2 the key is empty"}},
		{name: "csv: no robot", content: header + "a,,\n", bad: []string{"2 names no robot"}},
		{name: "csv: the default robot", opts: Options{Robot: "d"}, content: header + "a,,\nb,r,\n", rows: []string{"2 a d -", "3 b r -"}},
		{name: "csv: text after a quote", content: header + `"a"b,r,` + "\nb,r,\n", rows: []string{"3 b r -"}, bad: []string{"2 text after a closing quote"}},
		{name: "csv: a quote without its end spoils its line only", content: header + "\"a,r,\nb,r,\nc,r,\n", rows: []string{"3 b r -", "4 c r -"}, bad: []string{"2 a quote that opens here is not closed"}},
		{name: "csv: two such", content: header + "a,\"r,\nb,r,\n\"c,r,\nd,r,", rows: []string{"3 b r -", "5 d r -"}, bad: []string{"2 not closed", "4 not closed"}},
		{name: "csv: a cell over many lines that opens and closes others", content: "robotCode,note,key\nr,\"\n\"\"\n\",\"\na\"\nr,\"\nx\",\"b\"\nr,\"\"\"\n\"x,c\nr,,d\n",
			rows: []string{"6 b r -", "10 d r -"}, bad: []string{"2 control", "8 not closed", "9 not closed"}},
		{name: "csv: a byte order mark", content: "\ufeff" + header + "a,r,", rows: []string{"2 a r -"}},
		{name: "csv: # is a column", content: "#\tprocessQueryKey\trobotCode\r\n1\ta\tr\r\n# 2\tb\tr\r\n", rows: []string{"2 a r -"}},
		{name: "csv: exact name before alias", content: "key,processQueryKey,robot\n1,a,r\n", rows: []string{"2 a r -"}},

		{name: "ndjson: an answer as it was logged", content: `{"processQueryKey":"a","invalidStaffIdList":["x"],"flowControlledStaffIdList":[],"robotCode":"r","ts":1795426200000}`,
			rows: []string{"1 a r 2026-11-23T09:30:00Z"}},
		{name: "ndjson: nested", content: `{"time":"2026-11-23T17:30:00.5+08:00","request":{"robotCode":"r","msgKey":"m"},"response":{"processQueryKey":"a\u002b\/="}}` + "\n" +
			`{"level":"info","key":"req-7","robot_code":"r","Body":"{\"processQueryKey\":\"b\"}"}` + "\n" + `{"resp":{"processQueryKey":"c","robotCode":"n"},"robotCode":"o"}` + "\n" + `{"result":[{"processQueryKey":"x"}]}`,
			rows: []string{"1 a+/= r 2026-11-23T09:30:00.5Z", "2 b r -", "3 c o -"}, bad: []string{"4 no processQueryKey (fields found: result)"}},
		{name: "ndjson: bare keys", opts: Options{Robot: "r"}, content: "\"a\"\n{\"key\":\"b\"}\n\"c d\"\n", rows: []string{"1 a r -", "2 b r -"}, bad: []string{"3 blank"}},
		{name: "ndjson: what is no row", opts: Options{Robot: "r"},
			content: "{\"key\":\"a\"}\n{\"key\":\n\"b\"}\nnull\n[1]\n{}\n{\"processQueryKey\":[\"a\"]}\n{\"processQueryKey\":\"a\",\"body\":{\"processQueryKey\":\"b\"}}\n{\"code\":\"system.error\",\"message\":\"x\"}\n{\"key\":\"\"}\n{\"key\":null}\nxyz\n",
			rows:    []string{"1 a r -"},
			bad: []string{"2 no complete JSON object", "3 not JSON", "4 neither", "5 neither", "6 no processQueryKey", "7 processquerykey is neither text nor a number", "8 two different keys",
				"9 (fields found: code, message)", "10 no processQueryKey", "11 no processQueryKey", "12 not JSON"}},
		{name: "ndjson: the same key twice is one", opts: Options{Robot: "r"}, content: `{"processQueryKey":"a","data":{"processQueryKey":"a"}}`, rows: []string{"1 a r -"}},
		{name: "ndjson: seconds of a logger", opts: Options{Robot: "r"}, content: `{"key":"a","ts":1795426200.25}` + "\n" + `{"key":"a","ts":1795426200}`,
			rows: []string{"1 a r 2026-11-23T09:30:00.25Z"}, bad: []string{"2 looks like seconds"}},
		{name: "ndjson: sentAt before ts", opts: Options{Robot: "r"}, content: `{"key":"a","ts":"2026-11-23T09:00:00Z","sentAt":"2026-11-23T08:00:00Z"}`, rows: []string{"1 a r 2026-11-23T08:00:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rows, bad := scan(t, open(t, tt.content, tt.opts))
			equal(t, "rows", rows, tt.rows)
			if len(bad) != len(tt.bad) {
				t.Fatalf("bad lines %q, want %q", bad, tt.bad)
			}
			for i, want := range tt.bad {
				line, reason, _ := strings.Cut(want, " ")
				gotLine, gotReason, _ := strings.Cut(bad[i], " ")
				if gotLine != line || !strings.Contains(gotReason, reason) || strings.Contains(gotReason, "\n") {
					t.Errorf("bad line %q, want %q", bad[i], want)
				}
			}
		})
	}
}

func TestSentAt(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want, reason string }{
		{"1795426200123", "2026-11-23T09:30:00.123Z", ""},
		{"2026-11-23T17:30:00+08:00", "2026-11-23T09:30:00Z", ""},
		{"2026-11-23T09:30:00.1239Z", "2026-11-23T09:30:00.123Z", ""},
		{"1.795426200123E12", "2026-11-23T09:30:00.123Z", ""},
		{"2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z", ""}, // long ago: not for the file to judge
		{"2026-11-23T10:10:00Z", "2026-11-23T10:10:00Z", ""},
		{"2026-11-23T10:10:01Z", "", "in the future, by 10m1s"},
		{"1795426200", "", "seconds: epoch milliseconds are wanted, 1795426200000"},
		{"1795426200123456", "", "more digits"},
		{"1795426200123456789", "", "more digits"},
		{"12", "", "no moment in this century"},
		{"-5", "", "no moment in this century"},
		{"1795426200.5", "", "whole epoch milliseconds"},
		{"NaN", "", "whole epoch milliseconds"},
		{"2026-11-23 09:30:00", "", "neither RFC 3339"},
		{"2026-11-23T09:30:00", "", "neither RFC 3339"},
		{"23/11/2026", "", "neither RFC 3339"},
		{"yesterday", "", "neither RFC 3339"},
	}
	var content strings.Builder
	content.WriteString("processQueryKey,robotCode,sentAt\n")
	var rows, reasons []string
	for _, tt := range tests {
		content.WriteString("a,r," + tt.text + "\n")
		if tt.reason == "" {
			rows = append(rows, tt.want)
		} else {
			reasons = append(reasons, tt.reason)
		}
	}
	got, bad := scan(t, open(t, content.String(), Options{}))
	for i := range got {
		got[i] = got[i][strings.LastIndexByte(got[i], ' ')+1:]
	}
	equal(t, "moments", got, rows)
	if len(bad) != len(reasons) {
		t.Fatalf("%d bad lines, want %d: %q", len(bad), len(reasons), bad)
	}
	for i, want := range reasons {
		if !strings.Contains(bad[i], want) {
			t.Errorf("reason %q, want %q", bad[i], want)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	content := "processQueryKey,robotCode,sentAt\na,,\nb,r,2026-11-23T08:00:00Z\nc,r,\n"
	skip := func(of Target, key string) bool { return of == Target{RobotCode: "r"} && key == "c" }
	f := open(t, content, Options{Robot: "d", SentAt: testNow.Add(-time.Hour).In(time.FixedZone("", 3600)), Skip: skip})
	rows, bad := scan(t, f)
	equal(t, "rows", rows, []string{"2 a d 2026-11-23T09:00:00Z", "3 b r 2026-11-23T08:00:00Z"})
	equal(t, "bad", bad, nil)
}

// Quotes that stay open cost time in proportion to the file, however they are placed.
func TestOpenQuotesAreCheap(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{"doubled": "\"\"\n", "closed and opened": "\",\"\n", "none": "a\n", "odd": "\"\"\"x\n"} {
		content := "key,robotCode\n\"a\n" + strings.Repeat(line, MaxLineBytes/len(line))
		start := time.Now()
		rows, bad := scan(t, open(t, content, Options{Robot: "r"}))
		if len(rows)+len(bad) == 0 {
			t.Errorf("%s: nothing was read", name)
		}
		if took := time.Since(start); took > time.Minute { // in proportion to its square, it takes far longer
			t.Errorf("%s: took %v", name, took)
		}
	}
}
