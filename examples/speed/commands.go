package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// commands tells what Redis does in its time while keys that wait are recalled: the commands, and the Lua around those that scripts call.
func commands(ctx context.Context, b *bench) error {
	return b.with(0, func(svc *service) error {
		p, err := b.filled(ctx, svc, b.fill, robotCodes("speed", 1), anyRobot("speed", 0))
		if err != nil {
			return err
		}
		if err := p.resume(); err != nil {
			return err
		}
		if err := b.srv.rdb.ConfigResetStat(ctx).Err(); err != nil {
			return err
		}
		cpu, err := b.srv.spent(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := p.work(ctx, anyRobot("speed", 0)); err != nil {
			return err
		}
		defer p.stop()
		if err := p.recalled(ctx, b.fill); err != nil {
			return err
		}
		took := time.Since(began)
		spent, err := b.srv.spent(ctx)
		if err != nil {
			return err
		}
		text, err := b.srv.rdb.Info(ctx, "commandstats").Result()
		if err != nil {
			return err
		}
		n := float64(b.fill)
		b.printf("\nDrain of %d keys that wait, one robot, instant service: %.1f µs a key of the clock, %.1f µs of Redis's processor.\n",
			b.fill, float64(took.Microseconds())/n, float64((spent-cpu).Microseconds())/n)
		b.commandTable(parseCommands(text), n)
		return nil
	})
}

// command is a line of INFO commandstats.
type command struct {
	name  string
	calls float64
	usec  float64
}

func parseCommands(text string) []command {
	var cs []command
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "cmdstat_")
		if !ok {
			continue
		}
		var c command
		var stats string
		c.name, stats, _ = strings.Cut(rest, ":")
		if _, err := fmt.Sscanf(stats, "calls=%f,usec=%f", &c.calls, &c.usec); err == nil {
			cs = append(cs, c)
		}
	}
	slices.SortFunc(cs, func(a, b command) int { return int(b.usec - a.usec) })
	return cs
}

// commandTable prints the dearest commands. Redis counts what a script calls in the script's time and again by itself.
func (b *bench) commandTable(cs []command, keys float64) {
	var scripts, inside float64
	b.printf("\n| command | calls a key | µs a key |\n| --- | ---: | ---: |\n")
	for i, c := range cs {
		if c.name == "evalsha" || c.name == "eval" {
			scripts += c.usec
		} else {
			inside += c.usec
		}
		if i < 12 {
			b.printf("| %s | %.3f | %.2f |\n", c.name, c.calls/keys, c.usec/keys)
		}
	}
	b.printf("\nOf the clock, scripts take %.1f µs a key, and all other commands, most of them called by scripts, %.1f:\n"+
		"at least %.0f %% is Lua itself.\n",
		scripts/keys, inside/keys, 100*(scripts-inside)/scripts)
}
