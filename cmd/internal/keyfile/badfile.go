package keyfile

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
)

// BadWriter sets bad lines aside, in a file that can be mended in an editor and read again as a key file: each line stands
// there as it was, behind a comment line with its number and the reason; a CSV file keeps its header. The file is made with
// the first bad line, so that no bad lines leave no file.
type BadWriter struct {
	path   string
	header []byte
	file   *os.File
	w      *bufio.Writer
}

// NewBadWriter sets the bad lines of f aside at path. A file that is there already is an error on the first Write: it may
// hold the lines of an earlier run that nobody has mended yet.
func NewBadWriter(path string, f *File) *BadWriter {
	w := &BadWriter{path: path}
	if f.layout.format == FormatCSV {
		w.header = f.layout.header
	}
	return w
}

// Write sets one line aside.
func (w *BadWriter) Write(b Bad) error {
	if w.file == nil {
		file, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return &Error{Path: w.path, Reason: "cannot be made to set bad lines aside in: " + causeOf(err), Err: err}
		}
		w.file, w.w = file, bufio.NewWriter(file)
		if w.header != nil {
			_, _ = w.w.Write(append(bytes.Clone(w.header), '\n')) // an error stays in w.w, for the next line
		}
	}
	_, err := fmt.Fprintf(w.w, "# line %d: %s\n%s\n", b.Line, clip(b.Reason, 4*maxText), b.Raw)
	if err != nil {
		return fmt.Errorf("setting bad lines aside in %s: %w", w.path, err)
	}
	return nil
}

// Close writes what is buffered and closes the file. It may be called twice.
func (w *BadWriter) Close() error {
	if w.file == nil {
		return nil
	}
	file := w.file
	w.file = nil
	err := w.w.Flush()
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("setting bad lines aside in %s: %w", w.path, err)
	}
	return nil
}
