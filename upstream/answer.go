package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Answer is what the service said of each key that was asked. Every such key is in exactly one of Recalled, Failed,
// Unmentioned and Both; [Answer.Verdicts] judges them all.
type Answer struct {
	// RequestID is requestid of the body, else the header x-acs-request-id (field: present on success too).
	RequestID string `json:"requestId,omitempty"`
	// Recalled are the keys in successResult and nowhere else.
	Recalled []string `json:"recalled,omitempty"`
	// Failed has the raw reason of each key in failedResult and nowhere else. A reason that is no string is kept as its
	// JSON text. What reasons look like is unknown; JudgeReason reads them.
	Failed map[string]string `json:"failed,omitempty"`
	// Unmentioned are the keys of which the answer says nothing. Nobody said that they are recalled, so they are not.
	// Whether that happens is unknown.
	Unmentioned []string `json:"unmentioned,omitempty"`
	// Both are the keys in both lists: nothing is certain of them, so they are to be asked again, as ambiguous.
	Both []string `json:"both,omitempty"`
	// Foreign counts the entries that nobody asked for. They are ignored.
	Foreign int `json:"foreign,omitempty"`

	bothReasons map[string]string // the reasons of Both
}

// Verdicts judges every key of the call, in the order of keys.
func (a Answer) Verdicts(keys []string) []Verdict {
	said := make(map[string]Verdict, len(keys))
	a.verdicts(said)
	unmentioned := Judge(Signal{Op: OpRecall, PerKey: true})
	verdicts := make([]Verdict, len(keys))
	for i, key := range keys {
		if v, ok := said[key]; ok {
			verdicts[i] = v
			continue
		}
		verdicts[i] = unmentioned
	}
	return verdicts
}

// AsError is the error that a call of several keys failed with although it was answered: every key is in failedResult, all with one
// reason, and that reason, as the code of a call, is about the service or the app and not about keys (a throttle, a hold, a stale token,
// trouble). A service that tells its outage so is down for all keys, and each of them would be charged with every call. It is nil for
// any other answer: of one key alone nobody can tell whether it is meant or the service, and where others were recalled it is.
//
// Reasons are the same where they read as the same code. notRevoke.all.messages is always said of a key: that not all of its own messages
// were recalled. What the answer says of each key is kept as Partial, since it may yet turn out that the keys are bad.
func (a Answer) AsError() *Error {
	keys := len(a.Failed)
	if keys < 2 || len(a.Recalled)+len(a.Unmentioned)+len(a.Both) > 0 {
		return nil
	}
	var said Verdict
	for _, reason := range a.Failed {
		v := Judge(Signal{Op: OpRecall, Class: ClassService, Status: http.StatusOK, Code: reason, Message: reason, Keys: keys})
		if !v.Scope.BlamesNoKey() || v.Code == codeNotRevoke || said.Code != "" && v.Code != said.Code {
			return nil
		}
		if said.Code == "" || v.Message < said.Message { // of several texts always the same
			said = v
		}
	}
	return &Error{
		Op: OpRecall, Class: ClassService, Status: http.StatusOK, Code: said.Code, Message: said.Message, RequestID: a.RequestID, Lost: said.Ambiguous,
		Partial: &a,
	}
}

// verdicts adds a verdict for every key that the answer mentions.
func (a Answer) verdicts(said map[string]Verdict) {
	done := Judge(Signal{Op: OpRecall, PerKey: true, Recalled: true})
	for _, key := range a.Recalled {
		said[key] = done
	}
	for key, reason := range a.Failed {
		said[key] = JudgeReason(reason)
	}
	for _, key := range a.Both {
		said[key] = Judge(Signal{Op: OpRecall, PerKey: true, Recalled: true, Failed: true, Reason: a.bothReasons[key]})
	}
}

// Verdicts judges every key of the failed call, in the order of keys: by Partial where the error's body spoke of the key,
// else by Verdict for a call with as many keys as it did not speak of.
func (e *Error) Verdicts(keys []string) []Verdict {
	said := make(map[string]Verdict, len(keys))
	if e.Partial != nil {
		e.Partial.verdicts(said)
	}
	silent := 0
	for _, key := range keys {
		if _, ok := said[key]; !ok {
			silent++
		}
	}
	whole := e.Verdict(silent)
	verdicts := make([]Verdict, len(keys))
	for i, key := range keys {
		if v, ok := said[key]; ok {
			verdicts[i] = v
			continue
		}
		verdicts[i] = whole
	}
	return verdicts
}

// wireAnswer is every field that a body may have, of success, error, and the refusal of an address.
type wireAnswer struct {
	wireHead
	SuccessResult []string                   `json:"successResult"`
	FailedResult  map[string]json.RawMessage `json:"failedResult"`
}

// wireHead is all but the lists. Raw, because a field of another type than expected must not hide the others. Both spellings
// of requestid match: encoding/json ignores case.
type wireHead struct {
	Code      json.RawMessage `json:"code"`
	Message   json.RawMessage `json:"message"`
	RequestID json.RawMessage `json:"requestid"`
	Detail    json.RawMessage `json:"accessdenieddetail"`

	BanStatus json.RawMessage `json:"status"`
	Punish    json.RawMessage `json:"punish"`
}

// decode reads a body. ok is false if neither list is there. A list that is absent, null or of another shape (an empty "[]" for an
// object, as some languages write it) says nothing of any key; it does not take the other's word away, for then every good
// answer of such a service would be an error.
//
// A failedResult that is a list is read where it names keys that were asked: to fail a key costs at most another try.
func (w *wireAnswer) decode(body []byte, keys []string) (ok bool, err error) {
	err = json.Unmarshal(body, w)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		// Rare, so only now: each list apart from the other.
		*w = wireAnswer{}
		var lists struct {
			SuccessResult json.RawMessage `json:"successResult"`
			FailedResult  json.RawMessage `json:"failedResult"`
		}
		if err = json.Unmarshal(body, &w.wireHead); err == nil {
			err = json.Unmarshal(body, &lists)
		}
		if json.Unmarshal(lists.SuccessResult, &w.SuccessResult) != nil {
			w.SuccessResult = nil // numbers among them, say: not a list of keys
		}
		if json.Unmarshal(lists.FailedResult, &w.FailedResult) != nil {
			w.FailedResult = failedList(lists.FailedResult, keys)
		}
	}
	return w.SuccessResult != nil || w.FailedResult != nil, err
}

// failedList reads a failedResult that is a list: of keys, or of objects of which a member is the key, and all of which is then its
// reason. It is nil where no key that was asked is among them.
func failedList(raw json.RawMessage, keys []string) map[string]json.RawMessage {
	var items []json.RawMessage
	if !isJSON(raw, '[') || json.Unmarshal(raw, &items) != nil {
		return nil
	}
	var failed map[string]json.RawMessage
	for _, item := range items {
		var members map[string]json.RawMessage
		reason := item
		if isJSON(item, '"') {
			members, reason = map[string]json.RawMessage{"": item}, nil
		} else if json.Unmarshal(item, &members) != nil {
			continue
		}
		for _, member := range members {
			if !isJSON(member, '"') || indexOf(keys, rawText(member), 0) < 0 {
				continue
			}
			if failed == nil {
				failed = make(map[string]json.RawMessage, len(keys))
			}
			failed[rawText(member)] = reason
		}
	}
	return failed
}

func isJSON(raw json.RawMessage, first byte) bool { return len(raw) > 0 && raw[0] == first }

// readAnswer reads a complete answer to a recall: either an Answer, or an Error.
func readAnswer(r reply, call *call) (Answer, *Error) {
	var wire wireAnswer
	ok, err := wire.decode(r.body, call.keys)
	if err != nil {
		return Answer{}, r.notJSON(call, err)
	}
	answer, mentioned := sortKeys(call, wire.SuccessResult, wire.FailedResult)
	answer.RequestID = call.scrub.clean(rawText(wire.RequestID), maxCodeRunes)
	if answer.RequestID == "" {
		answer.RequestID = call.scrub.clean(r.header.Get(requestIDHeader), maxCodeRunes)
	}
	hasCode := len(wire.Code) > 0 && string(wire.Code) != "null"
	if r.status == http.StatusOK && ok && (mentioned > 0 || !hasCode) {
		return answer, nil
	}
	e := r.serviceError(call, &wire.wireHead)
	if mentioned > 0 && e.Class == ClassService && !e.Banned {
		e.Partial = &answer
	}
	return Answer{}, e
}

// sortKeys puts each key that was asked where the lists put it, and counts those that they mention.
func sortKeys(call *call, recalled []string, failed map[string]json.RawMessage) (Answer, int) {
	const inRecalled, inFailed = 1, 2
	var places [MaxKeys]uint8 // at most MaxKeys were asked
	answer := Answer{}
	place := func(hint int, key string, in uint8) {
		if i := indexOf(call.keys, key, hint); i >= 0 {
			places[i] |= in
			return
		}
		answer.Foreign++
	}
	for i, key := range recalled {
		place(i, key, inRecalled)
	}
	for key := range failed {
		place(0, key, inFailed)
	}
	mentioned := 0
	for i, key := range call.keys {
		if places[i] != 0 {
			mentioned++
		}
		switch places[i] {
		case inRecalled:
			if answer.Recalled == nil {
				answer.Recalled = make([]string, 0, len(call.keys))
			}
			answer.Recalled = append(answer.Recalled, key)
		case inFailed:
			setReason(&answer.Failed, key, call.scrub.reason(rawText(failed[key])))
		case inRecalled | inFailed:
			answer.Both = append(answer.Both, key)
			setReason(&answer.bothReasons, key, call.scrub.reason(rawText(failed[key])))
		default:
			answer.Unmentioned = append(answer.Unmentioned, key)
		}
	}
	return answer, mentioned
}

func setReason(reasons *map[string]string, key, reason string) {
	if *reasons == nil {
		*reasons = make(map[string]string)
	}
	(*reasons)[key] = reason
}

// indexOf finds a key among at most 20; answers mostly keep the order of the question, so it looks at hint first.
func indexOf(keys []string, key string, hint int) int {
	if hint < len(keys) && keys[hint] == key {
		return hint
	}
	for i := range keys {
		if keys[i] == key {
			return i
		}
	}
	return -1
}

// rawText is the string of a JSON string, else the JSON text itself; "" for none.
func rawText(raw json.RawMessage) string {
	if isJSON(raw, '"') {
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return s
		}
	}
	return string(raw)
}

// serviceError makes the Error of an answer that is a JSON object.
func (r reply) serviceError(call *call, wire *wireHead) *Error {
	e := &Error{Op: call.op, Class: ClassService}
	if string(wire.Code) != "null" {
		e.Code = call.scrub.clean(rawText(wire.Code), maxCodeRunes)
	}
	message := ""
	if string(wire.Message) != "null" {
		message = rawText(wire.Message)
	}
	e.RequestID = call.scrub.clean(rawText(wire.RequestID), maxCodeRunes)
	e.RequiredScopes = requiredScopes(wire.Detail, call.scrub)
	e.Banned = isRefusal(wire)
	e.Keys = keysIn(message, call.keys)
	if message == "" {
		// Whatever there is: without it nobody could find out later what this was.
		message = string(r.body[:min(len(r.body), 4*MaxMessageRunes)])
		if len(r.body) > 4*MaxMessageRunes {
			message = fmt.Sprintf("a JSON object of %d bytes without a message", len(r.body))
		}
	}
	e.Message = call.scrub.clean(message, MaxMessageRunes)
	switch {
	case e.Code == "" && r.status >= 200 && r.status < 300 && !e.Banned:
		e.Class, e.Lost = ClassUnreadable, true
	case e.Code == "":
		e.Lost = r.status >= 500 && !e.Banned
	default:
		e.Lost = saysTimeout(e.Code)
	}
	return r.withRedirect(r.describe(e, call), call.scrub)
}

// isRefusal knows {"status":1111,"wait":5,"source":"x5","punish":"deny","uuid":"..."} (field). The unit of "wait" is unknown, so
// it is not used.
func isRefusal(wire *wireHead) bool {
	return rawText(wire.BanStatus) == "1111" || strings.EqualFold(rawText(wire.Punish), "deny")
}

// requiredScopes reads {"requiredScopes":["..."]}, and forgives a single one that is no list.
func requiredScopes(detail json.RawMessage, scrub scrubber) []string {
	var wire struct {
		RequiredScopes json.RawMessage `json:"requiredScopes"`
	}
	if len(detail) == 0 || json.Unmarshal(detail, &wire) != nil {
		return nil
	}
	var items []json.RawMessage
	if isJSON(wire.RequiredScopes, '"') {
		items = []json.RawMessage{wire.RequiredScopes}
	} else if json.Unmarshal(wire.RequiredScopes, &items) != nil {
		return nil
	}
	var scopes []string
	for _, item := range items[:min(len(items), MaxKeys)] {
		if scope := scrub.clean(rawText(item), maxCodeRunes); isJSON(item, '"') && scope != "" {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// withRedirect reclassifies a 3xx, and tells where it points: the host only, since the rest may repeat the request.
func (r reply) withRedirect(e *Error, scrub scrubber) *Error {
	if r.status < 300 || r.status >= 400 {
		return e
	}
	var where string
	switch u, err := url.Parse(r.header.Get("Location")); {
	case r.header.Get("Location") == "":
		where = "that names no address"
	case err != nil:
		where = "to an address that cannot be read"
	case u.Host == "":
		where = "to another path"
	default:
		where = "to the host " + strconv.Quote(scrub.clean(u.Host, maxCodeRunes))
	}
	e.Class, e.Message = ClassRedirect, "a redirect "+where+", which is not followed: no token goes there"
	return e
}

// maxHead bounds how much of a page is searched for its title: a megabyte that begins one over and over takes seconds.
const maxHead = 4096

var title = regexp.MustCompile(`(?is)<title[^>]*>(.{0,200}?)</title>`)

// notJSON makes the Error of a body that is no JSON object: a page, nothing, or something that was cut.
func (r reply) notJSON(call *call, err error) *Error {
	body := bytes.TrimSpace(r.body)
	e := &Error{Op: call.op, Class: ClassService, Lost: r.status >= 500}
	if r.status >= 200 && r.status < 300 {
		e.Class, e.Lost = ClassUnreadable, true
	}
	var syntax *json.SyntaxError
	switch {
	case len(body) == 0:
		e.Message = "an empty body"
	case body[0] == '<':
		e.HTML = true
		e.Lost = e.Lost && r.status >= 500 // a page in place of an answer comes from before the service, not from behind it
		e.Message = fmt.Sprintf("a page of %d bytes", len(r.body))
		if found := title.FindSubmatch(body[:min(len(body), maxHead)]); found != nil && utf8.Valid(found[1]) {
			e.Message += ": " + call.scrub.clean(html.UnescapeString(string(found[1])), MaxMessageRunes/2)
		}
	case errors.As(err, &syntax) && int(syntax.Offset) >= len(r.body) && (body[0] == '{' || body[0] == '['):
		e.Message = fmt.Sprintf("JSON that ends early, after %d bytes", len(r.body))
		if e.Class == ClassUnreadable {
			e.Class = ClassCut
		}
	default:
		e.Message = fmt.Sprintf("%d bytes that are no JSON object", len(r.body))
		if encoding := r.header.Get("Content-Encoding"); encoding != "" {
			e.Message = fmt.Sprintf("%d bytes in the encoding %q that cannot be unpacked", len(r.body), call.scrub.clean(encoding, maxCodeRunes))
		} else if len(body) <= MaxMessageRunes {
			e.Message += ": " + call.scrub.clean(string(body), MaxMessageRunes/2)
		}
	}
	return r.withRedirect(r.describe(e, call), call.scrub)
}
