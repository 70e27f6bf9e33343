package foreignsdk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// difference is a field in which two requests differ, with what each has.
type difference struct{ field, ours, theirs string }

func (d difference) String() string {
	return fmt.Sprintf("%s: ours has %s, theirs %s", d.field, d.ours, d.theirs)
}

// allowed are the differences that may be, each with its reason. One that no call shows any more is to be taken out.
var allowed = map[difference]string{
	{"header User-Agent", "dingrecall", "AlibabaCloud"}:                            "each says who it is",
	{"header Accept-Encoding", "identity", "gzip"}:                                 "an answer of a kilobyte is not worth packing",
	{"header Content-Type", "application/json", "application/json; charset=utf-8"}: "JSON is UTF-8 by definition, and the parameter has no meaning for it",
}

// compare lists the fields in which two requests differ: method, path, parameters of the query, each header, and each member of the body, which is compared
// as JSON, since the order of members and the spelling of strings mean nothing.
func compare(ours, theirs request) []difference {
	var diffs []difference
	field := func(name, a, b string) {
		if a != b {
			diffs = append(diffs, difference{name, a, b})
		}
	}
	field("method", ours.method, theirs.method)
	field("path", ours.path, theirs.path)
	field("query", ours.query.Encode(), theirs.query.Encode())
	names := maps.Clone(ours.header)
	maps.Copy(names, theirs.header)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if name == "Content-Length" {
			continue // the same JSON can have several lengths; that it is right net/http sees to
		}
		a, b := strings.Join(ours.header.Values(name), ", "), strings.Join(theirs.header.Values(name), ", ")
		if name == "User-Agent" {
			b, _, _ = strings.Cut(b, " ") // what follows names the machine
		}
		field("header "+name, a, b)
	}
	return append(diffs, compareBodies(ours.body, theirs.body)...)
}

func compareBodies(ours, theirs []byte) []difference {
	if len(ours)+len(theirs) == 0 {
		return nil
	}
	a, errA := members(ours)
	b, errB := members(theirs)
	if errA != nil || errB != nil {
		return []difference{{"body", fmt.Sprintf("%q (%v)", ours, errA), fmt.Sprintf("%q (%v)", theirs, errB)}}
	}
	var diffs []difference
	names := maps.Clone(a)
	maps.Copy(names, b)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x, hasX := a[name]
		y, hasY := b[name]
		if hasX != hasY || !reflect.DeepEqual(x, y) {
			diffs = append(diffs, difference{"body." + name, member(x, hasX), member(y, hasY)})
		}
	}
	return diffs
}

func member(value any, there bool) string {
	if !there {
		return "nothing"
	}
	return fmt.Sprintf("%#v", value)
}

// members decodes a JSON object with nothing behind it; numbers stay as they are written.
func members(body []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	if object == nil || decoder.More() {
		return nil, fmt.Errorf("no single JSON object")
	}
	return object, nil
}
