package config

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dingrecall/upstream"
)

func TestLaterSourcesWin(t *testing.T) {
	t.Parallel()
	s := sourcesOf(files(valid), "RECALL_LOG_LEVEL=error", "RECALL_WORKER_LINGER=5s", "RECALL_REDIS_DB=7", "RECALL_REDIS_TLS=false",
		"RECALL_APPS_MAIN_RATE=7.5", "RECALL_APPS_SIDE_APP_ROBOTS=r1, r2", "RECALL_UPSTREAM_BASE_URL=https://api.dingtalk.com/",
		"RECALL_UPSTREAM_MAX_RESPONSE_BYTES=8192", "RECALL_WORKER_CONCURRENCY=", "PATH=/bin", "RECALL_CONFIG=elsewhere.yaml")
	s.Flags = map[string]Flag{"log.level": {Name: "--log-level", Value: "debug"}}
	cfg := mustLoad(t, s)
	for what, pair := range map[string][2]any{
		"flag over environment over file": {cfg.Log.Level, "debug"},
		"environment over file":           {cfg.Worker.Linger, 5 * time.Second},
		"file over default":               {cfg.Worker.Margin, 3 * time.Minute},
		"an empty variable is not set":    {cfg.Worker.Concurrency, 65},
		"number":                          {cfg.Redis.DB, 7},
		"bool":                            {cfg.Redis.TLS, false},
		"int64":                           {cfg.Upstream.MaxResponseBytes, int64(8192)},
		"URL without its slash":           {cfg.Upstream.BaseURL, "https://api.dingtalk.com"},
		"rate of an app":                  {cfg.Apps[0].Rate, 7.5},
		"robots of an app":                {cfg.Apps[1].Robots, []string{"r1", "r2"}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}
}

// TestEveryKeyHasItsVariable sets each key through the environment alone.
func TestEveryKeyHasItsVariable(t *testing.T) {
	t.Parallel()
	full := mustLoad(t, sourcesOf(files(valid)))
	environ := []string{"RECALL_ADMIN_TOKEN=" + adminSecret}
	for _, leaf := range full.leaves() {
		if !strings.HasSuffix(leaf.path, "File") {
			environ = append(environ, envName(leaf.path)+"="+strings.Trim(leaf.text(), `"`))
		}
	}
	got := mustLoad(t, Sources{Environ: environ})
	for i, leaf := range got.leaves() {
		if want := full.leaves()[i].text(); leaf.text() != want && !strings.HasSuffix(leaf.path, "File") {
			t.Errorf("%s: got %s, want %s", leaf.path, leaf.text(), want)
		}
	}
	for path, want := range map[string]string{
		"redis.addr": "RECALL_REDIS_ADDR", "upstream.baseURL": "RECALL_UPSTREAM_BASE_URL",
		"upstream.maxResponseBytes": "RECALL_UPSTREAM_MAX_RESPONSE_BYTES", "redis.db": "RECALL_REDIS_DB",
	} {
		if got := envName(path); got != want {
			t.Errorf("the variable of %s is %s, want %s", path, got, want)
		}
	}
}

func TestRedisURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Redis{
		"redis://h:1/2":         {Addr: "h:1", DB: 2},
		"rediss://bob@h":        {Addr: "h:6379", Username: "bob", TLS: true},
		"redis://[::1]:7/":      {Addr: "[::1]:7"},
		"redis://[::1]":         {Addr: "[::1]:6379"},
		"redis.example.com:400": {Addr: "redis.example.com:400"},
	} {
		if cfg := mustLoad(t, Sources{Environ: []string{"RECALL_REDIS_ADDR=" + text}}); cfg.Redis != want {
			t.Errorf("%s: got %+v, want %+v", text, cfg.Redis, want)
		}
	}
	// A flag's URL wins over the file's parts, even where they differ; what it does not say stays.
	s := sourcesOf(files(valid))
	s.Flags = map[string]Flag{"redis.addr": {Name: "--redis", Value: "redis://other:1/9"}}
	cfg := mustLoad(t, s)
	if want := (Redis{Addr: "other:1", DB: 9, Username: "recall", Password: redisSecret, PasswordFile: "etc/redis-password", TokenKey: tokenKey, TokenKeyFile: "etc/token-key"}); cfg.Redis != want {
		t.Errorf("got %+v, want %+v", cfg.Redis, want)
	}
}

func TestSingleAppFromTheEnvironment(t *testing.T) {
	t.Parallel()
	cfg := mustLoad(t, Sources{Environ: []string{"RECALL_APP_KEY=dingx", "RECALL_APP_SECRET=" + mainSecret}})
	want := []App{{Name: "default", Kind: upstream.KindInternal, AppKey: "dingx", AppSecret: mainSecret, Rate: 20, BudgetZone: DefaultBudgetZone, Robots: []string{"*"}}}
	if !reflect.DeepEqual(cfg.Apps, want) {
		t.Errorf("got %#v, want %#v", cfg.Apps, want)
	}
	if err := cfg.RequireApps(); err != nil {
		t.Error(err)
	}
	cfg = mustLoad(t, Sources{Environ: []string{"RECALL_APP_KEY=dingx", "RECALL_APP_RATE=0", "RECALL_APP_MONTHLY_CALLS=9", "RECALL_APP_ROBOTS=a,b"}})
	if app := cfg.Apps[0]; app.Rate != 0 || app.MonthlyCalls != 9 || !slices.Equal(app.Robots, []string{"a", "b"}) {
		t.Errorf("got %#v", app)
	}
	err := cfg.RequireApps()
	if want := `apps[0].appSecret: of app "default" is missing; set RECALL_APP_SECRET, or appSecretFile to a file that holds it`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestRequireApps(t *testing.T) {
	t.Parallel()
	if err := mustLoad(t, Sources{}).RequireApps(); err == nil || !strings.Contains(err.Error(), "RECALL_APP_KEY") {
		t.Errorf("without apps: %v", err)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(valid, "appSecretFile: main-secret", ""), "appSecretFile: /abs/side-secret", "")
	err := mustLoad(t, sourcesOf(files(text))).RequireApps()
	for _, want := range []string{"RECALL_APPS_MAIN_APP_SECRET", "RECALL_APPS_SIDE_APP_APP_SECRET"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}

func TestBadEnvironment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environ []string
		want    string
	}{
		"unknown":            {[]string{"RECALL_WORKER_LINGR=1s"}, "RECALL_WORKER_LINGR: is not a variable of recall; did you mean RECALL_WORKER_LINGER?"},
		"unknown app":        {[]string{"RECALL_APPS_NOBODY_APP_SECRET=hunter22"}, "RECALL_APPS_NOBODY_APP_SECRET: is not a variable"},
		"mistyped secret":    {[]string{"RECALL_REDIS_PASWORD=hunter22"}, "did you mean RECALL_REDIS_PASSWORD?"},
		"wrong type":         {[]string{"RECALL_REDIS_DB=one"}, `RECALL_REDIS_DB: redis.db: "one" is not a whole number`},
		"no unit":            {[]string{"RECALL_WORKER_SLICE=3"}, `RECALL_WORKER_SLICE: worker.slice: "3" is not a duration`},
		"bool":               {[]string{"RECALL_REDIS_TLS=1"}, "write true or false"},
		"password in URL":    {[]string{"RECALL_REDIS_ADDR=redis://:hunter22@h:1"}, "RECALL_REDIS_ADDR: redis.addr: holds a password; take it out and set RECALL_REDIS_PASSWORD"},
		"password in addr":   {[]string{"RECALL_REDIS_ADDR=:hunter22@h:1"}, "RECALL_REDIS_ADDR: redis.addr: is neither host:port nor"},
		"password, bad URL":  {[]string{"RECALL_REDIS_ADDR=redis://:hunter22%zz@h:1"}, "not a good URL"},
		"password, base URL": {[]string{"RECALL_UPSTREAM_BASE_URL=https://u:hunter22@h"}, "user name or password"},
		"password, bad base": {[]string{"RECALL_UPSTREAM_BASE_URL=https://u:hunter22%zz@h"}, "not a URL"},
		"two passwords":      {[]string{"RECALL_REDIS_PASSWORD=hunter22", "RECALL_REDIS_PASSWORD_FILE=f"}, "unset one of them"},
		"two secrets":        {[]string{"RECALL_APP_KEY=k", "RECALL_APP_SECRET=hunter22", "RECALL_APP_SECRET_FILE=f"}, "unset one of them"},
		"secret, two lines":  {[]string{"RECALL_APP_KEY=k", "RECALL_APP_SECRET=hunter22\nx"}, "RECALL_APP_SECRET: apps[0].appSecret: holds a line break"},
		"secret with space":  {[]string{"RECALL_REDIS_PASSWORD=hunter22 "}, "begins or ends with a space"},
		"endless secret":     {[]string{"RECALL_REDIS_PASSWORD=" + strings.Repeat("hunter22", 1000)}, "longer than 4096 bytes"},
		"short token":        {[]string{"RECALL_ADMIN_TOKEN=hunter22"}, "RECALL_ADMIN_TOKEN: admin.token: is too short"},
		"secret, no key":     {[]string{"RECALL_APP_SECRET=hunter22"}, "RECALL_APP_SECRET: apps[0].appKey: is missing; set RECALL_APP_KEY too"},
		"bad rate":           {[]string{"RECALL_APP_KEY=k", "RECALL_APP_RATE=NaN"}, "RECALL_APP_RATE: apps[0].rate: NaN is not a number"},
		"token key":          {[]string{"RECALL_REDIS_TOKEN_KEY=hunter22"}, "RECALL_REDIS_TOKEN_KEY: redis.tokenKey: is not a key of 32 bytes"},
		"two token keys":     {[]string{"RECALL_REDIS_TOKEN_KEY=" + tokenKeyText, "RECALL_REDIS_TOKEN_KEY_FILE=f"}, "unset one of them"},
		"two tickets": {[]string{"RECALL_APP_KEY=k", "RECALL_APP_KIND=third-party", "RECALL_APP_CORP_ID=c", "RECALL_APP_SUITE_TICKET=hunter22",
			"RECALL_APP_SUITE_TICKET_FILE=f"}, "RECALL_APP_SUITE_TICKET: apps[0].suiteTicket: is set, and so is RECALL_APP_SUITE_TICKET_FILE"},
		"ticket of nobody":   {[]string{"RECALL_APP_KEY=k", "RECALL_APP_SUITE_TICKET=hunter22"}, "RECALL_APP_SUITE_TICKET: apps[0].suiteTicket: is for the kind third-party alone"},
		"ticket, two lines":  {[]string{"RECALL_APP_KEY=k", "RECALL_APP_KIND=third-party", "RECALL_APP_CORP_ID=c", "RECALL_APP_SUITE_TICKET=hunter22\nx"}, "holds a line break"},
		"organisation":       {[]string{"RECALL_APP_KEY=k", "RECALL_APP_KIND=unified", "RECALL_APP_CORP_ID=a/b"}, `RECALL_APP_CORP_ID: apps[0].corpId: "a/b" is not a corpId`},
		"open admin address": {[]string{"RECALL_ADMIN_ADDR=:8080"}, `":8080" can be reached from other machines and needs a token`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(Sources{Environ: c.environ, ReadFile: sourcesOf(map[string]string{"f": "x"}).ReadFile})
			var problems Problems
			if !errors.As(err, &problems) || len(problems) != 1 || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want one problem with %q", err, c.want)
			}
			noSecretIn(t, "the error", allVerbs(err), "hunter22")
		})
	}
	_, err := Load(sourcesOf(files(valid), "RECALL_APP_KEY=k", "RECALL_APP_SECRET=hunter22", "RECALL_APP_RATE="))
	if err == nil || strings.Count(err.Error(), "RECALL_APPS_<NAME>_") != 2 {
		t.Errorf("a single app beside apps of the file: %v", err)
	}
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	_, err := Load(Sources{Flags: map[string]Flag{"redis.addr": {"--redis", "nowhere"}, "no.such": {"--x", "1"}, "log.level": {"--log-level", ""}}})
	want := `--log-level: log.level: "" is not known; choose one of debug, info, warn, error
--redis: redis.addr: "nowhere" is not host:port; write it like 127.0.0.1:6379
--x: no.such: is not a key of the configuration`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestServiceLinksArePassedOver(t *testing.T) {
	t.Parallel()
	mustLoad(t, Sources{Environ: []string{
		"RECALL_SERVICE_HOST=10.0.0.1", "RECALL_SERVICE_PORT=8080", "RECALL_SERVICE_PORT_HTTP=8080", "RECALL_PORT=tcp://10.0.0.1:8080",
		"RECALL_PORT_8080_TCP=tcp://10.0.0.1:8080", "RECALL_PORT_8080_TCP_PROTO=tcp", "RECALL_PORT_8080_TCP_PORT=8080",
		"RECALL_PORT_8080_TCP_ADDR=10.0.0.1", "RECALL_WORKER_SERVICE_HOST=10.0.0.2", "RECALL_REDIS_PORT=tcp://10.0.0.3:6379",
	}})
	if _, err := Load(Sources{Environ: []string{"RECALL_REDIS_PORT=6379"}}); err == nil {
		t.Error("RECALL_REDIS_PORT=6379 is a person's mistake, and was passed over")
	}
}

func TestSecretSources(t *testing.T) {
	t.Parallel()
	// The variable wins over the file named in the configuration file, which then need not exist.
	disk := files(valid)
	delete(disk, "etc/redis-password")
	delete(disk, "etc/main-secret")
	cfg := mustLoad(t, sourcesOf(disk, "RECALL_REDIS_PASSWORD=from-env", "RECALL_APPS_MAIN_APP_SECRET=from-env-too"))
	if cfg.Redis.Password.Reveal() != "from-env" || cfg.Apps[0].AppSecret.Reveal() != "from-env-too" || cfg.Redis.PasswordFile != "" {
		t.Errorf("secrets of the environment do not win")
	}
	// A file that the environment names is looked for where the process stands, not beside the configuration file.
	disk["pw"] = "x-from-cwd"
	cfg = mustLoad(t, sourcesOf(disk, "RECALL_REDIS_PASSWORD_FILE=pw", "RECALL_APPS_MAIN_APP_SECRET_FILE=pw"))
	if cfg.Redis.Password.Reveal() != "x-from-cwd" || cfg.Apps[0].AppSecret.Reveal() != "x-from-cwd" {
		t.Errorf("files named in the environment are not read")
	}
	// Commands that do not call the service do without the apps' secrets, even unreadable ones.
	s := sourcesOf(disk, "RECALL_REDIS_PASSWORD=p")
	s.SkipAppSecrets = true
	if cfg = mustLoad(t, s); cfg.Apps[0].AppSecret != "" {
		t.Error("a secret was read although none was wanted")
	}
	if _, err := Load(sourcesOf(disk, "RECALL_REDIS_PASSWORD=p")); err == nil || !strings.Contains(err.Error(), "apps[0].appSecretFile") {
		t.Errorf("an unreadable secret file: %v", err)
	}
	for name, content := range map[string]string{"is empty": "\n", "line break": "a\nb\n"} {
		disk := files(valid)
		disk["etc/main-secret"] = content
		if _, err := Load(sourcesOf(disk)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a secret file with %q: %v", content, err)
		}
	}
}

func TestReadableSecretFileIsAWarning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"open": 0o644, "group": 0o640, "closed": 0o600} {
		if err := os.WriteFile(dir+"/"+name, []byte(redisSecret), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir+"/"+name, mode); err != nil {
			t.Fatal(err)
		}
		cfg := mustLoad(t, Sources{Environ: []string{"RECALL_REDIS_PASSWORD_FILE=" + dir + "/" + name}})
		if want := name != "closed"; (len(cfg.Warnings) == 1) != want {
			t.Errorf("mode %o: warnings %q", mode, cfg.Warnings)
		}
		noSecretIn(t, "the warning", strings.Join(cfg.Warnings, "\n"))
	}
}

func TestVariablesOfAppsAreLeftAloneWhereNoAppIsNeeded(t *testing.T) {
	t.Parallel()
	s := Sources{Environ: []string{"RECALL_APPS_MAIN_APP_SECRET=hidden"}}
	if _, err := Load(s); err == nil || !strings.Contains(err.Error(), "RECALL_APPS_MAIN_APP_SECRET") {
		t.Errorf("a variable of an app that is not there: %v", err)
	}
	s.SkipAppSecrets = true
	if _, err := Load(s); err != nil {
		t.Errorf("the same for a command that needs no app: %v", err)
	}
}
