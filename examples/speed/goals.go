package main

import "fmt"

// goal is what was to be reached and what was.
type goal struct {
	what, want, got string
	met             bool
}

// goals collects those of a part.
type goals []goal

// atLeast is of how many times as much as something else.
func (g *goals) atLeast(what string, got, want float64) {
	*g = append(*g, goal{what, fmt.Sprintf("at least %.6g x", want), fmt.Sprintf("%.4g x", got), got >= want})
}

func (g *goals) atMost(what string, got, want float64, unit string) {
	*g = append(*g, goal{what, fmt.Sprintf("at most %.6g%s", want, unit), fmt.Sprintf("%.4g%s", got, unit), got <= want})
}

// goals prints them. A goal that is missed is said, and fails nothing.
func (b *bench) goals(g goals) {
	if len(g) == 0 {
		return
	}
	b.printf("\n| goal | wanted | measured | |\n| --- | ---: | ---: | --- |\n")
	for _, r := range g {
		b.printf("| %s | %s | %s | %s |\n", r.what, r.want, r.got, map[bool]string{true: "met", false: "**missed**"}[r.met])
	}
}
