package cli

import (
	"fmt"
	"time"

	"dingrecall/worker"
)

// What status tells of the month's calls and of what is to be expected; part of the shape of status --json.
type (
	statusBudget struct {
		Used    int        `json:"used"`
		Calls   int        `json:"calls"`   // 0: no limit
		Reserve int        `json:"reserve"` // of calls, those kept for urgent keys
		Turns   *time.Time `json:"turns"`   // null where no call was made since the month turned
		Lifted  bool       `json:"lifted"`  // an operator lets calls go on beyond the limit until the month turns
	}
	statusFuture struct {
		Missed    int              `json:"missed"`    // keys that will miss their windows
		FirstMiss *time.Time       `json:"firstMiss"` // the first deadline of those; null where there are none
		Calls     int              `json:"calls"`     // that what waits will take
		End       *time.Time       `json:"end"`       // null where nothing waits
		Incidents []statusIncident `json:"incidents"` // that have keys that wait
	}
	statusIncident struct {
		Incident string    `json:"incident"`
		Waiting  int       `json:"waiting"`
		Missed   int       `json:"missed"`
		Calls    int       `json:"calls"`
		End      time.Time `json:"end"`
	}
)

func viewBudget(b *worker.BudgetStatus) *statusBudget {
	if b == nil {
		return nil
	}
	return &statusBudget{Used: b.Used, Calls: b.Calls, Reserve: b.Reserve, Turns: orNull(b.Turns), Lifted: b.Lifted}
}

// viewForecast is the forecast of an app, of one incident of it where that is named.
func viewForecast(f *worker.Forecast, incident string) *statusFuture {
	if f == nil {
		return nil
	}
	out := &statusFuture{Missed: f.Missed, FirstMiss: orNull(f.FirstMiss), Calls: f.Calls, End: orNull(f.End), Incidents: []statusIncident{}}
	for _, i := range f.Incidents {
		if incident == "" || incident == i.Incident {
			out.Incidents = append(out.Incidents, statusIncident{Incident: i.Incident, Waiting: i.Keys, Missed: i.Missed, Calls: i.Calls, End: i.End})
		}
	}
	return out
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// describe says how the month's calls stand, in a line; nothing where there is no limit.
func (b *statusBudget) describe(now time.Time) string {
	if b == nil || b.Calls == 0 {
		return ""
	}
	s := fmt.Sprintf("  %s of the month's %s calls made", thousands(b.Used), thousands(b.Calls))
	switch {
	case b.Lifted:
		s += "; released to go on beyond that"
	case b.Reserve > 0:
		s += fmt.Sprintf(", %s kept for urgent keys", thousands(b.Reserve))
	}
	if b.Turns != nil && b.Turns.After(now) {
		s += "; the month turns in " + roughly(b.Turns.Sub(now))
	}
	return s + "\n"
}

// describe warns of what will be missed, in a line; nothing where nothing will.
func (f *statusFuture) describe(now time.Time) string {
	if f == nil || f.Missed == 0 {
		return ""
	}
	s := fmt.Sprintf("  ! %s will miss %s unless something is done", counted(f.Missed, "key", "keys"), pick(f.Missed == 1, "its window", "their windows"))
	if f.FirstMiss != nil {
		if d := f.FirstMiss.Sub(now); d > 0 {
			s += fmt.Sprintf("; the first closes in %s, at %s", roughly(d), f.FirstMiss.Format(time.RFC3339))
		} else {
			s += "; the first has closed"
		}
	}
	return s + "\n"
}

// ending says of an incident when it is expected to end, behind its name.
func (f *statusFuture) ending(incident string) string {
	if f == nil {
		return ""
	}
	for _, i := range f.Incidents {
		if i.Incident != incident {
			continue
		}
		s := ": ends about " + i.End.Local().Format("2006-01-02 15:04:05")
		if i.Missed > 0 {
			s += fmt.Sprintf(", %s will miss", thousands(i.Missed))
		}
		return s
	}
	return ""
}
