// Command checkdemo holds a run of the demonstration to account: it reads the file of keys that was recalled, the report, and
// what the program printed, and fails unless every key came to the end that is written into it (simulator.ReadKey), each
// exactly once, with full calls, at no more than the rate. It shares no code with the program that it checks.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "checkdemo:", err)
		os.Exit(1)
	}
}

// run checks what the arguments name, and prints what it found to be so.
func run(args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet("checkdemo", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // else an error is shown twice
	file := fs.String("file", "", "the `CSV file` of keys that was recalled, as makekeys writes it")
	report := fs.String("report", "", "the `report` of the run")
	output := fs.String("output", "", "what the run printed on its standard output, in a `file`")
	rate := fs.Int("rate", 0, "the `calls` a second that the run was allowed")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(stdout)
			fs.Usage()
		}
		return err //nolint:wrapcheck // it names the flag
	}
	if *file == "" || *report == "" || *output == "" || *rate <= 0 || fs.NArg() > 0 {
		return errors.New("-file, -report, -output and -rate are all needed, and nothing else")
	}
	want, err := readWithin(*file, expected)
	if err != nil {
		return err
	}
	rows, err := readWithin(*report, reported)
	if err != nil {
		return err
	}
	seen, err := readWithin(*output, simulatorLine)
	if err != nil {
		return err
	}
	problems := append(compare(want, rows), judge(want, seen, *rate)...)
	describe(stdout, want, rows, seen)
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("the run is not as it should be:\n%w", err)
	}
	_, err = fmt.Fprintln(stdout, "Every key is accounted for, each once, with the right code.")
	return err //nolint:wrapcheck // standard output
}

// readWithin reads a file with one of the readers below.
func readWithin[T any](path string, read func(io.Reader) (T, error)) (T, error) {
	var zero T
	f, err := os.Open(path)
	if err != nil {
		return zero, err //nolint:wrapcheck // it names the file
	}
	defer f.Close()
	v, err := read(f)
	if err != nil {
		return zero, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}
