package keyfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// headBytes is how much of a file is looked at to find out what it is.
const headBytes = 64 << 10

// layout is what is known of a file before its rows are read.
type layout struct {
	format  Format
	named   bool    // by the user, not found out: what looks odd is then meant
	columns columns // CSV only
	header  []byte  // CSV only: the line with the names of the columns
}

// mayHaveRobot says whether a row can name its robot.
func (l layout) mayHaveRobot() bool {
	switch l.format {
	case FormatPlain:
		return false
	case FormatCSV:
		return l.columns.robot >= 0
	}
	return true
}

// containers are files that people take for text. The reason says what to do instead.
var containers = []struct{ magic, reason string }{
	{"\xff\xfe", "is UTF-16 text: convert it to UTF-8, with iconv -f UTF-16 -t UTF-8, say"},
	{"\xfe\xff", "is UTF-16 text: convert it to UTF-8, with iconv -f UTF-16 -t UTF-8, say"},
	{"PK\x03\x04", "is a ZIP archive or a spreadsheet (.xlsx): unpack it, or save the sheet as CSV"},
	{"\xd0\xcf\x11\xe0", "is a spreadsheet (.xls): save the sheet as CSV"},
	{"\x1f\x8b", "was compressed twice: unpack it once"},
	{"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first; only gzip is read"},
	{"\xfd7zXZ\x00", "is compressed with xz: unpack it first; only gzip is read"},
	{"BZh", "is compressed with bzip2: unpack it first; only gzip is read"},
}

// detect finds out the layout from the beginning of a file. Its errors are reasons, to be shown after the file's name.
func detect(head []byte, named Format) (layout, error) {
	if err := checkText(head); err != nil {
		return layout{}, err
	}
	l := layout{format: named, named: named != FormatAuto, columns: noColumns}
	first := firstLine(head, named == FormatCSV || named == FormatAuto)
	switch named {
	case FormatPlain, FormatNDJSON:
		return l, nil
	case FormatCSV:
		cols, err := parseHeader(first)
		l.columns, l.header = cols, []byte(first)
		return l, err
	}
	start := strings.TrimLeft(first, " \t")
	switch {
	case start == "":
		l.format = FormatPlain
		return l, nil
	case start[0] == '{':
		l.format = FormatNDJSON
		return l, nil
	case start[0] == '[':
		return l, errors.New("is a JSON array: write one object a line, with jq -c '.[]' FILE, say")
	}
	cols, err := parseHeader(first)
	if err == nil {
		l.format, l.columns, l.header = FormatCSV, cols, []byte(first)
		return l, nil
	}
	if start[0] == '"' && json.Valid([]byte(first)) {
		l.format = FormatNDJSON
		return l, nil
	}
	if strings.ContainsAny(strings.TrimSpace(first), separators) {
		return l, fmt.Errorf("looks like CSV, but %w; if it is not CSV, name its format with --format", err)
	}
	l.format = FormatPlain
	return l, nil
}

// checkText refuses what cannot be lines of text.
func checkText(head []byte) error {
	if len(bytes.TrimSpace(head)) == 0 && len(head) < headBytes {
		return errors.New("is empty")
	}
	for _, c := range containers {
		if bytes.HasPrefix(head, []byte(c.magic)) && (c.magic != "BZh" || !utf8.Valid(head)) {
			return errors.New(c.reason)
		}
	}
	if n := bytes.Count(head, []byte{0}); n > 0 {
		if n >= len(head)/4 {
			return errors.New(containers[0].reason) // UTF-16 without its mark: every other byte of Latin text is zero
		}
		return errors.New("is not text: it has zero bytes in it")
	}
	if invalid := invalidUTF8(head); invalid > 0 && invalid*10 > len(head) {
		return errors.New("is not text: much of it is not UTF-8")
	}
	if !bytes.ContainsRune(head, '\n') && bytes.ContainsRune(bytes.TrimRight(head, "\r"), '\r') {
		return errors.New("ends its lines with CR alone, as old Macs did: convert it, with tr '\\r' '\\n', say")
	}
	return nil
}

func invalidUTF8(b []byte) int {
	n := 0
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			n++
		}
		b = b[size:]
	}
	return n
}

// firstLine returns the first line of head that is neither blank nor a comment. In a CSV file "#" alone does not make a
// comment, since it may be the name of a column.
func firstLine(head []byte, csv bool) string {
	for len(head) > 0 {
		line, rest, _ := bytes.Cut(head, []byte{'\n'})
		head = rest
		line = trimEnd(line) // and no more: a leading tab may be an empty first cell
		if isBlank(line) || isComment(line, csv) {
			continue
		}
		if csv && line[0] == '#' {
			if _, err := parseHeader(string(line)); err != nil {
				continue // a comment of a plain file
			}
		}
		return string(line)
	}
	return ""
}

// isComment says whether a line is a comment: "#" and anything, but in a CSV file only "#" with a space or nothing after
// it, because "#17" may be the first cell of a row.
func isComment(line []byte, csv bool) bool {
	if len(line) == 0 || line[0] != '#' {
		return false
	}
	return !csv || len(line) == 1 || line[1] == ' '
}

func isBlank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }
