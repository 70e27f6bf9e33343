// Command mutate breaks the Lua scripts of the key store on purpose, one small change at a time (a line dropped, a comparison flipped, a
// condition that always or never holds, a number that is off, "and" for "or"), and runs the tests of the key store against each. A change
// that no test notices is a test that is missing, or makes no difference: then equivalent.txt says why.
//
// A sample is spread over all files and kinds. docs/mutations.md has the results.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be undone
	}
}

type options struct {
	n       int
	seed    uint64
	file    string
	grep    string
	within  time.Duration
	results string
	full    bool
	list    bool
}

func parse(args []string, stdout io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("mutate", flag.ContinueOnError)
	fs.SetOutput(stdout)
	fs.IntVar(&o.n, "n", 150, "how many mutants are tried; 0 = all")
	fs.Uint64Var(&o.seed, "seed", 1, "which sample of them")
	fs.StringVar(&o.file, "file", "", "only of files whose name contains this, such as lib/5_limit")
	fs.StringVar(&o.grep, "grep", "", "only those whose description contains this")
	fs.DurationVar(&o.within, "for", 0, "begin no more mutants after so long; 0 = until all are tried")
	fs.StringVar(&o.results, "results", "", "a `file` to which results are added; mutants that it has already are not tried again")
	fs.BoolVar(&o.full, "full", false, "hold survivors also against the slow tests, against miniredis, and against the tests of the packages that use the key store")
	fs.BoolVar(&o.list, "list", false, "only list the mutants")
	return o, fs.Parse(args) //nolint:wrapcheck // it names the flag
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	module, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	all, err := readMutants(module)
	if err != nil {
		return err
	}
	chosen := choose(all, o)
	if o.list {
		for _, m := range chosen {
			fmt.Fprintln(stdout, m)
		}
		return nil
	}
	known, err := readEquivalents(filepath.Join(module, packageDir, "mutate", "equivalent.txt"))
	if err != nil {
		return err
	}
	tellStale(all, known, stdout)
	r, err := newRunner(ctx, module, time.Minute, o.full)
	if err != nil {
		return err
	}
	return errors.Join(tryAll(ctx, r, chosen, known, o, stdout), r.close())
}

// tellStale tells which lines of equivalent.txt speak of a script line that is not there any more.
func tellStale(all []mutant, known map[string]string, stdout io.Writer) {
	left := maps.Clone(known)
	for _, m := range all {
		delete(left, m.id())
	}
	for _, id := range slices.Sorted(maps.Keys(left)) {
		fmt.Fprintf(stdout, "equivalent.txt has a mutant that cannot be made any more: %s\n", id)
	}
}

func moduleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func choose(all []mutant, o options) (out []mutant) {
	for _, m := range sample(all, o.seed) {
		if strings.Contains(m.File, o.file) && strings.Contains(m.String(), o.grep) {
			out = append(out, m)
		}
	}
	if o.n > 0 {
		out = out[:min(o.n, len(out))]
	}
	return out
}

// tryAll tries mutants until all are tried or the time is over, and tells of each, and of all.
func tryAll(ctx context.Context, r *runner, chosen []mutant, known map[string]string, o options, stdout io.Writer) error {
	done, out, err := openResults(o.results)
	if err != nil {
		return err
	}
	defer out.Close()
	began, count := time.Now(), map[string]int{}
	for _, m := range chosen {
		if what, ok := done[m.id()]; ok {
			count[what]++
			continue
		}
		if ctx.Err() != nil || o.within > 0 && time.Since(began) > o.within {
			break
		}
		what, by, err := r.try(ctx, m)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		if why, ok := known[m.id()]; ok && what == survived {
			what, by = equivalent, why
		}
		count[what]++
		fmt.Fprintf(stdout, "%-10s  %s  [%s]\n", what, m, by)
		if out != nil {
			fmt.Fprintf(out, "%s\t%s\n", what, m.id())
		}
	}
	total := count[killed] + count[survived] + count[equivalent]
	fmt.Fprintf(stdout, "%d of %d mutants tried: %d killed, %d equivalent, %d survived; %d more were no Lua\n", total, len(chosen), count[killed], count[equivalent],
		count[survived], count[noLua])
	if count[survived] > 0 {
		return fmt.Errorf("%d mutants survived: each needs a test, or a line in equivalent.txt that says why it makes no difference", count[survived])
	}
	return nil
}

// openResults reads what earlier runs have found, and opens the file for more. Without a name there is nothing to read or write.
func openResults(name string) (done map[string]string, out *os.File, err error) {
	done = map[string]string{}
	if name == "" {
		return done, nil, nil
	}
	out, err = os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if what, id, ok := strings.Cut(lines.Text(), "\t"); ok {
			done[id] = what
		}
	}
	return done, out, lines.Err()
}

// readEquivalents reads which mutants make no difference, and why: the id of a mutant in one line, the reason in the next one, indented.
func readEquivalents(name string) (map[string]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	known, ids := map[string]string{}, []string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, " \n")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			ids = nil
		case strings.HasPrefix(line, "  "):
			for _, id := range ids {
				known[id] = strings.TrimSpace(known[id] + " " + strings.TrimSpace(line))
			}
		default:
			ids = append(ids, line)
			known[line] = ""
		}
	}
	return known, nil
}
