// Package keyfile reads files of keys: plain text, CSV with a header, NDJSON, and gzip of each.
//
// A file is opened once and can then be read as often as need be: the first pass checks the whole of it (Check) before
// anything is sent, the next ones hand out its rows (Each). Every pass streams; no pass holds the file in memory. What
// cannot be read twice (standard input, a pipe) is first copied to a temporary file.
//
// Two kinds of trouble are kept apart. A bad line (Bad) spoils only itself; the reading goes on. An *Error is trouble with
// the file as a whole (not text, cut in the middle, no column with keys), and ends the pass.
package keyfile

import (
	"context"
	"fmt"
	"strings"
	"time"

	"dingrecall/tasks"
)

// Format says how the lines of a file are written. Compression is not part of it: gzip is always recognised by its first
// two bytes.
type Format string

// The formats. FormatAuto, the zero value, looks at the beginning of the file.
const (
	FormatAuto   Format = ""
	FormatPlain  Format = "plain"
	FormatCSV    Format = "csv"
	FormatNDJSON Format = "ndjson"
)

// ParseFormat turns the value of a --format flag into a Format. Empty and "auto" mean FormatAuto.
func ParseFormat(s string) (Format, error) {
	switch f := Format(strings.ToLower(s)); f {
	case FormatAuto, FormatPlain, FormatCSV, FormatNDJSON:
		return f, nil
	case "auto":
		return FormatAuto, nil
	}
	return FormatAuto, fmt.Errorf("unknown format %q: use plain, csv, ndjson or auto", s)
}

// MaxLineBytes is the longest line that is read: 1 MiB. A longer one is a bad line, and only its beginning is kept.
const MaxLineBytes = 1 << 20

// Row is one key of a file.
type Row struct {
	Line               int       // where it begins in the (uncompressed) file, from 1
	Key                string    // the processQueryKey, as it stands in the file
	RobotCode          string    // from the row, else Options.Robot
	tasks.Conversation           // from the row, else Options.Conversation; zero for one-to-one messages
	SentAt             time.Time // from the row, else Options.SentAt; to the millisecond, in UTC; zero where HasSentAt is false
	HasSentAt          bool
}

// Target gives whose key the row has.
func (r Row) Target() Target { return Target{r.RobotCode, r.Conversation} }

// Bad is a line that is no row.
type Bad struct {
	Line   int
	Reason string // one line, says what to do where that is not plain
	Text   string // the beginning of the line, made printable
	Raw    []byte // the line as it stands, without its end; valid only during the callback, and cut after MaxLineBytes
}

// Error is trouble with a file as a whole. It reads as one line and says what to do.
type Error struct {
	Path   string
	Line   int // the last line that was read before the trouble; 0 where that says nothing
	Reason string
	Err    error // the cause, where there is one
}

// Error implements error.
func (e *Error) Error() string {
	switch {
	case e.Err != nil && e.Reason == "":
		return fmt.Sprintf("%s: %v", e.Path, e.Err)
	case e.Line > 0:
		return fmt.Sprintf("%s: after line %d: %s", e.Path, e.Line, e.Reason)
	}
	return fmt.Sprintf("%s: %s", e.Path, e.Reason)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Each hands out the rows of the file in their order and skips the bad lines, which Check has told of. It begins at the
// beginning every time. It ends with the first error of fn (returned as it is), when ctx ends, or with an *Error.
func (f *File) Each(ctx context.Context, fn func(Row) error) error {
	return f.Scan(ctx, fn, nil)
}

// Scan is Each with a callback for the bad lines as well. Either callback may be nil.
func (f *File) Scan(ctx context.Context, row func(Row) error, bad func(Bad) error) error {
	_, err := f.pass(ctx, row, bad)
	return err
}
