package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// mutant is one small change of one script file.
type mutant struct {
	File string // below scripts
	Line int    // from 1; of the first line that changes
	Kind string
	Was  string // the lines, without what stands around them
	Is   string // in their place; "" where they are dropped
	text string // the whole file as changed
}

// id tells a mutant from all others, also after lines were added to its file.
func (m mutant) id() string { return strings.TrimSpace(m.File + " | " + m.Was + " | " + m.Is) }

func (m mutant) String() string {
	is := m.Is
	if is == "" {
		is = "(dropped)"
	}
	return fmt.Sprintf("%s:%d: %s: %s  ->  %s", m.File, m.Line, m.Kind, m.Was, is)
}

// kinds are the sorts of mutants, in the order in which they take turns in a sample.
var kinds = []string{"drop", "compare", "condition", "logic", "number", "arithmetic", "choice"}

var swaps = map[string]struct{ to, kind string }{
	"<": {"<=", "compare"}, "<=": {"<", "compare"}, ">": {">=", "compare"}, ">=": {">", "compare"}, "==": {"~=", "compare"}, "~=": {"==", "compare"},
	"and": {"or", "logic"}, "or": {"and", "logic"}, "not": {"", "logic"}, "true": {"false", "logic"}, "false": {"true", "logic"},
	"+": {"-", "arithmetic"}, "-": {"+", "arithmetic"}, "*": {"/", "arithmetic"}, "/": {"*", "arithmetic"}, "%": {"*", "arithmetic"},
	"min": {"max", "choice"}, "max": {"min", "choice"}, "ceil": {"floor", "choice"}, "floor": {"math.ceil", "choice"},
	"LPUSH": {"RPUSH", "choice"}, "RPUSH": {"LPUSH", "choice"},
}

// mutantsOf gives all mutants of a file. Some of them are no Lua: whoever runs them finds out.
func mutantsOf(file, text string) []mutant {
	lines := strings.Split(text, "\n")
	var out []mutant
	seen := map[string]int{}
	add := func(at, n int, kind, is string) {
		changed := slices.Concat(lines[:at], []string{is}, lines[at+n:])
		m := mutant{File: file, Line: at + 1, Kind: kind, Was: joined(lines[at : at+n]), Is: strings.TrimSpace(is), text: strings.Join(changed, "\n")}
		seen[m.id()]++
		if n := seen[m.id()]; n > 1 { // the same line stands there twice
			m.Was += fmt.Sprintf(" (%d)", n)
		}
		out = append(out, m)
	}
	inside := 0 // of brackets that earlier lines have opened
	for i, line := range lines {
		ts := tokens(line)
		if len(ts) == 0 {
			continue
		}
		if n := statement(lines[i:]); n > 0 && inside == 0 {
			add(i, n, "drop", "")
		}
		for _, c := range conditions(line, ts) {
			add(i, 1, "condition", c)
		}
		for j, t := range ts {
			if is, kind, ok := swapped(ts, j); ok {
				add(i, 1, kind, line[:t.start]+is+line[t.end:])
			}
		}
		inside += brackets(ts)
	}
	return out
}

func joined(lines []string) string {
	var b []string
	for _, l := range lines {
		b = append(b, strings.TrimSpace(l))
	}
	return strings.Join(b, " ")
}

func brackets(ts []token) (n int) {
	for _, t := range ts {
		n += strings.Count("({[", t.text) - strings.Count(")}]", t.text)
	}
	return n
}

// statement gives how many lines the statement has that begins with the first, 0 where it is none that can be dropped: a
// part of a block, the definition of a function.
func statement(lines []string) int {
	open := 0
	for n, line := range lines[:min(8, len(lines))] {
		ts := tokens(line)
		if n == 0 {
			switch first := ts[0].text; {
			case first == "end", first == "else", first == "elseif", first == "function", first == "for", first == "while", first == "do":
				return 0
			case first == "local" && len(ts) > 1 && ts[1].text == "function":
				return 0
			}
		}
		change, least := depth(ts)
		if open+least < 0 {
			return 0
		}
		if open += change; open == 0 {
			return n + 1
		}
		if len(ts) > 0 && slices.Contains([]string{"then", "do"}, ts[len(ts)-1].text) {
			return 0 // a block: its condition is changed instead
		}
	}
	return 0
}

// conditions gives the line with each condition of an if, or a while, that always holds, and that never does.
func conditions(line string, ts []token) (out []string) {
	for i, t := range ts {
		if t.text != "if" && t.text != "elseif" && t.text != "while" {
			continue
		}
		for _, u := range ts[i+1:] {
			if u.text != "then" && u.text != "do" {
				continue
			}
			for _, is := range []string{" true ", " false "} {
				if t.text != "while" || is == " false " { // else it never ends, as every test would notice
					out = append(out, line[:t.end]+is+line[u.start:])
				}
			}
			break
		}
	}
	return out
}

// swapped gives what takes the place of a token.
func swapped(ts []token, i int) (is, kind string, ok bool) {
	t := ts[i]
	if t.isNumber() {
		n, err := strconv.Atoi(t.text)
		switch {
		case err != nil:
			return "0", "number", true
		case n < 50:
			return strconv.Itoa(n + 1), "number", true
		}
		return strconv.Itoa(2 * n), "number", true // one more or less of a large one is often a matter of taste
	}
	text := strings.Trim(t.text, "'")
	s, ok := swaps[text]
	switch {
	case !ok, text != t.text && !strings.HasSuffix(text, "PUSH"): // of strings only names of commands are words
		return "", "", false
	case text == "floor" && i > 1 && ts[i-1].text == ".":
		return "ceil", s.kind, true
	case (text == "floor" || text == "min" || text == "max" || text == "ceil") && (i+1 >= len(ts) || ts[i+1].text != "("):
		return "", "", false
	case text == "-" && (i == 0 || !ts[i-1].isWord() && !ts[i-1].isNumber() && ts[i-1].text != ")" && ts[i-1].text != "]"):
		return "", s.kind, true // a sign
	case text != t.text:
		return "'" + s.to + "'", s.kind, true
	}
	return s.to, s.kind, true
}

// sample puts mutants into an order in which the files, and of a file the kinds, take turns, so that any beginning of it is
// spread over all. The same seed gives the same order.
func sample(all []mutant, seed uint64) []mutant {
	rng := rand.New(rand.NewPCG(seed, 0))
	byFile := map[string]map[string][]mutant{}
	var files []string
	for _, i := range rng.Perm(len(all)) {
		m := all[i]
		if byFile[m.File] == nil {
			byFile[m.File] = map[string][]mutant{}
			files = append(files, m.File)
		}
		byFile[m.File][m.Kind] = append(byFile[m.File][m.Kind], m)
	}
	slices.Sort(files)
	var out []mutant
	for turn := 0; len(out) < len(all); turn++ {
		for _, f := range files {
			if m, ok := nextOf(byFile[f], turn); ok {
				out = append(out, m)
			}
		}
	}
	return out
}

// nextOf takes the next mutant of a file: of the kind whose turn it is, or of the first one behind it that has any left.
func nextOf(left map[string][]mutant, turn int) (mutant, bool) {
	for i := range kinds {
		k := kinds[(turn+i)%len(kinds)]
		if ms := left[k]; len(ms) > 0 {
			left[k] = ms[1:]
			return ms[0], true
		}
	}
	return mutant{}, false
}
