package simulator

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"
)

func TestConfigProblems(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(*Config){
		`failure: "both"`:          func(c *Config) { c.Failure = "both" },
		`reasons: "poems"`:         func(c *Config) { c.Reasons = "poems" },
		`alreadyRecalled: "maybe"`: func(c *Config) { c.AlreadyRecalled = "maybe" },
		"needs a memory":           func(c *Config) { c.AlreadyRecalled, c.ForgetKeys = AlreadyInvalid, true },
		"tokenLifetime":            func(c *Config) { c.TokenLifetime = time.Millisecond },
		`oldTokens: "rust"`:        func(c *Config) { c.OldTokens = "rust" },
		`unifiedAgain: "maybe"`:    func(c *Config) { c.UnifiedAgain = "maybe" },
		"window":                   func(c *Config) { c.Window = -1 },
		"flakyRate: 1.5":           func(c *Config) { c.FlakyRate = 1.5 },
		"flakyRate: NaN":           func(c *Config) { c.FlakyRate = math.NaN() },
		"latency":                  func(c *Config) { c.Latency = -1 },
		"jitter":                   func(c *Config) { c.Jitter = -1 },
		"rate: -1":                 func(c *Config) { c.Rate = -1 },
		"penalty":                  func(c *Config) { c.Penalty = -1 },
		"monthlyCalls":             func(c *Config) { c.MonthlyCalls = -1 },
		"hugeBytes":                func(c *Config) { c.HugeBytes = -1 },
		"slowFor":                  func(c *Config) { c.SlowFor = -1 },
		"apps":                     func(c *Config) { c.Apps = map[string]string{"app": ""} },
		"faults[1]: no fault":      func(c *Config) { c.Faults = []FaultRule{{Fault: FaultQPS, Times: 1}, {Fault: "x", Times: 1}} },
	} {
		var cfg Config
		if _, err := New(cfg); err != nil {
			t.Fatalf("the zero value: %v", err)
		}
		spoil(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	_, err := New(Config{Rate: -1, Failure: "x"})
	if err == nil || !strings.Contains(err.Error(), "rate") || !strings.Contains(err.Error(), "failure") {
		t.Errorf("not every problem is told: %v", err)
	}
	given := Config{}
	if filled := given.WithDefaults(); given.Window != 0 || filled.Window != 24*time.Hour || filled.TokenLifetime != 2*time.Hour || filled.Penalty != time.Second {
		t.Errorf("defaults %+v of %+v", filled, given)
	}
}

func TestLatencyIsWithinBoundsAndEndsWithTheClient(t *testing.T) {
	t.Parallel()
	var waits []time.Duration
	b := setup(t, Config{Latency: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Sleep: func(_ context.Context, d time.Duration) { waits = append(waits, d) }})
	for range 100 {
		b.recall(b.key(Good))
	}
	least, most := waits[0], waits[0]
	for _, d := range waits {
		least, most = min(least, d), max(most, d)
	}
	if len(waits) != 101 || least < 10*time.Millisecond || most > 15*time.Millisecond || most-least < 4*time.Millisecond {
		t.Errorf("%d waits between %v and %v", len(waits), least, most)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sleep(ctx, time.Hour) // returns
	sleep(t.Context(), time.Nanosecond)
}
