package keystore

import (
	"context"
	"fmt"
	"time"

	"dingrecall/worker/internal/flow"
)

// Finding is what the service says of the message behind a dead key.
type Finding struct {
	Key      string
	Batch    int64 // in which the key died: KeyRecord.Batch when it was looked up
	Recalled bool  // else the message stands
}

// Verify writes findings about keys of one target. A dead key whose message is recalled becomes recalled, with its counts; one
// whose message stands stays dead, and is no longer ambiguous. It tells of each whether that was written: not where it was
// written before, and not where the key has gone another way since it was looked up. Twice is once.
func (s *Store) Verify(ctx context.Context, target flow.Target, requestID string, findings []Finding) (written []bool, last *Reply, err error) {
	for from := 0; from < len(findings); from += lookupChunk {
		r, done, err := s.verify(ctx, target, requestID, findings[from:min(from+lookupChunk, len(findings))])
		if err != nil {
			return written, last, err
		}
		written, last = append(written, done...), r
	}
	return written, last, nil
}

func (s *Store) verify(ctx context.Context, target flow.Target, requestID string, findings []Finding) (*Reply, []bool, error) {
	args := make([]any, 0, 2+3*len(findings))
	args = append(args, target.Name(), requestID)
	for _, f := range findings {
		what := "s"
		if f.Recalled {
			what = "r"
		}
		args = append(args, pack(f.Key), f.Batch, what)
	}
	r, err := s.step(ctx, "verify", verifyScript, args...)
	if err != nil {
		return nil, nil, err
	}
	ns, err := r.ints(len(findings))
	if err != nil {
		return nil, nil, fmt.Errorf("key store of app %q: verify: %w", s.app, err)
	}
	done := make([]bool, len(ns))
	for i, n := range ns {
		done[i] = n == 1
	}
	return r, done, nil
}

// Spend takes a permit of the app for a call that carries no batch, and tells from when on it may be made. rest is for how long the
// last such call was told to rest, 0 if it was not throttled: all calls of the app are slower then. held: the app rests, and no call may
// be made.
func (s *Store) Spend(ctx context.Context, rest time.Duration) (from time.Time, held bool, err error) {
	r, err := s.step(ctx, "spend", spendScript, rest.Milliseconds(), s.lead().Microseconds())
	if err != nil || r.Status == StatusHeld {
		return time.Time{}, err == nil, err
	}
	n, err := r.ints(1)
	if err != nil {
		return time.Time{}, false, err
	}
	return r.Local.Add(time.Duration(n[0]) * time.Microsecond), false, nil
}
