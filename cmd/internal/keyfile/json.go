package keyfile

import (
	"bytes"
	"encoding/json"
)

// members calls fn for each member of a JSON object that is known to be valid. encoding/json would do, but takes three
// times as long, and a file may have millions of lines.
func members(object []byte, fn func(name, raw []byte)) {
	i := skipBlanks(object, 0) + 1 // behind the brace
	for {
		i = skipBlanks(object, i)
		if object[i] == '}' {
			return
		}
		if object[i] == ',' {
			i = skipBlanks(object, i+1)
		}
		end := skipValue(object, i)
		name := unquote(object[i:end])
		i = skipBlanks(object, end) + 1 // behind the colon
		i = skipBlanks(object, i)
		end = skipValue(object, i)
		fn(name, object[i:end])
		i = end
	}
}

func skipBlanks(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// skipValue returns the index behind the value that begins at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch b[i] {
			case '"':
				i = skipString(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(b) && bytes.IndexByte([]byte(" \t\r\n,]}"), b[i]) < 0 {
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquote returns the text of a valid JSON string.
func unquote(raw []byte) []byte {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return nil
	}
	return []byte(s)
}

// embedded returns the object that raw is, or that raw holds as text, as some loggers write a body; else nil.
func embedded(raw []byte) []byte {
	if raw[0] == '"' {
		raw = trimJSON(unquote(raw))
		if !json.Valid(raw) {
			return nil
		}
	}
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	return raw
}

func trimJSON(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }
