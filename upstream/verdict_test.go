package upstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// documented is every code that the official text has for this call or for all calls, and what each means: as the error of a call with
// one key and with twenty, and as the reason of one key.
var documented = []struct {
	status           int
	code             string
	one, many, key   Scope
	throttle         Throttle
	ambiguous, robot bool
}{
	{status: 400, code: "invalidParameter.robotCode", one: RobotDead, many: RobotDead, key: KeyDead, robot: true},
	{status: 400, code: "invalidParameter.processQueryKeys.overMax", one: Unknown, many: BatchKey, key: Unknown},
	{status: 400, code: "invalid.openConversationId", one: RobotDead, many: RobotDead, key: KeyDead},
	{status: 400, code: "not.allowed.robotCode", one: KeyDead, many: BatchKey, key: KeyDead, robot: true},
	{status: 400, code: "invalidParameter.param.invalid", one: KeyDead, many: BatchKey, key: KeyDead, robot: true},
	{status: 400, code: "invalidParameter.processQueryKey.missing", one: KeyDead, many: BatchKey, key: KeyDead},
	{status: 400, code: "invalid.processQueryKey", one: KeyDead, many: BatchKey, key: KeyDead},
	{status: 400, code: "robot.processQueryKey.expired", one: KeyDead, many: BatchKey, key: KeyDead},
	{status: 400, code: "notRevoke.all.messages", one: Transient, many: Transient, key: Transient, ambiguous: true},
	{status: 500, code: "system.error", one: Transient, many: Transient, key: Transient},

	{status: 400, code: "InvalidAuthentication", one: TokenStale, many: TokenStale, key: Transient},
	{status: 401, code: "InvalidAccessToken", one: TokenStale, many: TokenStale, key: Transient},
	{status: 403, code: "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", one: Throttled, many: Throttled, key: Transient, throttle: ThrottleSecond},
	{status: 403, code: "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi", one: Throttled, many: Throttled, key: Transient, throttle: ThrottleMinute},
	{status: 403, code: "Forbidden.AccessDenied.QpsLimitForSuitekeyAndOrgAndApi", one: Throttled, many: Throttled, key: Transient, throttle: ThrottleSecond},
	{status: 403, code: "Forbidden.AccessDenied.QpmLimitForSuitekeyAndOrgAndApi", one: Throttled, many: Throttled, key: Transient, throttle: ThrottleMinute},
	{status: 403, code: "Forbidden.AccessDenied.QpsLimitForApi", one: Throttled, many: Throttled, key: Transient, throttle: ThrottleSecond},
	{status: 403, code: "Forbidden.AccessDenied.ApiCountLimitForOrg", one: BudgetHold, many: BudgetHold, key: Transient},
	{status: 403, code: "Forbidden.AccessDenied.AccessTokenPermissionDenied", one: AppHold, many: AppHold, key: Transient},
	{status: 403, code: "Forbidden.AccessDenied.IpNotInWhiteList", one: AppHold, many: AppHold, key: Transient},
	{status: 429, code: "system.busy", one: Throttled, many: Throttled, key: Transient, throttle: ThrottleBusy},
	{status: 500, code: "internalError", one: Transient, many: Transient, key: Transient},
	{status: 500, code: "server.error", one: Transient, many: Transient, key: Transient},
	{status: 503, code: "serviceBusy", one: Transient, many: Transient, key: Transient},
	{status: 504, code: "operationTimeout", one: Transient, many: Transient, key: Transient, ambiguous: true},
	{status: 504, code: "service.timeout", one: Transient, many: Transient, key: Transient, ambiguous: true},

	{status: 400, code: "invalidClientIdOrSecret", one: AppHold, many: AppHold, key: Transient},
	{status: 400, code: "invalidSuiteKey", one: AppHold, many: AppHold, key: Transient},
	{status: 400, code: "invalidSuiteTicket", one: AppHold, many: AppHold, key: Transient},
	{status: 400, code: "invalidAuthInfo", one: AppHold, many: AppHold, key: Transient},
	{status: 400, code: "invalid.client", one: AppHold, many: AppHold, key: Transient},
	{status: 401, code: "unauthorized.client", one: AppHold, many: AppHold, key: Transient},
}

// spellings are the ways in which a code may come: the service is not consistent, and reasons are of unknown form.
func spellings(code string) map[string]string {
	return map[string]string{
		"as documented": code,
		"upper case":    strings.ToUpper(code),
		"lower case":    strings.ToLower(code),
		"underscores":   strings.ReplaceAll(code, ".", "_"),
		"spaces":        strings.ReplaceAll(code, ".", " "),
		"hyphens":       strings.ToUpper(strings.ReplaceAll(code, ".", "-")),
		"run together":  strings.ReplaceAll(code, ".", ""),
		"full stop":     code + ".",
		"in Chinese":    "撤回失败：" + code + "，请重试",
		"in prose":      "Recall failed, error code: " + code + " (see the manual)",
		"in JSON":       `{"code":"` + code + `","message":"x"}`,
	}
}

func TestJudgeDocumentedCodes(t *testing.T) {
	t.Parallel()
	for _, row := range documented {
		for spelling, text := range spellings(row.code) {
			t.Run(row.code+"/"+spelling, func(t *testing.T) {
				t.Parallel()
				cases := map[string]struct {
					got  Verdict
					want Scope
				}{
					"one key":     {Judge(Signal{Op: OpRecall, Class: ClassService, Status: row.status, Code: text, Message: "m", Keys: 1}), row.one},
					"twenty keys": {Judge(Signal{Op: OpRecall, Class: ClassService, Status: row.status, Code: text, Message: "m", Keys: 20}), row.many},
					"in a 200":    {Judge(Signal{Op: OpRecall, Status: 200, Code: text, Message: "m", Keys: 20}), row.many},
					"reason":      {JudgeReason(text), row.key},
				}
				for name, c := range cases {
					v := c.got
					if v.Scope != c.want || v.Code != row.code || !v.Known || v.Ambiguous != row.ambiguous || v.RobotSuspect != row.robot || v.Message == "" {
						t.Errorf("%s: %+v, want scope %v, code %s, ambiguous %v, robot suspect %v", name, v, c.want, row.code, row.ambiguous, row.robot)
					}
					throttle := row.throttle
					if v.Scope != Throttled {
						throttle = ThrottleNone
					}
					if v.Throttle != throttle || v.Rest != throttle.rest() {
						t.Errorf("%s: throttle %v with a rest of %v, want %v", name, v.Throttle, v.Rest, throttle)
					}
				}
			})
		}
	}
}

// TestTableIsTested: whoever adds a code to the table adds its row here.
func TestTableIsTested(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, row := range documented {
		listed = append(listed, row.code)
	}
	service := KnownCodes()
	service = service[:slices.Index(service, CodeRequestKeys)]
	for _, code := range service {
		if code != "InvalidAction.NotFound" && !slices.Contains(listed, code) {
			t.Errorf("%s has no row", code)
		}
	}
	if len(service) != len(documented)+1 {
		t.Errorf("%d codes in the table, %d rows", len(service), len(documented))
	}
	for _, synonym := range []struct{ code, canonical string }{{"systemBusy", "system.busy"}, {"systemError", "system.error"}, {"SYSTEM_ERROR", "system.error"}, {"system error", "system.error"}} {
		if v := JudgeReason(synonym.code); v.Code != synonym.canonical {
			t.Errorf("%s is %+v, want %s", synonym.code, v, synonym.canonical)
		}
	}
}

// TestJudgeEveryStatus: a bare status, without a code.
func TestJudgeEveryStatus(t *testing.T) {
	t.Parallel()
	want := map[int]Scope{
		401: TokenStale, 402: AppHold, 403: AppHold, 404: AppHold, 405: AppHold, 407: AppHold, 408: Transient, 410: AppHold, 425: Transient, 429: Throttled,
	}
	for status := 200; status < 600; status++ {
		expected, ok := want[status]
		switch {
		case status >= 500:
			expected = Transient
		case status >= 300 && status < 400:
			expected = AppHold
		case !ok:
			expected = Unknown
		}
		v := Judge(Signal{Op: OpRecall, Class: ClassService, Status: status, Keys: 20})
		if v.Scope != expected || v.Code == "" || !v.Known {
			t.Errorf("%d: %+v, want %v", status, v, expected)
		}
		page := Judge(Signal{Op: OpRecall, Class: ClassService, Status: status, HTML: true, Keys: 20})
		if ip := status == 429 || (expected == Unknown || status == 402 || status == 403); ip {
			expected = Throttled
			if page.Throttle != ThrottleIP || page.Rest != 5*time.Minute {
				t.Errorf("%d with a page: %+v, want the rest of a refused address", status, page)
			}
		}
		if page.Scope != expected {
			t.Errorf("%d with a page: %+v, want %v", status, page, expected)
		}
	}
}

func TestJudgeTheRest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		signal Signal
		scope  Scope
		code   string
		check  func(Verdict) bool
	}{
		{"not sent", Signal{Class: ClassNotSent, Keys: 20}, Transient, CodeNotSent, func(v Verdict) bool { return v.Blameless && !v.Ambiguous }},
		{"canceled", Signal{Class: ClassCanceled, Lost: true, Keys: 20}, Transient, CodeCanceled, func(v Verdict) bool { return v.Blameless && v.Ambiguous }},
		{"timeout", Signal{Class: ClassTimeout, Lost: true, Keys: 20}, Transient, CodeTimeout, func(v Verdict) bool { return !v.Blameless && v.Ambiguous }},
		{"cut", Signal{Class: ClassCut, Lost: true, Keys: 20}, Transient, CodeCut, func(v Verdict) bool { return !v.Blameless && v.Ambiguous }},
		{"cut 200", Signal{Class: ClassCut, Status: 200, Lost: true, Keys: 20}, Transient, CodeCut, nil},
		{"cut 429", Signal{Class: ClassCut, Status: 429, Keys: 20}, Throttled, "http.429", nil},
		{"too large", Signal{Class: ClassTooLarge, Status: 200, Lost: true, Keys: 20}, Transient, CodeTooLarge, nil},
		{"banned 200", Signal{Status: 200, Banned: true, Keys: 20}, Throttled, CodeIPRefused, func(v Verdict) bool { return v.Throttle == ThrottleIP && v.Blameless && v.Rest == 5*time.Minute }},
		{"banned 500", Signal{Status: 500, Banned: true, Keys: 20}, Throttled, CodeIPRefused, nil},
		{"retry after a throttle", Signal{Status: 429, RetryAfter: 7 * time.Second, Keys: 20}, Throttled, "http.429", func(v Verdict) bool { return v.Rest == 7*time.Second && v.Blameless }},
		{"retry after a failure", Signal{Status: 503, RetryAfter: 9 * time.Second, Keys: 20}, Transient, "http.503", func(v Verdict) bool { return v.Rest == 9*time.Second && !v.Blameless }},
		{"qps of a new kind", Signal{Status: 403, Code: "Forbidden.AccessDenied.QpsLimitForRobot", Keys: 20}, Throttled, "Forbidden.AccessDenied.QpsLimitForRobot", func(v Verdict) bool { return v.Throttle == ThrottleSecond && !v.Known }},
		{"qpm of a new kind", Signal{Status: 403, Code: "forbidden.accessDenied.QPMPermissionLimit", Keys: 20}, Throttled, "forbidden.accessDenied.QPMPermissionLimit", func(v Verdict) bool { return v.Throttle == ThrottleMinute && v.Rest == time.Minute }},
		{"count of a new kind", Signal{Status: 403, Code: "Forbidden.AccessDenied.ApiCountLimitForApp", Keys: 20}, BudgetHold, "Forbidden.AccessDenied.ApiCountLimitForApp", nil},
		{"permission of a new kind", Signal{Status: 403, Code: "Forbidden.AccessDenied.Other", Keys: 20}, AppHold, "Forbidden.AccessDenied.Other", nil},
		{"family as a reason", Signal{PerKey: true, Failed: true, Reason: "Forbidden.AccessDenied.QpsLimitForRobot"}, Transient, "Forbidden.AccessDenied.QpsLimitForRobot", nil},
		{"unknown 400", Signal{Status: 400, Code: "brand.new", Keys: 20}, Unknown, "brand.new", func(v Verdict) bool { return !v.Known }},
		{"unknown 403", Signal{Status: 403, Code: "brand.new", Keys: 20}, Unknown, "brand.new", nil},
		{"unknown 404", Signal{Status: 404, Code: "brand.new", Keys: 20}, Unknown, "brand.new", nil},
		{"no such call", Signal{Status: 404, Code: "InvalidAction.NotFound", Keys: 20}, AppHold, "InvalidAction.NotFound", nil},
		{"unknown 401", Signal{Status: 401, Code: "brand.new", Keys: 20}, TokenStale, "brand.new", nil},
		{"unknown 429", Signal{Status: 429, Code: "brand.new", Keys: 20}, Throttled, "brand.new", func(v Verdict) bool { return v.Throttle == ThrottleBusy }},
		{"unknown 500", Signal{Status: 500, Code: "brand.new", Keys: 20}, Transient, "brand.new", nil},
		{"unknown 200", Signal{Status: 200, Code: "0", Keys: 20}, Unknown, "0", nil},
		{"code of control characters", Signal{Status: 400, Code: "\x01\x02", Keys: 20}, Unknown, CodeUnknownReason, nil},
		{"message is not read", Signal{Status: 400, Code: "brand.new", Message: "robot.processQueryKey.expired", Keys: 1}, Unknown, "brand.new", nil},
		{"scopes", Signal{Status: 403, Code: "Forbidden.AccessDenied.AccessTokenPermissionDenied", RequiredScopes: []string{"a_scope"}, Keys: 2}, AppHold, "Forbidden.AccessDenied.AccessTokenPermissionDenied", func(v Verdict) bool { return strings.Contains(v.Hint, "a_scope") && v.Blameless }},
		{"no scopes", Signal{Status: 403, Code: "Forbidden.AccessDenied.AccessTokenPermissionDenied", Keys: 2}, AppHold, "Forbidden.AccessDenied.AccessTokenPermissionDenied", func(v Verdict) bool { return strings.Contains(v.Hint, "qyapi_robot_sendmsg") }},
		{"scopes of a new kind of refusal", Signal{Status: 403, Code: "brand.new", RequiredScopes: []string{"a_scope", "b_scope"}, Keys: 2}, AppHold, "brand.new", func(v Verdict) bool { return strings.Contains(v.Hint, "a_scope, b_scope") && v.Blameless && !v.Known }},
		{"scopes without a code", Signal{Status: 403, RequiredScopes: []string{"a_scope"}, Keys: 2}, AppHold, "http.403", func(v Verdict) bool { return strings.Contains(v.Hint, "a_scope") }},
		{"scopes with an address that may not call", Signal{Status: 403, Code: "Forbidden.AccessDenied.IpNotInWhiteList", RequiredScopes: []string{"a_scope"}, Keys: 2}, AppHold, "Forbidden.AccessDenied.IpNotInWhiteList", func(v Verdict) bool { return strings.Contains(v.Hint, "address") }},
		{"scopes with a throttle", Signal{Status: 403, Code: "Forbidden.AccessDenied.QpsLimitForApi", RequiredScopes: []string{"a_scope"}, Keys: 2}, Throttled, "Forbidden.AccessDenied.QpsLimitForApi", func(v Verdict) bool { return v.Hint == "" }},
		{"token call, said of a robot", Signal{Op: OpToken, Status: 400, Code: "not.allowed.robotCode"}, AppHold, "not.allowed.robotCode", func(v Verdict) bool { return v.Hint == hintCredentials }},
		{"recalled", Signal{PerKey: true, Recalled: true}, Done, "", nil},
		{"not mentioned", Signal{PerKey: true}, Transient, CodeUnmentioned, func(v Verdict) bool { return !v.Blameless && v.Ambiguous }},
		{"in both", Signal{PerKey: true, Recalled: true, Failed: true, Reason: "invalid.processQueryKey"}, Transient, CodeContradictory, func(v Verdict) bool { return v.Ambiguous && strings.Contains(v.Message, "invalid.processQueryKey") }},
		{"empty reason", Signal{PerKey: true, Failed: true}, Unknown, CodeUnknownReason, nil},
		{"reason like a code", Signal{PerKey: true, Failed: true, Reason: "robot.brand_new"}, Unknown, "robot.brand_new", func(v Verdict) bool { return !v.Known }},
		{"reason in prose", Signal{PerKey: true, Failed: true, Reason: "something else\nhappened"}, Unknown, CodeUnknownReason, func(v Verdict) bool { return v.Message == "something else happened" }},
		{"two thoughts are no code", Signal{PerKey: true, Failed: true, Reason: "robotCode invalid, processQueryKey fine"}, Unknown, CodeUnknownReason, nil},
		{"two sentences are no code", Signal{PerKey: true, Failed: true, Reason: "It was invalid. ProcessQueryKey given"}, Unknown, CodeUnknownReason, nil},
		{"part of a word is no code", Signal{PerKey: true, Failed: true, Reason: "subsystem.errors found"}, Unknown, CodeUnknownReason, nil},
		{"the longest says the most", Signal{PerKey: true, Failed: true, Reason: "system.error: robot.processQueryKey.expired"}, KeyDead, "robot.processQueryKey.expired", nil},
		{"token call, unknown", Signal{Op: OpToken, Status: 400, Code: "brand.new"}, AppHold, "brand.new", nil},
		{"token call, parameter", Signal{Op: OpToken, Status: 400, Code: "invalidParameter.param.invalid"}, AppHold, "invalidParameter.param.invalid", nil},
		{"token call, 401", Signal{Op: OpToken, Status: 401}, AppHold, "http.401", nil},
		{"token call, 500", Signal{Op: OpToken, Status: 500}, Transient, "http.500", nil},
		{"token call, throttled", Signal{Op: OpToken, Status: 429}, Throttled, "http.429", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := Judge(test.signal)
			if v.Scope != test.scope || v.Code != test.code {
				t.Errorf("%+v, want scope %v and code %q", v, test.scope, test.code)
			}
			if test.check != nil && !test.check(v) {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestNamesOfScopesAndThrottles(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range Scopes() {
		if name := s.String(); name == "" || seen[name] || strings.Contains(name, "(") {
			t.Errorf("scope %d is called %q", int(s), name)
		}
		seen[s.String()] = true
	}
	if len(seen) != int(Unknown) {
		t.Errorf("%d names for %d scopes", len(seen), int(Unknown))
	}
	for throttle, want := range throttleNames {
		if got := Throttle(throttle).String(); got != want || got == "" {
			t.Errorf("throttle %d is called %q", throttle, got)
		}
	}
	if Scope(0).String() != "scope(0)" || Throttle(99).String() != "throttle(99)" {
		t.Errorf("%v %v", Scope(0), Throttle(99))
	}
}

// checkVerdict is what holds of every verdict whatever the signal.
func checkVerdict(s Signal, v Verdict) error {
	switch {
	case !slices.Contains(Scopes(), v.Scope):
		return fmt.Errorf("scope %v is none", v.Scope)
	case v.Code == "" && v.Scope != Done:
		return fmt.Errorf("no code")
	case v.Scope == Done && (!s.PerKey || !s.Recalled || s.Failed):
		return fmt.Errorf("done without its being said")
	case v.Scope == BatchKey && s.Keys <= 1:
		return fmt.Errorf("a batch of %d keys has one bad key among several", s.Keys)
	case s.PerKey && !slices.Contains([]Scope{Done, KeyDead, Transient, Unknown}, v.Scope):
		return fmt.Errorf("scope %v for a single key", v.Scope)
	case s.Op == OpToken && !s.PerKey && !slices.Contains([]Scope{AppHold, BudgetHold, Throttled, Transient}, v.Scope):
		return fmt.Errorf("scope %v for a token call", v.Scope)
	case (v.Throttle != ThrottleNone) != (v.Scope == Throttled):
		return fmt.Errorf("throttle %v with scope %v", v.Throttle, v.Scope)
	case v.Scope == Throttled && (v.Rest <= 0 || !v.Blameless):
		return fmt.Errorf("throttled with a rest of %v", v.Rest)
	case s.Lost && !s.PerKey && !v.Ambiguous:
		return fmt.Errorf("lost and not ambiguous")
	case !utf8.ValidString(v.Message) || !utf8.ValidString(v.Code):
		return fmt.Errorf("not UTF-8")
	case utf8.RuneCountInString(v.Message) > MaxMessageRunes || utf8.RuneCountInString(v.Code) > maxCodeRunes:
		return fmt.Errorf("too long")
	case strings.ContainsAny(v.Message+v.Code, "\n\r\x00\x1b"):
		return fmt.Errorf("control characters")
	}
	return nil
}
