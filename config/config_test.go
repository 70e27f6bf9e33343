package config

import (
	"testing"
	"time"
)

func TestAppOf(t *testing.T) {
	t.Parallel()
	cfg := mustLoad(t, sourcesOf(files(valid)))
	for robot, want := range map[string]string{"robot1": "side.app", "robot2": "side.app", "robot3": "main", "*": "main"} {
		if app, ok := cfg.AppOf(robot); !ok || app.Name != want {
			t.Errorf("AppOf(%q) = %q, %v; want %q", robot, app.Name, ok, want)
		}
	}
	cfg.Apps = cfg.Apps[1:]
	if app, ok := cfg.AppOf("robot3"); ok {
		t.Errorf("robot3 has no app, but AppOf gives %q", app.Name)
	}
}

func TestFormatDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 48 * time.Hour: "48h",
		time.Hour + time.Minute: "1h1m", time.Hour + 10*time.Second: "1h0m10s", 10 * time.Minute: "10m", 500 * time.Millisecond: "500ms",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", d, got, want)
		}
		if back, err := time.ParseDuration(FormatDuration(d)); err != nil || back != d {
			t.Errorf("%q does not read back: %v %v", FormatDuration(d), back, err)
		}
	}
}
