// Package report writes and reads the report of a run: a CSV file with one row a key.
//
// A report is a key file too (package keyfile), since its columns have the names that key files use; and a later run can
// leave out the keys that it has as recalled (ReadRecalled).
package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"dingrecall/tasks"
)

// StateRecalled is the state of a key whose message was recalled. The other states are for people; nothing here reads them.
const StateRecalled = "recalled"

// Columns are the columns of a report, in order.
func Columns() []string {
	return []string{"processQueryKey", "robotCode", "state", "code", "message", "requestId", "attempts", "sentAt", "finishedAt", "incident",
		"ambiguous", "chat", "openConversationId"}
}

// timeFormat is RFC 3339 in UTC with milliseconds, which is as exact as the service and our own payloads are.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Row is what became of one key.
type Row struct {
	Key, RobotCode     string
	tasks.Conversation        // where the message was sent, unless one-to-one
	State              string // StateRecalled, or another
	Code, Message      string // why the key is not recalled; empty where it is
	RequestID          string // of the last call with the key, where one was told
	Attempts           int    // calls that carried the key
	SentAt             time.Time
	FinishedAt         time.Time // when the key came to its state; zero where it has not come to its last
	Incident           string
	Ambiguous          bool // the answer to a call with the key was lost: what is not recalled may be so after all
}

// Writer writes the rows of a report, one after another, in bounded memory. It is not safe for concurrent use.
type Writer struct {
	csv  *csv.Writer
	rec  []string
	rows int
}

// NewWriter writes a report to w, beginning with the line of column names. Flush must be called at the end.
func NewWriter(w io.Writer) (*Writer, error) {
	rw := &Writer{csv: csv.NewWriter(w), rec: make([]string, len(Columns()))}
	if err := rw.csv.Write(Columns()); err != nil {
		return nil, fmt.Errorf("writing the report: %w", err)
	}
	return rw, nil
}

// Write appends a row. Keys and texts are written as they are, never altered to please a spreadsheet: a key that begins
// with "+" must come back as that key.
func (w *Writer) Write(r Row) error {
	w.rec = append(w.rec[:0], r.Key, r.RobotCode, r.State, r.Code, r.Message, r.RequestID,
		strconv.Itoa(r.Attempts), moment(r.SentAt), moment(r.FinishedAt), r.Incident, yes(r.Ambiguous), r.Chat, r.OpenConversationID)
	if err := w.csv.Write(w.rec); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	w.rows++
	return nil
}

// Rows is how many rows were written.
func (w *Writer) Rows() int { return w.rows }

// Flush writes out what is buffered.
func (w *Writer) Flush() error {
	w.csv.Flush()
	if err := w.csv.Error(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// File is a report that appears at its path as a whole or not at all: rows go to a temporary file beside it, which takes
// the path over on Commit.
type File struct {
	*Writer
	path string
	temp *os.File
	once sync.Once
	err  error
}

// Create begins a report that is to appear at path. It fails at once where that cannot be, so that nobody learns of a wrong
// path after an hour of recalling. Commit or Abort must be called; after either, both do nothing.
func Create(path string) (*File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the report cannot be written to %s: it is not a file", path)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return nil, fmt.Errorf("the report cannot be written to %s: %w", path, cause(err))
	}
	f := &File{path: path, temp: temp}
	if f.Writer, err = NewWriter(temp); err != nil {
		f.Abort()
		return nil, err
	}
	return f, nil
}

// Commit writes the report out to the disk and gives it its name, in place of an older file there.
func (f *File) Commit() error {
	f.once.Do(func() { f.err = f.commit() })
	return f.err
}

func (f *File) commit() error {
	err := f.Flush()
	if err == nil {
		err = f.temp.Chmod(0o644) // as any program's output; without the app's credentials a key is of no use
	}
	if err == nil {
		err = f.temp.Sync()
	}
	err = errors.Join(err, f.temp.Close())
	if err == nil {
		err = os.Rename(f.temp.Name(), f.path)
	}
	if err != nil {
		// What was gathered is worth more than a tidy directory: the rows stay where they are, and the error says where.
		return fmt.Errorf("the report could not be put at %s, what there is of it is in %s: %w", f.path, f.temp.Name(), cause(err))
	}
	syncDir(filepath.Dir(f.path))
	return nil
}

// Abort gives the report up and removes the temporary file.
func (f *File) Abort() {
	f.once.Do(func() {
		_ = f.temp.Close()
		_ = os.Remove(f.temp.Name())
	})
}

// syncDir makes a rename last through a power failure. Some file systems cannot do that to a directory; the report is
// there all the same, so that their refusal is no failure.
func syncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	_ = d.Sync()
	_ = d.Close()
}

// cause strips the paths of our temporary files from an error, which would only confuse.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
