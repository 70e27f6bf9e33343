package keyfile

import (
	"bufio"
	"errors"
	"io"
)

// lineReader cuts a stream into lines of bounded length.
type lineReader struct {
	br     *bufio.Reader
	long   []byte      // a line that did not fit the reader's buffer
	number int         // of the line returned last
	again  []savedLine // lines given back, to be returned before the stream's next
}

type savedLine struct {
	text    []byte
	number  int
	tooLong bool
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{br: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next line without its LF or CRLF, valid until the call after. Of a line over MaxLineBytes it returns
// the beginning, and tooLong. At the end it returns io.EOF; a last line without an end is a line like any other.
func (l *lineReader) next() (line []byte, tooLong bool, err error) {
	if len(l.again) > 0 {
		saved := l.again[0]
		l.again = l.again[1:]
		l.number = saved.number
		return saved.text, saved.tooLong, nil
	}
	line, err = l.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		l.long = append(l.long[:0], line...)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = l.br.ReadSlice('\n')
			room := MaxLineBytes + 2 - len(l.long) // 2: the line's end does not count
			if len(line) > room {
				line, tooLong = line[:room], true
			}
			l.long = append(l.long, line...)
		}
		line = l.long
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		return nil, false, err // a line in front of a read error is cut, so it is not handed out
	}
	l.number++
	line = trimEnd(line)
	if len(line) > MaxLineBytes {
		line, tooLong = line[:MaxLineBytes], true
	}
	return line, tooLong, nil
}

// unread gives lines back, the first of them to be the next.
func (l *lineReader) unread(lines []savedLine) {
	l.again = append(append([]savedLine(nil), lines...), l.again...)
}

func trimEnd(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}
