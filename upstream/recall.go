package upstream

import (
	"context"
	"fmt"
)

// RecallPath is the call's path. It has a lower-case "oto", where batchSend and readStatus have "oTo" (documented).
const RecallPath = "/v1.0/robot/otoMessages/batchRecall"

// MaxKeys is the most keys that a call may carry (documented).
const MaxKeys = 20

// BatchRecall recalls the messages behind 1 to 20 distinct keys of one robot, as the app whose token it is.
//
// A nil error means that the service answered and that [Answer] says what it said of each key; it does not mean that any
// was recalled. The error is always an [*Error]. The request is sent once: a call is never repeated here, since each
// one counts against the month, except where net/http knows that not one byte of it was written.
func (c *Client) BatchRecall(ctx context.Context, token, robotCode string, keys []string) (Answer, error) {
	call := &call{op: OpRecall, path: RecallPath, token: token, keys: keys, scrub: newScrubber(token)}
	if e := checkRecall(token, robotCode, keys); e != nil {
		return Answer{}, e
	}
	call.body = appendRecall(make([]byte, 0, recallSize(robotCode, keys)), robotCode, keys)
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
func checkRecall(token, robotCode string, keys []string) *Error {
	refuse := func(code, format string, args ...any) *Error {
		return &Error{Op: OpRecall, Class: ClassRequest, Code: code, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case !isHeaderValue(token):
		return refuse(CodeRequestToken, "the access token is empty or has characters that a header cannot carry")
	case !sendable(robotCode):
		return refuse(CodeRequestRobot, "the robotCode is empty or not valid UTF-8")
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

func recallSize(robotCode string, keys []string) int {
	size := len(`{"robotCode":"","processQueryKeys":[]}`) + len(robotCode)
	for _, key := range keys {
		size += len(key) + len(`"",`)
	}
	return size
}

// appendRecall appends the request's body.
func appendRecall(b []byte, robotCode string, keys []string) []byte {
	b = appendJSONString(append(b, `{"robotCode":`...), robotCode)
	b = append(b, `,"processQueryKeys":[`...)
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSONString(b, key)
	}
	return append(b, `]}`...)
}
