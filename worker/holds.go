package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dingrecall/tasks"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/tokenstore"
)

// ErrUnknownName is the error for a name that is neither an app's nor a robot's.
var ErrUnknownName = errors.New("there is no app and no robot of that name")

// Released says what was released.
type Released struct {
	App    string
	Target        // the robot, or a conversation of it; the zero value: the app
	Code   string // of the hold, "" where there was none: nothing was done
}

// Release ends the hold of an app or of a robot, because what caused it is mended; an app's name goes before a robot's. Robots that
// the app was held for are tried once more, each with one call. It is done at once, and a running worker goes on with the keys. Where several
// apps know the robot, or several of its conversations are held, all of its holds end.
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
		for _, r := range releasesOf(app, name) {
			out = append(out, r)
			err = errors.Join(err, i.release(ctx, r))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknownName, name)
	}
	return out, err
}

// releasesOf gives what is held of a robot in an app; one without a code where the app knows the robot and holds nothing of it.
func releasesOf(app AppStatus, robotCode string) (out []Released) {
	for _, h := range app.Robots {
		if h.RobotCode == robotCode {
			out = append(out, Released{App: app.App, Target: h.Target, Code: h.Code})
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, g := range app.Groups {
		if g.RobotCode == robotCode {
			return []Released{{App: app.App, Target: Target{RobotCode: robotCode}}}
		}
	}
	return nil
}

// release ends the hold, and has a worker look for keys that may go now: only workers know how many slots there are to be.
func (i *Inspector) release(ctx context.Context, r Released) error {
	if r.Code == "" {
		return nil
	}
	if err := i.forgetTokenFailure(ctx, r.App); err != nil {
		return err
	}
	if _, _, err := keystore.NewReader(i.rdb, r.App).Release(ctx, r.Target.Name()); err != nil {
		return err
	}
	return i.alarm(ctx, r.App)
}

// alarm has a running worker look at once for what is to be done for an app.
func (i *Inspector) alarm(ctx context.Context, app string) error {
	t, opts := tasks.NewAlarmTask(tasks.Alarm{App: app, At: time.Now().UnixMilli()})
	return newEnqueuer(i.rdb).put(ctx, t, opts)
}

// forgetTokenFailure lets workers ask for a token at once: what made it fail may be what was mended.
func (i *Inspector) forgetTokenFailure(ctx context.Context, app string) error {
	shared, err := tokenstore.New(i.rdb, tokenstore.Config{App: app, Prefix: keystore.Prefix(app)})
	if err != nil {
		return err
	}
	return shared.ForgetFailure(ctx)
}
