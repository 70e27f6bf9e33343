package keystore

import (
	"fmt"
	"strings"
)

// Names in Redis. All names of an app share the hash tag {app}, so that a script touches one node of a cluster.
//
//	dingrecall:{app}:meta                 hash    counters of numbers given out, limiter, hold, the month's calls
//	dingrecall:{app}:settings             hash    what workers last said of theirs, for whoever looks
//	dingrecall:{app}:said                 hash    what was last logged of keys that will miss their windows: keys, at ms
//	dingrecall:{app}:robot:id|name        hash    name of a target <-> number; a robotCode is the name of its one-to-one messages
//	dingrecall:{app}:incident:id|name     hash    incident <-> number
//	dingrecall:{app}:reason:id|text       hash    "code\nmessage" <-> number
//	dingrecall:{app}:days                 set     days (since 1970) that have a ledger
//	dingrecall:{app}:ledger:<day>         hash    n keys, b buckets; loose: a bucket was empty once
//	dingrecall:{app}:ledger:<day>:<i>     hash    key+robot -> record, or number of a pack
//	dingrecall:{app}:pack:<day>:<n/64>    hash    n%64 -> record of the keys that are members of pack n
//	dingrecall:{app}:call:<batch/100>     hash    batch%100 -> "ms request-id"
//	dingrecall:{app}:count                hash    robot:incident:a|r|d|c -> keys
//	dingrecall:{app}:n                    hash    class:robot -> waiting keys
//	dingrecall:{app}:d:<class>:<robot>    zset    the 5-minute buckets of deadlines that have waiting keys
//	dingrecall:{app}:b:<class>:<robot>    hash    bucket -> keys that wait in it
//	dingrecall:{app}:w:<class>:<robot>:<bucket>  list  packs of waiting keys (scripts/lib/4_waiting.lua)
//	dingrecall:{app}:ready:<class>        zset    robot -> when its keys may go, ms
//	dingrecall:{app}:later                zset    robot+version+day+key -> not before, ms
//	dingrecall:{app}:slot:<i>             hash    the record of a slot
//	dingrecall:{app}:slots|due|held       hash    slots that are not idle | owed a task | backing off -> generation
//	dingrecall:{app}:calling              zset    running slots that hold a batch -> when its call may be made, ms
//	dingrecall:{app}:outbox               hash    dead letters that the queue does not have yet
//	dingrecall:{app}:deadrobots           hash    robot -> why all its waiting keys die
//	dingrecall:{app}:heldrobots           hash    robot -> "until every since probe\ncode\nmessage": robots that are held
//	dingrecall:{app}:cancelled            set     incidents
//	dingrecall:{app}:token[:lock|failed]  string  the shared access token (see worker/internal/tokenstore)
//
// Where a name or a record speaks of a robot, it is a target (flow.Target): a robot, or one conversation of it. The scripts do not
// look into its name: what shares one may share a call.
//
// The scripts build these names from the prefix in KEYS[1]; this file and scripts/lib are the only places that do.
const root = "dingrecall:"

// appsName is the set of all apps that were ever registered here; it belongs to none of them.
const appsName = root + "apps"

// Prefix gives what every name of an app begins with.
func Prefix(app string) string { return root + "{" + app + "}:" }

func name(app string, parts ...any) string {
	var b strings.Builder
	b.WriteString(Prefix(app))
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprint(&b, p)
	}
	return b.String()
}
