package dispatch

import (
	"time"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
)

// metered says whether the service counts a call that failed for the month. Official: throttled calls and calls that never arrived do
// not count. A call whose answer was lost may have arrived, and counts. What is refused for other reasons is taken to count, since
// nobody says otherwise; but not what is refused because the month's calls are spent.
func metered(e *upstream.Error) bool {
	switch e.Class {
	case upstream.ClassRequest, upstream.ClassNotSent:
		return false
	case upstream.ClassCanceled:
		return e.Lost
	}
	switch e.Verdict(1).Scope {
	case upstream.Throttled, upstream.BudgetHold:
		return false
	}
	return true
}

// shanghai is where the month of the service's budget is taken to turn where nothing else is said. The documents do not say; its users
// are there.
var shanghai = time.FixedZone("Asia/Shanghai", 8*3600)

const (
	// afterTurn is how long after a turn of the month its probe goes: the service's clock and Redis's may differ.
	afterTurn = time.Minute
	// earlyProbe is how far apart probes are while the service's month may have turned and the zone's has not.
	earlyProbe = 2 * time.Hour
	// lateTurn is for how long after the zone's turn the service's may be still to come, with something to spare.
	lateTurn = flow.ZonesApart + 10*time.Hour
)

// untilProbe gives how long after a refusal because the month's calls are spent the next probe goes, at the least. The zone is a guess:
// the service does not say where its month turns. So no probe is worth its call until the month may have turned in some zone; from then on
// there is one now and then, the last just after the zone's turn, and after that they are as far apart as for any other hold (0).
func untilProbe(now time.Time, zone *time.Location) time.Duration {
	if zone == nil {
		zone = shanghai
	}
	began, turns := flow.Month(now, zone)
	if now.Sub(began) < lateTurn {
		return 0
	}
	left := turns.Add(afterTurn).Sub(now)
	if left > flow.ZonesApart {
		return left - flow.ZonesApart
	}
	if rest := left % earlyProbe; rest > 0 {
		return rest
	}
	return earlyProbe
}
