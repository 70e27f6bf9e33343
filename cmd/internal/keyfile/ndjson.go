package keyfile

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Where a logged answer may be: the line's object itself, or one level down under one of these names.
var (
	answerNames  = map[string]bool{"body": true, "response": true, "result": true, "data": true, "resp": true}
	requestNames = map[string]bool{"request": true, "req": true} // a robotCode and an openConversationId may be here
)

// Fields in which loggers write the time of a line, best first.
var logTimeNames = []string{"time", "timestamp", "ts"}

// jsonLine makes a row of a line of JSON: a string that is the key, or an object.
func (s *scanner) jsonLine(line []byte) error {
	at := s.lines.number
	text := trimJSON(line)
	if !json.Valid(text) {
		reason := "the line is not JSON"
		if text[0] == '{' {
			reason = "the line is no complete JSON object: one object a line is wanted, as jq -c writes"
		}
		return s.badLine(at, line, reason)
	}
	switch text[0] {
	case '"':
		return s.emit(at, line, parts{key: unquote(text)})
	case '{':
	default:
		return s.badLine(at, line, "neither a JSON object nor a JSON string")
	}
	var found fields
	found.collect(text, true)
	key, reason := found.key()
	if key == nil && reason == "" {
		reason = fmt.Sprintf("the object has no processQueryKey (fields found: %s)", clip(memberNames(text), maxText))
	}
	if reason != "" {
		return s.badLine(at, line, reason)
	}
	sentAt, logTime := found.moment()
	return s.emit(at, line, parts{key: key, robot: found.robot(), chat: firstSet(found.chats[:]), conversation: firstSet(found.conversations[:]),
		sentAt: sentAt, logTime: logTime})
}

// fields are the members of interest of an object, outer before nested. An empty one is missing.
type fields struct {
	keys          [2]value // processQueryKey, outer and nested
	alias         value    // key, outer only: nested it may mean anything
	robots        [2]value // by rank in robotNames
	chats         [2]value // by rank in chatNames
	conversations [2]value // by rank in conversationNames
	sentAts       [3]value // by rank in sentAtNames
	logTimes      [3]value // by rank in logTimeNames
	wrongKind     string   // the first field of interest that is neither text nor number
}

type value struct {
	text []byte
	set  bool
}

func (v *value) offer(text []byte) {
	if !v.set && len(text) > 0 {
		v.text, v.set = text, true
	}
}

// collect takes the members of object, and then those of the answer nested in it.
func (f *fields) collect(object []byte, outer bool) {
	depth := 0
	if !outer {
		depth = 1
	}
	var nested, requests [][]byte
	var room [64]byte // the names of interest are shorter
	members(object, func(name, raw []byte) {
		name = fold(room[:0], name)
		switch {
		case string(name) == keyNames[0]:
			f.keys[depth].offer(f.scalar(keyNames[0], raw))
		case outer && string(name) == keyNames[1]:
			f.alias.offer(f.scalar(keyNames[1], raw))
		case outer && answerNames[string(name)]:
			nested = append(nested, raw)
		case outer && requestNames[string(name)]:
			requests = append(requests, raw)
		default:
			f.takeRest(name, raw)
		}
	})
	for _, raw := range nested {
		if raw = embedded(raw); raw != nil {
			f.collect(raw, false)
		}
	}
	for _, raw := range requests {
		if raw = embedded(raw); raw != nil {
			members(raw, func(name, raw []byte) {
				switch string(fold(room[:0], name)) {
				case robotNames[0]:
					f.robots[0].offer(f.scalar(robotNames[0], raw))
				case conversationNames[0]:
					f.conversations[0].offer(f.scalar(conversationNames[0], raw))
				}
			})
		}
	}
}

func (f *fields) takeRest(name, raw []byte) {
	f.take(robotNames, f.robots[:], name, raw)
	f.take(sentAtNames, f.sentAts[:], name, raw)
	f.take(chatNames, f.chats[:], name, raw)
	f.take(conversationNames, f.conversations[:], name, raw)
	f.take(logTimeNames, f.logTimes[:], name, raw)
}

func (f *fields) take(names []string, to []value, name, raw []byte) {
	for i, want := range names {
		if string(name) == want {
			to[i].offer(f.scalar(want, raw))
		}
	}
}

// scalar is the text of a JSON string or number; null is missing. Anything else under one of our exact names is noted.
func (f *fields) scalar(name string, raw []byte) []byte {
	switch c := raw[0]; {
	case c == '"':
		return unquote(raw)
	case c == '-' || '0' <= c && c <= '9':
		return raw
	case c == 'n':
	case f.wrongKind == "" && (name == keyNames[0] || name == robotNames[0] || name == sentAtNames[0] || name == conversationNames[0]):
		f.wrongKind = name
	}
	return nil
}

// key returns the key, or what is wrong with it, or neither.
func (f *fields) key() (key []byte, reason string) {
	outer, nested := f.keys[0], f.keys[1]
	switch {
	case f.wrongKind != "":
		return nil, f.wrongKind + " is neither text nor a number"
	case outer.set && nested.set && string(outer.text) != string(nested.text):
		return nil, "the line has two different keys"
	case outer.set:
		return outer.text, ""
	case nested.set:
		return nested.text, ""
	case f.alias.set:
		return f.alias.text, ""
	}
	return nil, ""
}

func (f *fields) robot() []byte { return firstSet(f.robots[:]) }

func (f *fields) moment() (text []byte, logTime bool) {
	if text = firstSet(f.sentAts[:]); text != nil {
		return text, false
	}
	return firstSet(f.logTimes[:]), true
}

func memberNames(object []byte) string {
	var names []string
	members(object, func(name, _ []byte) { names = append(names, string(name)) })
	return strings.Join(names, ", ")
}

func firstSet(vs []value) []byte {
	for _, v := range vs {
		if v.set {
			return v.text
		}
	}
	return nil
}
