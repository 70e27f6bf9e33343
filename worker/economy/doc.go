// Package economy measures what recalling costs: simulated incidents, run through the key store, the dispatch and the client of
// the program against its simulator, in one process and on a clock of their own, so that nothing depends on the machine. It counts calls
// against the least that any method needs, and keys saved against what somebody would have saved who knew everything
// beforehand, and fails where a goal is missed. docs/economy.md has the table and how it was measured.
package economy
