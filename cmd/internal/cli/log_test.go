package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"dingrecall/config"
	"dingrecall/upstream"
)

func TestLogger(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 3, 4, 5, 6000000, time.UTC)
	for name, c := range map[string]struct {
		cfg      config.Log
		terminal bool
		console  bool
		lines    int
	}{
		"auto, terminal":  {config.Log{Level: "info", Format: "auto"}, true, true, 2},
		"auto, pipe":      {config.Log{Level: "info", Format: "auto"}, false, false, 2},
		"json, terminal":  {config.Log{Level: "debug", Format: "json"}, true, false, 3},
		"console, pipe":   {config.Log{Level: "error", Format: "console"}, false, true, 1},
		"level not known": {config.Log{Level: "loud", Format: "console"}, false, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &app{Env: Env{Now: func() time.Time { return now }, IsTerminal: func(any) bool { return c.terminal }}.withDefaults()}
			var out bytes.Buffer
			log := a.newLogger(c.cfg, &out)
			log.Debug("small")
			log.Info("plain", zap.Duration("wait", time.Second), zap.Any("secret", upstream.Secret("hunter22")))
			log.Error("bad", zap.Error(fmt.Errorf("no disk")), zap.Stringer("secret", upstream.Secret("hunter22")))
			if n := strings.Count(out.String(), "\n"); n != c.lines || strings.Contains(out.String(), "hunter22") {
				t.Fatalf("%d lines, want %d:\n%s", n, c.lines, &out)
			}
			for line := range strings.Lines(out.String()) {
				var entry map[string]any
				err := json.Unmarshal([]byte(line), &entry)
				if (err != nil) != c.console {
					t.Errorf("console is %v, but: %s", c.console, line)
				}
				if c.console && !strings.HasPrefix(line, "03:04:05.006 ") || !c.console && entry["time"] != "2026-11-02T03:04:05.006Z" {
					t.Errorf("not the time of the given clock: %s", line)
				}
			}
		})
	}
}
