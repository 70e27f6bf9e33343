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

func TestUntilProbe(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	east, west := time.FixedZone("east", 14*3600), time.FixedZone("west", -12*3600)
	for _, c := range []struct {
		now  string
		zone *time.Location
		want time.Duration
	}{
		// December begins in Shanghai at 16:00 in Greenwich.
		{"2026-11-30T15:59:00Z", nil, 2 * time.Minute},
		{"2026-11-30T15:59:59Z", nil, 61 * time.Second},
		{"2026-11-30T16:00:00Z", nil, 0},
		{"2026-11-30T16:01:00Z", nil, 0},
		{"2026-12-02T03:59:59Z", nil, 0}, // 36 hours
		{"2026-12-02T04:00:00Z", nil, 29*day - 14*time.Hour + time.Minute},
		{"2026-12-30T14:00:00Z", nil, time.Minute}, // 26 hours before the turn
		{"2026-12-30T14:00:59Z", nil, time.Second},
		{"2026-12-30T14:01:00Z", nil, 2 * time.Hour},
		{"2026-12-30T14:01:01Z", nil, 2*time.Hour - time.Second},
		{"2026-12-31T14:01:00Z", nil, 2 * time.Hour},
		{"2026-12-31T14:30:00Z", nil, 91 * time.Minute},

		{"2026-11-30T15:59:00Z", time.UTC, 2 * time.Minute},
		{"2026-11-30T22:30:00Z", time.UTC, 91 * time.Minute},
		{"2026-12-01T00:00:00Z", time.UTC, 0},
		{"2026-11-30T15:59:00Z", east, 0},
		{"2026-11-30T15:59:00Z", west, 2 * time.Minute},
		{"2026-11-30T09:59:00Z", east, 2 * time.Minute},
		{"2027-02-10T00:00:00Z", time.UTC, 19*day - 26*time.Hour + time.Minute},
		{"2028-02-10T00:00:00Z", time.UTC, 20*day - 26*time.Hour + time.Minute},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := untilProbe(now, c.zone); got != c.want {
			t.Errorf("at %s, in %v: %v, want %v", c.now, c.zone, got, c.want)
		}
	}
}

// TestNoMonthIsLost holds an app in the middle of a month, whichever zone it is taken to turn in and whichever it turns in, and probes until
// the service's month has turned.
func TestNoMonthIsLost(t *testing.T) {
	t.Parallel()
	const base, most = time.Minute, 30 * time.Minute
	for ours := -12; ours <= 14; ours++ {
		for theirs := -12; theirs <= 14; theirs++ {
			zone := time.FixedZone("ours", ours*3600)
			turns := time.Date(2026, 12, 1, 0, 0, 0, 0, time.FixedZone("theirs", theirs*3600))
			now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
			every, probes := max(base, untilProbe(now, zone)), 0
			for now = now.Add(every); now.Before(turns); now = now.Add(every) {
				probes++
				every = max(base, untilProbe(now, zone), min(most, 2*every)) // as the key store doubles it
			}
			late := most // the service's month turns with the zone's or later
			if theirs > ours {
				late = earlyProbe
			}
			if got := now.Sub(turns); got > late {
				t.Errorf("ours %+d, theirs %+d: found %v after the turn", ours, theirs, got)
			}
			if probes > 70 {
				t.Errorf("ours %+d, theirs %+d: %d probes", ours, theirs, probes)
			}
		}
	}
}
