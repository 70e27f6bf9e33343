package flow

import (
	"archive/zip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestMonth(t *testing.T) {
	t.Parallel()
	cases := []struct {
		zone, at    string
		from, turns string // UTC
	}{
		{"Asia/Shanghai", "2026-11-23T05:52:00Z", "2026-10-31T16:00:00Z", "2026-11-30T16:00:00Z"},
		{"Asia/Shanghai", "2026-11-30T15:59:59Z", "2026-10-31T16:00:00Z", "2026-11-30T16:00:00Z"},
		{"Asia/Shanghai", "2026-11-30T16:00:00Z", "2026-11-30T16:00:00Z", "2026-12-31T16:00:00Z"},
		{"Asia/Shanghai", "2026-12-31T16:00:00Z", "2026-12-31T16:00:00Z", "2027-01-31T16:00:00Z"},
		{"UTC", "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		// Summer time ends on 1 November in New York in 2026, at 2:00: the month has an hour more.
		{"America/New_York", "2026-11-15T00:00:00Z", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"},
		{"Pacific/Kiritimati", "2026-11-30T10:00:00Z", "2026-11-30T10:00:00Z", "2026-12-31T10:00:00Z"},
		{"Pacific/Pago_Pago", "2026-12-01T10:59:59Z", "2026-11-01T11:00:00Z", "2026-12-01T11:00:00Z"},
		{"Africa/Cairo", "2026-05-10T00:00:00Z", "2026-04-30T21:00:00Z", "2026-05-31T21:00:00Z"},
	}
	for _, c := range cases {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		from, turns := Month(at, zone(t, c.zone))
		if got := from.UTC().Format(time.RFC3339); got != c.from {
			t.Errorf("%s at %s: the month began at %s, want %s", c.zone, c.at, got, c.from)
		}
		if got := turns.UTC().Format(time.RFC3339); got != c.turns {
			t.Errorf("%s at %s: the month turns at %s, want %s", c.zone, c.at, got, c.turns)
		}
	}
}

// zones lists the time zones of the database.
func zones(t *testing.T) []string {
	t.Helper()
	z, err := zip.OpenReader(filepath.Join(runtime.GOROOT(), "lib", "time", "zoneinfo.zip")) //nolint:staticcheck // where the tests run, Go is installed
	if err != nil {
		t.Fatal(err) // a law that was not tried must not pass
	}
	defer z.Close()
	var names []string
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, "/") {
			names = append(names, f.Name)
		}
	}
	return names
}

// TestMonthInAnyZone holds the borders of 60 years against what clocks show around them, in every zone of the database.
func TestMonthInAnyZone(t *testing.T) {
	t.Parallel()
	odd := 0
	for _, name := range zones(t) {
		loc := zone(t, name)
		last := time.Time{}
		for at := time.Date(1980, 1, 15, 12, 0, 0, 0, time.UTC); at.Year() < 2041; at = at.AddDate(0, 1, 0) {
			from, turns := Month(at, loc)
			if !last.IsZero() && !from.Equal(last) {
				t.Fatalf("%s: a month ends at %v, and the next begins at %v", name, last, from)
			}
			last = turns
			want := at.In(loc)
			if y, m, d := from.Date(); y != want.Year() || m != want.Month() || d > 2 {
				t.Fatalf("%s: %s began at %v", name, want.Format("2006-01"), from)
			}
			for _, before := range []time.Duration{1, time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour} {
				if got := from.Add(-before); got.Month() == want.Month() {
					t.Fatalf("%s: %v is %v before the beginning of its month", name, got, before)
				}
			}
			if h, m, s := from.Clock(); h+m+s > 0 {
				odd++
			}
			if from.After(at) || !turns.After(at) {
				t.Fatalf("%s: %v is not between %v and %v", name, at, from, turns)
			}
		}
	}
	if odd == 0 {
		t.Error("no month of any zone began at anything but midnight: the test shows little")
	}
	t.Logf("%d months began at something but midnight", odd)
}
