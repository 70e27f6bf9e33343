package config

import (
	"fmt"
	"net"
	"slices"
	"time"
)

// minTokenBytes is the least length of the admin token: what guards an address that others can reach must not be guessable.
const minTokenBytes = 16

// Validate returns all that is wrong with the values and with how they go together. Load has done this; code that changes a
// Config afterwards may do it again.
func (c *Config) Validate() Problems { return c.validate(nil) }

// validate leaves alone what is known to be wrong already, and what goes together with it: such a value still has its default.
func (c *Config) validate(known Problems) Problems {
	v := &validator{cfg: c, known: known}
	for _, leaf := range c.leaves() {
		v.add(leaf.path, leaf.judge())
	}
	v.redis()
	v.worker()
	v.admin()
	for i := range c.Apps {
		for _, leaf := range c.Apps[i].leaves() {
			v.add(appPath(i, leaf.path), leaf.judge())
		}
	}
	v.apps()
	v.kinds()
	return v.problems
}

type validator struct {
	cfg      *Config
	known    Problems
	problems Problems
}

// sound says whether none of the paths has a problem.
func (v *validator) sound(paths ...string) bool {
	return !slices.ContainsFunc(paths, func(path string) bool { return v.known.has(path) || v.problems.has(path) })
}

// add notes a complaint, if it is one and the path has none yet.
func (v *validator) add(path, complaint string) {
	if complaint != "" && v.sound(path) {
		v.problems = append(v.problems, Problem{Source: v.cfg.sources[path], Path: path, Message: complaint})
	}
}

// worker checks how the durations and counts of the worker go together. A value that is wrong by itself is not held against others.
func (v *validator) worker() {
	w := v.cfg.Worker
	atLeast := func(path string, value time.Duration, other string, least time.Duration, what string) {
		if value < least && v.sound(other) {
			v.add(path, fmt.Sprintf("%s is less than %s (%s)%s; raise it", FormatDuration(value), other, FormatDuration(least), what))
		}
	}
	atMost := func(path string, value int, other string, most int) {
		if value > most && v.sound(other) {
			v.add(path, fmt.Sprintf("%d is more than %s (%d); lower it", value, other, most))
		}
	}
	switch {
	case !v.sound("worker.window", "worker.margin"):
	case w.Margin >= w.Window:
		v.add("worker.margin", fmt.Sprintf("%s leaves nothing of worker.window (%s); lower it", FormatDuration(w.Margin), FormatDuration(w.Window)))
	case w.Linger >= w.Window-w.Margin:
		v.add("worker.linger", fmt.Sprintf("%s is not less than worker.window less worker.margin (%s); lower it",
			FormatDuration(w.Linger), FormatDuration(w.Window-w.Margin)))
	}
	// The ledger's least, 48h, is more than the longest window and a day already.
	atLeast("worker.deadRetention", w.DeadRetention, "worker.window", w.Window, "")
	atLeast("worker.backoffMax", w.BackoffMax, "worker.backoffBase", w.BackoffBase, "")
	atLeast("worker.probeMax", w.ProbeMax, "worker.probeBase", w.ProbeBase, "")
	atLeast("worker.shutdownTimeout", w.ShutdownTimeout, "upstream.timeout", v.cfg.Upstream.Timeout, ", so that a call in flight could not be finished")
	atMost("worker.unknownAttempts", w.UnknownAttempts, "worker.maxAttempts", w.MaxAttempts)
	atMost("worker.splitAfter", w.SplitAfter, "worker.maxAttempts", w.MaxAttempts)
}

// admin checks that nothing but this machine can reach the admin address without a token.
func (v *validator) admin() {
	token := string(v.cfg.Admin.Token)
	if token != "" && len(token) < minTokenBytes {
		v.add("admin.token", fmt.Sprintf("is too short; use at least %d characters, for example from: openssl rand -hex 24", minTokenBytes))
	}
	host, _, err := net.SplitHostPort(v.cfg.Admin.Addr)
	if err == nil && token == "" && !isLoopback(host) && v.sound("admin.token", "admin.tokenFile") {
		v.add("admin.addr", fmt.Sprintf("%s can be reached from other machines and needs a token; set RECALL_ADMIN_TOKEN or admin.tokenFile, or use 127.0.0.1",
			quote(v.cfg.Admin.Addr)))
	}
}

// apps checks that no two apps share a name, a name in the environment, or a robot.
func (v *validator) apps() {
	names, envNames, owners := map[string]int{}, map[string]int{}, map[string]int{}
	for i, app := range v.cfg.Apps {
		path := appPath(i, "name")
		if first, ok := names[app.Name]; ok {
			v.add(path, fmt.Sprintf("%s is the name of apps[%d] already; choose another", quote(app.Name), first))
		} else if first, ok := envNames[appEnvPrefix(app.Name)]; ok {
			v.add(path, fmt.Sprintf("%s and %s (apps[%d]) have the same variables, %s...; rename one",
				quote(app.Name), quote(v.cfg.Apps[first].Name), first, appEnvPrefix(app.Name)))
		} else {
			names[app.Name], envNames[appEnvPrefix(app.Name)] = i, i
		}
		if app.UrgentReserve > app.MonthlyCalls && v.sound(appPath(i, "monthlyCalls"), appPath(i, "urgentReserve")) {
			v.add(appPath(i, "urgentReserve"), fmt.Sprintf("%d is more than the month's calls (apps[%d].monthlyCalls: %d); keep fewer of them for urgent keys",
				app.UrgentReserve, i, app.MonthlyCalls))
		}
		if len(app.Robots) == 0 {
			v.add(appPath(i, "robots"), `is empty; list the robotCodes of this app, or write ["*"] for all that no other app names`)
		}
		if !v.sound(appPath(i, "robots")) {
			continue
		}
		for _, robot := range slices.Compact(slices.Sorted(slices.Values(app.Robots))) {
			first, taken := owners[robot]
			switch {
			case taken && robot == AnyRobot:
				v.add(appPath(i, "robots"), fmt.Sprintf(`"*" is what apps[%d] has already; only one app can take the rest`, first))
			case taken:
				v.add(appPath(i, "robots"), fmt.Sprintf("%s belongs to apps[%d] already; a robot has one app", quote(robot), first))
			default:
				owners[robot] = i
			}
		}
	}
}
