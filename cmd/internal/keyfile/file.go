package keyfile

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"dingrecall/tasks"
)

// Options fill in what a file does not say.
type Options struct {
	Format Format // default: look at the file
	Robot  string // the robotCode of rows that have none; default: such rows are bad
	// Conversation is that of rows that name none; default: those are one-to-one. With a Chat alone it says of what kind the
	// conversations are that rows name.
	Conversation tasks.Conversation
	SentAt       time.Time // the moment of sending of rows that have none; zero: not known

	// Skip leaves out rows, in every pass: those that an earlier report has as recalled, say. Default: none.
	Skip func(of Target, key string) bool

	Now     func() time.Time // judges moments that lie in the future; default time.Now. Asked once, so that all passes agree
	Stdin   io.Reader        // what the path "-" reads; default os.Stdin
	TempDir string           // where input that cannot be read twice is kept; default os.TempDir()
}

// File is an open file of keys. Passes over it may run at the same time.
type File struct {
	path   string
	file   *os.File
	temp   bool // file is our copy, to be removed
	size   int64
	mtime  time.Time
	gz     bool
	layout layout
	robot  string
	where  tasks.Conversation
	sentAt time.Time
	now    time.Time
	skip   func(of Target, key string) bool
}

// StdinName is what standard input is called in messages.
const StdinName = "standard input"

// Open opens the file at path, or standard input for "-", and finds out its format. It fails with an *Error where no row
// could come of the file: it is missing, empty, not text, or has no place for a key or a robot. Close must be called.
func Open(path string, opts Options) (_ *File, err error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	f := &File{path: path, robot: opts.Robot, where: opts.Conversation, now: opts.Now(), skip: opts.Skip}
	if err := f.setDefaults(opts); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err := f.openSource(opts); err != nil {
		return nil, err
	}
	r, err := f.reader()
	if err != nil {
		return nil, err
	}
	head, err := bufio.NewReaderSize(r, headBytes).Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) && len(head) == 0 {
		return nil, f.readError(0, err)
	}
	f.layout, err = detect(head, opts.Format)
	if err != nil {
		return nil, f.fail(err.Error())
	}
	if !f.layout.mayHaveRobot() && f.robot == "" {
		return nil, f.fail("says nowhere which robot sent the messages: give its robotCode with --robot")
	}
	if err := f.layout.checkWhere(f.where); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) setDefaults(opts Options) error {
	if opts.Robot != "" {
		if reason := checkRobot(opts.Robot); reason != "" {
			return fmt.Errorf("the robot to use where a file names none: %s", reason)
		}
	}
	if opts.SentAt.IsZero() {
		return nil
	}
	f.sentAt = opts.SentAt.UTC().Truncate(time.Millisecond)
	if reason := checkMoment(f.sentAt, f.now); reason != "" {
		return fmt.Errorf("the moment of sending to use where a file has none: %s", reason)
	}
	return nil
}

// openSource makes f.file something that can be read again and again.
func (f *File) openSource(opts Options) error {
	var in io.Reader
	if f.path == "-" {
		f.path = StdinName
		in = opts.Stdin
		if in == nil {
			in = os.Stdin
		}
	} else {
		file, err := os.Open(f.path)
		if err != nil {
			return &Error{Path: f.path, Reason: "cannot be opened: " + causeOf(err), Err: err}
		}
		info, err := file.Stat()
		if err != nil {
			_ = file.Close()
			return &Error{Path: f.path, Reason: "cannot be opened: " + causeOf(err), Err: err}
		}
		if info.IsDir() {
			_ = file.Close()
			return f.fail("is a directory: name a file")
		}
		if info.Mode().IsRegular() {
			f.file, f.size, f.mtime = file, info.Size(), info.ModTime()
			return nil
		}
		defer file.Close()
		in = file // a pipe or a device: it can be read only once
	}
	return f.spool(in, opts.TempDir)
}

// spool copies in to a temporary file. The name is given up at once where the system allows it, so that not even a kill
// leaves the keys lying about.
func (f *File) spool(in io.Reader, dir string) error {
	temp, err := os.CreateTemp(dir, "recall-keys-*")
	if err != nil {
		return &Error{Path: f.path, Reason: "no temporary file to keep it in: " + causeOf(err), Err: err}
	}
	f.file, f.temp = temp, os.Remove(temp.Name()) != nil
	if _, err := io.Copy(temp, in); err != nil {
		return &Error{Path: f.path, Reason: "cannot be copied to a temporary file: " + causeOf(err), Err: err}
	}
	info, err := temp.Stat()
	if err != nil {
		return &Error{Path: f.path, Reason: "cannot be read back: " + causeOf(err), Err: err}
	}
	f.size, f.mtime = info.Size(), info.ModTime()
	return nil
}

// reader returns the uncompressed bytes from the beginning, without a byte order mark.
func (f *File) reader() (io.Reader, error) {
	info, err := f.file.Stat()
	if err != nil {
		return nil, f.readError(0, err)
	}
	if info.Size() != f.size || !info.ModTime().Equal(f.mtime) {
		return nil, f.fail("was changed while it was being read: begin again when nobody writes to it")
	}
	br := bufio.NewReaderSize(io.NewSectionReader(f.file, 0, f.size), 64<<10)
	if magic, _ := br.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		f.gz = true
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, f.readError(0, err)
		}
		br = bufio.NewReaderSize(zr, 64<<10)
	}
	if bom, _ := br.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = br.Discard(3)
	}
	return br, nil
}

// readError explains why the bytes stopped coming after the given line.
func (f *File) readError(line int, err error) error {
	reason := "cannot be read: " + causeOf(err)
	var corrupt flate.CorruptInputError
	switch {
	case f.gz && errors.Is(err, io.ErrUnexpectedEOF):
		reason = "the compressed data is cut off: fetch the file again, or use what is left of it with gzip -dc FILE | recall ... -"
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		reason = "the compressed data is damaged (" + causeOf(err) + "): fetch the file again"
	}
	return &Error{Path: f.path, Line: line, Reason: reason, Err: err}
}

func (f *File) fail(reason string) error { return &Error{Path: f.path, Reason: reason} }

// causeOf is the innermost text of a file error, without the path that the message has already.
func causeOf(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// Name is the path the file was opened by, or StdinName.
func (f *File) Name() string { return f.path }

// Format is the format that was named or found.
func (f *File) Format() Format { return f.layout.format }

// Compressed says whether the file is gzip.
func (f *File) Compressed() bool { return f.gz }

// Close closes the file and removes the copy of standard input. It may be called twice.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	err := file.Close()
	if f.temp {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	if err != nil {
		return fmt.Errorf("closing %s: %w", f.path, err)
	}
	return nil
}

// counts is what a pass saw besides rows and bad lines.
type counts struct {
	comments int
	blank    int
	skipped  int
}

// pass reads the file once.
func (f *File) pass(ctx context.Context, row func(Row) error, bad func(Bad) error) (counts, error) {
	if f.file == nil {
		return counts{}, f.fail("is closed already")
	}
	r, err := f.reader()
	if err != nil {
		return counts{}, err
	}
	s := &scanner{f: f, lines: newLineReader(r), row: row, bad: bad}
	s.values.init(f)
	err = s.run(ctx)
	return s.counts, err
}
