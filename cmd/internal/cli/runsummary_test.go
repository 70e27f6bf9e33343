package cli

import "testing"

func TestSomeOf(t *testing.T) {
	t.Parallel()
	for want, names := range map[string][]string{
		"a":                    {"a"},
		"a, b, c":              {"a", "b", "c"},
		"a, b, c, and 2 more":  {"a", "b", "c", "d", "e"},
		"a, b, c, and 57 more": append([]string{"a", "b", "c"}, make([]string, 57)...),
	} {
		if got := someOf(names); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
