package upstream

import (
	"strings"
	"testing"
	"time"
)

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	got := Config{}.WithDefaults()
	want := Config{BaseURL: DefaultBaseURL, Timeout: DefaultTimeout, MaxResponseBytes: DefaultMaxResponseBytes, MaxConns: DefaultMaxConns}
	if got != want {
		t.Errorf("defaults are %+v, want %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	if got := (Config{BaseURL: "http://127.0.0.1:1/p/"}).WithDefaults().BaseURL; got != "http://127.0.0.1:1/p" {
		t.Errorf("base URL is %q, want it without the slash", got)
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(*Config)
		want  string // "" for good
	}{
		{"international", func(c *Config) { c.BaseURL = "https://api.dingtalk.io" }, ""},
		{"simulator", func(c *Config) { c.BaseURL = "http://127.0.0.1:8080/prefix" }, ""},
		{"no scheme", func(c *Config) { c.BaseURL = "api.dingtalk.com" }, "not an http or https address"},
		{"other scheme", func(c *Config) { c.BaseURL = "ftp://api.dingtalk.com" }, "not an http or https address"},
		{"no host", func(c *Config) { c.BaseURL = "https://" }, "not an http or https address"},
		{"unreadable", func(c *Config) { c.BaseURL = "https://a b\x7f" }, "cannot be read"},
		{"query", func(c *Config) { c.BaseURL = "https://api.dingtalk.com?a=1" }, "query"},
		{"fragment", func(c *Config) { c.BaseURL = "https://api.dingtalk.com#" }, "fragment"},
		{"space", func(c *Config) { c.BaseURL = "https://api.dingtalk.com/ " }, "a space in it"},
		{"no port", func(c *Config) { c.BaseURL = "https://api.dingtalk.com:" }, ""},
		{"large port", func(c *Config) { c.BaseURL = "https://api.dingtalk.com:65536" }, "port"},
		{"password", func(c *Config) { c.BaseURL = "https://u:" + testSecret[:8] + "@api.dingtalk.com" }, "password"},
		{"in clear", func(c *Config) { c.BaseURL = "http://API.dingtalk.com." }, "use https"},
		{"short timeout", func(c *Config) { c.Timeout = time.Microsecond }, "timeout is 1µs"},
		{"negative timeout", func(c *Config) { c.Timeout = -1 }, "timeout"},
		{"small answers", func(c *Config) { c.MaxResponseBytes = 10 }, "max response bytes is 10"},
		{"negative conns", func(c *Config) { c.MaxConns = -3 }, "max connections is -3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{}.WithDefaults()
			test.spoil(&cfg)
			client, err := New(cfg)
			if test.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				client.Close()
				client.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
			if strings.Contains(err.Error(), testSecret[:8]) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error tells a password, or is of several lines: %v", err)
			}
		})
	}

	all := Config{BaseURL: "x", Timeout: -1, MaxResponseBytes: -1, MaxConns: -1}.Validate()
	if n := strings.Count(all.Error(), "\n") + 1; n != 4 {
		t.Errorf("%d problems reported, want all 4: %v", n, all)
	}
}
