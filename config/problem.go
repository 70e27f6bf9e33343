package config

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Source is where the value was set: the file's name, the environment variable, the flag. Empty for a default.
	Source string
	// Path is the key, as worker.linger or apps[1].rate. Empty where the whole source is meant.
	Path string
	// Value is the bad value as it was written; empty for secrets, for anything that may be one, and where none was given.
	Value string
	// Message says what is wrong and what to do.
	Message string
}

// String returns the problem as one line: source, path, message.
func (p Problem) String() string {
	var parts []string
	for _, part := range []string{p.Source, p.Path} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	message := p.Message
	if p.Value != "" {
		message = p.Value + " " + message
	}
	return oneLine(strings.Join(append(parts, message), ": "))
}

// Problems is everything that is wrong with a configuration, found in one go. It is an error; a Problems of length 0 must not
// be returned as one (use Err).
type Problems []Problem

// Error returns the problems, one line each.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns the problems as an error, or nil if there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// has says whether a problem of this path is known already: a value that could not be read is not also judged.
func (ps Problems) has(path string) bool {
	for _, p := range ps {
		if p.Path == path {
			return true
		}
	}
	return false
}

// sorted orders by source and path, so that the same mistakes give the same lines every time.
func (ps Problems) sorted() Problems {
	sort.SliceStable(ps, func(i, j int) bool {
		if ps[i].Source != ps[j].Source {
			return ps[i].Source < ps[j].Source
		}
		return ps[i].Path < ps[j].Path
	})
	return ps
}

// quote shows a value in a message, cut where it is long: nobody needs to see a megabyte to find a mistake.
func quote(v any) string {
	const most = 80
	var text string
	switch v := v.(type) {
	case textValue:
		text = fmt.Sprintf("%q", string(v))
	case string:
		text = fmt.Sprintf("%q", v)
	case map[string]any, map[any]any:
		return "a section"
	case []any:
		return "a list"
	default:
		text = fmt.Sprint(v)
	}
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "..."
	}
	return text
}

// oneLine keeps a message on its line and free of terminal control, whatever a value or a library put into it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}
