package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	var got []string
	for _, tok := range tokens(`  if a_1 <= 2.5 and not b['x -- y'] then c = "d\"" .. #e end -- if f == g`) {
		got = append(got, tok.text)
	}
	want := []string{"if", "a_1", "<=", "2.5", "and", "not", "b", "[", "'x -- y'", "]", "then", "c", "=", `"d\""`, "..", "#", "e", "end"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestMutantsOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want []string // kind: what stands there then
	}{
		{"-- a comment: x < 1 and y", nil},
		{"local x = 1", []string{"drop: ", "number: local x = 2"}},
		{"local function f(a)\nreturn a\nend", []string{"drop: "}},
		{"if a < 60 then b() end", []string{"drop: ", "condition: if true then b() end", "condition: if false then b() end", "compare: if a <= 60 then b() end", "number: if a < 120 then b() end"}},
		{"if a then\n  b()\nelseif not c then\n  d()\nend", []string{"condition: if true then", "condition: if false then", "drop: ", "condition: elseif true then",
			"condition: elseif false then", "logic: elseif  c then", "drop: "}},
		{"while a do", []string{"condition: while false do"}},
		{"f(a,\n  b - -1)", []string{"drop: ", "arithmetic: b + -1)", "arithmetic: b - 1)", "number: b - -2)"}},
		{"f('LPUSH', '<', math.max(a, b))", []string{"drop: ", "choice: f('RPUSH', '<', math.max(a, b))", "choice: f('LPUSH', '<', math.min(a, b))"}},
		{"x = floor(y % z)", []string{"drop: ", "choice: x = math.ceil(y % z)", "arithmetic: x = floor(y * z)"}},
		{"return { a,\n  true }", []string{"drop: ", "logic: false }"}},
	} {
		var got []string
		for _, m := range mutantsOf("f.lua", c.text) {
			got = append(got, m.Kind+": "+m.Is)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q:\n%q, not\n%q", c.text, got, c.want)
		}
	}
}

// TestMutantsChangeOneThing: each of them changes the file that it says, where it says.
func TestMutantsChangeOneThing(t *testing.T) {
	t.Parallel()
	all := scripts(t)
	ids := map[string]bool{}
	for _, m := range all {
		if ids[m.id()] {
			t.Errorf("twice: %s", m)
		}
		ids[m.id()] = true
		text, err := os.ReadFile(filepath.Join("..", "scripts", m.File))
		if err != nil {
			t.Fatal(err)
		}
		was, is := strings.Split(string(text), "\n"), strings.Split(m.text, "\n")
		at := m.Line - 1
		if !slices.Equal(was[:at], is[:at]) || was[at] == is[at] || !slices.Equal(was[len(was)-len(is)+at+1:], is[at+1:]) {
			t.Errorf("%s changes something else", m)
		}
	}
}

// scripts gives all mutants of the real scripts.
func scripts(t *testing.T) []mutant {
	t.Helper()
	all, err := readMutants(filepath.Join("..", "..", "..", ".."))
	if err != nil || len(all) < 1000 {
		t.Fatalf("%d mutants, %v", len(all), err)
	}
	return all
}

func TestSampleIsSpread(t *testing.T) {
	t.Parallel()
	all := scripts(t)
	files, most, perKind := map[string]int{}, 0, map[string]int{}
	first := sample(all, 1)[:200]
	for _, m := range first {
		files[m.File]++
		most = max(most, files[m.File])
		perKind[m.Kind]++
	}
	if len(files) < 20 || most > 10 || len(perKind) != len(kinds) {
		t.Errorf("%d files, %d of one; kinds %v", len(files), most, perKind)
	}
	again, other := sample(all, 1)[:200], sample(all, 2)[:200]
	same := func(a, b mutant) bool { return a.id() == b.id() }
	if !slices.EqualFunc(first, again, same) || slices.EqualFunc(first, other, same) {
		t.Error("the seed does not make the sample")
	}
}

// TestEquivalentsHaveReasons, and are mutants of the scripts as they are now.
func TestEquivalentsHaveReasons(t *testing.T) {
	t.Parallel()
	known, err := readEquivalents("equivalent.txt")
	if err != nil || len(known) == 0 {
		t.Fatal(known, err)
	}
	ids := map[string]bool{}
	for _, m := range scripts(t) {
		ids[m.id()] = true
	}
	for id, why := range known {
		if !ids[id] {
			t.Errorf("there is no such mutant any more: %q", id)
		}
		if why == "" || strings.Count(id, " |") < 2 {
			t.Errorf("no mutant, or no reason: %q: %q", id, why)
		}
	}
}
