package cli

import (
	"time"

	"dingrecall/config"
	"dingrecall/worker"
)

// workerConfig gives the worker its part of the configuration.
func workerConfig(cfg *config.Config) worker.Config {
	w := cfg.Worker
	out := worker.Config{
		Upstream:          cfg.Upstream,
		TokenKey:          cfg.Redis.TokenKey,
		Linger:            w.Linger,
		Window:            w.Window,
		Margin:            w.Margin,
		DeadRetention:     w.DeadRetention,
		LedgerRetention:   w.LedgerRetention,
		Slice:             w.Slice,
		BackoffBase:       w.BackoffBase,
		BackoffMax:        w.BackoffMax,
		ProbeBase:         w.ProbeBase,
		ProbeMax:          w.ProbeMax,
		ShutdownTimeout:   w.ShutdownTimeout,
		Concurrency:       w.Concurrency,
		IntakeConcurrency: w.IntakeConcurrency,
		MaxSlots:          w.MaxSlots,
		MaxAttempts:       w.MaxAttempts,
		UnknownAttempts:   w.UnknownAttempts,
		SplitAfter:        w.SplitAfter,
	}
	for _, app := range cfg.Apps {
		out.Apps = append(out.Apps, worker.App{
			Name:         app.Name,
			Credentials:  app.Credentials(),
			Rate:         app.Rate,
			MonthlyCalls: app.MonthlyCalls,
			Reserve:      app.UrgentReserve,
			Zone:         zoneOf(app),
			Robots:       app.Robots,
		})
	}
	return out
}

// zoneOf gives the time zone of an app's month, nil where it names none (an app that is not from a configuration).
func zoneOf(app config.App) *time.Location {
	zone, err := time.LoadLocation(app.BudgetZone)
	if err != nil || app.BudgetZone == "" { // the configuration was checked
		return nil
	}
	return zone
}

// appNames lists the configured apps, for inspectors.
func appNames(cfg *config.Config) []string {
	names := make([]string, len(cfg.Apps))
	for i, app := range cfg.Apps {
		names[i] = app.Name
	}
	return names
}
