package cli

import (
	"testing"
	"time"

	"dingrecall/worker"
)

func TestBudgetInWords(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	turns := now.Add(7 * 24 * time.Hour)
	for want, b := range map[string]*worker.BudgetStatus{
		"": nil,
		"  45 of the month's 50 calls made, 10 kept for urgent keys; the month turns in 7 d 0 h\n":       {Used: 45, Calls: 50, Reserve: 10, Turns: turns},
		"  0 of the month's 5,000 calls made\n":                                                          {Calls: 5000},
		"  60 of the month's 50 calls made; released to go on beyond that; the month turns in 7 d 0 h\n": {Used: 60, Calls: 50, Reserve: 10, Turns: turns, Lifted: true},
	} {
		if got := viewBudget(b).describe(now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := viewBudget(&worker.BudgetStatus{Used: 7}).describe(now); got != "" {
		t.Errorf("without a limit: %q", got)
	}
}

func TestForecastInWords(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f := &worker.Forecast{Keys: 2000, Missed: 1200, Calls: 40, FirstMiss: now.Add(2 * time.Hour), End: now.Add(3 * time.Hour), Incidents: []worker.IncidentForecast{
		{Incident: "a", Keys: 500, Calls: 25, End: now.Add(time.Hour)}, {Incident: "b", Keys: 1500, Missed: 1200, Calls: 15, End: now.Add(3 * time.Hour)}}}
	v := viewForecast(f, "b")
	if len(v.Incidents) != 1 || v.Incidents[0].Missed != 1200 || v.Missed != 1200 {
		t.Errorf("%+v", v)
	}
	if got, want := v.describe(now), "  ! 1,200 keys will miss their windows unless something is done; the first closes in 2 h 0 min, at 2026-11-23T14:00:00Z\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := v.ending("b"), ": ends about "+now.Add(3*time.Hour).Local().Format("2006-01-02 15:04:05")+", 1,200 will miss"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := v.ending("a") + viewForecast(nil, "").ending("a") + viewForecast(nil, "").describe(now); got != "" {
		t.Errorf("of what is not shown, or not known: %q", got)
	}
}
