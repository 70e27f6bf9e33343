package flow

import "time"

// ZonesApart is how far apart the turn of a month can be in two time zones: from UTC-12 to UTC+14.
const ZonesApart = 26 * time.Hour

// Month gives the first moment of the calendar month that a moment is in, and that of the next, in a time zone.
func Month(at time.Time, zone *time.Location) (from, turns time.Time) {
	year, month, _ := at.In(zone).Date()
	return monthBegins(year, month, zone), monthBegins(year, month+1, zone)
}

// monthBegins gives the first moment at which clocks show the first day of a month. Where clocks are set forward over midnight
// that is not midnight, and where they are set back over it, there are two.
func monthBegins(year int, month time.Month, zone *time.Location) time.Time {
	at := time.Date(year, month, 1, 0, 0, 0, 0, zone)
	changed, next := at.ZoneBounds()
	if at.Day() > 15 { // midnight was skipped, and this is the evening before
		return next
	}
	if !changed.IsZero() {
		before := changed.Add(-time.Nanosecond)
		_, early := before.Zone()
		_, late := at.Zone()
		if set := time.Duration(early-late) * time.Second; set > 0 && !at.Add(-set).After(before) {
			return at.Add(-set) // the clock was set back after it had shown midnight
		}
	}
	return at
}
