package keyfile

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zip(t testing.TB, content string) string {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func open(t testing.TB, content string, opts Options) *File {
	t.Helper()
	opts.Now = func() time.Time { return testNow }
	f, err := Open(write(t, content), opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// scan reads the whole file and returns rows as "line key robot sentAt" and bad lines as "line reason".
func scan(t testing.TB, f *File) (rows, bad []string) {
	t.Helper()
	err := f.Scan(context.Background(), func(r Row) error {
		rows = append(rows, rowText(r))
		return nil
	}, func(b Bad) error {
		bad = append(bad, badText(b))
		return nil
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return rows, bad
}

const (
	k1 = "Kna29Ra5pdJznx1ghavbumkQKwDzgfxZLapw55G7x0Q="
	k2 = "+na29Ra5pdJznx1ghavbumkQKwDzgfxZLapw55G7x0Q="
)

func TestFormats(t *testing.T) {
	t.Parallel()
	const ms = "1795426200000"
	at := time.UnixMilli(1795426200000).UTC().Format(time.RFC3339Nano)
	tests := []struct {
		name, content string
		opts          Options
		format        Format
		rows, bad     []string
	}{
		{"plain", k1 + "\n" + k2 + "\n", Options{Robot: "r"}, FormatPlain, []string{"1 " + k1 + " r -", "2 " + k2 + " r -"}, nil},
		{"plain with all that is allowed", "\ufeff# a comment\r\n\r\n  " + k1 + "\t\r\n#" + k1 + "\r\n" + k2, Options{Robot: "r"}, FormatPlain,
			[]string{"3 " + k1 + " r -", "5 " + k2 + " r -"}, nil},
		{"csv", "processQueryKey,robotCode,sentAt\n" + k1 + ",r1," + ms + "\n" + k2 + ",,\n", Options{Robot: "r2"}, FormatCSV,
			[]string{"2 " + k1 + " r1 " + at, "3 " + k2 + " r2 -"}, nil},
		{"ndjson", `{"processQueryKey":"` + k1 + `","robotCode":"r1","sentAt":` + ms + "}\n", Options{}, FormatNDJSON, []string{"1 " + k1 + " r1 " + at}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for name, content := range map[string]string{"": tt.content, "gzip": zip(t, tt.content), "two gzips": zip(t, tt.content[:9]) + zip(t, tt.content[9:])} {
				f := open(t, content, tt.opts)
				if f.Format() != tt.format || f.Compressed() != (name != "") {
					t.Errorf("%s: format %q, compressed %v", name, f.Format(), f.Compressed())
				}
				for range 2 { // a file can be read again
					rows, bad := scan(t, f)
					equal(t, name+" rows", rows, tt.rows)
					equal(t, name+" bad", bad, tt.bad)
				}
			}
		})
	}
}

func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func rowText(r Row) string {
	sentAt := "-"
	if r.HasSentAt {
		sentAt = r.SentAt.Format(time.RFC3339Nano)
	}
	parts := []string{strconv.Itoa(r.Line), r.Key, r.RobotCode, sentAt}
	if r.Chat != "" || r.OpenConversationID != "" {
		parts = append(parts, r.Chat, r.OpenConversationID)
	}
	return strings.Join(parts, " ")
}

func badText(b Bad) string { return strconv.Itoa(b.Line) + " " + b.Reason }

func TestInterrupted(t *testing.T) {
	t.Parallel()
	f := open(t, k1+"\n", Options{Robot: "r"})
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	err := f.Each(ctx, func(Row) error { t.Error("a row after the end"); return nil })
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	stop := errors.New("stop")
	if err := f.Each(context.Background(), func(Row) error { return stop }); err != stop {
		t.Errorf("an error of the callback came back as %v", err)
	}
}
