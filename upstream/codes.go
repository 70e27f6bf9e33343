package upstream

import "sort"

// Codes of this package's own, for what has none from the service. They and the documented ones are a closed list
// (Verdict.Known); bare statuses are "http." and the number.
const (
	CodeRequestKeys  = "request.keys"      // no keys, too many, repeated, or one that cannot be sent
	CodeRequestRobot = "request.robotCode" // a robotCode that cannot be sent
	// CodeRequestConversation is an openConversationId that cannot be sent.
	CodeRequestConversation = "request.openConversationId"

	CodeRequestToken       = "request.token"        // a token that cannot be sent
	CodeRequestCredentials = "request.credentials"  // app key, secret or organisation missing
	CodeRequestTicket      = "request.suiteTicket"  // no suite ticket could be read
	CodeTokenUnshared      = "token.unshared"       // not asked for, since the other processes could not be told of it
	CodeRequestURL         = "request.url"          // the base URL makes no request
	CodeNotSent            = "call.notSent"         // no connection
	CodeCanceled           = "call.canceled"        // our own context ended
	CodeTimeout            = "call.timeout"         // no full answer in time
	CodeCut                = "call.cut"             // the connection broke before the answer ended
	CodeRedirect           = "answer.redirect"      // a 3xx
	CodeTooLarge           = "answer.tooLarge"      // over the size limit
	CodeUnreadable         = "answer.unreadable"    // a 2xx that is no answer
	CodePage               = "answer.page"          // HTML where an answer should be
	CodeUnmentioned        = "answer.unmentioned"   // the answer does not speak of the key
	CodeContradictory      = "answer.contradictory" // the key is in both lists
	CodeIPRefused          = "ip.refused"           // {"status":1111,...}
	CodeUnknownReason      = "reason.unknown"       // a reason in failedResult that has no known code and is none itself
)

// CodeNoSuchRobot is the service's own: there is no such bot in the organisation. Said of one key, it is true of all keys of the robot.
const CodeNoSuchRobot = "invalidParameter.robotCode"

// codeNotRevoke is the service's own: not all messages that a key stands for were recalled.
const codeNotRevoke = "notRevoke.all.messages"

// rule is what is known of one code.
type rule struct {
	code string
	// call is the scope where a call with several keys failed with it, one where the call had a single key, key where it is the
	// reason of one key in failedResult.
	call, one, key Scope
	throttle       Throttle
	ambiguous      bool   // messages may have been recalled all the same
	robotSuspect   bool   // a wrong robotCode would explain it as well
	hint           string // what to do, for a person
}

const (
	hintCredentials = "check the app's key and secret, and that the base URL is that of its service (mainland or international)"
	hintSuiteKey    = "check the suite's key and secret (appKey, appSecret), and that the base URL is that of its service (mainland or international)"
	hintClient      = "check the app's client id and client secret (appKey, appSecret), and that the base URL is that of its service (mainland or international)"
	hintTicket      = "put the newest suite ticket into the app's suiteTicketFile: the service pushes one to the suite's callback about every five hours"
	hintCorp        = "check the app's corpId, and that this organisation has authorised the app"
	hintPermission  = "give the app the permission qyapi_robot_sendmsg in the developer console"
	hintBaseURL     = "check the base URL and the proxy settings: what answers there is not this API"
	hintBudget      = "the organisation's calls of this month are spent: buy more, or wait for the next month"
	hintIP          = "this machine's address is refused for about five minutes: call less, or from fewer processes"
	hintPage        = "a page came in place of an answer: this machine's address may be refused for about five minutes, or a proxy stands between"
	hintStale       = "the token is stale; if a fresh one is refused too, check the app's key and secret, and that the base URL is that of its service"
	hintNetwork     = "check the network, the proxy settings and the base URL"
	// hintConversation: chat and id have to be those of the sending.
	hintConversation = "check the openConversationId, and whether the messages were sent to a group or to a private chat"
	hintRobot        = "check the robotCode, and that the bot belongs to the organisation whose app this is"
)

// rules is everything known about codes. The nine of the call come first, in the order of the documentation.
//
// Three of them need a word. invalidParameter.param.invalid ("a parameter is empty or invalid") can be a key or the robotCode, and
// the service does not say which: it is taken for a key's, and marked as the robot's perhaps. ...processQueryKey.missing
// can only come if the service takes what we sent for nothing, so it is a key's too. ...overMax cannot come under 21 keys unless the
// limit was lowered: halving the batch is then right, and for one key it makes no sense, so it is unknown.
//
// notRevoke.all.messages ("not all messages were recalled") proves nothing for any key: one key stands for up to 20 people's messages, so even
// for a single key it may mean "some". It is tried again like system.error, and whoever it kills dies as ambiguous.
var rules = []rule{
	{code: CodeNoSuchRobot, call: RobotDead, key: KeyDead, robotSuspect: true, hint: hintRobot},
	{code: "invalidParameter.processQueryKeys.overMax", call: BatchKey, one: Unknown, key: Unknown},
	// Of a neighbour (documented for groupMessages/query). What it says holds for every key of the conversation.
	{code: "invalid.openConversationId", call: RobotDead, key: KeyDead, hint: hintConversation},
	{code: "not.allowed.robotCode", call: BatchKey, one: KeyDead, key: KeyDead, robotSuspect: true, hint: "the message was sent by another bot: submit the key with that bot's robotCode"},
	{code: "invalidParameter.param.invalid", call: BatchKey, one: KeyDead, key: KeyDead, robotSuspect: true},
	{code: "invalidParameter.processQueryKey.missing", call: BatchKey, one: KeyDead, key: KeyDead},
	{code: "invalid.processQueryKey", call: BatchKey, one: KeyDead, key: KeyDead},
	{code: "robot.processQueryKey.expired", call: BatchKey, one: KeyDead, key: KeyDead},
	{code: codeNotRevoke, call: Transient, key: Transient, ambiguous: true},
	{code: "system.error", call: Transient, key: Transient},

	// Tokens: a 400, not a 401 (documented, field). InvalidAccessToken is taken for a synonym.
	{code: "InvalidAuthentication", call: TokenStale, key: Transient, hint: hintStale},
	{code: "InvalidAccessToken", call: TokenStale, key: Transient, hint: hintStale},

	// The gateway's, all with the prefix of permission errors (documented; the statuses of the count limit are claimed).
	{code: "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", call: Throttled, key: Transient, throttle: ThrottleSecond},
	{code: "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi", call: Throttled, key: Transient, throttle: ThrottleMinute},
	{code: "Forbidden.AccessDenied.QpsLimitForSuitekeyAndOrgAndApi", call: Throttled, key: Transient, throttle: ThrottleSecond},
	{code: "Forbidden.AccessDenied.QpmLimitForSuitekeyAndOrgAndApi", call: Throttled, key: Transient, throttle: ThrottleMinute},
	{code: "Forbidden.AccessDenied.QpsLimitForApi", call: Throttled, key: Transient, throttle: ThrottleSecond},
	{code: "Forbidden.AccessDenied.ApiCountLimitForOrg", call: BudgetHold, key: Transient, hint: hintBudget},
	{code: "Forbidden.AccessDenied.AccessTokenPermissionDenied", call: AppHold, key: Transient, hint: hintPermission},
	{code: "Forbidden.AccessDenied.IpNotInWhiteList", call: AppHold, key: Transient, hint: "add this machine's address to the app's list of server addresses in the developer console"},
	{code: "InvalidAction.NotFound", call: AppHold, key: Transient, hint: hintBaseURL}, // claimed: how this kind of gateway says that there is no such call

	// Too frequent, and trouble over there (documented). "systemBusy" and "systemError" differ from these only in punctuation.
	{code: "system.busy", call: Throttled, key: Transient, throttle: ThrottleBusy},
	{code: "internalError", call: Transient, key: Transient},
	{code: "server.error", call: Transient, key: Transient},
	{code: "serviceBusy", call: Transient, key: Transient},
	{code: "operationTimeout", call: Transient, key: Transient, ambiguous: true},
	{code: "service.timeout", call: Transient, key: Transient, ambiguous: true},

	// Credentials, from the token calls (documented).
	{code: "invalidClientIdOrSecret", call: AppHold, key: Transient, hint: hintCredentials},
	{code: "invalidSuiteKey", call: AppHold, key: Transient, hint: hintSuiteKey},
	{code: "invalidSuiteTicket", call: AppHold, key: Transient, hint: hintTicket},
	{code: "invalidAuthInfo", call: AppHold, key: Transient, hint: hintCorp},
	{code: "invalid.client", call: AppHold, key: Transient, hint: hintClient},
	{code: "unauthorized.client", call: AppHold, key: Transient, hint: hintCorp},

	// Our own: failures without a code of the service's.
	{code: CodeRequestKeys, call: BatchKey, one: KeyDead, key: KeyDead},
	{code: CodeRequestRobot, call: RobotDead, key: KeyDead, robotSuspect: true},
	{code: CodeRequestConversation, call: RobotDead, key: KeyDead, hint: hintConversation},
	{code: CodeRequestToken, call: AppHold, key: Transient, hint: hintCredentials},
	{code: CodeRequestCredentials, call: AppHold, key: Transient, hint: hintCredentials},
	{code: CodeRequestTicket, call: AppHold, key: Transient, hint: hintTicket},
	{code: CodeTokenUnshared, call: Transient, key: Transient, hint: "check Redis, through which the workers share the token"},
	{code: CodeRequestURL, call: AppHold, key: Transient, hint: hintBaseURL},
	{code: CodeNotSent, call: Transient, key: Transient, hint: hintNetwork},
	{code: CodeCanceled, call: Transient, key: Transient},
	{code: CodeTimeout, call: Transient, key: Transient},
	{code: CodeCut, call: Transient, key: Transient},
	{code: CodeRedirect, call: AppHold, key: Transient, hint: hintBaseURL},
	{code: CodeTooLarge, call: Transient, key: Transient, hint: hintBaseURL},
	{code: CodeUnreadable, call: Unknown, key: Unknown, hint: hintBaseURL},
	{code: CodePage, call: Throttled, key: Transient, throttle: ThrottleIP, hint: hintPage},
	{code: CodeUnmentioned, call: Transient, key: Transient, ambiguous: true}, // done without a word, perhaps
	{code: CodeContradictory, call: Transient, key: Transient, ambiguous: true},
	{code: CodeIPRefused, call: Throttled, key: Transient, throttle: ThrottleIP, hint: hintIP},
	{code: CodeUnknownReason, call: Unknown, key: Unknown},
}

// byFolded finds a rule by its folded code. longestFirst are the service's codes as they are looked for in prose: the longest
// first, since it says the most.
var byFolded, longestFirst = indexRules()

type foldedRule struct {
	folded string
	rule   *rule
}

func indexRules() (map[string]*rule, []foldedRule) {
	index := make(map[string]*rule, len(rules))
	prose := make([]foldedRule, 0, len(rules))
	own := false
	for i := range rules {
		r := &rules[i]
		if r.one == 0 {
			r.one = r.call
		}
		folded := fold(r.code)
		index[folded] = r
		own = own || r.code == CodeRequestKeys
		if !own {
			prose = append(prose, foldedRule{folded, r})
		}
	}
	sort.SliceStable(prose, func(i, j int) bool { return len(prose[i].folded) > len(prose[j].folded) })
	return index, prose
}

// KnownCodes lists every code that a Verdict may carry with Known set, but for the "http." ones.
func KnownCodes() []string {
	codes := make([]string, len(rules))
	for i := range rules {
		codes[i] = rules[i].code
	}
	return codes
}

// fold reduces a code to lower-case letters and digits: "SYSTEM_ERROR", "system error" and "system.error" are one.
func fold(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b = append(b, c)
		case c >= 'A' && c <= 'Z':
			b = append(b, c+'a'-'A')
		}
	}
	return string(b)
}
