package chaos

import (
	"time"
)

// fault is one way to break something.
type fault struct {
	name  string
	redis []string // further arguments of redis-server
	// do lets it strike, and returns when it is over. It may set w.over, from when on the world is expected to go on, and what the fault
	// is allowed to cost.
	do    func(w *world)
	takes time.Duration // a trial, roughly
	short bool          // a trial is part of make test

	oneAttempt bool // every key is recalled by its first call, also those that were in one
	skewed     bool // needs the program with a clock that is wrong
	waits      bool // how long new keys wait is measured, as with takesOver
	takesOver  bool // somebody has to take over what was bound to a worker
}

var (
	always   = []string{"--appendfsync", "always"}
	everysec = []string{"--appendfsync", "everysec"}
)

var faults = []fault{
	{name: "no fault", do: func(w *world) { w.pause(2 * time.Second) }, takes: 15 * time.Second, oneAttempt: true, waits: true},

	{name: "kill -9 of one worker", do: killOne, takes: 50 * time.Second, short: true, takesOver: true},
	{name: "kill -9 of all workers", do: killAll, takes: 50 * time.Second, takesOver: true},
	{name: "SIGSTOP beyond the lease, SIGCONT", do: stopOne, takes: 70 * time.Second, takesOver: true},
	{name: "SIGTERM of one worker after the other", do: termEach, takes: 20 * time.Second, short: true, oneAttempt: true},
	{name: "SIGTERM of all workers", do: termAll, takes: 20 * time.Second, oneAttempt: true},

	{name: "kill -9 of Redis (appendfsync always)", redis: always, do: killRedis, takes: 20 * time.Second, short: true},
	{name: "kill -9 of Redis (appendfsync everysec)", redis: everysec, do: killRedisEverysec, takes: 30 * time.Second},
	{name: "power failure of Redis (appendfsync everysec)", redis: everysec, do: cutPower, takes: 30 * time.Second},
	{name: "Redis gone for 30 s (appendfsync always)", redis: always, do: redisGone, takes: 90 * time.Second},
	{name: "connections to Redis cut, again and again", do: cutConnections, takes: 20 * time.Second, short: true},
	{name: "replies of Redis 2 s late", do: delayReplies, takes: 45 * time.Second},
	{name: "replies of Redis cut half-way", do: tearReplies, takes: 25 * time.Second},
	{name: "acknowledgements of tasks fail", do: failAcknowledgements, takes: 40 * time.Second},
	{name: "SCRIPT FLUSH, again and again", do: flushScripts, takes: 20 * time.Second, short: true},
	{name: "Redis read-only, as after a failover", do: readOnly, takes: 30 * time.Second},
	{name: "Redis out of memory", do: outOfMemory, takes: 30 * time.Second},

	{name: "service down for a minute", do: serviceDown, takes: 150 * time.Second},
	{name: "every call answered with system.error", do: serviceFails("system-error", 1, 8, 16), takes: 60 * time.Second},
	{name: "half of the answers lost", do: serviceFails("lost-answer", 0.5, 4, 10), takes: 30 * time.Second},
	{name: "storm of throttle answers", do: serviceFails("qps", 1, 3, 8), takes: 60 * time.Second},
	{name: "HTML pages instead of answers", do: serviceFails("html-502", 1, 5, 12), takes: 45 * time.Second},
	{name: "tokens revoked, again and again", do: revokeTokens, takes: 20 * time.Second},

	{name: "operator deletes dispatch tasks", do: deleteDispatch, takes: 60 * time.Second},
	{name: "operator pauses and resumes queues", do: pauseQueues, takes: 30 * time.Second},
	{name: "operator archives all tasks", do: archive, takes: 60 * time.Second},
	{name: "operator runs all dead letters", do: runDead, takes: 25 * time.Second},

	{name: "a worker's clock an hour ahead", do: wrongClock(time.Hour, false), takes: 115 * time.Second, skewed: true},
	{name: "a worker's clock an hour behind", do: wrongClock(-time.Hour, false), takes: 115 * time.Second, skewed: true},
	{name: "a worker's clock jumps an hour ahead", do: wrongClock(time.Hour, true), takes: 115 * time.Second, skewed: true},
	{name: "a worker's clock jumps back an hour", do: wrongClock(-time.Hour, true), takes: 115 * time.Second, skewed: true},
}
