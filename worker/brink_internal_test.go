package worker

import (
	"context"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// breakage is what happens to a process at a call of Redis.
type breakage int

const (
	diesBefore  breakage = iota // the process dies, the call is not made
	diesAfter                   // the call is made, the process dies before it sees the reply
	failsBefore                 // the call is not made
	failsAfter                  // the call is made, its reply is lost for good
	sentAgain                   // the reply is lost, and the client sends the call again
)

var breakages = []breakage{diesBefore, diesAfter, failsBefore, failsAfter, sentAgain}

// brink is the way of one process to Redis. It breaks at the n-th call from when it is told to.
type brink struct {
	n    int // calls until then, the one that breaks included; 0 = it does not
	how  breakage
	dead bool // the process: it does nothing any more

	broken [sentAgain + 1]int // how often it did, by kind
}

// processDies is what the goroutine of a process that dies panics with: whatever else it would do, it does not.
type processDies struct{}

var errCut = errors.New("the connection was cut")

// arm draws whether and where the process breaks next.
func (b *brink) arm(t *rapid.T) {
	b.n = 0
	if rapid.IntRange(0, 2).Draw(t, "breaks") > 0 {
		most := rapid.SampledFrom([]int{3, 12}).Draw(t, "within calls") // most of what a process is given is done in a few
		b.n, b.how = rapid.IntRange(1, most).Draw(t, "at call"), rapid.SampledFrom(breakages).Draw(t, "how")
	}
}

func (b *brink) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *brink) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return b.through([]string{cmd.Name()}, func() error { return next(ctx, cmd) }, cmd)
	}
}

func (b *brink) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var names []string
		for _, c := range cmds {
			names = append(names, c.Name())
		}
		return b.through(names, func() error { return next(ctx, cmds) }, cmds...)
	}
}

func (b *brink) through(names []string, send func() error, cmds ...redis.Cmder) error {
	if slices.Contains([]string{"hello", "client", "select"}, names[0]) {
		return send() // of the connection
	}
	if b.dead {
		panic(processDies{})
	}
	if b.n == 0 {
		return send()
	}
	if b.n--; b.n > 0 {
		return send()
	}
	if b.how != diesBefore && b.how != failsBefore {
		if err := send(); err != nil && !errors.Is(err, redis.Nil) {
			b.n = 1 // as for a script that is not loaded yet: it breaks at the next call
			return err
		}
	}
	b.broken[b.how]++
	switch b.how {
	case diesBefore, diesAfter:
		b.dead = true
		panic(processDies{})
	case sentAgain:
		return send()
	}
	for _, c := range cmds {
		c.SetErr(errCut)
	}
	return errCut
}
