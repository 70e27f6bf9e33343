package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// ReadStatusPath is the call's path, for one-to-one messages. It has an upper-case "T" in "oTo", where RecallPath has a lower-case one
// (documented).
const ReadStatusPath = "/v1.0/robot/oToMessages/readStatus"

// SendStatus is what the service says of a message (documented: one of these three).
type SendStatus string

const (
	// StatusSuccess: the message was sent, and stands.
	StatusSuccess SendStatus = "SUCCESS"
	// StatusRecalled: the message was recalled.
	StatusRecalled SendStatus = "RECALLED"
	// StatusProcessing: the service is still at it. Ask again.
	StatusProcessing SendStatus = "PROCESSING"
)

// MessageStatus is the answer of ReadStatus.
type MessageStatus struct {
	Status SendStatus
	// RequestID is requestid of the body, else the header x-acs-request-id.
	RequestID string
}

// ReadStatus asks what became of the message behind a key of one-to-one messages, within 24 hours of its sending. It counts against the
// month like a recall, and tells what a lost answer would have told: RECALLED or SUCCESS. The error is always an [*Error]. It changes
// nothing, so it may be asked again; net/http does that by itself where an idle connection turns out to be closed.
func (c *Client) ReadStatus(ctx context.Context, token, robotCode, key string) (MessageStatus, error) {
	call := &call{op: OpReadStatus, method: http.MethodGet, token: token, keys: []string{key}, scrub: newScrubber(token)}
	refuse := func(code, message string) (MessageStatus, error) {
		return MessageStatus{}, &Error{Op: OpReadStatus, Class: ClassRequest, Code: code, Message: message}
	}
	switch {
	case !isHeaderValue(token):
		return refuse(CodeRequestToken, "the access token is empty or has characters that a header cannot carry")
	case !sendable(robotCode):
		return refuse(CodeRequestRobot, "the robotCode is empty or not valid UTF-8")
	case !sendable(key):
		return refuse(CodeRequestKeys, "the key is empty or not valid UTF-8")
	}
	call.path = ReadStatusPath + "?robotCode=" + queryValue(robotCode) + "&processQueryKey=" + queryValue(key)
	var status MessageStatus
	e := c.post(ctx, call, func(r reply) *Error {
		var e *Error
		status, e = readSendStatus(r, call)
		return e
	})
	if e != nil {
		return MessageStatus{}, e
	}
	return status, nil
}

// queryValue encodes a value so that every reader of a query takes it for the same: a "+" of the key would be read as a space by most,
// and a space written as "+" as a plus sign by some.
func queryValue(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func readSendStatus(r reply, call *call) (MessageStatus, *Error) {
	var wire struct {
		wireHead
		SendStatus json.RawMessage `json:"sendStatus"`
	}
	if err := json.Unmarshal(r.body, &wire); err != nil {
		return MessageStatus{}, r.notJSON(call, err)
	}
	status := SendStatus(strings.ToUpper(rawText(wire.SendStatus)))
	switch status {
	case StatusSuccess, StatusRecalled, StatusProcessing:
		if r.status == http.StatusOK {
			id := call.scrub.clean(rawText(wire.RequestID), maxCodeRunes)
			if id == "" {
				id = call.scrub.clean(r.header.Get(requestIDHeader), maxCodeRunes)
			}
			return MessageStatus{Status: status, RequestID: id}, nil
		}
	}
	e := r.serviceError(call, &wire.wireHead)
	if e.Class == ClassUnreadable && len(wire.SendStatus) > 0 {
		e.Message = fmt.Sprintf("a sendStatus that nobody knows: %s", call.scrub.clean(rawText(wire.SendStatus), maxCodeRunes))
	}
	return MessageStatus{}, e
}
