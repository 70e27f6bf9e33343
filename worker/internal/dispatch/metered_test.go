package dispatch

import (
	"testing"
	"time"

	"dingrecall/upstream"
)

// TestMetered: by the official documentation throttled calls do not count, nor calls that never arrived; others do, since nobody says
// otherwise.
func TestMetered(t *testing.T) {
	t.Parallel()
	service := func(status int, code string) *upstream.Error {
		return &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassService, Status: status, Code: code}
	}
	for name, c := range map[string]struct {
		e    *upstream.Error
		want bool
	}{
		"never sent":           {&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassNotSent}, false},
		"wrong in itself":      {&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassRequest}, false},
		"ended before sending": {&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassCanceled}, false},
		"ended after sending":  {&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassCanceled, Lost: true}, true},
		"no answer in time":    {&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassTimeout, Lost: true}, true},
		"cut":                  {&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassCut, Lost: true}, true},
		"unreadable":           {&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassUnreadable, Status: 200, Lost: true}, true},
		"throttled per second": {service(403, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"), false},
		"throttled per minute": {service(403, "Forbidden.AccessDenied.QpmLimitForSuitekeyAndOrgAndApi"), false},
		"busy":                 {service(429, "system.busy"), false},
		"address refused":      {&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassUnreadable, Status: 200, Banned: true}, false},
		"the month is spent":   {service(403, "Forbidden.AccessDenied.ApiCountLimitForOrg"), false},
		"system.error":         {service(500, "system.error"), true},
		"bare 502":             {service(502, ""), true},
		"a bad key":            {service(400, "invalid.processQueryKey"), true},
		"no permission":        {service(403, "Forbidden.AccessDenied.AccessTokenPermissionDenied"), true},
		"stale token":          {service(400, "InvalidAuthentication"), true},
	} {
		if got := metered(c.e); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestUntilNextMonthInAnyZone(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 15, 59, 0, 0, time.UTC)
	if got := untilNextMonth(at, nil); got != 2*time.Minute {
		t.Errorf("in Shanghai: %v", got)
	}
	if got := untilNextMonth(at, time.UTC); got != 8*time.Hour+2*time.Minute {
		t.Errorf("in UTC: %v", got)
	}
}
