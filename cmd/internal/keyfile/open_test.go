package keyfile

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestDetect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, content string
		want          Format
	}{
		{"a key", k1, FormatPlain},
		{"comments first", "# processQueryKey,robotCode\n#\n\n" + k1, FormatPlain},
		{"an object", ` {"key":"` + k1 + `"}`, FormatNDJSON},
		{"a JSON string", `"` + k1 + `"`, FormatNDJSON},
		{"a JSON string with a comma", `"a,b"`, FormatNDJSON},
		{"one column", "processQueryKey\n" + k1, FormatCSV},
		{"one quoted column", `"processQueryKey"` + "\n" + k1, FormatCSV},
		{"an alias", "KEY\n" + k1, FormatCSV},
		{"other spellings", "Robot_Code,SENT-AT,process_query_key\n", FormatCSV},
		{"semicolons", "no;processQueryKey;robotCode\n", FormatCSV},
		{"tabs, the first column without a name", "\tprocessQueryKey\trobotCode\n", FormatCSV},
		{"a byte order mark", "\ufeff\"processQueryKey\",\"robotCode\"\r\n", FormatCSV},
		{"a column named #", "#,processQueryKey\n1," + k1, FormatCSV},
		{"a comment before the header", "# exported today\nprocessQueryKey,robotCode\n", FormatCSV},
		{"a key that begins like bzip2", "BZh9AY1\n", FormatPlain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if f := open(t, tt.content, Options{Robot: "r"}); f.Format() != tt.want {
				t.Errorf("got %q, want %q", f.Format(), tt.want)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	utf16 := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			b.WriteRune(r)
			b.WriteByte(0)
		}
		return b.String()
	}
	tests := []struct {
		name, content string
		opts          Options
		want          string // part of the error
	}{
		{"empty", "", Options{Robot: "r"}, "is empty"},
		{"blank", " \r\n\t\n", Options{Robot: "r"}, "is empty"},
		{"an empty gzip", zip(t, ""), Options{Robot: "r"}, "is empty"},
		{"UTF-16", "\xff\xfe" + utf16(k1), Options{Robot: "r"}, "UTF-16"},
		{"UTF-16 without a mark", utf16(k1), Options{Robot: "r"}, "UTF-16"},
		{"a zero byte", k1 + "\x00\n", Options{Robot: "r"}, "is not text"},
		{"noise", strings.Repeat("\x81\xfe\x9f", 30), Options{Robot: "r"}, "is not text"},
		{"a spreadsheet", "PK\x03\x04\x14\x00", Options{Robot: "r"}, "save the sheet as CSV"},
		{"gzip in gzip", zip(t, zip(t, k1)), Options{Robot: "r"}, "compressed twice"},
		{"zstd", "\x28\xb5\x2f\xfd\x00\x00", Options{Robot: "r"}, "zstd"},
		{"half a gzip header", zip(t, k1)[:5], Options{Robot: "r"}, "cut off"},
		{"lines of an old Mac", k1 + "\r" + k2 + "\r", Options{Robot: "r"}, "CR alone"},
		{"a JSON array", "[\n{\"key\":\"a\"}]", Options{Robot: "r"}, "jq -c '.[]'"},
		{"CSV without a header", k1 + ",r1\n", Options{}, "(columns found: " + k1 + ", r1)"},
		{"CSV with other columns", "id;messageKey;bot\n", Options{}, "no column is named processQueryKey (columns found: id, messageKey, bot)"},
		{"CSV named, plain found", k1 + "\n", Options{Format: FormatCSV}, "no column is named processQueryKey"},
		{"CSV named, nothing but comments", "# a\n", Options{Format: FormatCSV}, "no line with the names"},
		{"two columns of keys", "processQueryKey,process_query_key\n", Options{Robot: "r"}, "two columns are named process_query_key"},
		{"no robot in plain text", k1 + "\n", Options{}, "--robot"},
		{"no robot in CSV", "processQueryKey,sentAt\n", Options{}, "--robot"},
		{"a bad robot", k1, Options{Robot: "r 1"}, "robotCode has a blank"},
		{"a moment to come", k1, Options{Robot: "r", SentAt: testNow.Add(time.Hour)}, "lies in the future"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.opts.Now = func() time.Time { return testNow }
			f, err := Open(write(t, tt.content), tt.opts)
			if err == nil {
				_ = f.Close()
				t.Fatalf("opened, as %q", f.Format())
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, tt.want)
			}
		})
	}
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"): "none: cannot be opened: no such file or directory",
		t.TempDir():                        "is a directory",
	} {
		var fileErr *Error
		if _, err := Open(path, Options{}); !errors.As(err, &fileErr) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := iotest.OneByteReader(strings.NewReader(zip(t, k1+"\n"+k2+"\n")))
	f, err := Open("-", Options{Robot: "r", Stdin: in, TempDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		rows, _ := scan(t, f)
		equal(t, "rows", rows, []string{"1 " + k1 + " r -", "2 " + k2 + " r -"})
	}
	if f.Name() != StdinName {
		t.Errorf("it is called %q", f.Name())
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := f.Each(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("reading a closed file: %v", err)
	}

	broken := errors.New("connection lost")
	_, err = Open("-", Options{Robot: "r", TempDir: dir, Stdin: io.MultiReader(strings.NewReader(k1), iotest.ErrReader(broken))})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), StdinName) {
		t.Errorf("broken input: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDamagedGzip(t *testing.T) {
	t.Parallel()
	var content strings.Builder
	for range 30_000 {
		content.WriteString(k1 + "\n")
		content.WriteString(k2[:40] + strings.Repeat("x", 4) + "\n")
	}
	whole := zip(t, content.String())
	flipped := []byte(whole)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	for name, tt := range map[string]struct{ content, want string }{
		"cut":      {whole[:len(whole)/2], "the compressed data is cut off"},
		"checksum": {string(flipped), "the compressed data is damaged"},
		"more":     {whole + "more", "the compressed data is "},
	} {
		f := open(t, tt.content, Options{Robot: "r"})
		last := 0
		err := f.Each(context.Background(), func(r Row) error {
			if r.Key != k1 && len(r.Key) != 44 {
				t.Fatalf("%s: half a key came out: %q", name, r.Key)
			}
			last = r.Line
			return nil
		})
		var fileErr *Error
		if !errors.As(err, &fileErr) || !strings.Contains(err.Error(), tt.want) {
			t.Fatalf("%s: got %v, want %q", name, err, tt.want)
		}
		if last == 0 || fileErr.Line != last {
			t.Errorf("%s: the error says line %d, the last row was of line %d", name, fileErr.Line, last)
		}
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	path := write(t, k1+"\n")
	f, err := Open(path, Options{Robot: "r"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Each(context.Background(), func(Row) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(k1+"\n"+k2+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Each(context.Background(), func(Row) error { return nil }); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Errorf("got %v", err)
	}
}

func TestParseFormat(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Format{"": FormatAuto, "auto": FormatAuto, "CSV": FormatCSV, "plain": FormatPlain, "ndjson": FormatNDJSON} {
		if got, err := ParseFormat(s); err != nil || got != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	if _, err := ParseFormat("xlsx"); err == nil {
		t.Error("xlsx is a format")
	}
}

// A pipe with a name (a shell's <(command), say) can be read only once, and is kept aside like standard input.
func TestPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		_, _ = io.WriteString(w, k1+"\n"+k2+"\n")
	}()
	dir := t.TempDir()
	f, err := Open("/dev/fd/"+strconv.Itoa(int(r.Fd())), Options{Robot: "r", TempDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		rows, _ := scan(t, f)
		equal(t, "rows", rows, []string{"1 " + k1 + " r -", "2 " + k2 + " r -"})
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
