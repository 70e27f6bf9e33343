// Package simulator is a stand-in for the service that recalls robot messages: an http.Handler that answers the token endpoints,
// batchRecall and readStatus as the real service is documented or reported to, with latency, limits and faults as configured, and that
// counts what it was asked, so that a trial, a test or a benchmark can hold a client to account.
//
// # What it knows of a key
//
// Open, the default: every key was sent just now by whichever robot asks, except keys that MakeKey made, which say of themselves what
// becomes of them. A key that was registered (Register, or Config.Lookup) is known by its registration instead, and with
// Config.RegisteredOnly no other key is known at all. A registered key belongs to the conversation of its registration, or was sent
// one-to-one; any other is of whatever conversation asks.
//
// # Where its behaviour comes from
//
// Comments name the source of each fact. Official: the service's published documentation. Field: real output that somebody posted.
// Unknown: nobody has said; then there is a knob for each behaviour worth trying, and its default is a guess. The simulator shows that a
// client copes with these behaviours. It does not show that the real service has them.
//
// # Order of the checks of a recall
//
// Route and method, body, token, a fault that comes before the service, rate limit, monthly limit, latency, a fault of the service,
// shape of the request, robot, keys, a fault that spoils the answer. The order is a guess. Neither throttled calls nor those refused by
// the token check count against the month.
//
// # Determinism
//
// Everything random is drawn from the seed and the number of the call, so the same seed and the same sequence of calls give the same
// answers, byte for byte. Calls that are made at once are numbered as they arrive.
package simulator
