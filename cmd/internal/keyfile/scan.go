package keyfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// scanner is one pass over a file.
type scanner struct {
	f       *File
	lines   *lineReader
	row     func(Row) error
	bad     func(Bad) error
	values  values
	cells   [][]byte // of the current CSV row
	readErr error    // met while looking ahead, due when the lines given back are read
	counts  counts
}

// checkEvery is how many lines are read between two looks at the context.
const checkEvery = 1024

func (s *scanner) run(ctx context.Context) error {
	if s.f.layout.format == FormatCSV {
		if err := s.skipHeader(); err != nil {
			return s.end(err)
		}
	}
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return fmt.Errorf("reading %s was interrupted: %w", s.f.path, context.Cause(ctx))
		}
		if s.readErr != nil && len(s.lines.again) == 0 {
			return s.end(s.readErr)
		}
		line, tooLong, err := s.lines.next()
		if err != nil {
			return s.end(err)
		}
		if err := s.line(line, tooLong); err != nil {
			return err
		}
	}
}

func (s *scanner) end(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return s.f.readError(s.lines.number, err)
}

func (s *scanner) line(line []byte, tooLong bool) error {
	format := s.f.layout.format
	switch {
	case tooLong:
		return s.badLine(s.lines.number, line, fmt.Sprintf("the line is longer than %d bytes", MaxLineBytes))
	case isBlank(line):
		s.counts.blank++
		return nil
	case isComment(line, format == FormatCSV):
		s.counts.comments++
		return nil
	case format == FormatCSV:
		return s.csvLine(line)
	case format == FormatNDJSON:
		return s.jsonLine(line)
	}
	return s.plainLine(line)
}

func (s *scanner) plainLine(line []byte) error {
	key := trimBlanks(line)
	if !s.f.layout.named {
		// The first line looked like a key. What does not, later, is more likely a mistake than a key.
		if bytes.ContainsAny(key, separators) || key[0] == '{' || key[0] == '"' {
			return s.badLine(s.lines.number, line, "this is no bare key, as the lines before it are; if it is meant as one, name the format with --format plain")
		}
	}
	return s.emit(s.lines.number, line, parts{key: key})
}

// parts are the texts of a row. An empty one is one that the row does not have.
type parts struct {
	key, robot, chat, conversation, sentAt []byte
	logTime                                bool // sentAt is the time of a log line
}

// emit checks the parts of a row and hands it out, or the line as bad.
func (s *scanner) emit(at int, line []byte, p parts) error {
	row := Row{Line: at}
	var reason string
	if row.Key, reason = s.values.key(p.key); reason != "" {
		return s.badLine(at, line, reason)
	}
	if row.RobotCode, reason = s.values.robot(p.robot); reason != "" {
		return s.badLine(at, line, reason)
	}
	if row.Conversation, reason = s.values.conversation(p.chat, p.conversation); reason != "" {
		return s.badLine(at, line, reason)
	}
	if row.SentAt, reason = s.values.sentAt(p.sentAt, p.logTime); reason != "" {
		return s.badLine(at, line, reason)
	}
	if s.f.skip != nil && s.f.skip(row.Target(), row.Key) {
		s.counts.skipped++
		return nil
	}
	row.HasSentAt = !row.SentAt.IsZero()
	if s.row == nil {
		return nil
	}
	return s.row(row)
}

func (s *scanner) badLine(at int, line []byte, reason string) error {
	if s.bad == nil {
		return nil
	}
	return s.bad(Bad{Line: at, Reason: reason, Text: clip(string(line[:min(len(line), 4*maxText)]), maxText), Raw: line})
}
