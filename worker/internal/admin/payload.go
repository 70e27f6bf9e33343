package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"dingrecall/tasks"
)

// How much of a payload asynqmon's page shows. A call has 20 keys, so a dead letter of a batch is shown whole.
const (
	maxKeysShown  = 20
	fewKeysShown  = 3
	maxBytesShown = 4 << 10
)

// submissionView is a submission as a person wants to read it: what it is first, the keys last.
type submissionView struct {
	RobotCode string `json:"robotCode"`
	tasks.Conversation
	Incident string `json:"incident,omitempty"`
	Note     string `json:"note,omitempty"`
	sending
	KeyCount int      `json:"keyCount"`
	Keys     []string `json:"keys"`
}

// letterView is a dead letter with its reason first.
type letterView struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	RequestID string `json:"requestId,omitempty"`
	Ambiguous string `json:"ambiguous,omitempty"`
	App       string `json:"app,omitempty"`
	RobotCode string `json:"robotCode,omitempty"`
	tasks.Conversation
	Incident  string      `json:"incident,omitempty"`
	Class     tasks.Class `json:"class,omitempty"`
	Attempts  int         `json:"attempts"`
	DiedAt    string      `json:"diedAt,omitempty"`
	KeptUntil string      `json:"keptUntil,omitempty"`
	sending
	KeyCount   int      `json:"keyCount"`
	Keys       []string `json:"keys,omitempty"`
	Origin     string   `json:"origin,omitempty"`
	Submission string   `json:"submission,omitempty"`
}

// formatPayload gives what asynqmon shows of a payload: JSON, which its page indents. What is not as it should be is shown as it is.
func formatPayload(taskType string, payload []byte) string {
	var view any
	switch taskType {
	case tasks.TypeSubmit:
		if s, problems, err := tasks.DecodeSubmission(payload); err == nil && len(problems) == 0 {
			view = submissionView{RobotCode: s.RobotCode, Conversation: s.Conversation, Incident: s.Incident, Note: s.Note, sending: sentAt(s.SentAt, s.SentAts),
				KeyCount: len(s.Keys), Keys: shorten(s.Keys)}
		}
	case tasks.TypeDead:
		if d, err := tasks.DecodeDeadLetter(payload); err == nil {
			view = viewLetter(d)
		}
	case tasks.TypeAlarm:
		var a tasks.Alarm
		if json.Unmarshal(payload, &a) == nil && a.App != "" {
			view = struct {
				App string `json:"app"`
				At  string `json:"at"`
			}{a.App, moment(a.At)}
		}
	}
	if view == nil {
		return plain(payload)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // it is text for a page that escapes it
	if err := enc.Encode(view); err != nil {
		return plain(payload)
	}
	return strings.TrimSpace(b.String())
}

func viewLetter(d tasks.DeadLetter) letterView {
	v := letterView{Code: d.Code, Message: d.Message, RequestID: d.RequestID, App: d.App, RobotCode: d.RobotCode, Conversation: d.Conversation, Incident: d.Incident,
		Class: d.Class, Attempts: d.Attempts, DiedAt: moment(d.DiedAt), KeptUntil: moment(d.RetainUntil), sending: sentAt(d.SentAt, d.SentAts),
		KeyCount: len(d.Keys), Keys: shorten(d.Keys), Origin: d.Origin}
	if d.Ambiguous {
		v.Ambiguous = "a call's answer was lost: these messages may have been recalled after all"
	}
	if raw := d.Raw(); raw != nil {
		v.Submission = plain(raw)
	}
	return v
}

// shorten gives all keys of a batch, and the first few of a large submission.
func shorten(keys []string) []string {
	if len(keys) <= maxKeysShown {
		return keys
	}
	short := append([]string(nil), keys[:fewKeysShown]...)
	return append(short, fmt.Sprintf("... and %d more", len(keys)-fewKeysShown))
}

// sending says when messages were sent: at one moment, or from when to when.
type sending struct {
	SentAt   string `json:"sentAt,omitempty"`
	SentFrom string `json:"sentFrom,omitempty"`
	SentTo   string `json:"sentTo,omitempty"`
}

func sentAt(all int64, each []int64) sending {
	first, last := all, all
	for i, at := range each {
		if at == 0 {
			at = all
		}
		if i == 0 || at < first {
			first = at
		}
		if i == 0 || at > last {
			last = at
		}
	}
	switch {
	case first == last:
		return sending{SentAt: moment(first)}
	case first == 0:
		return sending{SentFrom: "not told for all", SentTo: moment(last)}
	}
	return sending{SentFrom: moment(first), SentTo: moment(last)}
}

func moment(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05 UTC")
}

// plain gives bytes as text, cut where it gets long.
func plain(payload []byte) string {
	if !utf8.Valid(payload) || bytes.ContainsFunc(payload, unprintable) {
		return fmt.Sprintf("%d bytes that are not text: %.64x", len(payload), payload)
	}
	if len(payload) > maxBytesShown {
		return strings.ToValidUTF8(string(payload[:maxBytesShown]), "") + fmt.Sprintf("... (%d bytes in all)", len(payload))
	}
	return string(payload)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) && !unicode.IsSpace(r) }
