package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"dingrecall/config"
	"dingrecall/worker"
)

func newWorkerCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Recall what producers put into the queue, until stopped",
		Long: `worker takes submissions from Redis and recalls their keys. Any number of workers can share one Redis: they share
the rate of each app as well. On its admin address it serves /healthz, /readyz, /metrics, a page of how things stand
and, under /asynqmon, the queues.

The first SIGTERM or Ctrl-C ends it in order: no new call is begun, and those in flight are finished and written
down, within worker.shutdownTimeout. A second one ends it at once; nothing is lost by that either, but the calls
then in flight are made again.`,
		Example: `  recall worker -c recall.yaml
  RECALL_APP_KEY=dingx RECALL_APP_SECRET=... recall worker --redis 127.0.0.1:6379`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(cmd, needApps)
			if err != nil {
				return err
			}
			return a.work(cmd.Context(), cfg)
		},
	}
	cmd.Flags().String("admin-addr", "", "serve health, metrics and asynqmon on `HOST:PORT`")
	bindConfig(cmd.Flags(), "admin-addr", "admin.addr")
	return cmd
}

// work runs a worker until ctx ends, which is how it is meant to end.
func (a *app) work(ctx context.Context, cfg *config.Config) (err error) {
	log := a.newLogger(cfg.Log, a.Err)
	defer func() { _ = log.Sync() }() // standard error cannot always be synced, and there is nobody to tell
	rdb, err := openRedis(ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	registry := a.newRegistry()
	w, err := worker.New(workerConfig(cfg), worker.Deps{Redis: rdb, Log: log, Metrics: registry})
	if err != nil {
		return err
	}
	defer w.Stop()
	admin, err := worker.NewAdmin(worker.AdminConfig{Addr: cfg.Admin.Addr, Token: cfg.Admin.Token}, worker.AdminDeps{
		Redis: rdb, Inspector: worker.NewInspector(rdb, appNames(cfg)), Metrics: registry, Log: log,
		Ready: func(probe context.Context) error {
			if ctx.Err() != nil {
				return errors.New("stopping")
			}
			return w.Ready(probe)
		},
	})
	if err != nil {
		return err
	}
	// The admin server ends last, so that the end of the work can be watched.
	defer func() { err = errors.Join(err, admin.Stop()) }()
	if err := admin.Start(); err != nil {
		return fmt.Errorf("%w; choose another with --admin-addr", err)
	}
	// The worker's life ends with Stop: a signal must not cancel calls in flight.
	if err := w.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	warnOfEviction(ctx, rdb, log)
	log.Info("worker started", zap.String("version", a.Version), zap.String("redis", cfg.Redis.Addr), zap.String("admin", "http://"+admin.Addr()),
		zap.String("upstream", cfg.Upstream.BaseURL), zap.Strings("apps", describeApps(cfg.Apps)))
	<-ctx.Done()
	log.Info("worker stopping: calls in flight are being finished", zap.Duration("atMost", cfg.Worker.ShutdownTimeout))
	began := a.Now()
	w.Stop()
	log.Info("worker stopped", zap.Duration("took", a.Now().Sub(began).Round(time.Millisecond)))
	return nil
}

// newRegistry makes the registry of a process, with what is known of the process itself.
func (a *app) newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "dingrecall_build_info", Help: "Always 1; the labels tell the version.",
		ConstLabels: prometheus.Labels{"version": a.Version, "go": runtime.Version()}})
	build.Set(1)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build)
	return registry
}

// describeApps says of each app what it may do, for the log.
func describeApps(apps []config.App) []string {
	var all []string
	for _, app := range apps {
		rate := "no limit"
		if app.Rate > 0 {
			rate = strconv.FormatFloat(app.Rate, 'g', -1, 64) + " calls/s"
		}
		robots := strings.Join(app.Robots, ",")
		if len(app.Robots) > 3 {
			robots = counted(len(app.Robots), "robot", "robots")
		}
		all = append(all, fmt.Sprintf("%s (%s, robots %s)", app.Name, rate, robots))
	}
	return all
}

// warnOfEviction says so where Redis may throw keys away when its memory is full: nothing in this program could notice.
func warnOfEviction(ctx context.Context, rdb *redis.Client, log *zap.Logger) {
	info, err := rdb.Info(ctx, "memory").Result()
	if err != nil {
		return // it is only a hint; a Redis that is gone shows elsewhere
	}
	for line := range strings.Lines(info) {
		policy, ok := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:")
		if ok && policy != "noeviction" {
			log.Warn("Redis throws data away when its memory is full, and accepted keys with it; set maxmemory-policy to noeviction", zap.String("maxmemory-policy", policy))
		}
	}
}
