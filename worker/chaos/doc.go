// Package chaos breaks things around the program while it works, and holds what becomes of every key against a ledger of its own.
//
// A trial is a world: a redis-server that appends to a file, recall workers as processes, each with a proxy in front of Redis and
// a door of its own to the simulator, and producers that hand over keys all the time. In it one fault strikes, at a moment and in a
// manner that the seed decides. When it is over and nothing moves any more, the world is judged:
//
//   - every key that a producer was told is accepted is recalled or dead, in one place, and where the program says recalled the service
//     did recall it; only bad keys are dead, each in one dead letter that waits in its queue;
//   - the counters equal a recount of the raw data, and no slot, batch or task is left;
//   - no key is in two calls at once, none is called again after the service told its fate, but for those that the fault may cost, which
//     the design states.
//
// docs/reliability.md has the results. The simulator runs in the process of the test, so that it can be asked about every single call; the
// workers cannot tell.
package chaos
