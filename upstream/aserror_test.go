package upstream

import (
	"strings"
	"testing"
)

// failedWith is the answer to a call of as many keys as there are reasons: all in failedResult.
func failedWith(reasons ...string) Answer {
	a := Answer{RequestID: "rid", Failed: map[string]string{}}
	for i, reason := range reasons {
		a.Failed[string(rune('a'+i))] = reason
	}
	return a
}

func TestAnswersThatAreErrors(t *testing.T) {
	t.Parallel()
	const qps, month = "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", "Forbidden.AccessDenied.ApiCountLimitForOrg"
	each := func(reason string) Answer { return failedWith(reason, reason, reason) }
	for name, c := range map[string]struct {
		answer Answer
		scope  Scope // 0: it is an answer
		code   string
		lost   bool
	}{
		"prose":                          {each("system error"), Transient, "system.error", false},
		"a code in capitals":             {each("SYSTEM_ERROR"), Transient, "system.error", false},
		"spelt in two ways":              {failedWith("system.error", "SYSTEM_ERROR", "system error"), Transient, "system.error", false},
		"two keys":                       {failedWith("internalError", "internalError"), Transient, "internalError", false},
		"an object":                      {each(`{"code":"system.error","message":"x"}`), Transient, "system.error", false},
		"a text that names the key":      {failedWith("key a: system error", "key b: system error"), Transient, "system.error", false},
		"nobody knows what was done":     {each("service.timeout"), Transient, "service.timeout", true},
		"a throttle":                     {each(qps), Throttled, qps, false},
		"a throttle of a new kind":       {each("Forbidden.AccessDenied.QpmLimitForRobot"), Throttled, "Forbidden.AccessDenied.QpmLimitForRobot", false},
		"busy":                           {each("systemBusy"), Throttled, "system.busy", false},
		"the month's calls":              {each(month), BudgetHold, month, false},
		"a permission":                   {each("Forbidden.AccessDenied.AccessTokenPermissionDenied"), AppHold, "Forbidden.AccessDenied.AccessTokenPermissionDenied", false},
		"a stale token":                  {each("InvalidAuthentication"), TokenStale, "InvalidAuthentication", false},
		"one key":                        {failedWith("system error"), 0, "", false},
		"no key":                         {Answer{}, 0, "", false},
		"two reasons":                    {failedWith("system error", "internalError"), 0, "", false},
		"one key is invalid":             {failedWith("system error", "system error", "invalid.processQueryKey"), 0, "", false},
		"all are invalid":                {each("invalid.processQueryKey"), 0, "", false},
		"all have expired":               {each("robot.processQueryKey.expired"), 0, "", false},
		"another robot's":                {each("not.allowed.robotCode"), 0, "", false},
		"no such robot":                  {each(CodeNoSuchRobot), 0, "", false},
		"no such conversation":           {each("invalid.openConversationId"), 0, "", false},
		"some of each key's messages":    {each("notRevoke.all.messages"), 0, "", false},
		"prose that nobody knows":        {each("no idea at all!"), 0, "", false},
		"a code that nobody knows":       {each("brand.new"), 0, "", false},
		"nothing":                        {each(""), 0, "", false},
		"one is recalled":                {Answer{Recalled: []string{"z"}, Failed: each("system error").Failed}, 0, "", false},
		"one is not mentioned":           {Answer{Unmentioned: []string{"z"}, Failed: each("system error").Failed}, 0, "", false},
		"one is in both lists":           {Answer{Both: []string{"z"}, Failed: each("system error").Failed}, 0, "", false},
		"keys that nobody asked for too": {Answer{Foreign: 2, RequestID: "rid", Failed: each("system error").Failed}, Transient, "system.error", false},
	} {
		e := c.answer.AsError()
		if e == nil || c.scope == 0 {
			if e != nil || c.scope != 0 {
				t.Errorf("%s: %v, want scope %v", name, e, c.scope)
			}
			continue
		}
		v := e.Verdict(len(c.answer.Failed))
		if v.Scope != c.scope || v.Code != c.code || v.Ambiguous != c.lost || v.Message == "" || e.Message == "" {
			t.Errorf("%s: %+v of %+v", name, v, e)
		}
		if e.Op != OpRecall || e.Class != ClassService || e.Status != 200 || e.RequestID != "rid" || e.Lost != c.lost || !strings.Contains(e.Error(), "answered 200 "+c.code) {
			t.Errorf("%s: %v", name, e)
		}
		if e.Partial == nil || len(e.Partial.Failed) != len(c.answer.Failed) {
			t.Errorf("%s: what was said of each key is lost: %+v", name, e.Partial)
		}
	}
}
