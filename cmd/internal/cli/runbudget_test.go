package cli

import (
	"testing"
)

// TestRunStopsAtTheBudget: no call is made beyond it, and what is left is not done.
func TestRunStopsAtTheBudget(t *testing.T) {
	t.Parallel()
	file := keysCSV(t, broadcast(100, false))
	got := runWith(t.Context(), nil, nil, simulated(file, "--budget", "3")...)
	wantCode(t, got, ExitHeld, "60 of 100 keys recalled, 40 not done (on hold)", "APP simulated IS ON HOLD: budget.spent")
	wantCode(t, got, ExitHeld, "simulator: calls=3 ", "")
	wantCode(t, runWith(t.Context(), nil, nil, simulated(file, "--budget", "0")...), ExitOK, "100 of 100 keys recalled", "")
	wantCode(t, runWith(t.Context(), nil, nil, simulated(file, "--budget", "-1")...), ExitBadInput, "", "--budget: apps[0].monthlyCalls: -1 is out of range")
	wantCode(t, runWith(t.Context(), nil, nil, simulated(file, "--budget", "3", "--dry-run")...), ExitOK, "the calls are 3 more than its month has", "")
}
