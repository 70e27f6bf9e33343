package keyfile

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The examples of docs/files.md are read as that page says.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	const (
		k3    = "+0XqfM6a+Vh4pXc/2mJq1rT9uYd3sKwLz8eNfGhIjkA="
		k4    = "b0XqfM6a+Vh4pXc/2mJq1rT9uYd3sKwLz8eNfGhIjkA="
		robot = "dingue4kfzdxbyn0pjqd"
		at    = " " + robot + " 2026-11-23T01:30:00Z"
	)
	examples := map[string]struct {
		opts      Options
		format    Format
		rows, bad []string
	}{
		"plain":      {Options{Robot: "r"}, FormatPlain, []string{"2 " + k1 + " r -", "4 " + k3 + " r -"}, nil},
		"columns":    {Options{}, FormatCSV, []string{"2 " + k1 + at, "3 " + k3 + at}, nil},
		"chats":      {Options{}, FormatCSV, []string{"2 " + k1 + " " + robot + " - group cidKeBBLx5x7EeiodoA5w8Q+A==", "3 " + k3 + " " + robot + " -"}, nil},
		"semicolons": {Options{}, FormatCSV, []string{"2 " + k1 + " " + robot + " -", "5 " + k3 + " " + robot + " -"}, nil},
		"objects":    {Options{}, FormatNDJSON, []string{"1 " + k1 + at, "2 " + k3 + at}, nil},
		"strings":    {Options{Robot: "r"}, FormatNDJSON, []string{"1 " + k1 + " r -", "2 " + k3 + " r -"}, nil},
		"log":        {Options{}, FormatNDJSON, []string{"1 " + k1 + " " + robot + " 2026-11-23T01:30:00.25Z", "2 " + k3 + at, "3 " + k4 + " " + robot + " -"}, nil},
		"set-aside":  {Options{}, FormatCSV, nil, []string{"3 sentAt 1795397400 looks like seconds: epoch milliseconds are wanted, 1795397400000"}},
		"report":     {Options{}, FormatCSV, []string{"2 " + k1 + at, "3 " + k3 + at}, nil},
	}
	page, err := os.ReadFile("../../../docs/files.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^```([a-z]+) ?([a-z-]*)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if n := strings.Count(string(page), "\n```"); n != 2*len(found) || len(found) != len(examples) {
		t.Errorf("%d fences, %d blocks, %d examples", n, len(found), len(examples))
	}
	for _, block := range found {
		want, ok := examples[block[2]]
		if !ok {
			t.Errorf("the block %q is not tested", block[2])
			continue
		}
		delete(examples, block[2])
		t.Run(block[2], func(t *testing.T) {
			t.Parallel()
			f := open(t, block[3], want.opts)
			rows, bad := scan(t, f)
			equal(t, "rows", rows, want.rows)
			equal(t, "bad", bad, want.bad)
			if f.Format() != want.format {
				t.Errorf("format %q, want %q", f.Format(), want.format)
			}
		})
	}
	for name := range examples {
		t.Errorf("the page has no example %q", name)
	}
}
