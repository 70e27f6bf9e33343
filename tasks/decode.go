package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// DecodeSubmission reads the payload of a [TypeSubmit] task. It is strict about shape and version; unknown fields are allowed.
//
// A key that cannot be one is left out of the submission and reported apart, so that the good keys go on. The returned submission may
// therefore have no key left. A key that comes twice is kept twice. Whether a sending time lies in the future is left to
// [Submission.TakeFuture], which is told what time it is.
//
// An error means that nothing of the payload can be used; its text says why, for a dead letter.
func DecodeSubmission(payload []byte) (Submission, []KeyProblem, error) {
	s, keys, err := readSubmission(payload)
	if err != nil {
		return Submission{}, nil, err
	}
	if err := checkSubmission(s, len(keys)); err != nil {
		return Submission{}, nil, err
	}
	if len(s.Note) > MaxNoteBytes {
		s.Note = strings.ToValidUTF8(s.Note[:MaxNoteBytes], "") // no reason to leave a message standing
	}
	s.Keys = make([]string, 0, len(keys))
	var problems []KeyProblem
	sentAts := make([]int64, 0, len(s.SentAts))
	for i, key := range keys {
		if err := key.check(s.SentAts, i); err != nil {
			problems = append(problems, KeyProblem{Index: i, Key: key.text, SentAt: s.SentAtOf(i), Reason: err.Error()})
			continue
		}
		s.Keys = append(s.Keys, key.text)
		if len(s.SentAts) > 0 {
			sentAts = append(sentAts, s.SentAts[i])
		}
	}
	s.SentAts = nil
	if len(sentAts) > 0 {
		s.SentAts = sentAts
	}
	return s, problems, nil
}

// readSubmission reads a submission and, apart from it, its keys.
func readSubmission(payload []byte) (Submission, []keyText, error) {
	var s Submission
	if err := decode(payload, &s, &s.V, PayloadVersionChat); err == nil {
		keys := make([]keyText, len(s.Keys))
		for i, key := range s.Keys {
			keys[i].text = key
		}
		return s, keys, nil
	}
	// Perhaps only a key that is no string, which must not spoil the others. This way is half as fast, and gives the same error otherwise.
	var wire struct {
		Submission
		Keys []keyText `json:"keys"` // hides Submission.Keys
	}
	if err := decode(payload, &wire, &wire.V, PayloadVersionChat); err != nil {
		return Submission{}, nil, err
	}
	return wire.Submission, wire.Keys, nil
}

// TakeFuture takes the keys out of a submission whose messages, so it says, were sent more than [MaxSentAtAhead] after now, and returns them with
// the reason. Index is then the place in Keys before the call.
func (s *Submission) TakeFuture(now time.Time) []KeyProblem {
	var problems []KeyProblem
	var keys []string
	var sentAts []int64
	for i, key := range s.Keys {
		sentAt := s.SentAtOf(i)
		if err := CheckSentAt(sentAt, now); err != nil {
			problems = append(problems, KeyProblem{Index: i, Key: key, SentAt: sentAt, Reason: err.Error()})
			continue
		}
		keys = append(keys, key)
		if len(s.SentAts) > 0 {
			sentAts = append(sentAts, s.SentAts[i])
		}
	}
	if len(problems) > 0 {
		s.Keys, s.SentAts = keys, sentAts
	}
	return problems
}

// checkSubmission checks all of a submission but its keys, of which there are n.
func checkSubmission(s Submission, n int) error {
	if s.RobotCode == "" {
		return errors.New("robotCode is missing or empty")
	}
	if err := CheckRobotCode(s.RobotCode); err != nil {
		return fmt.Errorf("robotCode %s %w", quote(s.RobotCode), err)
	}
	if err := CheckConversation(s.Conversation); err != nil {
		return err
	}
	switch {
	case n == 0:
		return errors.New("keys is missing or empty")
	case n > MaxKeysPerTask:
		return fmt.Errorf("keys has %d entries; at most %d are allowed in one task", n, MaxKeysPerTask)
	case len(s.SentAts) > 0 && len(s.SentAts) != n:
		return fmt.Errorf("sentAts has %d entries for %d keys; it must have one for each, or be left out", len(s.SentAts), n)
	}
	if err := checkSentAtUnit(s.SentAt); err != nil {
		return err
	}
	if err := CheckIncident(s.Incident); err != nil {
		return fmt.Errorf("incident %s %w", quote(s.Incident), err)
	}
	return nil
}

// keyText is an entry of "keys" as it came. What is no string keeps its JSON, so that a dead letter can show it.
type keyText struct {
	text     string
	noString bool
}

// UnmarshalJSON takes anything, so that one bad entry does not end the reading of the others.
func (k *keyText) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &k.text)
	}
	k.text, k.noString = string(b), true
	return nil
}

func (k keyText) check(sentAts []int64, i int) error {
	if k.noString {
		return errors.New("is not a string")
	}
	if err := CheckKey(k.text); err != nil {
		return err
	}
	if i < len(sentAts) {
		return checkSentAtUnit(sentAts[i])
	}
	return nil
}

// DecodeDispatch reads the payload of a [TypeDispatch] task.
func DecodeDispatch(payload []byte) (Dispatch, error) {
	var d Dispatch
	if err := decode(payload, &d, &d.V, PayloadVersion); err != nil {
		return Dispatch{}, err
	}
	switch {
	case d.App == "":
		return Dispatch{}, errors.New("app is missing or empty")
	case d.Slot < 0:
		return Dispatch{}, fmt.Errorf("slot %d is negative", d.Slot)
	case d.Generation < 0:
		return Dispatch{}, fmt.Errorf("generation %d is negative", d.Generation)
	}
	return d, nil
}

// DecodeAlarm reads the payload of a [TypeAlarm] task.
func DecodeAlarm(payload []byte) (Alarm, error) {
	var a Alarm
	if err := decode(payload, &a, &a.V, PayloadVersion); err != nil {
		return Alarm{}, err
	}
	switch {
	case a.App == "":
		return Alarm{}, errors.New("app is missing or empty")
	case a.At < 0:
		return Alarm{}, fmt.Errorf("at %d is negative", a.At)
	}
	return a, nil
}

// DecodeDeadLetter reads the payload of a [TypeDead] task. A letter has keys of a robot, or the raw payload of a submission that could not
// be read; one with neither is an error. Its keys are not checked: they may be dead because they cannot be keys.
func DecodeDeadLetter(payload []byte) (DeadLetter, error) {
	var d DeadLetter
	if err := decode(payload, &d, &d.V, PayloadVersionChat); err != nil {
		return DeadLetter{}, err
	}
	class, err := ParseClass(string(d.Class))
	if err != nil {
		return DeadLetter{}, err
	}
	d.Class = class
	switch {
	case d.Code == "":
		return DeadLetter{}, errors.New("code is missing or empty")
	case len(d.Keys) == 0 && d.Raw() == nil && d.Code != CodeSubmissionMalformed: // an empty payload is malformed, too
		return DeadLetter{}, errors.New("has neither keys nor the payload of a submission")
	case len(d.Keys) > 0 && d.RobotCode == "":
		return DeadLetter{}, errors.New("robotCode is missing or empty")
	case len(d.Keys) > 0 && CheckConversation(d.Conversation) != nil:
		return DeadLetter{}, CheckConversation(d.Conversation)
	case len(d.SentAts) > 0 && len(d.SentAts) != len(d.Keys):
		return DeadLetter{}, fmt.Errorf("sentAts has %d entries for %d keys", len(d.SentAts), len(d.Keys))
	case d.RetainUntil <= 0:
		return DeadLetter{}, errors.New("retainUntil is missing")
	}
	return d, nil
}

// decode reads a payload into what v points at, and checks its version, which is a field of it and at most newest. The version goes
// first: a newer one explains every other difference.
func decode(payload []byte, v any, version *int, newest int) error {
	switch {
	case len(payload) == 0:
		return errors.New("payload is empty; a JSON object is wanted")
	case len(payload) > MaxPayloadBytes:
		return fmt.Errorf("payload has %d bytes; at most %d are allowed", len(payload), MaxPayloadBytes)
	case !utf8.Valid(payload):
		// encoding/json would put U+FFFD in the place of what it cannot read, and go on with other keys than were sent.
		return errors.New("payload is not valid UTF-8; JSON text is wanted")
	case !bytes.HasPrefix(bytes.TrimLeft(payload, " \t\r\n"), []byte("{")):
		return errors.New("payload is not a JSON object")
	}
	err := json.Unmarshal(payload, v) // goes on after a field of a wrong type, so the version is known then
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("payload is not valid JSON at byte %d: %w", syntax.Offset, err)
	}
	switch {
	case *version > newest:
		return fmt.Errorf("payload has version %d, made by a newer producer; this worker reads versions up to %d: upgrade it, then replay",
			*version, newest)
	case *version < 0:
		return fmt.Errorf("payload has version %d; %d is wanted", *version, newest)
	}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("field %s is a JSON %s; %s is wanted", mismatch.Field, mismatch.Value, wanted(mismatch))
	}
	if err != nil {
		return fmt.Errorf("read payload: %w", err)
	}
	if *version == 0 {
		*version = 1
	}
	return nil
}

// wanted says in the words of JSON what a field should have been.
func wanted(e *json.UnmarshalTypeError) string {
	field := strings.ToLower(e.Field)
	switch {
	case strings.Contains(field, "sentat"), strings.HasSuffix(field, "at"), strings.HasSuffix(field, "until"):
		return "a whole number of milliseconds since 1970"
	case field == "keys":
		return "an array of strings"
	}
	switch e.Type.Kind().String() {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "slice", "array":
		return "an array"
	case "struct", "map":
		return "an object"
	}
	return "a whole number"
}
