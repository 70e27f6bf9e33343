package config

import (
	"errors"
	"strings"
	"testing"
)

// FuzzLoad: whatever the file and the environment hold, Load does not panic, its error is Problems of one line each that do not
// show a secret, and what it accepts is valid and prints as something that loads again.
func FuzzLoad(f *testing.F) {
	f.Add(valid, "RECALL_REDIS_DB=1")
	f.Add("redis:\n  addr: rediss://u@[::1]:1/2\n", "RECALL_APP_KEY=k")
	f.Add("apps:\n- {name: a, appKey: b, rate: 1e3, robots: [x, '*']}\n", "RECALL_APPS_A_APP_SECRET=zqx-secret-zqx")
	f.Add("a: &a [*a]\n", "RECALL_APP_ROBOTS=,")
	f.Add("? {a: b}\n: c\n", "RECALL_=")
	f.Add("redis: {addr: 'redis://:zqx-secret-zqx@h'}\n", "RECALL_ADMIN_TOKEN=zqx-secret-zqx")
	f.Add("<<: {redis: {db: 1}}\n", "RECALL_WORKER_LINGER=1e9h")
	f.Fuzz(func(t *testing.T, yaml, variable string) {
		const secret = "zqx-secret-zqx"
		s := sourcesOf(files(yaml), variable, "RECALL_REDIS_PASSWORD="+secret)
		cfg, err := Load(s)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 || len(strings.Split(err.Error(), "\n")) != len(problems) {
				t.Fatalf("not one line a problem: %q", err)
			}
			if strings.Contains(variable, secret) || strings.Contains(yaml, secret) {
				return // The input itself put it where it may be shown: as a robot, say.
			}
			if strings.Contains(err.Error(), secret) {
				t.Fatalf("the secret is in the error: %v", err)
			}
			return
		}
		if problems := cfg.Validate(); len(problems) > 0 {
			t.Fatalf("loaded, but not valid: %v", problems)
		}
		if _, _, err := parseYAML([]byte(cfg.Redacted())); err != nil {
			t.Fatalf("the printed configuration is not YAML: %v\n%s", err, cfg.Redacted())
		}
	})
}
