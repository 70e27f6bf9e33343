package upstream

import (
	"strconv"
	"strings"
	"time"
)

// Class is what kind of failure an [Error] is: a closed list, fit for a metric label.
type Class string

const (
	// ClassRequest: the request is wrong in itself and was not sent (no keys, over 20, a repeated key, no credentials).
	ClassRequest Class = "request"
	// ClassNotSent: no connection came about (refused, DNS, TLS, no free connection in time). It certainly never arrived.
	ClassNotSent Class = "not_sent"
	// ClassCanceled: the caller's context ended first. Error.Lost says whether the request may have arrived.
	ClassCanceled Class = "canceled"
	// ClassTimeout: the connection stood, and no full answer came within Config.Timeout.
	ClassTimeout Class = "timeout"
	// ClassCut: the connection stood and broke, or what came is not HTTP, or the body ended early.
	ClassCut Class = "cut"
	// ClassRedirect: the answer sends us elsewhere. It is not followed.
	ClassRedirect Class = "redirect"
	// ClassTooLarge: the answer is larger than Config.MaxResponseBytes.
	ClassTooLarge Class = "too_large"
	// ClassUnreadable: status 2xx, and a body that is no answer: empty, HTML, not JSON, JSON without the lists.
	ClassUnreadable Class = "unreadable"
	// ClassService: the service, or a gateway before it, refused: another status, or a code.
	ClassService Class = "service"
)

// Classes lists all classes, for metrics that must exist before the first failure.
func Classes() []Class {
	return []Class{ClassRequest, ClassNotSent, ClassCanceled, ClassTimeout, ClassCut, ClassRedirect, ClassTooLarge, ClassUnreadable, ClassService}
}

// Operation is the call that an [Error] is about.
type Operation string

const (
	// OpRecall is a batch recall.
	OpRecall Operation = "recall"
	// OpReadStatus asks what became of a message.
	OpReadStatus Operation = "read_status"
	// OpToken is a request for an access token.
	OpToken Operation = "token"
)

// Error is the one error type of this package. Its text says what was attempted, what came back and what to do; it holds no
// token and no secret, also where the service's own answer repeated one.
type Error struct {
	// Op is the call that failed.
	Op Operation `json:"op"`
	// Class is the kind of failure.
	Class Class `json:"class"`
	// Status is the HTTP status, 0 where no answer came.
	Status int `json:"status,omitempty"`
	// Code is the service's own code as it came, "" where there was none. Control characters are stripped.
	Code string `json:"code,omitempty"`
	// Message is the service's prose (often Chinese), or what was seen instead of an answer. At most MaxMessageRunes runes.
	Message string `json:"message,omitempty"`
	// RequestID is requestid of the body, else the header x-acs-request-id.
	RequestID string `json:"requestId,omitempty"`
	// RetryAfter is the header of that name, 0 if absent; at most an hour. Never seen from this service (field).
	RetryAfter time.Duration `json:"retryAfter,omitempty"`
	// RequiredScopes are the permissions that the service says are missing (field: accessdenieddetail.requiredScopes).
	RequiredScopes []string `json:"requiredScopes,omitempty"`
	// Lost is true where the request may have reached the service and its answer does not say what was done: no full answer,
	// a 2xx that cannot be read, a 5xx without a code or with one that says time-out. The messages may have been recalled.
	Lost bool `json:"lost,omitempty"`
	// Banned is true for the refusal of our IP address ({"status":1111,...}, field).
	Banned bool `json:"banned,omitempty"`
	// HTML is true where the body is a page, from a proxy or a gateway.
	HTML bool `json:"html,omitempty"`
	// Keys are those of the call's keys that the message names.
	Keys []string `json:"keys,omitempty"`
	// Partial is what the body of the error says of single keys, nil if nothing. Whether notRevoke.all.messages has it is unknown. Where
	// its own AsError is not nil, it says of each key no more than what failed the call.
	Partial *Answer `json:"partial,omitempty"`
	// Err is the cause, nil where the service itself answered. Its text is free of secrets.
	Err error `json:"-"`
}

// Unwrap returns the cause: errors.Is(err, context.Canceled) and the like work.
func (e *Error) Unwrap() error { return e.Err }

// Error implements the error interface: what was attempted, what came back, what to do.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op.attempt())
	b.WriteString(": ")
	b.WriteString(e.what())
	if e.Message != "" {
		b.WriteString(": ")
		b.WriteString(e.Message)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	if e.RequestID != "" {
		b.WriteString(" (request id ")
		b.WriteString(e.RequestID)
		b.WriteString(")")
	}
	if hint := e.Verdict(1).Hint; hint != "" {
		b.WriteString("; ")
		b.WriteString(hint)
	}
	return b.String()
}

func (o Operation) attempt() string {
	switch o {
	case OpToken:
		return "fetch access token"
	case OpReadStatus:
		return "ask for the status of a message"
	}
	return "recall messages"
}

// what names the failure in a few words.
func (e *Error) what() string {
	switch e.Class {
	case ClassRequest:
		if e.Code == CodeRequestTicket || e.Code == CodeTokenUnshared {
			return "not sent"
		}
		return "not sent, the request is wrong"
	case ClassNotSent:
		return "not sent, no connection"
	case ClassCanceled:
		if e.Lost {
			return "canceled while waiting for the answer"
		}
		return "canceled before it was sent"
	case ClassTimeout:
		return "timeout"
	case ClassCut:
		return "the answer was cut" + e.withStatus()
	case ClassTooLarge:
		return "the answer is too large" + e.withStatus()
	case ClassUnreadable:
		return "status " + strconv.Itoa(e.Status) + " without an answer"
	case ClassRedirect, ClassService:
	}
	if e.Code == "" {
		return "the service answered " + strconv.Itoa(e.Status)
	}
	return "the service answered " + strconv.Itoa(e.Status) + " " + e.Code
}

func (e *Error) withStatus() string {
	if e.Status == 0 {
		return ""
	}
	return " (status " + strconv.Itoa(e.Status) + ")"
}

// Signal returns what Judge needs of the error. keys is the number of keys in the call.
func (e *Error) Signal(keys int) Signal {
	return Signal{
		Op: e.Op, Class: e.Class, Status: e.Status, Code: e.Code, Message: e.Message, RequiredScopes: e.RequiredScopes, Keys: keys,
		Lost: e.Lost, Banned: e.Banned, HTML: e.HTML, RetryAfter: e.RetryAfter,
	}
}

// Verdict says what the error means for a call that carried so many keys. Where Partial is not nil, Verdicts says more.
func (e *Error) Verdict(keys int) Verdict {
	v := Judge(e.Signal(keys))
	if v.Message == "" && e.Err != nil {
		v.Message = e.Err.Error()
	}
	return v
}
