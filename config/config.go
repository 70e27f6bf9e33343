// Package config is the program's configuration: one YAML file, the environment over it, flags over both.
//
// Loading is strict and has no side effects: an unknown key is an error, every problem is reported at once with its path and
// what to do about it, and no secret is ever part of a message or of the printed configuration.
package config

import (
	"slices"
	"time"

	"dingrecall/upstream"
)

// Config is everything the program can be told. Load fills and checks it; Defaults is what it is when told nothing.
type Config struct {
	Redis    Redis
	Upstream upstream.Config
	// Apps are the DingTalk apps whose robots' messages are recalled. Commands that call the service need at least one
	// (RequireApps); commands that only talk to Redis do not.
	Apps   []App
	Worker Worker
	Admin  Admin
	Log    Log

	// Warnings are remarks on a configuration that works all the same, one line each.
	Warnings []string

	// sources remembers where a value was set ("recall.yaml", "RECALL_REDIS_ADDR", "--redis"), by path, for messages.
	sources map[string]string
}

// Redis says where the queues and the key store are.
type Redis struct {
	// Addr is host:port. Default 127.0.0.1:6379. In the file, the environment or a flag it may also be a redis:// or rediss://
	// URL without a password; Load takes that apart into Addr, Username, DB and TLS.
	Addr string
	// Username is the ACL user. Default "": Redis's default user.
	Username string
	// Password comes from RECALL_REDIS_PASSWORD or PasswordFile, never from the configuration file.
	Password upstream.Secret
	// PasswordFile is a file that holds the password; a trailing newline is not part of it.
	PasswordFile string
	// TokenKey encrypts the access tokens that workers share in Redis: 32 bytes, as they are. From RECALL_REDIS_TOKEN_KEY or TokenKeyFile, in
	// base64 or hex, never from the configuration file. Default "": tokens are in Redis in clear.
	TokenKey upstream.Secret
	// TokenKeyFile is a file that holds the key, in base64 or hex.
	TokenKeyFile string
	// DB is the number of the database. Default 0.
	DB int
	// TLS encrypts the connection; the server's certificate is checked against the system's roots. Default false.
	TLS bool
}

// App is a DingTalk app: the owner of credentials, of a rate and of a monthly budget, and of robots.
type App struct {
	// Name is the app's name in commands, metrics and Redis key names: [a-z0-9][a-z0-9._-]{0,63}. Changing it orphans what waits.
	Name string
	// Kind is how the app gets its tokens: internal, third-party or unified. Default internal.
	Kind upstream.Kind
	// AppKey is the app's public identifier at DingTalk (also called client id; of a third-party app, suite key).
	AppKey string
	// AppSecret comes from RECALL_APPS_<NAME>_APP_SECRET or AppSecretFile, never from the configuration file.
	AppSecret upstream.Secret
	// AppSecretFile is a file that holds the secret; a trailing newline is not part of it.
	AppSecretFile string
	// CorpID is the organisation whose messages are recalled. For the kinds third-party and unified.
	CorpID string
	// SuiteTicket is the suite ticket of a third-party app as RECALL_APPS_<NAME>_SUITE_TICKET has it, never from the configuration file. It
	// cannot change while the program runs, and the service pushes another one about every five hours: for a short run only.
	SuiteTicket upstream.Secret
	// SuiteTicketFile is a file that holds the newest suite ticket. It is read for each request of a token.
	SuiteTicketFile string
	// Rate is the limit in calls a second over all workers together. Default 20, the standard edition's; 0 is no limit.
	// A call carries up to 20 keys, so 20 calls a second are up to 400 keys a second.
	Rate float64
	// MonthlyCalls is how many calls may be made in a calendar month. Default 0: no limit but the service's own.
	MonthlyCalls int
	// UrgentReserve is how many of MonthlyCalls are kept for urgent keys: others wait once only so many are left. Default 0.
	UrgentReserve int
	// BudgetZone is the time zone in which the month turns, as the tz database names it. Default Asia/Shanghai.
	BudgetZone string
	// Robots are the robotCodes that belong to this app; "*" takes every robot that no other app names. With a single app, the
	// default is ["*"].
	Robots []string
}

// AnyRobot in App.Robots stands for every robot that no other app names.
const AnyRobot = "*"

// Worker is how keys are gathered into calls, retried and remembered.
type Worker struct {
	// Linger is how long fewer than 20 keys wait for company, counted from the oldest. Default 1s, 0 to 60s; urgent keys never linger.
	// Longer makes calls fuller, and a trickle slower.
	Linger time.Duration
	// Window is how long after its sending a message can be recalled. Default 24h, DingTalk's limit.
	Window time.Duration
	// Margin is taken off the end of the window: no call carries a key later than that. Default 2m.
	Margin time.Duration
	// DeadRetention is how long a dead letter stays to be looked at and replayed. Default 2160h (90 days).
	DeadRetention time.Duration
	// LedgerRetention is how long it is remembered what became of a key; until then a second submission of it is a duplicate.
	// Default 168h (7 days), at least 48h.
	LedgerRetention time.Duration
	// Concurrency is how many slots one worker process runs at once, over all apps: its calls in flight at most. Default 64.
	Concurrency int
	// IntakeConcurrency is how many submissions one worker process admits at once. Default 8.
	IntakeConcurrency int
	// MaxSlots is how many calls of one app may be in flight over all workers. Default 48: less than Concurrency, so that an app whose service
	// is slow leaves other apps some of a worker.
	MaxSlots int
	// Slice is how long a slot goes on before it yields to others. Default 3s.
	Slice time.Duration
	// MaxAttempts is how many times a key is tried that meets transient trouble. Default 10.
	MaxAttempts int
	// UnknownAttempts is the same for answers that are in no table. Default 3, at most MaxAttempts.
	UnknownAttempts int
	// SplitAfter is after how many failed attempts a batch is cut in two, so that one bad key cannot sink nineteen. Default 3.
	SplitAfter int
	// BackoffBase is the wait before the first retry; it doubles, with jitter, up to BackoffMax. Default 1s.
	BackoffBase time.Duration
	// BackoffMax is the longest wait between two attempts. Default 1m.
	BackoffMax time.Duration
	// ProbeBase is how long an app or a robot that is held rests before the first call that is spent on finding out whether it may
	// call again; doubled after each that fails, up to ProbeMax. Default 1m.
	ProbeBase time.Duration
	// ProbeMax is the longest time between two such calls. Default 30m. Shorter finds out sooner that something was mended, and spends more calls.
	ProbeMax time.Duration
	// ShutdownTimeout is how long a stopping worker waits for calls in flight. Default 25s, at least Upstream.Timeout.
	ShutdownTimeout time.Duration
}

// Admin is the worker's HTTP address for health, metrics and the queue page.
type Admin struct {
	// Addr is host:port. Default 127.0.0.1:8080. An address that others can reach needs a Token.
	Addr string
	// Token must be sent by callers. From RECALL_ADMIN_TOKEN or TokenFile, never from the configuration file.
	Token upstream.Secret
	// TokenFile is a file that holds the token; a trailing newline is not part of it.
	TokenFile string
}

// Log is how the program logs.
type Log struct {
	// Level is debug, info, warn or error. Default info.
	Level string
	// Format is json, console, or auto: console on a terminal, json elsewhere. Default auto.
	Format string
}

// Defaults of an App; an app in the file starts from these.
const (
	DefaultRate       = 20
	DefaultBudgetZone = "Asia/Shanghai"
)

// StandardMonthlyCalls is what an organisation on the standard edition may call in a month (official documentation). It is no default of
// MonthlyCalls: what an organisation has is not known here, and to stop short of it would leave messages standing.
const StandardMonthlyCalls = 5000

// Defaults returns the configuration that holds when nothing is said. It has no apps.
func Defaults() *Config {
	return &Config{
		Redis:    Redis{Addr: "127.0.0.1:6379"},
		Upstream: upstream.Config{}.WithDefaults(),
		Worker:   DefaultWorker(),
		Admin:    Admin{Addr: "127.0.0.1:8080"},
		Log:      Log{Level: "info", Format: "auto"},
	}
}

// DefaultWorker returns the defaults of the worker's part.
func DefaultWorker() Worker {
	return Worker{
		Linger:            time.Second,
		Window:            24 * time.Hour,
		Margin:            2 * time.Minute,
		DeadRetention:     90 * 24 * time.Hour,
		LedgerRetention:   7 * 24 * time.Hour,
		Concurrency:       64,
		IntakeConcurrency: 8,
		MaxSlots:          48,
		Slice:             3 * time.Second,
		MaxAttempts:       10,
		UnknownAttempts:   3,
		SplitAfter:        3,
		BackoffBase:       time.Second,
		BackoffMax:        time.Minute,
		ProbeBase:         time.Minute,
		ProbeMax:          30 * time.Minute,
		ShutdownTimeout:   25 * time.Second,
	}
}

// AppOf returns the app that a robot belongs to: the one that names it, or else the one that takes any robot.
func (c *Config) AppOf(robotCode string) (App, bool) {
	var rest App
	found := false
	for _, app := range c.Apps {
		if slices.Contains(app.Robots, robotCode) {
			return app, true
		}
		if slices.Contains(app.Robots, AnyRobot) {
			rest, found = app, true
		}
	}
	return rest, found
}
