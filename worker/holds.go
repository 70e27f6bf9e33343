package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dingrecall/tasks"
	"dingrecall/worker/internal/keystore"
)

// ErrUnknownName is the error for a name that is neither an app's nor a robot's.
var ErrUnknownName = errors.New("there is no app and no robot of that name")

// Released says what was released.
type Released struct {
	App       string
	RobotCode string // "": the app
	Code      string // of the hold, "" where there was none: nothing was done
}

// Release ends the hold of an app or of a robot, because what caused it is mended; an app's name goes before a robot's. Robots that
// the app was held for are tried once more, each with one call. It is done at once, and a running worker goes on with the keys. Where several
// apps know the robot, all of its holds end.
func (i *Inspector) Release(ctx context.Context, name string) ([]Released, error) {
	st, err := i.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, app := range st.Apps {
		if app.App == name {
			r := Released{App: name}
			if app.Hold != nil {
				r.Code = app.Hold.Code
			}
			return []Released{r}, i.release(ctx, r)
		}
	}
	var out []Released
	for _, app := range st.Apps {
		r := Released{App: app.App, RobotCode: name}
		known := false
		for _, g := range app.Groups {
			known = known || g.RobotCode == name
		}
		for _, h := range app.Robots {
			if h.RobotCode == name {
				known, r.Code = true, h.Code
			}
		}
		if known {
			out = append(out, r)
			err = errors.Join(err, i.release(ctx, r))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknownName, name)
	}
	return out, err
}

// release ends the hold, and has a worker look for keys that may go now: only workers know how many slots there are to be.
func (i *Inspector) release(ctx context.Context, r Released) error {
	if r.Code == "" {
		return nil
	}
	if _, _, err := keystore.NewReader(i.rdb, r.App).Release(ctx, r.RobotCode); err != nil {
		return err
	}
	t, opts := tasks.NewAlarmTask(tasks.Alarm{App: r.App, At: time.Now().UnixMilli()})
	return newEnqueuer(i.rdb).put(ctx, t, opts)
}
