package config

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestRedacted(t *testing.T) {
	t.Parallel()
	cfg := mustLoad(t, sourcesOf(files(valid)))
	text := cfg.Redacted()
	noSecretIn(t, "the printed configuration", text)
	if n, want := strings.Count(text, `"[redacted]"`), 5; n != want { // Redis's two, two apps', the admin token; a ticket is read later
		t.Errorf("%d secrets are shown as set, want %d:\n%s", n, want, text)
	}
	if text := Defaults().Redacted(); !strings.Contains(text, `password: ""`) || strings.Contains(text, "[redacted]") {
		t.Errorf("secrets that are not set:\n%s", text)
	}
	noSecretIn(t, "formatting", allVerbs(cfg)+allVerbs(*cfg)+allVerbs(cfg.Apps)+allVerbs(cfg.Redis)+allVerbs(cfg.Admin))
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	noSecretIn(t, "JSON", string(encoded))
}

// TestRedactedLoadsAgain: what is printed is the configuration, once the lines of the secrets are taken out.
func TestRedactedLoadsAgain(t *testing.T) {
	t.Parallel()
	first := mustLoad(t, sourcesOf(files(valid)))
	var kept []string
	for line := range strings.Lines(first.Redacted()) {
		if !strings.Contains(line, `"[redacted]"`) {
			// The names of files are printed as they were resolved.
			kept = append(kept, strings.ReplaceAll(line, `"etc/`, `"`))
		}
	}
	second := mustLoad(t, sourcesOf(files(strings.Join(kept, ""))))
	second.sources = first.sources
	if !reflect.DeepEqual(first, second) {
		t.Errorf("first  %#v\nsecond %#v", first, second)
	}
}

func TestExampleLoads(t *testing.T) {
	t.Parallel()
	cfg := mustLoad(t, Sources{File: "../examples/recall.yaml", Environ: []string{
		"RECALL_APPS_BROADCAST_APP_SECRET=" + mainSecret, "RECALL_APPS_SUPPORT_DESK_APP_SECRET=" + sideSecret,
	}})
	if err := cfg.RequireApps(); err != nil {
		t.Error(err)
	}
	if app, ok := cfg.AppOf("dingqrstuvwxyz012345"); !ok || app.Name != "support-desk" {
		t.Errorf("the robot of the example belongs to %q", app.Name)
	}
	if cfg.Redis.Addr != "redis.example.com:6379" {
		t.Errorf("the example was not read: %+v", cfg.Redis)
	}
}

// TestEveryKeyIsDocumented: a row of the page for each key, with its variable and its default.
func TestEveryKeyIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	row := func(cells ...string) {
		t.Helper()
		want := "\n| " + strings.Join(cells, " | ")
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/configuration.md has no row that begins with %s", strings.TrimSpace(want))
		}
	}
	tick := func(s string) string { return "`" + s + "`" }
	for _, leaf := range Defaults().leaves() {
		value := tick(strings.Trim(leaf.text(), `"`))
		if value == tick("") {
			value = "none"
		}
		row(tick(leaf.path), tick(envName(leaf.path)), value)
	}
	app := App{Rate: DefaultRate}
	for _, leaf := range app.leaves() {
		if leaf.path == "name" {
			row(tick(leaf.path), "| needed")
			continue
		}
		row(tick(leaf.path), tick(envWords(leaf.path)))
	}
	for _, place := range secretPlaces {
		if !strings.Contains(string(page), tick(place.env)+" | "+tick(place.fileKey)) {
			t.Errorf("docs/configuration.md has no row for %s", place.env)
		}
	}
	for _, key := range appEnvKeys {
		if !strings.Contains(string(page), singleAppEnv(key.suffix)) || !strings.Contains(string(page), tick(key.suffix)) && key.key != "robots" {
			t.Errorf("docs/configuration.md says nothing of %s or %s", singleAppEnv(key.suffix), key.suffix)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"worker.linger", "worker.margin", "redis.addr"}
	for word, want := range map[string]string{
		"worker.lingr": "worker.linger", "WORKER.MARGIN": "worker.margin", "redis.adr": "redis.addr", "something": "", "": "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
