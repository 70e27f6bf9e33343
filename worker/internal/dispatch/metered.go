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

// afterTurn is how long after the turn of the month the first probe goes, where the service says that the calls are spent: its clock and
// Redis's may differ.
const afterTurn = time.Minute

// shanghai is where the month of the service's budget is taken to turn where nothing else is said. The documents do not say; its users
// are there.
var shanghai = time.FixedZone("Asia/Shanghai", 8*3600)

func untilNextMonth(now time.Time, zone *time.Location) time.Duration {
	if zone == nil {
		zone = shanghai
	}
	_, turns := flow.Month(now, zone)
	return turns.Add(afterTurn).Sub(now)
}
