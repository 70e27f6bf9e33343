package upstream

import "strings"

// maxProse bounds how much of a reason is searched: codes stand at the front, and a hostile megabyte must cost nothing.
const maxProse = 4096

// findRule finds the known code that text is, or else the longest that it contains as words of its own. What is between the
// parts of a code does not matter ("robot process_query_key.expired"), a whole word on each side does ("subsystem.error" is none).
func findRule(text string) *rule {
	if text == "" {
		return nil
	}
	if len(text) > maxProse {
		text = text[:maxProse]
	}
	if r := byFolded[fold(text)]; r != nil {
		return r
	}
	phrases := splitPhrases(text)
	for _, known := range longestFirst {
		for _, p := range phrases {
			if p.has(known.folded) {
				return known.rule
			}
		}
	}
	return nil
}

// phrase is a stretch of text without a break: its letters and digits folded, and where its words begin and end.
type phrase struct {
	folded string
	edges  map[int]bool
}

func (p phrase) has(code string) bool {
	for from := 0; ; {
		i := strings.Index(p.folded[from:], code)
		if i < 0 {
			return false
		}
		start := from + i
		if p.edges[start] && p.edges[start+len(code)] {
			return true
		}
		from = start + 1
	}
}

// splitPhrases cuts text at everything that separates thoughts rather than parts of a code: anything but letters, digits, single dots,
// underscores, hyphens and spaces, and a dot before a space. Without that, "robotCode invalid, processQueryKey ok" would hold a code.
func splitPhrases(text string) []phrase {
	var phrases []phrase
	var folded []byte
	edges := map[int]bool{0: true}
	end := func() {
		if len(folded) == 0 {
			return
		}
		edges[len(folded)] = true
		phrases = append(phrases, phrase{string(folded), edges})
		folded, edges = folded[:0], map[int]bool{0: true}
	}
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'A' && c <= 'Z':
			folded = append(folded, c+'a'-'A')
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			folded = append(folded, c)
		case c == '.' && (i+1 == len(text) || text[i+1] == ' '):
			end()
		case c == '.', c == '_', c == '-', c == ' ':
			edges[len(folded)] = true
		default:
			end()
		}
	}
	end()
	return phrases
}
