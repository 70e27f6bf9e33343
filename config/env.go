package config

import (
	"regexp"
	"strings"
)

// environment is the part of an environment that is ours, by name.
func environment(environ []string) map[string]string {
	env := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, "RECALL_") {
			env[name] = value
		}
	}
	return env
}

var (
	serviceLinkName = regexp.MustCompile(`_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)
	serviceLinkURL  = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// fromServiceLinks says whether a variable is one that Kubernetes sets in every container of a namespace for a Service whose
// name begins with "recall" (RECALL_SERVICE_HOST, RECALL_REDIS_PORT=tcp://10.0.0.1:6379): not the operator's doing, so no mistake
// of theirs.
func fromServiceLinks(name, value string) bool {
	return serviceLinkName.MatchString(name) || (strings.HasSuffix(name, "_PORT") && serviceLinkURL.MatchString(value))
}

// Nearest returns the one of the known words that a mistyped word probably means, or "" if none is near.
func Nearest(word string, known []string) string {
	best, bestDistance := "", 1+min(3, len(word)/3)
	for _, candidate := range known {
		if strings.EqualFold(word, candidate) {
			return candidate
		}
		// Words of very different length are not near, and not worth the work.
		if diff := len(word) - len(candidate); diff > 3 || diff < -3 {
			continue
		}
		if d := editDistance(word, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete or change to get from a to b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
