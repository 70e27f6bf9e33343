package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// separators are the characters that may stand between the cells of a CSV file, in the order they are tried.
const separators = ",;\t"

// columns says where in a CSV row the cells of interest are; -1 means there is none.
type columns struct {
	sep                                    byte
	key, robot, chat, conversation, sentAt int
}

var noColumns = columns{sep: ',', key: -1, robot: -1, chat: -1, conversation: -1, sentAt: -1}

// The names of a column, best first. Compared without case, blanks, "_" and "-".
var (
	keyNames    = []string{"processquerykey", "key"}
	robotNames  = []string{"robotcode", "robot"}
	sentAtNames = []string{"sentat", "senttime", "sendtime"}

	conversationNames = []string{"openconversationid", "conversationid"}
	chatNames         = []string{"chat", "chattype"}
)

// parseHeader finds the columns in the first line of a CSV file. Its error is a reason to be shown after the file's name.
func parseHeader(line string) (columns, error) {
	if strings.TrimSpace(line) == "" {
		return noColumns, errors.New("has no line with the names of its columns")
	}
	best := noColumns
	var found []string
	for i := range len(separators) {
		cells, err := splitRecord(nil, []byte(line), separators[i])
		if err != nil {
			continue
		}
		names := make([]string, len(cells))
		for j, c := range cells {
			names[j] = string(bytes.TrimSpace(c))
		}
		if len(names) > len(found) {
			found = names
		}
		cols := columns{sep: separators[i]}
		if cols.key, err = columnOf(names, keyNames); err != nil {
			return noColumns, err
		}
		if cols.key < 0 {
			continue
		}
		if cols.robot, err = columnOf(names, robotNames); err != nil {
			return noColumns, err
		}
		if cols.sentAt, err = columnOf(names, sentAtNames); err != nil {
			return noColumns, err
		}
		if cols.conversation, err = columnOf(names, conversationNames); err != nil {
			return noColumns, err
		}
		if cols.chat, err = columnOf(names, chatNames); err != nil {
			return noColumns, err
		}
		return cols, nil
	}
	return best, fmt.Errorf("no column is named processQueryKey (columns found: %s)", clip(strings.Join(found, ", "), maxText))
}

// columnOf returns the index of the column with the best of the names, or -1.
func columnOf(header, names []string) (int, error) {
	for _, want := range names {
		at := -1
		for i, name := range header {
			if string(fold(nil, name)) != want {
				continue
			}
			if at >= 0 {
				return -1, fmt.Errorf("two columns are named %s", clip(header[i], maxText))
			}
			at = i
		}
		if at >= 0 {
			return at, nil
		}
	}
	return -1, nil
}

// fold makes names of columns and fields comparable, so that sentAt, sent_at, "Sent At" and SENT-AT are one. It appends
// the folded name to dst.
func fold[T string | []byte](dst []byte, name T) []byte {
	for i := range len(name) {
		switch c := name[i]; {
		case c == '_' || c == '-' || c == ' ' || c == '\t' || c == '@':
		case 'A' <= c && c <= 'Z':
			dst = append(dst, c+('a'-'A'))
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// What can be wrong with the quotes of a record. errOpenQuote may be mended by the next line.
var (
	errOpenQuote  = errors.New("a quote that opens here is not closed")
	errAfterQuote = errors.New(`there is text after a closing quote (a quote inside a quoted cell is written "")`)
)

// splitRecord appends the cells of a record to cells. They share the record's memory, but for those with doubled quotes.
// A quote counts only where it is the first character of a cell.
func splitRecord(cells [][]byte, rec []byte, sep byte) ([][]byte, error) {
	for {
		if len(rec) > 0 && rec[0] == '"' {
			cell, rest, err := splitQuoted(rec[1:])
			if err != nil {
				return cells, err
			}
			cells = append(cells, cell)
			if len(rest) == 0 {
				return cells, nil
			}
			if rest[0] != sep {
				return cells, errAfterQuote
			}
			rec = rest[1:]
			continue
		}
		i := bytes.IndexByte(rec, sep)
		if i < 0 {
			return append(cells, rec), nil
		}
		cells = append(cells, rec[:i])
		rec = rec[i+1:]
	}
}

// splitQuoted returns the cell that ends at the closing quote, and what stands behind that.
func splitQuoted(rec []byte) (cell, rest []byte, err error) {
	doubled := false
	for i := 0; ; i++ {
		j := bytes.IndexByte(rec[i:], '"')
		if j < 0 {
			return nil, nil, errOpenQuote
		}
		i += j
		if i+1 < len(rec) && rec[i+1] == '"' {
			doubled = true
			i++
			continue
		}
		cell, rest = rec[:i], rec[i+1:]
		if doubled {
			cell = bytes.ReplaceAll(cell, []byte(`""`), []byte(`"`))
		}
		return cell, rest, nil
	}
}

// skipHeader reads on to the line behind the header that Open has found.
func (s *scanner) skipHeader() error {
	for {
		line, _, err := s.lines.next()
		if err != nil {
			return err
		}
		switch {
		case isBlank(line):
			s.counts.blank++
		case isComment(line, true):
			s.counts.comments++
		default:
			if cols, err := parseHeader(string(line)); err == nil && cols == s.f.layout.columns {
				return nil
			}
			s.counts.comments++ // a line that Open took for a comment, too
		}
	}
}

// csvLine makes a row of a line, and of the lines behind it where a quoted cell goes on there.
func (s *scanner) csvLine(line []byte) error {
	cols := s.f.layout.columns
	at := s.lines.number
	cells, err := splitRecord(s.cells[:0], line, cols.sep)
	if errors.Is(err, errOpenQuote) {
		line, cells, err = s.joinLines(line)
	}
	s.cells = cells
	if err != nil {
		return s.badLine(at, line, err.Error())
	}
	if cols.key >= len(cells) {
		return s.badLine(at, line, fmt.Sprintf("the row has %d cells, and the key should be in cell %d", len(cells), cols.key+1))
	}
	key := trimBlanks(cells[cols.key])
	if len(key) == 0 && allBlank(cells) {
		s.counts.blank++ // spreadsheets leave such rows at the end
		return nil
	}
	cell := func(i int) []byte {
		if i < 0 || i >= len(cells) {
			return nil
		}
		return trimBlanks(cells[i])
	}
	return s.emit(at, line, parts{key: key, robot: cell(cols.robot), chat: cell(cols.chat), conversation: cell(cols.conversation), sentAt: cell(cols.sentAt)})
}

// joinLines appends lines to one whose quote is open, until it closes. Where it does not within MaxLineBytes, the lines
// are given back, so that one lone quote spoils one line and not the rest of the file.
func (s *scanner) joinLines(first []byte) (record []byte, cells [][]byte, err error) {
	record = append([]byte(nil), first...)
	at, end := s.lines.number, len(first)
	sep := s.f.layout.columns.sep
	var taken []savedLine
	for open := true; open && len(record) <= MaxLineBytes; {
		line, tooLong, nextErr := s.lines.next()
		if nextErr != nil {
			s.readErr = nextErr // told after the lines that were given back
			break
		}
		taken = append(taken, savedLine{append([]byte(nil), line...), s.lines.number, tooLong})
		record = append(append(record, '\n'), line...)
		if tooLong {
			break
		}
		// Each line is looked at once, with what the lines before it left open. To split the whole record again and
		// again would take hours where somebody opens a quote at the top of a long file.
		if open, err = quoteOpen(line, sep); err != nil {
			break
		}
		if !open {
			if cells, err = splitRecord(s.cells[:0], record, sep); err == nil {
				return record, cells, nil
			}
		}
	}
	s.lines.unread(taken)
	s.lines.number = at
	return record[:end], s.cells[:0], errOpenQuote
}

// quoteOpen says whether a quote is open at the end of a line at whose beginning one is.
func quoteOpen(line []byte, sep byte) (bool, error) {
	for {
		_, rest, err := splitQuoted(line)
		if err != nil {
			return true, nil //nolint:nilerr // no end in this line: it may be in the next
		}
		if len(rest) == 0 {
			return false, nil
		}
		if rest[0] != sep {
			return false, errAfterQuote
		}
		line = rest[1:]
		for len(line) == 0 || line[0] != '"' { // cells without quotes
			i := bytes.IndexByte(line, sep)
			if i < 0 {
				return false, nil
			}
			line = line[i+1:]
		}
		line = line[1:]
	}
}

func allBlank(cells [][]byte) bool {
	for _, c := range cells {
		if !isBlank(c) {
			return false
		}
	}
	return true
}

func trimBlanks(b []byte) []byte { return bytes.Trim(b, " \t") }
