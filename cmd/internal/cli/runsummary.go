package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"
)

// conclude says what became of the keys, after the work is over however it ended, and gives the exit status.
func (j *job) conclude(ctx context.Context, end ending, stopped []string, failure error) error {
	t, err := j.account(ctx)
	if err == nil {
		err = j.commitReport()
	}
	if err != nil {
		return errors.Join(failure, err)
	}
	if t.open() == 0 && end != endFailed {
		end = endDone // whoever interrupted it came too late
	}
	j.printSummary(t, end)
	j.printReport(t, end != endDone)
	switch {
	case end == endFailed:
		return failure
	case end == endInterrupted:
		return exitOnly(ExitInterrupted)
	case end == endHeld:
		return withExit(ExitHeld, fmt.Errorf("stopped with %s waiting, because of %s; mend that and go on", counted(t.open(), "key", "keys"), someOf(stopped)))
	case t.recalled < t.total:
		return exitOnly(ExitSomeDead)
	}
	return nil
}

// someOf names the first few of many, and how many more there are.
func someOf(names []string) string {
	const most = 3
	if len(names) > most {
		names = append(names[:most:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(names, ", ")
}

func (j *job) printSummary(t *tally, end ending) {
	took := roughly(max(0, j.app.Now().Sub(j.started)))
	calls := ""
	if n := j.calls(); n >= 0 {
		calls = counted(n, "call", "calls") + " and "
	}
	fmt.Fprintf(j.app.Out, "%s, in %s%s.\n", t.text(end), calls, took)
	if t.carried > 0 {
		fmt.Fprintf(j.app.Out, "Beside them, %s.\n", t.carriedText(j.flags.resume))
	}
	printCodes(j.app.Out, t)
	if j.sim != nil {
		fmt.Fprintln(j.app.Out, simulatorLine(j.sim.Stats()))
	}
}

// text is the whole outcome in one sentence.
func (t *tally) text(end ending) string {
	parts := []string{fmt.Sprintf("%s of %s recalled", thousands(t.recalled), counted(t.total, "key", "keys"))}
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, thousands(n)+" "+what)
		}
	}
	add(t.dead, "dead")
	add(t.cancelled, "cancelled")
	why := map[ending]string{endHeld: " (on hold)", endInterrupted: " (interrupted)", endFailed: " (failed)"}[end]
	if end == endDone {
		add(t.open(), "that no worker here knows")
	} else {
		add(t.open(), "not done"+why)
	}
	return strings.Join(parts, ", ")
}

func (t *tally) carriedText(path string) string {
	return fmt.Sprintf("%s recalled before, says %s", counted(t.carried, "key was", "keys were"), path)
}

// printCodes lists what keys died of, the most frequent first.
func printCodes(w io.Writer, t *tally) {
	if t.dead == 0 {
		return
	}
	codes := make([]string, 0, len(t.codes))
	for code := range t.codes {
		codes = append(codes, code)
	}
	sort.Slice(codes, func(i, j int) bool {
		a, b := t.codes[codes[i]], t.codes[codes[j]]
		if a.n != b.n {
			return a.n > b.n
		}
		return codes[i] < codes[j]
	})
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "  dead\tcode\tmeaning")
	for _, code := range codes {
		c := t.codes[code]
		meaning := codeHint(code)
		if meaning == "" {
			meaning = c.message
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", thousands(c.n), code, meaning)
	}
	_ = tw.Flush()
	fmt.Fprintln(w)
	if t.ambiguous > 0 {
		fmt.Fprintf(w, "Of %s dead the answer to a call was lost: those messages may have been recalled after all.\n", thousands(t.ambiguous))
	}
}

// printReport says where the report is and how to go on.
func (j *job) printReport(t *tally, unfinished bool) {
	out := j.app.Out
	if j.report != nil {
		fmt.Fprintf(out, "Report: %s, %s.\n", j.flags.report, counted(j.report.Rows(), "row", "rows"))
	}
	if !unfinished && t.recalled == t.total {
		return
	}
	if j.flags.redisSet {
		if t.ambiguous > 0 {
			fmt.Fprintf(out, "To ask whether messages whose answer was lost are recalled: recall verify --dead --incident %s\n", quoteArg(j.in.incident))
		}
		if t.dead > 0 {
			fmt.Fprintf(out, "To try dead keys again: recall dead replay --incident %s\n", quoteArg(j.in.incident))
		}
		if unfinished {
			fmt.Fprintln(out, "What waits stays in Redis: a worker there, or this command again, goes on with it.")
		}
		return
	}
	if j.report == nil {
		fmt.Fprintln(out, "No report was asked for; with --report FILE a later run could go on from here.")
		return
	}
	file := j.in.path
	if file == "-" {
		file = j.flags.report // a report is a file of keys as well
	}
	fmt.Fprintf(out, "%s: recall run %s --resume %s --report next.csv\n", pick(unfinished, "To go on", "To try the dead again"), quoteArg(file), quoteArg(j.flags.report))
}

// quoteArg writes an argument so that it can be pasted into a shell.
func quoteArg(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+=,", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
