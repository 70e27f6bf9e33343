package report

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"dingrecall/cmd/internal/keyfile"
)

// Recalled is what an earlier report says of the keys that need no second call.
type Recalled struct {
	Set     keyfile.Set // the keys whose state is StateRecalled
	Rows    int         // of the report, whatever their state
	Warning string      // one line, where the report's end is missing; else empty
}

// Has says whether the report has a key of a target as recalled.
func (r *Recalled) Has(of keyfile.Target, key string) bool { return r.Set.Has(of, key) }

// ReadRecalled reads the keys that the report at path has as recalled; 16 bytes are kept of each.
//
// A report whose last line is cut off is used up to there, with a Warning: each row is true for itself, and a key whose row
// is missing is merely asked for once more. Damage before the last line is an error, since there is no telling what else is
// wrong with such a file.
func ReadRecalled(path string) (*Recalled, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the earlier report %s cannot be read: %w", path, cause(err))
	}
	defer file.Close()
	r, err := readRecalled(file)
	if err != nil {
		return nil, fmt.Errorf("the earlier report %s: %w", path, err)
	}
	return r, nil
}

// where says in which columns of a report the reader finds what it needs.
type where struct{ key, robot, state, chat, conversation, width int }

// target gives whose key a row has. Reports of before there were conversations have no columns for them.
func (w where) target(rec []string) keyfile.Target {
	t := keyfile.Target{RobotCode: rec[w.robot]}
	if w.chat >= 0 && w.conversation >= 0 {
		t.Chat, t.OpenConversationID = rec[w.chat], rec[w.conversation]
	}
	return t
}

func readRecalled(in io.Reader) (*Recalled, error) {
	br := bufio.NewReaderSize(in, 64<<10)
	cr := csv.NewReader(br)
	cr.FieldsPerRecord = -1 // rows are measured here, to tell a cut one from a wrong one
	cr.ReuseRecord = true
	cr.Comma = separator(br)
	header, err := cr.Read()
	if err != nil {
		return nil, notReport(err)
	}
	at, err := findColumns(header)
	if err != nil {
		return nil, err
	}
	r := &Recalled{}
	for {
		rec, err := cr.Read()
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err == nil && len(rec) != at.width {
			line, _ := cr.FieldPos(0)
			err = fmt.Errorf("line %d has %d cells, and not %d", line, len(rec), at.width)
		}
		if err != nil {
			if _, next := cr.Read(); errors.Is(next, io.EOF) {
				r.Warning = fmt.Sprintf("its last line is cut off; the %d rows before it are used, and keys without a row are recalled again", r.Rows)
				return r, nil
			}
			return nil, fmt.Errorf("is damaged (%w): give a whole report, or none", err)
		}
		r.Rows++
		if rec[at.state] == StateRecalled {
			r.Set.Add(at.target(rec), rec[at.key])
		}
	}
}

// separator looks which one the report has: a comma, unless a spreadsheet has saved it since.
func separator(br *bufio.Reader) rune {
	if bom, _ := br.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = br.Discard(3)
	}
	head, _ := br.Peek(4 << 10)
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	for _, sep := range ",;\t" {
		if bytes.ContainsRune(line, sep) {
			return sep
		}
	}
	return ','
}

func findColumns(header []string) (where, error) {
	at := where{key: -1, robot: -1, state: -1, chat: -1, conversation: -1, width: len(header)}
	for i, name := range header {
		switch strings.TrimSpace(name) {
		case "processQueryKey":
			at.key = i
		case "robotCode":
			at.robot = i
		case "state":
			at.state = i
		case "chat":
			at.chat = i
		case "openConversationId":
			at.conversation = i
		}
	}
	if at.key < 0 || at.robot < 0 || at.state < 0 {
		return at, notReport(nil)
	}
	return at, nil
}

func notReport(err error) error {
	const want = "is not a report of this program: its first line should name the columns processQueryKey, robotCode and state"
	if err == nil || errors.Is(err, io.EOF) {
		return errors.New(want)
	}
	return fmt.Errorf("%s (%w)", want, err)
}
