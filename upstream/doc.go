// Package upstream speaks the HTTP API of the service that recalls robot messages: batch recall (one-to-one, in groups and in private
// chats), the status of a message, and the access tokens they need. It knows nothing of queues or of Redis.
//
// Three parts, each usable alone:
//
//   - [Client] makes one call and reads its answer strictly: a key is recalled only where an answer says so of that key.
//     Everything else is an [*Error], with what is known of it: class, status, code, message, request id.
//   - [Judge] is the one pure function that says what an answer means ([Verdict]). All knowledge of codes is in its table.
//   - [Tokens] hands out one access token for all callers, refreshed early by one of them.
//
// # What is known, and how
//
// Nothing here was measured against the real service. Comments name the source of each fact: "documented" is the official
// text, "field" is real output that somebody posted, "claimed" is somebody's code or remark, "unknown" is what the
// program must be able to be wrong about. The unknowns that shape this package:
//
//   - Whether one bad key fails the whole call with its code or only its own entry in failedResult: both are read.
//   - What the reasons in failedResult look like. Samples say "system error" and "SYSTEM_ERROR": known codes are found
//     whatever their case and punctuation, also inside prose, and the raw text is kept.
//   - What notRevoke.all.messages leaves recalled, and whether its body carries the lists: they are read if they are there.
//   - Whether each key appears in the answer: one that does not is [Answer.Unmentioned], never recalled.
//   - The HTTP status of the refusal of an IP address: it is known by its body.
//
// # What happens on each failure
//
//	no connection (refused, DNS, TLS)    Error, ClassNotSent: it certainly never arrived; no blame on the keys
//	connected, no full answer            Error, ClassTimeout, ClassCut or ClassCanceled with Lost: keys are ambiguous
//	redirect                             Error, ClassRedirect: not followed, the token goes nowhere else
//	answer over the size limit           Error, ClassTooLarge
//	200 that is no answer (HTML, {} ..)  Error, ClassUnreadable; never a success
//	any answer with an error             Error, ClassService, with its code
//	a request that may not be sent       Error, ClassRequest: too many keys, say; nothing was sent
//
// No token and no secret appears in an error: texts that came from elsewhere are searched for them and redacted.
package upstream
