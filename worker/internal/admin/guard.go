package admin

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"dingrecall/tasks"
)

// asynqmonRoot is where asynqmon is served.
const asynqmonRoot = "/asynqmon"

// What is refused, in sentences that asynqmon's page shows to whoever pressed the button.
const (
	refuseArchive = "Archiving is off: asynq's archive keeps 9,999 tasks and silently drops the rest, and with them the keys that they carry. Run the task, or leave it."
	refuseDelete  = "Tasks in %s are not deleted here: they carry keys that were accepted from a producer, which would be gone without a trace. " +
		"Pause the queue to hold them back; keys that cannot be recalled end in recall-dead, where they can be deleted."
	refuseQueue   = "The queue %s stays: workers would go on using it, but nobody could see it any more."
	refuseUnknown = "This request is not known to be harmless, so it is refused: %s %s"
)

// taskRoute is the part after /asynqmon/api/queues/ of a request about tasks: the queue, the state and, after the last colon, the verb.
// What it matches is what asynqmon's router takes for the same: its variables too are anything but slashes, in the decoded path.
var taskRoute = regexp.MustCompile(`^([^/]+)/(?:groups/[^/]+/)?(active|pending|scheduled|retry|archived|completed|aggregating)_tasks(?:/[^/]+)?$`)

// harmless are the verbs of a POST that lose no key: they run tasks early, or interrupt a handler, whose task then runs again.
var harmless = []string{"run", "run_all", "batch_run", "cancel", "cancel_all", "batch_cancel"}

// guarded hands a request to asynqmon unless it would lose keys. What changes something passes only if it is on the list: a request
// that is spelt in a way nobody thought of is refused.
func (s *Server) guarded(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if reason := refusal(r.Method, r.URL.Path); reason != "" {
			text(w, http.StatusForbidden, reason)
			return
		}
	}
	s.serveAsynqmon(w, r)
}

// refusal says why a request that is no GET is refused; "" lets it pass. path is the decoded one, which is what asynqmon's router looks
// at.
func refusal(method, path string) string {
	unknown := fmt.Sprintf(refuseUnknown, method, path)
	rest, ok := strings.CutPrefix(path, asynqmonRoot+"/api/queues/")
	if !ok {
		return unknown
	}
	verb := ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && method != http.MethodDelete {
		rest, verb = rest[:i], rest[i+1:]
	} else if all, found := strings.CutSuffix(rest, ":delete_all"); found {
		rest, verb = all, "delete_all"
	}
	if strings.Contains(verb, "archive") {
		return refuseArchive
	}
	if rest != "" && !strings.Contains(rest, "/") { // the queue itself
		switch {
		case method == http.MethodPost && (verb == "pause" || verb == "resume"):
			return ""
		case method == http.MethodDelete && verb == "" && slices.Contains(tasks.Queues(), rest):
			return fmt.Sprintf(refuseQueue, rest)
		case method == http.MethodDelete && verb == "":
			return ""
		}
		return unknown
	}
	route := taskRoute.FindStringSubmatch(rest)
	if route == nil {
		return unknown
	}
	queue := route[1]
	switch {
	case method == http.MethodPost && slices.Contains(harmless, verb):
		return ""
	case method == http.MethodPost && verb == "batch_delete", method == http.MethodDelete:
		if _, submissions := tasks.ClassOfQueue(queue); submissions {
			return fmt.Sprintf(refuseDelete, queue)
		}
		return ""
	}
	return unknown
}
