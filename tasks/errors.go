package tasks

import (
	"errors"
	"fmt"
	"strings"
)

// ErrClosed is what a [Client] answers after Close, or when it was made without a Redis.
var ErrClosed = errors.New("the client is closed, or was made without a Redis connection")

// ValidationError says what is wrong with a call of [Client.Recall]. Nothing was queued.
type ValidationError struct {
	// Problems are about the call as a whole: its robotCode, an option, or that it has no keys.
	Problems []string
	// Keys are all keys that cannot be one, in the order of the call.
	Keys []KeyProblem
}

// maxListed is how many bad keys an error's text lists.
const maxListed = 10

// Error lists all problems, of the keys the first ten, on one line.
func (e *ValidationError) Error() string {
	parts := append([]string(nil), e.Problems...)
	for _, p := range e.Keys[:min(len(e.Keys), maxListed)] {
		parts = append(parts, p.String())
	}
	if more := len(e.Keys) - maxListed; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more keys", more))
	}
	return "nothing was queued: " + strings.Join(parts, "; ")
}

// PartialError says how far a call of [Client.Recall] came that did not succeed. To make the same call again is safe at any time.
type PartialError struct {
	// Submitted are the keys that are queued, in the order of the call, without duplicates.
	Submitted []string
	// Remaining are the other keys. Those of one submission may be queued all the same, where Redis did not answer.
	Remaining []string
	// Err is what went wrong; context.Canceled and context.DeadlineExceeded are found with errors.Is.
	Err error
}

// Error says how many keys are queued, why the others are not, and what to do.
func (e *PartialError) Error() string {
	if len(e.Submitted) == 0 {
		return fmt.Sprintf("none of %d keys is known to be queued: %v; call again when this is mended", len(e.Remaining), e.Err)
	}
	return fmt.Sprintf("%d of %d keys are queued, the others are not known to be: %v; call again with the same keys, none is queued twice",
		len(e.Submitted), len(e.Submitted)+len(e.Remaining), e.Err)
}

// Unwrap returns Err.
func (e *PartialError) Unwrap() error { return e.Err }
