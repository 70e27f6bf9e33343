package worker

import (
	"context"
	"errors"
	"fmt"

	"dingrecall/worker/internal/keystore"
)

// ErrUnknownIncident is the error for an incident of which no app has keys.
var ErrUnknownIncident = errors.New("no app has keys of an incident of that name")

// AppIncident is how an incident stands in one app.
type AppIncident struct {
	App    string
	Counts Counts
	Hold   string // the code of what keeps keys waiting that wait: a hold of the app, or of a robot of theirs; "" where nothing does
}

// Incident tells how an incident stands in each app that has keys of it, by the apps' names; app is the only one to look at, or "". A
// submission that no worker has taken in yet is not known. The error is ErrUnknownIncident where no app has keys of it.
func (i *Inspector) Incident(ctx context.Context, incident, app string) ([]AppIncident, error) {
	st, err := i.Status(ctx)
	if err != nil {
		return nil, err
	}
	var out []AppIncident
	for _, a := range st.Apps {
		if found, ok := incidentOf(a, incident); ok && (app == "" || app == a.App) {
			out = append(out, found)
		}
	}
	if len(out) == 0 {
		return nil, unknownIncident(incident, app)
	}
	return out, nil
}

// Cancel has no key of an incident called any more, in each app that has keys of it, or in one app alone; it cannot be taken back. It tells
// how the incident stood just before. Keys that wait end as cancelled, without a call and without a dead letter, when a worker comes to
// them: it looks at once, for keys on hold when the hold ends or their windows close. Keys that are in calls are still recalled. Keys
// that come later under the same name end as cancelled, too. Done again, it changes nothing. Where it fails for an app, the others are
// cancelled, and told. The error is ErrUnknownIncident where no app has keys of it.
func (i *Inspector) Cancel(ctx context.Context, incident, app string) ([]AppIncident, error) {
	found, err := i.Incident(ctx, incident, app)
	if err != nil {
		return nil, err
	}
	var out []AppIncident
	for _, f := range found {
		ok, cancelErr := i.cancel(ctx, f.App, incident)
		err = errors.Join(err, cancelErr)
		if ok {
			out = append(out, f)
		}
	}
	if len(out) == 0 && err == nil {
		return nil, unknownIncident(incident, app)
	}
	return out, err
}

func unknownIncident(incident, app string) error {
	if app != "" {
		return fmt.Errorf("%w: %s (in app %s)", ErrUnknownIncident, incident, app)
	}
	return fmt.Errorf("%w: %s", ErrUnknownIncident, incident)
}

// incidentOf adds up what an app has of an incident; false where it has nothing. Keys without an incident have none.
func incidentOf(app AppStatus, incident string) (AppIncident, bool) {
	of, known := AppIncident{App: app.App}, false
	waits := map[Target]bool{}
	for _, g := range app.Groups {
		if incident == "" || g.Incident != incident {
			continue
		}
		known = true
		of.Counts.Add(g.Counts)
		waits[g.Target()] = g.Counts.Waiting > 0
	}
	if app.Hold != nil && of.Counts.Waiting > 0 {
		of.Hold = app.Hold.Code
	}
	for _, h := range app.Robots {
		if of.Hold == "" && waits[h.Target] {
			of.Hold = h.Code
		}
	}
	return of, known
}

// cancel marks the incident in one app, and has a worker come to its keys: only workers know how many slots there are to be.
func (i *Inspector) cancel(ctx context.Context, app, incident string) (bool, error) {
	ok, _, err := keystore.NewReader(i.rdb, app).Cancel(ctx, incident)
	if err != nil || !ok {
		return false, err
	}
	return true, i.alarm(ctx, app)
}
