package cli

import (
	"context"
	"errors"

	"dingrecall/config"
)

// Exit statuses of the program. They are part of its interface: scripts branch on them.
const (
	ExitOK          = 0 // done; of a job: every key recalled
	ExitFailure     = 1 // something that the program stands on failed: Redis, the network, a disk, or the program itself
	ExitBadInput    = 2 // flags, configuration or a file of keys are wrong; nothing was done
	ExitSomeDead    = 3 // the job is done, and some keys could not be recalled
	ExitInterrupted = 4 // stopped by a signal before the job was done
	ExitHeld        = 5 // the job rests: an app is on hold (credentials, permission, monthly budget) and keys still wait
)

// exitError is an error with the exit status that it means. An empty err sets the status and prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// withExit gives an error its exit status; a nil error stays nil.
func withExit(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

// badInput marks an error as the user's to mend: exit status 2.
func badInput(err error) error { return withExit(ExitBadInput, err) }

// exitOnly ends the program with a status and without a message, for commands that have said all there is to say.
func exitOnly(code int) error { return &exitError{code: code} }

// exitCode tells which status an error means.
func exitCode(ctx context.Context, err error) int {
	var exit *exitError
	var problems config.Problems
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &problems):
		return ExitBadInput
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return ExitInterrupted
	default:
		return ExitFailure
	}
}
