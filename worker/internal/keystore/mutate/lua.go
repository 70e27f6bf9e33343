package main

import "strings"

// token is a word of a line of Lua: a name or keyword, a number, a string, or an operator.
type token struct {
	text       string
	start, end int
}

func (t token) isNumber() bool { return t.text[0] >= '0' && t.text[0] <= '9' }

func (t token) isWord() bool { return isLetter(t.text[0]) }

func isLetter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// tokens cuts a line of Lua into its tokens, without a comment at its end. The scripts have no strings or comments of several lines.
func tokens(line string) []token {
	var out []token
	for i := 0; i < len(line); {
		c, from := line[i], i
		switch {
		case c == ' ' || c == '\t':
			i++
			continue
		case strings.HasPrefix(line[i:], "--"):
			return out
		case c == '\'' || c == '"':
			i = endOfString(line, i)
		case isLetter(c):
			for i < len(line) && (isLetter(line[i]) || isDigit(line[i])) {
				i++
			}
		case isDigit(c):
			for i < len(line) && (isDigit(line[i]) || line[i] == '.') {
				i++
			}
		default:
			i += len(operator(line[i:]))
		}
		out = append(out, token{line[from:i], from, i})
	}
	return out
}

func endOfString(line string, i int) int {
	quote := line[i]
	for i++; i < len(line) && line[i] != quote; i++ {
		if line[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(line))
}

func operator(s string) string {
	for _, op := range []string{"...", "..", "<=", ">=", "==", "~="} {
		if strings.HasPrefix(s, op) {
			return op
		}
	}
	return s[:1]
}

// depth is by how much a line opens more blocks and brackets than it closes, and how far below its beginning it goes.
func depth(ts []token) (change, least int) {
	for _, t := range ts {
		switch t.text {
		case "function", "then", "do", "repeat", "(", "{", "[":
			change++
		case "end", "until", ")", "}", "]", "elseif":
			change--
		}
		least = min(least, change)
	}
	return change, least
}
