package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"dingrecall/tasks"
	"dingrecall/worker"
)

// keyView is what became of a key, in the shape of status --key --json.
type keyView struct {
	Key       string `json:"key"`
	RobotCode string `json:"robotCode"`
	tasks.Conversation
	State     string     `json:"state"`
	Code      string     `json:"code,omitempty"`
	Message   string     `json:"message,omitempty"`
	RequestID string     `json:"requestId,omitempty"`
	Attempts  int        `json:"attempts"`
	Class     string     `json:"class,omitempty"`
	Incident  string     `json:"incident,omitempty"`
	Ambiguous bool       `json:"ambiguous,omitempty"`
	Deadline  *time.Time `json:"deadline,omitempty"`
	At        *time.Time `json:"at,omitempty"`
}

func viewKey(r worker.KeyRecord) keyView {
	v := keyView{Key: r.Key, RobotCode: r.RobotCode, Conversation: tasks.Conversation(r.Conversation), State: r.State.String()}
	if r.State == worker.KeyUnknown {
		return v
	}
	v.Code, v.Message, v.RequestID, v.Attempts = r.Code, r.Message, r.RequestID, r.Attempts
	v.Class, v.Incident, v.Ambiguous = r.Class.String(), r.Incident, r.Ambiguous
	if !r.Deadline.IsZero() {
		v.Deadline = &r.Deadline
	}
	if !r.At.IsZero() {
		v.At = &r.At
	}
	return v
}

// printKeys says what became of the keys of --key.
func (a *app) printKeys(ctx context.Context, w io.Writer, insp *worker.Inspector, f statusFlags) error {
	records, err := insp.Keys(ctx, f.robot, f.keys)
	if err != nil {
		return err
	}
	if f.conversation != "" {
		records = slices.DeleteFunc(records, func(r worker.KeyRecord) bool {
			return r.State != worker.KeyUnknown && r.OpenConversationID != f.conversation
		})
	}
	for i, r := range records {
		v := viewKey(r)
		if f.json {
			if err := writeJSON(w, v, false); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := v.print(w, a.Now()); err != nil {
			return err
		}
	}
	return nil
}

func (v keyView) print(w io.Writer, now time.Time) error {
	t := newTable("key", v.Key)
	line := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	line("robot", v.RobotCode)
	line("chat", v.Conversation.String())
	line("state", v.State)
	if v.State == worker.KeyUnknown.String() {
		line("", "No worker has taken this key in, or it is longer ago than worker.ledgerRetention. It may still be")
		line("", "in a submission in the queue, or it was refused: see \"recall dead list\".")
		return t.write(w)
	}
	line("code", v.Code)
	line("message", v.Message)
	line("meaning", codeHint(v.Code))
	if v.Ambiguous {
		line("ambiguous", "a call's answer was lost: the message may have been recalled already")
	}
	line("request id", v.RequestID)
	line("attempts", strconv.Itoa(v.Attempts))
	line("incident", v.Incident)
	line("class", v.Class)
	if v.At != nil {
		line(v.State, moment(*v.At, now))
	} else if v.Deadline != nil {
		line("deadline", moment(*v.Deadline, now))
	}
	return t.write(w)
}

// moment writes a time with how far off it is.
func moment(t, now time.Time) string {
	text := t.Format("2006-01-02 15:04:05 MST")
	if d := t.Sub(now); d > 0 {
		return text + " (in " + roughly(d) + ")"
	}
	return text + " (" + roughly(now.Sub(t)) + " ago)"
}
