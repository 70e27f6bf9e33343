package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
)

// The recalls in groups and in private chats (official) have the shape of the one-to-one recall, with an openConversationId. Whether
// their errors are the same is unknown; here they are. A limit is said to be of one API (official), which would be one for each of the three;
// here they share one, which asks more of a client.
const (
	groupPath   = "/v1.0/robot/groupMessages/recall"
	privatePath = "/v1.0/robot/privateChatMessages/batchRecall"
)

// The chats of a key that was not sent one-to-one.
const (
	ChatGroup   = "group"
	ChatPrivate = "private"
)

var chats = map[string]string{groupPath: ChatGroup, privatePath: ChatPrivate}

// maxConversationBytes bounds an openConversationId. No length is documented; those seen have about 30.
const maxConversationBytes = 256

// recallRequest is the body of a recall (official).
type recallRequest struct {
	RobotCode          string   `json:"robotCode"`
	OpenConversationID string   `json:"openConversationId,omitempty"` // of a chat
	ProcessQueryKeys   []string `json:"processQueryKeys"`
}

// recallBody is the answer of a recall (official). Whether empty lists are written is unknown.
type recallBody struct {
	Success []string          `json:"successResult"`
	Failed  map[string]string `json:"failedResult"`
}

// takeUp reads a recall's body and notes that its keys are in a call from now on. A key given twice is one key; what the service makes of
// it is unknown. The keys of a call that has too many are not noted.
func (s *Simulator) takeUp(c *call, readable bool) {
	c.chat = chats[c.r.URL.Path]
	if !readable || json.Unmarshal(c.body, &c.req) != nil {
		c.req, c.unreadable = recallRequest{}, true
		return
	}
	repeated := 0
	if n := len(c.req.ProcessQueryKeys); n <= MaxKeys {
		c.keys, c.hashes = make([]string, 0, n), make([]uint64, 0, n)
		for _, key := range c.req.ProcessQueryKeys {
			h := s.ledger.hash(key)
			if slices.Contains(c.hashes, h) {
				repeated++
				continue
			}
			c.keys, c.hashes = append(c.keys, key), append(c.hashes, h)
		}
	}
	s.tally.keys(c, repeated, s.ledger.begin(c))
}

// recall answers batchRecall. The codes are official; the order in which a request is checked is not known.
func (s *Simulator) recall(c *call, fault Fault) answer {
	switch {
	case c.unreadable, c.req.RobotCode == "", c.chat != "" && c.req.OpenConversationID == "":
		return refuse(c, codeParam)
	case c.chat != "" && !isConversation(c.req.OpenConversationID):
		return refuse(c, codeConversation)
	case len(c.req.ProcessQueryKeys) == 0:
		return refuse(c, codeMissing)
	case len(c.req.ProcessQueryKeys) > MaxKeys:
		return refuse(c, codeOverMax)
	case slices.Contains(c.keys, ""):
		return refuse(c, codeParam)
	case !s.robotExists(c.req.RobotCode):
		return refuse(c, codeRobot)
	}
	fates := make([]fate, len(c.keys))
	firstBad := -1
	for i := range c.keys {
		fates[i] = s.judge(c, i)
		if fates[i].code != "" && firstBad < 0 {
			firstBad = i
		}
	}
	if overruled := overrule(fates, fault); !overruled && firstBad >= 0 && s.failsWhole(c) {
		return s.recallNone(c, fates, firstBad)
	}
	return s.recallEach(c, fates, fault)
}

// isConversation tells whether an openConversationId can be one.
func isConversation(id string) bool {
	return len(id) <= maxConversationBytes && !strings.ContainsFunc(id, unicode.IsControl)
}

func (s *Simulator) robotExists(robot string) bool {
	return !s.absent[robot] && (len(s.known) == 0 || s.known[robot])
}

// failsWhole decides how the call fails.
func (s *Simulator) failsWhole(c *call) bool {
	switch s.cfg.Failure {
	case FailWhole:
		return true
	case FailRandom:
		return unit(mix(c.rnd^saltFailure)) < 0.5
	default:
		return false
	}
}

// fate is what becomes of a key in a call.
type fate struct {
	code   string // empty: it is recalled
	silent bool   // and not mentioned
}

// judge decides the fate of the call's i-th key.
func (s *Simulator) judge(c *call, i int) fate {
	key := c.keys[i]
	info, code := s.lookUp(c.sender(), key)
	if code != "" {
		return fate{code: code}
	}
	// What is recalled already was once inside its window: it is asked first, so that the knob decides and not the clock.
	if s.cfg.AlreadyRecalled != AlreadySuccess && s.ledger.recalled(c.hashes[i]) {
		if s.cfg.AlreadyRecalled == AlreadyNotRevoke {
			return fate{code: codeNotRevoke}
		}
		return fate{code: codeInvalidKey}
	}
	if s.closed(info.SentAt, s.cfg.Now()) {
		return fate{code: codeExpired}
	}
	switch info.Kind {
	case SystemErrorAlways:
		return fate{code: codeSystemError}
	case NotRevoked:
		return fate{code: codeNotRevoke}
	case Flaky:
		if unit(mixString(c.rnd^saltFlaky, key)) < s.cfg.FlakyRate {
			return fate{code: codeSystemError}
		}
	case Silent:
		return fate{silent: true}
	}
	return fate{}
}

// robot is the robotCode that the call names; "" where it has none.
func (c *call) robot() string {
	if c.api == APIReadStatus {
		return c.r.URL.Query().Get("robotCode")
	}
	return c.req.RobotCode
}

// sender is who asks, and for which conversation.
type sender struct{ robot, chat, conversation string }

func (c *call) sender() sender {
	if c.chat == "" {
		return sender{robot: c.req.RobotCode} // an openConversationId means nothing here
	}
	return sender{c.req.RobotCode, c.chat, c.req.OpenConversationID}
}

// lookUp says what is known of a key when a robot asks about it, and the code that refuses it whatever the time, or "". That a key of
// another conversation is refused as that of another robot is a guess.
func (s *Simulator) lookUp(who sender, key string) (KeyInfo, string) {
	info, known := s.registered(who.robot, key)
	switch {
	case known:
	case s.cfg.RegisteredOnly:
		return info, codeInvalidKey
	default:
		info.Kind, info.SentAt, _ = ReadKey(key)
	}
	switch {
	case info.Kind == Unknown:
		return info, codeInvalidKey
	case info.Kind == Foreign, info.Robot != "" && info.Robot != who.robot:
		return info, codeForeign
	case known && (info.Chat != who.chat || info.Conversation != who.conversation):
		return info, codeForeign
	case info.Kind == Expired:
		return info, codeExpired
	}
	return info, ""
}

func (s *Simulator) registered(robot, key string) (KeyInfo, bool) {
	if s.cfg.Lookup != nil {
		if info, ok := s.cfg.Lookup(robot, key); ok {
			return info, true
		}
	}
	s.keysMu.RLock()
	defer s.keysMu.RUnlock()
	info, ok := s.keys[key]
	return info, ok
}

// apply recalls the call's i-th key.
func (s *Simulator) apply(c *call, i int) {
	if !s.ledger.mark(c.hashes[i], flagRecalled) {
		c.recalled++
	}
}

// recallNone fails the whole call with the code of its first bad key.
func (s *Simulator) recallNone(c *call, fates []fate, bad int) answer {
	code := fates[bad].code
	c.failed = []string{code}
	var lists *recallBody
	if code == codeNotRevoke && s.cfg.NotRevokeRecallsRest {
		for i, f := range fates {
			if f.code == "" {
				s.apply(c, i)
			}
		}
	}
	if code == codeNotRevoke && s.cfg.NotRevokeLists {
		lists = &recallBody{Failed: map[string]string{}}
		for i, f := range fates {
			switch {
			case f.code != "":
				lists.Failed[c.keys[i]] = s.reason(c, c.keys[i], f.code)
			case s.cfg.NotRevokeRecallsRest:
				lists.Success = append(lists.Success, c.keys[i])
			}
		}
	}
	more := ""
	if s.cfg.NameKey {
		more = ": " + c.keys[bad]
	}
	a := refuseWith(c, code, more, lists)
	if len(c.keys) == 1 && final(code) {
		a.told = c.hashes
	}
	return a
}

// recallEach recalls the good keys and answers with both lists.
func (s *Simulator) recallEach(c *call, fates []fate, fault Fault) answer {
	body := recallBody{Success: make([]string, 0, len(c.keys)), Failed: map[string]string{}}
	told := make([]uint64, 0, len(c.keys))
	unmentioned := s.unmentioned(c, fault)
	for i, f := range fates {
		key := c.keys[i]
		if f.code == "" {
			s.apply(c, i)
		} else {
			c.failed = append(c.failed, f.code)
		}
		switch {
		case f.silent, unmentioned != nil && unmentioned[i]:
			continue
		case f.code != "":
			body.Failed[key] = s.reason(c, key, f.code)
		default:
			body.Success = append(body.Success, key)
			if fault == FaultRepeatedKey && len(body.Success) == 1 {
				body.Success = append(body.Success, key)
			}
			if fault == FaultBothLists && len(body.Success) == 1 {
				body.Failed[key] = "system error"
				continue // and so it is not told
			}
		}
		if f.code == "" || final(f.code) && s.cfg.Reasons != ReasonVague {
			told = append(told, c.hashes[i])
		}
	}
	if fault == FaultForeignKeys {
		rnd := mix(c.rnd ^ saltForeign)
		body.Success = append(body.Success, MakeKey(rnd, 1, Good, time.Time{}))
		body.Failed[MakeKey(rnd, 2, Good, time.Time{})] = s.reason(c, "", codeExpired)
	}
	switch fault {
	case FaultNotRevoke:
		return refuse(c, codeNotRevoke)
	case FaultNotRevokeLists:
		a := refuseWith(c, codeNotRevoke, "", &body)
		a.told = told
		return a
	case FaultEmptyLists:
		told = nil
	}
	label := "partial"
	switch len(c.failed) {
	case 0:
		label = "ok"
	case len(c.keys):
		label = "allFailed"
	}
	return answer{status: http.StatusOK, body: encode(shaped(body, fault)), label: label, told: told}
}

// unmentioned picks the keys that the fault missing-keys leaves out: each with odds of one half, and at least one.
func (s *Simulator) unmentioned(c *call, fault Fault) []bool {
	if fault != FaultMissingKeys {
		return nil
	}
	out := make([]bool, len(c.keys))
	rnd := mix(c.rnd ^ saltMissing)
	for i := range out {
		out[i] = rnd>>i&1 == 1
	}
	out[rnd>>32%uint64(len(out))] = true
	return out
}

// reason words why a key failed.
func (s *Simulator) reason(c *call, key, code string) string {
	style := s.cfg.Reasons
	draw := mixString(c.rnd^saltReason, key)
	switch {
	case style == ReasonVague:
		return "system error"
	case style == ReasonProse, style == ReasonMixed && draw%3 == 0:
		if prose := sayings[code].reason; prose != "" {
			return prose
		}
	case style == ReasonMixed && draw%3 == 1:
		return strings.ToUpper(strings.ReplaceAll(code, ".", "_"))
	}
	return code
}
