package cli

import (
	"strings"
	"time"

	"dingrecall/tasks"
	"dingrecall/upstream"
	"dingrecall/worker"
)

// ownHints say what the codes mean that package upstream has nothing to say about.
var ownHints = map[string]string{
	tasks.CodeWindowClosed:          "the 24 hours were over before a call could be made",
	tasks.CodeRobotUnconfigured:     "no app is configured for the robot: add it to an app, and replay",
	tasks.CodeTargetLimit:           "the app has keys of too many robots and conversations: use another Redis, and replay",
	"robot.processQueryKey.expired": "the service says that the 24 hours are over",
	"invalid.processQueryKey":       "the service does not know the key: see where the file got it",
	"not.allowed.robotCode":         "sent by another bot: submit it with that bot's robotCode",
	"notRevoke.all.messages":        "the service could not recall all messages of the key",
	"system.error":                  "the service failed each time: try again later",
}

// codeHint says in a few words what a code means or what to do about it; empty where nobody knows.
func codeHint(code string) string {
	if hint := ownHints[code]; hint != "" {
		return hint
	}
	return upstream.JudgeReason(code).Hint
}

// describeHold says why an app is at rest; the message of a hold says what to do as well. Empty where it is not.
func describeHold(app worker.AppStatus) string {
	if app.Hold == nil {
		return ""
	}
	return strings.Join(nonEmpty(app.Hold.Code, app.Hold.Message), ": ")
}

// robotHeld gives the hold of a robot that is at rest while its app is not, nil where there is none or its next probe is due.
func robotHeld(app worker.AppStatus, target worker.Target, now time.Time) *worker.RobotHold {
	for i, h := range app.Robots {
		if h.Target == target && h.NextProbe.After(now) {
			return &app.Robots[i]
		}
	}
	return nil
}
