// Command makekeys makes a file of keys to try the program with: a bad broadcast that several robots sent over the last hours,
// with some keys among them that cannot be recalled. Each key carries its fate in itself (simulator.MakeKey), so that any
// simulator answers as the file foretells. Standard error tells what the file holds, and what a run is to end with.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr, time.Now()); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "makekeys:", err)
		os.Exit(2)
	}
}

// run does what the arguments say. The broadcast's times are reckoned from now, unless -now is given.
func run(args []string, stdout, stderr io.Writer, now time.Time) error {
	opts, err := parse(args, stderr, now)
	if err != nil {
		return err
	}
	b := newBroadcast(opts)
	if opts.out == "-" {
		err = b.write(stdout, opts.format)
	} else {
		err = writeFile(opts.out, func(w io.Writer) error { return b.write(w, opts.format) })
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(stderr, b.describe())
	return err
}

type options struct {
	out    string
	format string
	seed   uint64
	lines  int
	robots int
	age    time.Duration
	now    time.Time

	expired, unknown, foreign, systemError, duplicates int
}

func parse(args []string, stderr io.Writer, now time.Time) (options, error) {
	var o options
	fs := flag.NewFlagSet("makekeys", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // else an error is shown twice
	fs.StringVar(&o.out, "out", "-", "the `file` to write, - for standard output")
	fs.StringVar(&o.format, "format", "", "csv, ndjson or plain; by default what the file's name ends in (.csv, .ndjson or .jsonl, .txt), else csv")
	fs.Uint64Var(&o.seed, "seed", 1, "the same seed, time and counts make the same file")
	fs.IntVar(&o.lines, "n", 20_000, "`lines` with a key in all, those below among them")
	fs.IntVar(&o.robots, "robots", 4, "robots that sent the broadcast")
	fs.DurationVar(&o.age, "age", 6*time.Hour, "how long ago the broadcast began; it ended ten minutes ago, or half as long ago")
	fs.IntVar(&o.expired, "expired", 40, "keys sent over 24 hours ago; sentAt says so for half of them, the others have none")
	fs.IntVar(&o.unknown, "unknown", 30, "keys that the service does not know")
	fs.IntVar(&o.foreign, "foreign", 30, "keys of messages that another robot sent")
	fs.IntVar(&o.systemError, "system-error", 0, "keys that the service answers with system.error, always")
	fs.IntVar(&o.duplicates, "duplicates", 5, "lines that repeat an earlier key")
	at := fs.String("now", "", "the `moment` to reckon from, RFC 3339; default: the clock's")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(stderr)
			fs.Usage()
		}
		return o, err //nolint:wrapcheck // it names the flag
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag; a file is named with -out", fs.Arg(0))
	}
	o.now = now
	if *at != "" {
		t, err := time.Parse(time.RFC3339, *at)
		if err != nil {
			return o, fmt.Errorf("-now %q is not RFC 3339, as 2026-11-23T09:30:00Z is", *at)
		}
		o.now = t
	}
	return o, o.check()
}

// check also fills in the format.
func (o *options) check() error {
	if o.format == "" {
		switch strings.ToLower(filepath.Ext(o.out)) {
		case ".ndjson", ".jsonl":
			o.format = "ndjson"
		case ".txt":
			o.format = "plain"
		default:
			o.format = "csv"
		}
	}
	if o.format != "csv" && o.format != "ndjson" && o.format != "plain" {
		return fmt.Errorf("-format %q: use csv, ndjson or plain", o.format)
	}
	if o.format == "plain" && o.robots > 1 {
		return errors.New("-format plain has no place for a robot: add -robots 1")
	}
	special := 0
	for _, n := range []int{o.expired, o.unknown, o.foreign, o.systemError, o.duplicates} {
		if n < 0 {
			return errors.New("counts cannot be negative")
		}
		special += n
	}
	if o.lines < 1 || o.robots < 1 {
		return errors.New("-n and -robots must be at least 1")
	}
	if special >= o.lines {
		return fmt.Errorf("the special lines are %d, and -n allows for %d in all, of which one at least must be a good key", special, o.lines)
	}
	if o.age <= 0 || o.age >= window {
		return fmt.Errorf("-age %v: it must be more than nothing and less than %v", o.age, window)
	}
	return nil
}

// writeFile writes a file that is there as a whole or not at all.
func writeFile(path string, write func(io.Writer) error) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = temp.Close()
			_ = os.Remove(temp.Name())
			err = fmt.Errorf("%s cannot be written: %w", path, err)
		}
	}()
	w := bufio.NewWriter(temp)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err //nolint:wrapcheck // wrapped above
	}
	if err := temp.Chmod(0o644); err != nil {
		return err //nolint:wrapcheck // wrapped above
	}
	if err := temp.Close(); err != nil {
		return err //nolint:wrapcheck // wrapped above
	}
	return os.Rename(temp.Name(), path) //nolint:wrapcheck // wrapped above
}
