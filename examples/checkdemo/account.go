package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dingrecall/upstream/simulator"
)

// key is a key of a robot; end is where it came to: "recalled", or the code that it died of.
type (
	key struct{ robot, text string }
	end string
)

const (
	recalled     end = "recalled"
	windowClosed end = "window.closed" // known beforehand, so that no call is spent
)

// perCall is how many keys the service takes in one call (official documentation).
const perCall = 20

// ends is where keys come to by what is written into them.
var ends = map[simulator.Kind]end{
	simulator.Good:              recalled,
	simulator.Expired:           "robot.processQueryKey.expired",
	simulator.Unknown:           "invalid.processQueryKey",
	simulator.Foreign:           "not.allowed.robotCode",
	simulator.SystemErrorAlways: "system.error",
}

// expected reads the file of keys and tells where each distinct one has to come to.
func expected(r io.Reader) (map[key]end, error) {
	want := map[key]end{}
	err := rows(r, []string{"processQueryKey", "robotCode", "sentAt"}, func(cells []string) error {
		kind, _, ok := simulator.ReadKey(cells[0])
		to, known := ends[kind]
		if !ok || !known {
			return fmt.Errorf("the end of key %q is not foretold", cells[0])
		}
		if kind == simulator.Expired && cells[2] != "" {
			to = windowClosed
		}
		want[key{cells[1], cells[0]}] = to
		return nil
	})
	if err == nil && len(want) == 0 {
		err = errors.New("has no keys")
	}
	return want, err
}

// reported reads the report; a key with several rows has several ends.
func reported(r io.Reader) (map[key][]end, error) {
	got := map[key][]end{}
	return got, rows(r, []string{"processQueryKey", "robotCode", "state", "code"}, func(cells []string) error {
		to := end(cells[2])
		if to == "dead" {
			to = end(cells[3])
		}
		k := key{cells[1], cells[0]}
		got[k] = append(got[k], to)
		return nil
	})
}

// rows reads a CSV file and gives the cells of the named columns, row by row.
func rows(r io.Reader, columns []string, each func(cells []string) error) error {
	cr := csv.NewReader(r)
	header, err := cr.Read()
	if err != nil {
		return fmt.Errorf("the line of column names: %w", err)
	}
	at := make([]int, len(columns))
	for i, name := range columns {
		if at[i] = slices.Index(header, name); at[i] < 0 {
			return fmt.Errorf("there is no column %q", name)
		}
	}
	for {
		rec, err := cr.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // it names the line
		}
		cells := make([]string, len(at))
		for i, n := range at {
			cells[i] = rec[n]
		}
		if err := each(cells); err != nil {
			return err
		}
	}
}

// simulatorLine finds the line in which the simulator says what it saw.
func simulatorLine(r io.Reader) (map[string]int, error) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		fields, ok := strings.CutPrefix(sc.Text(), "simulator: ")
		if !ok {
			continue
		}
		seen := map[string]int{}
		for _, f := range strings.Fields(fields) {
			name, value, _ := strings.Cut(f, "=")
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil, fmt.Errorf("%q in the simulator's line is no number", f)
			}
			seen[name] = n
		}
		return seen, nil
	}
	if err := sc.Err(); err != nil {
		return nil, err //nolint:wrapcheck // the caller names the file
	}
	return nil, errors.New(`there is no line that begins with "simulator:"`)
}

// maxShown bounds the keys that are named one by one.
const maxShown = 5

// compare tells which keys did not come to their end, or not exactly once.
func compare(want map[key]end, got map[key][]end) []error {
	var wrong []error
	for k, to := range want {
		switch ends := got[k]; {
		case len(ends) == 0:
			wrong = append(wrong, fmt.Errorf("key %s has no row in the report", k.text))
		case len(ends) > 1:
			wrong = append(wrong, fmt.Errorf("key %s has %d rows in the report", k.text, len(ends)))
		case ends[0] != to:
			wrong = append(wrong, fmt.Errorf("key %s came to %q, and should have to %q", k.text, ends[0], to))
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			wrong = append(wrong, fmt.Errorf("key %s of robot %s is in the report and not in the file", k.text, k.robot))
		}
	}
	if more := len(wrong) - maxShown; more > 0 {
		wrong = append(wrong[:maxShown], fmt.Errorf("and %d more", more))
	}
	return wrong
}

// judge holds the calls that the simulator saw against the promise: each key once, full calls, the rate kept.
func judge(want map[key]end, seen map[string]int, rate int) []error {
	toCall := 0
	for _, to := range want {
		if to != windowClosed {
			toCall++
		}
	}
	full := (toCall + perCall - 1) / perCall
	var wrong []error
	for _, c := range []struct {
		name        string
		least, most int
		why         string
	}{
		{"distinct", toCall, toCall, "every key but those whose window is known to be closed, and no other, is to be called"},
		{"repeated", 0, 0, "no key is to be called twice where nothing fails"},
		{"overlapping", 0, 0, "no key is to be in two calls at once"},
		{"max_batch", 1, perCall, "the service takes no more keys in a call"},
		{"calls", full, full + full/20, "calls are to be full: at most 5 % more than can be"},
		{"max_calls_per_second", 1, rate + rate/5, "the rate is to be kept, but for calls that a busy machine delays and so bunches"},
		{"throttled", 0, 0, "the rate is to be kept"},
	} {
		n, ok := seen[c.name]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Errorf("the simulator's line has no %s", c.name))
		case n < c.least || n > c.most:
			wrong = append(wrong, fmt.Errorf("%s is %d, and not %d to %d: %s", c.name, n, c.least, c.most, c.why))
		}
	}
	return wrong
}

// describe prints the ends with how many keys were to come to them, and did.
func describe(w io.Writer, want map[key]end, got map[key][]end, seen map[string]int) {
	type pair struct{ want, got int }
	count := map[end]pair{}
	for _, to := range want {
		p := count[to]
		p.want++
		count[to] = p
	}
	rows := 0
	for _, ends := range got {
		for _, to := range ends {
			p := count[to]
			p.got++
			count[to] = p
			rows++
		}
	}
	fmt.Fprintf(w, "%-32s %10s %10s\n", "", "foretold", "reported")
	for _, to := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(w, "%-32s %10d %10d\n", to, count[to].want, count[to].got)
	}
	fmt.Fprintf(w, "%-32s %10d %10d\n", "in all", len(want), rows)
	fmt.Fprintf(w, "%d calls carried %d keys\n", seen["calls"], seen["keys"])
}
