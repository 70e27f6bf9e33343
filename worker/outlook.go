package worker

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"dingrecall/worker/internal/keystore"
)

// outlookGap is how long at least lies between two log lines on what an app will miss.
const outlookGap = 2 * time.Minute

// outlook tells an operator what no single call shows: that the month's calls are why keys wait, and that keys will miss their windows,
// while something can still be done. Each when it becomes true, the second also when it grows by half, and when it is over. What was
// said last stands in Redis: whichever worker looks next, it is said once.
func (p *pipeline) outlook(ctx context.Context, a *appState) error {
	st, err := a.store.Status(ctx)
	if err != nil {
		return err
	}
	said, err := a.store.Said(ctx)
	if err != nil {
		return err
	}
	if said, err = p.sayBudget(ctx, a, st, said); err != nil || st.Total.Waiting == 0 && said.Keys == 0 {
		return err
	}
	f, err := foresee(ctx, a.store, st)
	if err != nil || f == nil {
		return err
	}
	next, say := saidOf(said, f.Missed, st.At)
	if next != said {
		if err := a.store.Say(ctx, next); err != nil {
			return err
		}
	}
	if say {
		p.sayMissed(a.Name, st, f)
	}
	return nil
}

// sayBudget says that the month's calls are why keys wait, or no longer.
func (p *pipeline) sayBudget(ctx context.Context, a *appState, st AppStatus, said keystore.Said) (keystore.Said, error) {
	code := said.Budget
	switch {
	case budgetHolds(st):
		code = st.Hold.Code
	case code != "" && mayCall(st.Budget): // a few urgent keys that go on are not the end of it
		code = ""
	}
	if code == said.Budget {
		return said, nil
	}
	said.Budget = code
	if err := a.store.Say(ctx, said); err != nil {
		return said, err
	}
	if code == "" {
		p.log.Info("the month's calls keep no key waiting any more", zap.String("app", a.Name))
		return said, nil
	}
	p.log.Error("the month's calls: "+st.Hold.Message, zap.String("app", a.Name), zap.String("code", code), zap.Int("used", st.Budget.Used),
		zap.Time("month_turns", st.Budget.Turns), zap.Int64("waiting", st.Total.Waiting))
	return said, nil
}

// budgetHolds says whether our count of the month's calls is why keys wait.
func budgetHolds(st AppStatus) bool {
	return st.Hold != nil && (st.Hold.Code == keystore.CodeBudgetSpent || st.Hold.Code == keystore.CodeBudgetReserved)
}

// mayCall says whether calls are left for keys that are not urgent.
func mayCall(b *BudgetStatus) bool {
	if b == nil {
		return true
	}
	_, others := b.Left()
	return others != 0
}

func (p *pipeline) sayMissed(app string, st AppStatus, f *Forecast) {
	if f.Missed == 0 {
		p.log.Info("no key is expected to miss its window any more", zap.String("app", app), zap.Int64("waiting", st.Total.Waiting))
		return
	}
	fields := []zap.Field{zap.String("app", app), zap.Int("keys", f.Missed), zap.Int64("waiting", st.Total.Waiting),
		zap.Time("first_window_closes", f.FirstMiss), zap.Duration("time_to_act", f.FirstMiss.Sub(st.At).Round(time.Second)),
		zap.String("hint", outlookHint(st, f))}
	if worst := worstIncident(f); worst.Incident != "" {
		fields = append(fields, zap.String("incident", worst.Incident), zap.Int("incident_keys", worst.Missed))
	}
	p.log.Warn("keys will miss their windows unless something is done", fields...)
}

// saidOf says whether what is missed differs by enough from what was said of it last, and what stands as said from then on. A fall to less
// than half is not said, but followed, so that a new rise is news.
func saidOf(said keystore.Said, missed int, now time.Time) (keystore.Said, bool) {
	recent := !said.At.IsZero() && now.Sub(said.At) < outlookGap
	switch over := missed == 0 && said.Keys > 0; {
	case recent: // what changes is looked at again
	case over, missed > said.Keys+said.Keys/2:
		said.Keys, said.At = missed, now
		return said, true
	case missed < said.Keys-said.Keys/2:
		said.Keys = missed
	}
	return said, false
}

// outlookHint says what stands in the way, and so what would help.
func outlookHint(st AppStatus, f *Forecast) string {
	switch {
	case budgetHolds(st), !f.Spent.IsZero():
		return "the month's calls do not last: buy more and raise monthlyCalls, or let calls go on with recall release"
	case st.Hold != nil:
		return "the app is held: mend what its hold names, then recall release"
	case robotHeldAt(st, f.FirstMiss):
		return "a robot is held: mend what its hold names, then recall release; if these are keys of others, the rate does not suffice: " +
			"raise it if the service allows more, or cancel what matters less with recall cancel"
	}
	return "the rate does not suffice: raise it if the service allows more, or cancel what matters less with recall cancel"
}

// robotHeldAt says whether the next probe of a held robot comes after a moment: then its keys may be those that miss their windows.
func robotHeldAt(st AppStatus, at time.Time) bool {
	return slices.ContainsFunc(st.Robots, func(h keystore.RobotHold) bool { return h.NextProbe.After(at) })
}

func worstIncident(f *Forecast) IncidentForecast {
	var worst IncidentForecast
	for _, i := range f.Incidents {
		if i.Missed > worst.Missed {
			worst = i
		}
	}
	return worst
}
