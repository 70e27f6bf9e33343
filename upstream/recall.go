package upstream

import (
	"context"
	"fmt"
	"strings"
	"unicode"
)

// RecallPath is the call's path. It has a lower-case "oto", where batchSend and readStatus have "oTo" (documented).
const RecallPath = "/v1.0/robot/otoMessages/batchRecall"

// The paths of the recalls in groups and in private chats of people (documented). Request and answer are those of the one-to-one
// recall, with an openConversationId.
const (
	GroupRecallPath   = "/v1.0/robot/groupMessages/recall"
	PrivateRecallPath = "/v1.0/robot/privateChatMessages/batchRecall"
)

// The chats of a Target. The empty one stands for one-to-one messages.
const (
	ChatGroup   = "group"
	ChatPrivate = "private"
)

// Target is what the keys of a call have in common.
type Target struct {
	// RobotCode is the robot that sent the messages.
	RobotCode string
	// Chat is ChatGroup or ChatPrivate, for messages that were sent there; empty for one-to-one messages.
	Chat string
	// OpenConversationID is the conversation of a chat; empty for one-to-one messages.
	OpenConversationID string
}

// path gives the call that recalls the target's messages; "" where there is none.
func (t Target) path() string {
	switch t.Chat {
	case "":
		return RecallPath
	case ChatGroup:
		return GroupRecallPath
	case ChatPrivate:
		return PrivateRecallPath
	}
	return ""
}

// MaxKeys is the most keys that a call may carry (documented).
const MaxKeys = 20

// BatchRecall is Recall of one-to-one messages.
func (c *Client) BatchRecall(ctx context.Context, token, robotCode string, keys []string) (Answer, error) {
	return c.Recall(ctx, token, Target{RobotCode: robotCode}, keys)
}

// Recall recalls the messages behind 1 to 20 distinct keys of one robot, and of one conversation where they were sent to a chat, as
// the app whose token it is. That 20 is the limit in chats as well is a guess.
//
// A nil error means that the service answered and that [Answer] says what it said of each key; it does not mean that any
// was recalled. The error is always an [*Error]. The request is sent once: a call is never repeated here, since each
// one counts against the month, except where net/http knows that not one byte of it was written.
func (c *Client) Recall(ctx context.Context, token string, to Target, keys []string) (Answer, error) {
	call := &call{op: OpRecall, path: to.path(), token: token, keys: keys, scrub: newScrubber(token)}
	if e := checkRecall(token, to, keys); e != nil {
		return Answer{}, e
	}
	call.body = appendRecall(make([]byte, 0, recallSize(to, keys)), to, keys)
	var answer Answer
	e := c.post(ctx, call, func(r reply) *Error {
		var e *Error
		answer, e = readAnswer(r, call)
		return e
	})
	if e != nil { // a nil *Error must not become a non-nil error
		return Answer{}, e
	}
	return answer, nil
}

// checkRecall refuses what must never be sent. It never repeats a token or a key.
func checkRecall(token string, to Target, keys []string) *Error {
	refuse := func(code, format string, args ...any) *Error {
		return &Error{Op: OpRecall, Class: ClassRequest, Code: code, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case !isHeaderValue(token):
		return refuse(CodeRequestToken, "the access token is empty or has characters that a header cannot carry")
	case !sendable(to.RobotCode):
		return refuse(CodeRequestRobot, "the robotCode is empty or not valid UTF-8")
	case to.path() == "":
		return refuse(CodeRequestConversation, "there is no call for messages of this kind of chat: %q", to.Chat)
	case to.Chat == "" && to.OpenConversationID != "":
		return refuse(CodeRequestConversation, "an openConversationId comes without a chat")
	case to.Chat != "" && !isConversation(to.OpenConversationID):
		return refuse(CodeRequestConversation, "the openConversationId is empty, longer than %d bytes, not valid UTF-8 or has control characters", maxConversationBytes)
	case len(keys) == 0 || len(keys) > MaxKeys:
		return refuse(CodeRequestKeys, "a call carries 1 to %d keys, not %d", MaxKeys, len(keys))
	}
	for i, key := range keys {
		if !sendable(key) {
			return refuse(CodeRequestKeys, "key %d of %d is empty or not valid UTF-8", i+1, len(keys))
		}
		for j := range i {
			if keys[j] == key {
				return refuse(CodeRequestKeys, "keys %d and %d are the same", j+1, i+1)
			}
		}
	}
	return nil
}

// maxConversationBytes bounds an openConversationId. No length is documented; those seen have about 30.
const maxConversationBytes = 256

func isConversation(id string) bool {
	return sendable(id) && len(id) <= maxConversationBytes && !strings.ContainsFunc(id, unicode.IsControl)
}

func recallSize(to Target, keys []string) int {
	size := len(`{"robotCode":"","openConversationId":"","processQueryKeys":[]}`) + len(to.RobotCode) + len(to.OpenConversationID)
	for _, key := range keys {
		size += len(key) + len(`"",`)
	}
	return size
}

// appendRecall appends the request's body.
func appendRecall(b []byte, to Target, keys []string) []byte {
	b = appendJSONString(append(b, `{"robotCode":`...), to.RobotCode)
	if to.Chat != "" {
		b = appendJSONString(append(b, `,"openConversationId":`...), to.OpenConversationID)
	}
	b = append(b, `,"processQueryKeys":[`...)
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSONString(b, key)
	}
	return append(b, `]}`...)
}
