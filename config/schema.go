package config

import (
	"math"
	"strings"
	"time"
	"unicode"
)

// day is what durations of days are written with.
const day = 24 * time.Hour

// leaves is the schema: every key outside of apps, bound to its field, in the order in which it is printed and documented.
func (c *Config) leaves() []leaf {
	w := &c.Worker
	return []leaf{
		stringLeaf("redis.addr", &c.Redis.Addr, checkHostPort),
		stringLeaf("redis.username", &c.Redis.Username, checkWord),
		stringLeaf("redis.passwordFile", &c.Redis.PasswordFile, nil),
		stringLeaf("redis.tokenKeyFile", &c.Redis.TokenKeyFile, nil),
		intLeaf("redis.db", &c.Redis.DB, 0, math.MaxInt32),
		boolLeaf("redis.tls", &c.Redis.TLS),
		stringLeaf("upstream.baseURL", &c.Upstream.BaseURL, checkBaseURL),
		durationLeaf("upstream.timeout", &c.Upstream.Timeout, 100*time.Millisecond, 5*time.Minute),
		intLeaf("upstream.maxResponseBytes", &c.Upstream.MaxResponseBytes, 4<<10, 64<<20),
		intLeaf("upstream.maxConns", &c.Upstream.MaxConns, 1, 10_000),
		durationLeaf("worker.linger", &w.Linger, 0, time.Minute),
		durationLeaf("worker.window", &w.Window, time.Second, day),
		durationLeaf("worker.margin", &w.Margin, 0, day),
		durationLeaf("worker.deadRetention", &w.DeadRetention, time.Hour, 3650*day),
		durationLeaf("worker.ledgerRetention", &w.LedgerRetention, 2*day, 200*day),
		intLeaf("worker.concurrency", &w.Concurrency, 1, 10_000),
		intLeaf("worker.intakeConcurrency", &w.IntakeConcurrency, 1, 1000),
		intLeaf("worker.maxSlots", &w.MaxSlots, 1, 120),
		durationLeaf("worker.slice", &w.Slice, 100*time.Millisecond, time.Minute),
		intLeaf("worker.maxAttempts", &w.MaxAttempts, 1, 200),
		intLeaf("worker.unknownAttempts", &w.UnknownAttempts, 1, 200),
		intLeaf("worker.splitAfter", &w.SplitAfter, 1, 200),
		durationLeaf("worker.backoffBase", &w.BackoffBase, time.Millisecond, time.Hour),
		durationLeaf("worker.backoffMax", &w.BackoffMax, time.Millisecond, time.Hour),
		durationLeaf("worker.probeBase", &w.ProbeBase, time.Second, day),
		durationLeaf("worker.probeMax", &w.ProbeMax, time.Second, day),
		durationLeaf("worker.shutdownTimeout", &w.ShutdownTimeout, time.Second, 10*time.Minute),
		stringLeaf("admin.addr", &c.Admin.Addr, checkListenAddr),
		stringLeaf("admin.tokenFile", &c.Admin.TokenFile, nil),
		stringLeaf("log.level", &c.Log.Level, oneOf("debug", "info", "warn", "error")),
		stringLeaf("log.format", &c.Log.Format, oneOf("auto", "console", "json")),
	}
}

// leaves is the schema of one app, its paths relative to the app.
func (a *App) leaves() []leaf {
	return []leaf{
		stringLeaf("name", &a.Name, checkAppName),
		stringLeaf("kind", (*string)(&a.Kind), oneOf(kinds()...)),
		stringLeaf("appKey", &a.AppKey, checkAppKey),
		stringLeaf("appSecretFile", &a.AppSecretFile, nil),
		stringLeaf("corpId", &a.CorpID, checkCorpID),
		stringLeaf("suiteTicketFile", &a.SuiteTicketFile, nil),
		floatLeaf("rate", &a.Rate, 0, 1_000_000),
		intLeaf("monthlyCalls", &a.MonthlyCalls, 0, math.MaxInt32),
		intLeaf("urgentReserve", &a.UrgentReserve, 0, math.MaxInt32),
		stringLeaf("budgetZone", &a.BudgetZone, checkZone),
		listLeaf("robots", &a.Robots, checkRobots),
	}
}

// secretPlace is where a secret comes from instead of the file.
type secretPlace struct{ path, fileKey, env string }

// secretPlaces are the secrets outside of apps.
var secretPlaces = []secretPlace{
	{"redis.password", "redis.passwordFile", "RECALL_REDIS_PASSWORD"},
	{"redis.tokenKey", "redis.tokenKeyFile", "RECALL_REDIS_TOKEN_KEY"},
	{"admin.token", "admin.tokenFile", "RECALL_ADMIN_TOKEN"},
}

// envName is the environment variable of a path: RECALL_, then the words in capitals: upstream.baseURL is RECALL_UPSTREAM_BASE_URL.
func envName(path string) string { return "RECALL_" + envWords(path) }

func envWords(path string) string {
	var b strings.Builder
	runes := []rune(path)
	for i, r := range runes {
		switch {
		case r == '.':
			b.WriteByte('_')
			continue
		case unicode.IsUpper(r) && i > 0 && unicode.IsLower(runes[i-1]):
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// appEnvPrefix is what the variables of one app begin with: eu-prod is RECALL_APPS_EU_PROD_.
func appEnvPrefix(name string) string {
	return "RECALL_APPS_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		if (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') {
			return r
		}
		return '_'
	}, name) + "_"
}

// singleAppPrefix is what the variables begin with that make an app without any file.
const singleAppPrefix = "RECALL_APP_"

// DefaultAppName is the name of the app that RECALL_APP_KEY makes.
const DefaultAppName = "default"

// appEnvKeys are the words of an app's variables after the prefix, and the key that each sets.
var appEnvKeys = []struct{ suffix, key string }{
	{"KIND", "kind"},
	{"APP_KEY", "appKey"},
	{"APP_SECRET", "appSecret"},
	{"APP_SECRET_FILE", "appSecretFile"},
	{"CORP_ID", "corpId"},
	{"SUITE_TICKET", "suiteTicket"},
	{"SUITE_TICKET_FILE", "suiteTicketFile"},
	{"RATE", "rate"},
	{"MONTHLY_CALLS", "monthlyCalls"},
	{"URGENT_RESERVE", "urgentReserve"},
	{"BUDGET_ZONE", "budgetZone"},
	{"ROBOTS", "robots"},
}

type appSecret struct{ key, fileKey, suffix string }

// appSecrets are the secrets of an app: never in the file, but in a variable or in a file that fileKey names.
var appSecrets = []appSecret{
	{"appSecret", "appSecretFile", "APP_SECRET"},
	{"suiteTicket", "suiteTicketFile", "SUITE_TICKET"},
}

// singleAppEnv is the variable of the single app for one of appEnvKeys: RECALL_APP_KEY, not RECALL_APP_APP_KEY.
func singleAppEnv(suffix string) string {
	return singleAppPrefix + strings.TrimPrefix(suffix, "APP_")
}
