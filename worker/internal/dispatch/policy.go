package dispatch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Policy says how often and how long to try.
type Policy struct {
	MaxAttempts     int           // calls that may fail before a key dies
	UnknownAttempts int           // the same for answers that are in no table
	SplitAfter      int           // failures in a row of a batch before it is split, where the app has successes meanwhile
	BackoffBase     time.Duration // before the second try; doubles from try to try
	BackoffMax      time.Duration // at most
	Probe           time.Duration // until the first probe of a held app
	// Random gives [0, 1). Nil: the process's own.
	Random func() float64
}

// Validate tells what is wrong with the policy.
func (p Policy) Validate() error {
	switch {
	case p.MaxAttempts < 1 || p.MaxAttempts > 200:
		return fmt.Errorf("attempts must be 1 to 200: %d", p.MaxAttempts)
	case p.UnknownAttempts < 1 || p.UnknownAttempts > p.MaxAttempts:
		return fmt.Errorf("attempts for unknown answers must be 1 to %d: %d", p.MaxAttempts, p.UnknownAttempts)
	case p.SplitAfter < 1:
		return fmt.Errorf("a batch can be split after 1 failure at the least: %d", p.SplitAfter)
	case p.BackoffBase <= 0 || p.BackoffMax < p.BackoffBase:
		return fmt.Errorf("backoff must be positive and at most its maximum: %v, %v", p.BackoffBase, p.BackoffMax)
	case p.Probe < time.Second:
		return errors.New("the first probe must be a second away at least")
	}
	return nil
}

// backoff gives how long to wait after so many failures (1 at least): half of it fixed, half of it random, so that what
// failed together does not come back together.
func (p Policy) backoff(failures int) time.Duration {
	d := p.BackoffBase
	for range failures - 1 {
		if d > p.BackoffMax/2 { // doubling it again could overflow
			d = p.BackoffMax
			break
		}
		d *= 2
	}
	random := p.Random
	if random == nil {
		random = rand.Float64
	}
	return d/2 + time.Duration(random()*float64(d/2))
}
