package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dingrecall/upstream"
)

// valid is a file that says something about every key.
const valid = `
redis:
  addr: redis.example.com:6380
  username: recall
  passwordFile: redis-password
  tokenKeyFile: token-key
  db: 3
  tls: true
upstream:
  baseURL: https://api.dingtalk.io
  timeout: 11s
  maxResponseBytes: 65536
  maxConns: 12
apps:
  - name: main
    appKey: dingmain
    appSecretFile: main-secret
    rate: 60.5
    monthlyCalls: 200000
    urgentReserve: 1000
    budgetZone: Europe/Berlin
    robots: ["*"]
  - name: side.app
    kind: third-party
    appKey: dingside
    appSecretFile: /abs/side-secret
    corpId: dingcorp
    suiteTicketFile: suite-ticket
    robots: [robot1, robot2]
worker:
  linger: 2s
  window: 23h
  margin: 3m
  deadRetention: 100h
  ledgerRetention: 50h
  concurrency: 65
  intakeConcurrency: 9
  maxSlots: 66
  slice: 4s
  maxAttempts: 11
  unknownAttempts: 4
  splitAfter: 5
  backoffBase: 2s
  backoffMax: 2m
  probeBase: 2s
  probeMax: 3m
  shutdownTimeout: 26s
admin:
  addr: 0.0.0.0:9090
  tokenFile: admin-token
log:
  level: warn
  format: json
`

const (
	redisSecret = "pa55-of-redis"
	mainSecret  = "s3cret-of-main"
	sideSecret  = "s3cret-of-side"
	adminSecret = "t0ken-of-the-admin-page"
	ticket      = "t1cket-of-the-suite"
	tokenKey    = "the-key-for-tokens-has-32-bytes."
)

var (
	tokenKeyText = base64.StdEncoding.EncodeToString([]byte(tokenKey))
	allSecrets   = []string{redisSecret, mainSecret, sideSecret, adminSecret, ticket, tokenKey, tokenKeyText}
)

// files is the disk of a test.
func files(yaml string) map[string]string {
	return map[string]string{
		"etc/recall.yaml":    yaml,
		"etc/redis-password": redisSecret + "\n",
		"etc/main-secret":    "\uFEFF" + mainSecret + "\r\n",
		"/abs/side-secret":   sideSecret,
		"etc/admin-token":    adminSecret + "\n",
		"etc/token-key":      tokenKeyText + "\n",
		"etc/suite-ticket":   ticket + "\n",
	}
}

type fileInfo struct {
	fs.FileInfo
	mode fs.FileMode
}

func (f fileInfo) Mode() fs.FileMode { return f.mode }

func sourcesOf(disk map[string]string, environ ...string) Sources {
	return Sources{
		File:    "etc/recall.yaml",
		Environ: environ,
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := disk[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
		Stat: func(name string) (fs.FileInfo, error) {
			if _, ok := disk[name]; ok {
				return fileInfo{mode: 0o600}, nil
			}
			return nil, fs.ErrNotExist
		},
	}
}

func mustLoad(t *testing.T, s Sources) *Config {
	t.Helper()
	cfg, err := Load(s)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return cfg
}

func TestLoadReadsEveryKey(t *testing.T) {
	t.Parallel()
	got := mustLoad(t, sourcesOf(files(valid)))
	want := &Config{
		Redis: Redis{Addr: "redis.example.com:6380", Username: "recall", Password: redisSecret, PasswordFile: "etc/redis-password", TokenKey: tokenKey, TokenKeyFile: "etc/token-key", DB: 3, TLS: true},
		Upstream: upstream.Config{
			BaseURL: "https://api.dingtalk.io", Timeout: 11 * time.Second, MaxResponseBytes: 65536, MaxConns: 12,
		},
		Apps: []App{
			{Name: "main", Kind: upstream.KindInternal, AppKey: "dingmain", AppSecret: mainSecret, AppSecretFile: "etc/main-secret", Rate: 60.5, MonthlyCalls: 200000, UrgentReserve: 1000, BudgetZone: "Europe/Berlin", Robots: []string{"*"}},
			{Name: "side.app", Kind: upstream.KindThirdParty, AppKey: "dingside", AppSecret: sideSecret, AppSecretFile: "/abs/side-secret", CorpID: "dingcorp",
				SuiteTicketFile: "etc/suite-ticket", Rate: 20, BudgetZone: DefaultBudgetZone, Robots: []string{"robot1", "robot2"}},
		},
		Worker: Worker{
			Linger: 2 * time.Second, Window: 23 * time.Hour, Margin: 3 * time.Minute, DeadRetention: 100 * time.Hour, LedgerRetention: 50 * time.Hour,
			Concurrency: 65, IntakeConcurrency: 9, MaxSlots: 66, Slice: 4 * time.Second, MaxAttempts: 11, UnknownAttempts: 4, SplitAfter: 5,
			BackoffBase: 2 * time.Second, BackoffMax: 2 * time.Minute, ProbeBase: 2 * time.Second, ProbeMax: 3 * time.Minute, ShutdownTimeout: 26 * time.Second,
		},
		Admin: Admin{Addr: "0.0.0.0:9090", Token: adminSecret, TokenFile: "etc/admin-token"},
		Log:   Log{Level: "warn", Format: "json"},
	}
	want.sources = got.sources
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
	if len(got.Warnings) != 0 {
		t.Errorf("warnings of a good configuration: %q", got.Warnings)
	}
	// Every key of the file differs from its default, or the comparison above would prove nothing for it.
	defaults := Defaults()
	for i, leaf := range got.leaves() {
		if leaf.text() == defaults.leaves()[i].text() {
			t.Errorf("%s has its default in this test", leaf.path)
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	if problems := Defaults().Validate(); len(problems) != 0 {
		t.Errorf("the defaults are not valid: %v", problems)
	}
	got := mustLoad(t, Sources{})
	got.sources = nil
	if !reflect.DeepEqual(got, Defaults()) {
		t.Errorf("loading nothing gives %#v", got)
	}
	if err := got.Upstream.Validate(); err != nil {
		t.Errorf("the client refuses the defaults: %v", err)
	}
}

// TestSpoiled starts from a valid file and spoils one thing: exactly one problem must come of it, with the path and a hint.
func TestSpoiled(t *testing.T) {
	t.Parallel()
	cases := []struct{ from, to, path, want string }{
		{"addr: redis.example.com:6380", "addr: redis.example.com", "redis.addr", `"redis.example.com" is not host:port`},
		{"addr: redis.example.com:6380", "addr: redis.example.com:0", "redis.addr", "1 to 65535"},
		{"addr: redis.example.com:6380", "addr: ':6380'", "redis.addr", "no good host"},
		{"addr: redis.example.com:6380", "addr: 6380", "redis.addr", "6380 is not text; put it in quotes"},
		{"addr: redis.example.com:6380", "addr: http://redis.example.com", "redis.addr", "not a good URL"},
		{"addr: redis.example.com:6380", "addr: rediss://h:1/4", "redis.addr", "redis.db disagree"},
		{"addr: redis.example.com:6380", "addr: redis://h:1/3", "redis.addr", "redis.tls disagree"},
		{"addr: redis.example.com:6380", "addr: rediss://h:1/x", "redis.addr", "no good database"},
		{"addr: redis.example.com:6380", "addr: rediss://h:1?protocol=3", "redis.addr", "query"},
		{"addr: redis.example.com:6380", "addr: ''", "redis.addr", "is empty"},
		{"username: recall", "username: a b", "redis.username", "space"},
		{"passwordFile: redis-password", "passwordFile: nowhere", "redis.passwordFile", `"etc/nowhere" cannot be read: no such file`},
		{"passwordFile: redis-password", "password: x", "redis.password", "set RECALL_REDIS_PASSWORD, or redis.passwordFile"},
		{"tokenKeyFile: token-key", "tokenKeyFile: nowhere", "redis.tokenKeyFile", `"etc/nowhere" cannot be read: no such file`},
		{"tokenKeyFile: token-key", "tokenKeyFile: admin-token", "redis.tokenKey", "is not a key of 32 bytes in base64 or hex; make one with"},
		{"tokenKeyFile: token-key", "tokenKey: x", "redis.tokenKey", "set RECALL_REDIS_TOKEN_KEY, or redis.tokenKeyFile"},
		{"db: 3", "db: -1", "redis.db", "-1 is out of range"},
		{"db: 3", "db: 1.5", "redis.db", "1.5 is not a whole number"},
		{"db: 3", `db: "3"`, "redis.db", `"3" is not a whole number`},
		{"db: 3", "db:", "redis.db", "has no value"},
		{"tls: true", "tls: yes", "redis.tls", `"yes" is not a yes or no; write true or false`},
		{"tls: true", "tsl: true", "redis.tsl", "did you mean redis.tls?"},
		{"baseURL: https://api.dingtalk.io", "baseURL: http://api.dingtalk.io", "upstream.baseURL", "in the clear"},
		{"baseURL: https://api.dingtalk.io", "baseURL: https://u@api.dingtalk.io", "upstream.baseURL", "user name or password"},
		{"baseURL: https://api.dingtalk.io", "baseURL: api.dingtalk.io", "upstream.baseURL", "not a URL"},
		{"baseURL: https://api.dingtalk.io", "baseURL: ftp://api.dingtalk.io", "upstream.baseURL", "neither https nor http"},
		{"baseURL: https://api.dingtalk.io", "baseURL: https://api.dingtalk.io?x=1", "upstream.baseURL", "query"},
		{"baseURL: https://api.dingtalk.io", "baseURL: https://api.dingtalk.io/#", "upstream.baseURL", "fragment"},
		{"baseURL: https://api.dingtalk.io", "baseURL: 'https://api.dingtalk.io/ '", "upstream.baseURL", "a space in it"},
		{"baseURL: https://api.dingtalk.io", "baseURL: https://api.dingtalk.io:99999", "upstream.baseURL", "a port that is none"},
		{"baseURL: https://api.dingtalk.io", "baseurl: https://api.dingtalk.io", "upstream.baseurl", "did you mean upstream.baseURL?"},
		{"timeout: 11s", "timeout: 11", "upstream.timeout", "11 has no unit; write it like 11s"},
		{"timeout: 11s", "timeout: 0s", "upstream.timeout", "0s is out of range"},
		{"timeout: 11s", "timeout: 27s", "worker.shutdownTimeout", "less than upstream.timeout"},
		{"timeout: 11s", "timeout: soon", "upstream.timeout", `"soon" is not a duration`},
		{"maxResponseBytes: 65536", "maxResponseBytes: 1", "upstream.maxResponseBytes", "out of range"},
		{"maxConns: 12", "maxConns: 0", "upstream.maxConns", "out of range"},
		{"linger: 2s", "linger: 61s", "worker.linger", "1m1s is out of range; choose from 0s to 1m"},
		{"linger: 2s", "linger: -1s", "worker.linger", "out of range"},
		{"window: 23h", "window: 25h", "worker.window", "out of range"},
		{"window: 23h", "window: 2m", "worker.margin", "leaves nothing of worker.window"},
		{"margin: 3m", "margin: 22h59m58s", "worker.linger", "not less than worker.window less worker.margin"},
		{"margin: 3m", "margin: -1s", "worker.margin", "out of range"},
		{"deadRetention: 100h", "deadRetention: 22h", "worker.deadRetention", "less than worker.window"},
		{"deadRetention: 100h", "deadRetention: 90d", "worker.deadRetention", "48h"},
		{"ledgerRetention: 50h", "ledgerRetention: 47h", "worker.ledgerRetention", "out of range"},
		{"concurrency: 65", "concurrency: 0", "worker.concurrency", "out of range"},
		{"concurrency: 65", "concurrency: many", "worker.concurrency", `"many" is not a whole number`},
		{"intakeConcurrency: 9", "intakeConcurrency: 0", "worker.intakeConcurrency", "out of range"},
		{"maxSlots: 66", "maxSlots: 0", "worker.maxSlots", "out of range"},
		{"slice: 4s", "slice: 1ms", "worker.slice", "out of range"},
		{"maxAttempts: 11", "maxAttempts: 0", "worker.maxAttempts", "out of range"},
		{"unknownAttempts: 4", "unknownAttempts: 12", "worker.unknownAttempts", "more than worker.maxAttempts (11)"},
		{"splitAfter: 5", "splitAfter: 12", "worker.splitAfter", "more than worker.maxAttempts (11)"},
		{"backoffBase: 2s", "backoffBase: 0s", "worker.backoffBase", "out of range"},
		{"backoffMax: 2m", "backoffMax: 1s", "worker.backoffMax", "less than worker.backoffBase"},
		{"probeMax: 3m", "probeMax: 1s", "worker.probeMax", "less than worker.probeBase"},
		{"shutdownTimeout: 26s", "shutdownTimeout: 10s", "worker.shutdownTimeout", "less than upstream.timeout"},
		{"shutdownTimeout: 26s", "shutdownTimeout: 26s\n  shutdownTimeoutt: 1", "worker.shutdownTimeoutt", "did you mean worker.shutdownTimeout?"},
		{"addr: 0.0.0.0:9090", "addr: 0.0.0.0", "admin.addr", "not host:port"},
		{"addr: 0.0.0.0:9090", "addr: 0.0.0.0:http", "admin.addr", "no good port"},
		{"tokenFile: admin-token", "token: x", "admin.token", "set RECALL_ADMIN_TOKEN, or admin.tokenFile"},
		{"tokenFile: admin-token", "# nothing", "admin.addr", "needs a token"},
		{"level: warn", "level: loud", "log.level", `"loud" is not known; choose one of debug, info, warn, error`},
		{"format: json", "format: xml", "log.format", "auto, console, json"},
		{"log:", "logs:\nlog:", "logs", "did you mean log?"},
		{"log:", "redis.addr: x\nlog:", "redis.addr", "nest it"},
		{"name: main", "name: Main", "apps[0].name", "is not a name"},
		{"name: main", "nothing: main", "apps[0].nothing", "not a key of an app"},
		{"name: main", "name: side.app", "apps[1].name", `"side.app" is the name of apps[0] already`},
		{"name: main", "name: side-app", "apps[1].name", "have the same variables, RECALL_APPS_SIDE_APP_"},
		{"kind: third-party", "kind: thirdparty", "apps[1].kind", `"thirdparty" is not known; choose one of internal, third-party, unified`},
		{"kind: third-party", "kind: ''", "apps[1].kind", "is not known"},
		{"kind: third-party", "kind: unified", "apps[1].suiteTicketFile", "is for the kind third-party alone; take it out (this app's kind is unified)"},
		{"corpId: dingcorp", "corpId: $CORPID$", "apps[1].corpId", `"$CORPID$" is not a corpId`},
		{"corpId: dingcorp", "corpId: ''", "apps[1].corpId", "is missing; the kind third-party needs the organisation"},
		{"corpId: dingcorp", "rate: 1", "apps[1].corpId", "is missing"},
		{"suiteTicketFile: suite-ticket", "suiteTicket: x", "apps[1].suiteTicket", "set RECALL_APPS_SIDE_APP_SUITE_TICKET, or suiteTicketFile to a file"},
		{"appKey: dingmain", "corpId: dingcorp\n    appKey: dingmain", "apps[0].corpId", "is not for an internal app"},
		{"appKey: dingmain", "kind: unified\n    appKey: dingmain", "apps[0].corpId", "is missing; the kind unified needs"},
		{"appKey: dingmain", "appKey: 12345", "apps[0].appKey", "12345 is not text"},
		{"appKey: dingmain", "appKey: ''", "apps[0].appKey", "is missing"},
		{"appKey: dingmain", "appKey: a b", "apps[0].appKey", "space"},
		{"appSecretFile: main-secret", "appSecret: x", "apps[0].appSecret", "set RECALL_APPS_MAIN_APP_SECRET, or appSecretFile"},
		{"rate: 60.5", "rate: -1", "apps[0].rate", "-1 is out of range; choose from 0 to 1000000"},
		{"rate: 60.5", "rate: .nan", "apps[0].rate", "NaN is not a number"},
		{"rate: 60.5", "rate: fast", "apps[0].rate", `"fast" is not a number`},
		{"monthlyCalls: 200000", "monthlyCalls: -1", "apps[0].monthlyCalls", "out of range"},
		{"urgentReserve: 1000", "urgentReserve: -1", "apps[0].urgentReserve", "out of range"},
		{"monthlyCalls: 200000", "monthlyCalls: 999", "apps[0].urgentReserve", "1000 is more than the month's calls"},
		{"budgetZone: Europe/Berlin", "budgetZone: Europe/Atlantis", "apps[0].budgetZone", `"Europe/Atlantis" is no time zone`},
		{"budgetZone: Europe/Berlin", "budgetZone: Local", "apps[0].budgetZone", "is no time zone"},
		{`robots: ["*"]`, "robots: []", "apps[0].robots", "is empty"},
		{`robots: ["*"]`, "robots: [robot2]", "apps[1].robots", `"robot2" belongs to apps[0] already`},
		{`robots: ["*"]`, "robots: [a, a]", "apps[0].robots", `names "a" twice`},
		{`robots: ["*"]`, "robots: [12]", "apps[0].robots", "not text; put it in quotes"},
		{`robots: ["*"]`, "robots: all", "apps[0].robots", "is not a list"},
		{`robots: ["*"]`, "robots: ['']", "apps[0].robots", "empty robotCode"},
		{`robots: ["*"]`, "robots: ['" + strings.Repeat("r", 129) + "']", "apps[0].robots", "129 bytes"},
		{"robots: [robot1, robot2]", "robots: [robot1, '*']", "apps[1].robots", "only one app can take the rest"},
		{"robots: [robot1, robot2]", "rate: 1", "apps[1].robots", "is empty"},
	}
	for _, c := range cases {
		t.Run(c.path+"/"+c.to, func(t *testing.T) {
			t.Parallel()
			if strings.Count(valid, c.from) != 1 {
				t.Fatalf("%q is %d times in the valid file, not once", c.from, strings.Count(valid, c.from))
			}
			_, err := Load(sourcesOf(files(strings.Replace(valid, c.from, c.to, 1))))
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, not Problems", err)
			}
			i := slices.IndexFunc(problems, func(p Problem) bool { return p.Path == c.path })
			if i < 0 || !strings.Contains(problems[i].String(), c.want) {
				t.Fatalf("no problem of %s with %q in:\n%v", c.path, c.want, err)
			}
			// Taking a key away can have one consequence elsewhere: a missing token, a missing name.
			most := 1
			if key, _, _ := strings.Cut(c.from, ":"); !strings.HasPrefix(c.to, key+":") {
				most = 2
			}
			if len(problems) > most {
				t.Errorf("one mistake made %d problems:\n%v", len(problems), err)
			}
			if strings.Count(err.Error(), "\n") != len(problems)-1 {
				t.Errorf("not one line a problem:\n%v", err)
			}
		})
	}
}

// TestRelationsAreNotHeldAgainstUnreadValues: a value that could not be read still has its default, which says nothing.
func TestRelationsAreNotHeldAgainstUnreadValues(t *testing.T) {
	t.Parallel()
	_, err := Load(sourcesOf(files("worker:\n  maxAttempts: x\n  splitAfter: 100\nadmin:\n  addr: 0.0.0.0:1\n  tokenFile: nowhere\n")))
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 2 || !problems.has("worker.maxAttempts") || !problems.has("admin.tokenFile") {
		t.Errorf("got %v", err)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	spoiled := strings.NewReplacer("db: 3", "db: x", "linger: 2s", "linger: 2", "level: warn", "level: loud", "rate: 60.5", "rate: x").Replace(valid)
	_, err := Load(sourcesOf(files(spoiled), "RECALL_WORKER_SLICE=0", "RECALL_NONSENSE=1"))
	want := `RECALL_NONSENSE: is not a variable of recall; unset it, or see the list of variables in docs/configuration.md
RECALL_WORKER_SLICE: worker.slice: 0s is out of range; choose from 100ms to 1m
etc/recall.yaml: apps[0].rate: "x" is not a number; choose one from 0 to 1000000
etc/recall.yaml: log.level: "loud" is not known; choose one of debug, info, warn, error
etc/recall.yaml: redis.db: "x" is not a whole number; choose one from 0 to 2147483647
etc/recall.yaml: worker.linger: 2 has no unit; write it like 2s`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"syntax":      {"redis:\n  addr: 'x\n", "etc/recall.yaml:"},
		"tab":         {"redis:\n\taddr: x\n", "etc/recall.yaml:2: this is not YAML"},
		"duplicate":   {"redis:\n  db: 1\n  db: 2\n", "etc/recall.yaml:3: the key db is already set in line 2"},
		"scalar":      {"hello-there\n", "top level must be sections"},
		"list":        {"- a\n", "top level must be sections"},
		"documents":   {"redis:\n  db: 1\n---\nlog: {}\n", "etc/recall.yaml:3: a second YAML document"},
		"section":     {"redis: 127.0.0.1:6379\n", "redis: is a section"},
		"apps":        {"apps: main\n", `apps: is not a list`},
		"app":         {"apps: [main]\n", "apps[0]: is not a section"},
		"binary":      {"\x00\x01\x02", "this is not YAML"},
		"alias":       {"redis:\n  addr: *hunter2\n", "this is not YAML"},
		"number keys": {"1: 2\n", "1: is not a key"},
		"huge":        {strings.Repeat("# filler\n", 1<<18), "bigger than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(sourcesOf(files(c.text)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q in it", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "hello-there") {
				t.Errorf("the error repeats the file: %v", err)
			}
		})
	}
	for name, text := range map[string]string{
		"empty": "", "comments": "# nothing\n---\n# here\n", "empty sections": "redis:\nworker:\napps:\nlog: {}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustLoad(t, sourcesOf(files(text)))
		})
	}
}

// TestMisplacedSecretsAreNotShown: a secret in the file is refused, wherever it stands, and the line does not repeat it.
func TestMisplacedSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"redis: {password: hunter2}", "redis: {passwd: hunter2}", "redis: hunter2", "redis: [hunter2]", "redis: {addr: 'redis://:hunter2@h:1'}",
		"redis: {addr: 'u:hunter2@h:1'}", "redis: {password: *hunter2}", "redis: {password: !!int hunter2}", "admin: {token: hunter2}", "secret: hunter2",
		"apps: hunter2", "apps: [hunter2]", "apps: [{name: a, appKey: k, appSecret: hunter2}]", "apps: [{name: a, appKey: k, secret: hunter2}]",
		"apps: [{name: a, appKey: k, appSecret: {value: hunter2}}]", "upstream: {baseURL: 'https://u:hunter2@h'}", "hunter2",
	} {
		_, err := Load(sourcesOf(files(text)))
		if err == nil {
			t.Errorf("%s: accepted", text)
			continue
		}
		noSecretIn(t, text, allVerbs(err), "hunter2")
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	_, err := Load(sourcesOf(nil))
	want := "etc/recall.yaml: cannot read the configuration: no such file; name another with --config"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	// And from the disk, without a hand-made reader.
	dir := t.TempDir()
	if _, err = Load(Sources{File: dir}); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory as the file: %v", err)
	}
	path := dir + "/recall.yaml"
	if err := os.WriteFile(path, []byte("log:\n  level: debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg := mustLoad(t, Sources{File: path}); cfg.Log.Level != "debug" {
		t.Errorf("level is %q", cfg.Log.Level)
	}
}

func noSecretIn(t *testing.T, what, text string, secrets ...string) {
	t.Helper()
	for _, secret := range append(slices.Clone(allSecrets), secrets...) {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds a secret (%s):\n%s", what, secret, text)
		}
	}
}

func allVerbs(v any) string {
	return fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v)
}

// TestEndlessFilesAreNotReadToTheirEnd: a device or a disk image in the place of a secret must not fill the memory.
func TestEndlessFilesAreNotReadToTheirEnd(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 1<<40); err != nil {
		t.Fatalf("this file system has no sparse files, which the test needs (set TMPDIR to one that has): %v", err)
	}
	for _, sources := range []Sources{{File: name}, {Environ: []string{"RECALL_APP_KEY=k", "RECALL_APP_SECRET_FILE=" + name}}} {
		_, err := Load(sources)
		if err == nil || !strings.Contains(err.Error(), "; is this the right ") {
			t.Errorf("got %v", err)
		}
	}
}
