package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"dingrecall/upstream"
	"dingrecall/worker/internal/admin"
)

// AdminConfig is where operators reach the worker.
type AdminConfig struct {
	Addr  string          // host:port; port 0 takes a free one; without a token only of this machine
	Token upstream.Secret // asked for everything but /healthz; "": none
}

// AdminDeps is what the admin server is given.
type AdminDeps struct {
	Redis     redis.UniversalClient       // asynqmon opens connections of its own with the same options
	Inspector *Inspector                  // what the page and the metrics show
	Ready     func(context.Context) error // Worker.Ready, say; nil: always ready
	Metrics   *prometheus.Registry        // what /metrics serves; gauges of keys and queues are added to it
	Log       *zap.Logger                 // nil: none
}

// Admin serves health, readiness, metrics, a page of how things stand and asynqmon, without the actions that would lose keys.
type Admin struct{ server *admin.Server }

// NewAdmin checks the settings and wires an admin server. It listens only from Start on, and Stop must be called in any case.
func NewAdmin(cfg AdminConfig, deps AdminDeps) (*Admin, error) {
	if deps.Redis == nil || deps.Inspector == nil {
		return nil, errors.New("admin: Redis and Inspector are required")
	}
	conn, err := sameRedis(deps.Redis)
	if err != nil {
		return nil, err
	}
	server, err := admin.New(admin.Config{Addr: cfg.Addr, Token: cfg.Token.Reveal()}, admin.Deps{
		Status: deps.Inspector.adminStatus, Ready: deps.Ready, Redis: conn, Metrics: deps.Metrics, Log: deps.Log,
	})
	if err != nil {
		return nil, err
	}
	return &Admin{server: server}, nil
}

// Start listens and serves until Stop.
func (a *Admin) Start() error { return a.server.Start() }

// Addr is the address listened on, host and port.
func (a *Admin) Addr() string { return a.server.Addr() }

// Stop ends the server; requests under way get a few seconds. It may be called more than once, and before Start.
func (a *Admin) Stop() error { return a.server.Stop() }

// redisConn gives asynq a client of its own each time it asks, with the options of ours.
type redisConn func() any

// MakeRedisClient implements asynq.RedisConnOpt.
func (c redisConn) MakeRedisClient() any { return c() }

func sameRedis(rdb redis.UniversalClient) (asynq.RedisConnOpt, error) {
	switch c := rdb.(type) {
	case *redis.Client:
		return redisConn(func() any {
			o := *c.Options()
			o.PushNotificationProcessor = nil // belongs to that one client; a second one complains of a handler that is there already
			return redis.NewClient(&o)
		}), nil
	case *redis.ClusterClient:
		return redisConn(func() any {
			o := *c.Options()
			o.PushNotificationProcessor = nil
			return redis.NewClusterClient(&o)
		}), nil
	}
	return nil, fmt.Errorf("admin: a Redis connection of type %T cannot be opened a second time", rdb)
}

// adminStatus is Status in the words of package admin.
func (i *Inspector) adminStatus(ctx context.Context) (admin.Status, error) {
	st, err := i.Status(ctx)
	if err != nil {
		return admin.Status{}, err
	}
	var out admin.Status
	for _, a := range st.Apps {
		app := admin.App{Name: a.App, Waiting: a.Total.Waiting, Bound: a.Total.Bound, Recalled: a.Total.Recalled, Dead: a.Total.Dead,
			Cancelled: a.Total.Cancelled, Slots: a.Slots, Backoff: a.Held, Outbox: a.Outbox, Share: a.Share, LastOK: a.LastOK, Rest: a.Rest}
		f, err := i.Forecast(ctx, a)
		if err != nil {
			return admin.Status{}, err
		}
		app.Outlook = adminOutlook(f)
		if b := a.Budget; b != nil {
			app.Budget = &admin.Budget{Used: b.Used, Calls: b.Calls, Reserve: b.Reserve, Turns: b.Turns, Lifted: b.Lifted}
		}
		if a.Hold != nil {
			app.Hold = &admin.Hold{Code: a.Hold.Code, Message: a.Hold.Message, Since: a.Hold.Since, NextProbe: a.Hold.NextProbe}
		}
		for _, h := range a.Robots {
			app.Robots = append(app.Robots, admin.RobotHold{Robot: h.Target.String(),
				Hold: admin.Hold{Code: h.Code, Message: h.Message, Since: h.Since, NextProbe: h.NextProbe}})
		}
		out.Apps = append(out.Apps, app)
	}
	for _, q := range st.Queues {
		out.Queues = append(out.Queues, admin.Queue{Name: q.Queue, Pending: q.Pending, Active: q.Active, Scheduled: q.Scheduled,
			Retry: q.Retry, Archived: q.Archived, Paused: q.Paused})
	}
	return out, nil
}

func adminOutlook(f *Forecast) *admin.Outlook {
	if f == nil {
		return nil
	}
	out := &admin.Outlook{Missed: f.Missed, FirstMiss: f.FirstMiss, End: f.End}
	for _, i := range f.Incidents {
		out.Incidents = append(out.Incidents, admin.Incident{Name: i.Incident, Keys: i.Keys, Missed: i.Missed, End: i.End})
	}
	return out
}
