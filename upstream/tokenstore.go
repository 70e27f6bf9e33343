package upstream

import (
	"context"
	"time"
)

// TokenStore shares the token of one app between processes. Whoever can read it can act as the app until the token expires; a
// store that keeps a Token must reveal its value on purpose, see [Token.MarshalBinary].
type TokenStore interface {
	// Load returns what is shared: the zero value if nothing is.
	Load(ctx context.Context) (SharedToken, error)
	// Lock takes the right to ask for a new token; nil if another has it. It frees itself after ttl.
	Lock(ctx context.Context, ttl time.Duration) (TokenLock, error)
}

// SharedToken is what the processes of one app share.
type SharedToken struct {
	// Token is the newest one; its Value is empty where there is none.
	Token Token
	// Failure is why the last request gave none, as long as it is not to be repeated; else nil.
	Failure *Error
}

// TokenLock is the right to ask for a new token. Save and Fail write the outcome and free the lock in one step, and do nothing but say
// false where somebody else has taken it since: a process that was paused must not undo what others did meanwhile.
type TokenLock interface {
	// Keep makes the lock last for ttl from now; false if it is lost.
	Keep(ctx context.Context, ttl time.Duration) (bool, error)
	// Save shares a new token, which may be forgotten at its ExpiresAt, and forgets a failure.
	Save(ctx context.Context, token Token) (bool, error)
	// Fail shares a failure, for so long.
	Fail(ctx context.Context, failure *Error, rest time.Duration) (bool, error)
	// Release frees the lock without an outcome; nothing happens after Save or Fail.
	Release()
}
