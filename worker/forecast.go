package worker

import (
	"context"
	"time"

	"dingrecall/upstream"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/forecast"
	"dingrecall/worker/internal/keystore"
)

type (
	// Forecast is what is to be expected of the keys of an app that wait: when each incident ends, and what misses its window.
	Forecast = forecast.Result
	// IncidentForecast is the same of one incident.
	IncidentForecast = forecast.Incident
	// BudgetStatus is how the month's calls of an app stand.
	BudgetStatus = keystore.BudgetStatus
)

// Forecast tells what is to be expected of the keys that wait in an app, by its status at this moment. It is nil where no worker has told
// the app's settings yet.
func (i *Inspector) Forecast(ctx context.Context, st AppStatus) (*Forecast, error) {
	return foresee(ctx, keystore.NewReader(i.rdb, st.App), st)
}

func foresee(ctx context.Context, store *keystore.Store, st AppStatus) (*Forecast, error) {
	if st.Settings == nil {
		return nil, nil
	}
	waiting, err := store.Waiting(ctx, st)
	if err != nil {
		return nil, err
	}
	r := forecast.Make(forecastInput(st, waiting))
	return &r, nil
}

const (
	// laterFor is when keys that wait for later are taken to come back: their backoff is a minute at most.
	laterFor = 30 * time.Second
	// laterUntil is when their windows are taken to close, which is not known.
	laterUntil = 24 * time.Hour
)

func forecastInput(st AppStatus, waiting []keystore.WaitingKeys) forecast.Input {
	in := forecast.Input{Now: st.At, Start: st.Rest, Rate: st.Settings.Rate * st.Share, Slots: st.Settings.Slots,
		Latency: st.Settings.Latency}
	if h := st.Hold; h != nil && h.Code != keystore.CodeBudgetSpent && h.Code != keystore.CodeBudgetReserved {
		if ends := holdEnds(h, st.Budget); ends.After(in.Start) {
			in.Start = ends
		}
	}
	if b := st.Budget; b != nil {
		if all, others := b.Left(); all >= 0 {
			in.Budget = &forecast.Budget{Left: all, Reserve: all - others, Turns: b.Turns, Next: b.Calls, Keep: b.Reserve}
		}
	}
	probes := map[string]time.Time{}
	for _, h := range st.Robots {
		probes[h.Name()] = h.NextProbe
	}
	for _, w := range waiting {
		p := forecast.Pile{Class: int(w.Class), Robot: w.Target, Incident: w.Incident, Keys: w.Keys}
		switch ends := w.From.Add(keystore.BucketSize); {
		case w.From.IsZero():
			p.NotBefore, p.Deadline = st.At.Add(laterFor), st.At.Add(laterUntil)
		case w.From.After(st.At):
			p.Deadline = w.From // rather too early than too late
		default:
			p.Deadline = st.At.Add(ends.Sub(st.At) / 2)
		}
		if probe := probes[w.Target]; probe.After(p.NotBefore) {
			p.NotBefore = probe
		}
		in.Piles = append(in.Piles, p)
	}
	return in
}

// holdEnds gives when the hold of an app is taken to end: with its next probe. But where the service says that the month's calls are
// spent, the probes before the turn are made for a turn in another zone, which is not what is to be expected.
func holdEnds(h *keystore.HoldStatus, b *BudgetStatus) time.Time {
	spent := upstream.Judge(upstream.Signal{Op: upstream.OpRecall, Code: h.Code}).Scope == upstream.BudgetHold
	if spent && b != nil && h.NextProbe.Before(b.Turns) && !h.NextProbe.Before(b.Turns.Add(-flow.ZonesApart)) {
		return b.Turns
	}
	return h.NextProbe
}
