package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/cmd/internal/report"
	"dingrecall/tasks"
	"dingrecall/worker"
)

// earlierReport is the report that a run goes on from.
type earlierReport struct {
	path     string
	recalled *report.Recalled
	left     keyfile.Set // keys of the file that were left out
}

// readEarlier reads the report of --resume; nil where there is none.
func (a *app) readEarlier(path string) (*earlierReport, error) {
	if path == "" {
		return nil, nil
	}
	recalled, err := report.ReadRecalled(path)
	if err != nil {
		return nil, badInput(err)
	}
	if recalled.Warning != "" {
		fmt.Fprintf(a.Err, "recall: warning: the earlier report %s: %s\n", path, recalled.Warning)
	}
	return &earlierReport{path: path, recalled: recalled}, nil
}

// skip leaves out what is recalled, and remembers it.
func (e *earlierReport) skip() func(of keyfile.Target, key string) bool {
	if e == nil {
		return nil
	}
	return func(of keyfile.Target, key string) bool {
		if !e.recalled.Has(of, key) {
			return false
		}
		e.left.Add(of, key)
		return true
	}
}

// carry copies the rows of the keys that were left out, so that the new report speaks of every key of the file and the next run can go
// on from it alone.
func (e *earlierReport) carry(out *report.File) error {
	in, err := os.Open(e.path)
	if err != nil {
		return fmt.Errorf("reading the earlier report again: %w", err)
	}
	defer in.Close()
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil {
		return fmt.Errorf("reading the earlier report %s again: %w", e.path, err)
	}
	at := map[string]int{}
	for i, name := range header {
		at[strings.TrimPrefix(strings.TrimSpace(name), "\ufeff")] = i
	}
	var done keyfile.Set
	for {
		rec, err := r.Read()
		if err != nil {
			// The end, or the cut last line that was warned of when the report was first read.
			if errors.Is(err, io.EOF) || e.recalled.Warning != "" {
				return nil
			}
			return fmt.Errorf("reading the earlier report %s again: %w", e.path, err)
		}
		cell := func(name string) string {
			if i, ok := at[name]; ok && i < len(rec) {
				return rec[i]
			}
			return ""
		}
		where := tasks.Conversation{Chat: cell("chat"), OpenConversationID: cell("openConversationId")}
		of, key := keyfile.Target{RobotCode: cell("robotCode"), Conversation: where}, cell("processQueryKey")
		if cell("state") != report.StateRecalled || !e.left.Has(of, key) || !done.Add(of, key) {
			continue
		}
		attempts, _ := strconv.Atoi(cell("attempts")) // a column that somebody spoilt is not worth the row
		row := report.Row{
			Key: key, RobotCode: of.RobotCode, Conversation: where, State: report.StateRecalled, Ambiguous: cell("ambiguous") != "", Code: cell("code"), Message: cell("message"), RequestID: cell("requestId"),
			Attempts: attempts, SentAt: reportTime(cell("sentAt")), FinishedAt: reportTime(cell("finishedAt")), Incident: cell("incident"),
		}
		if err := out.Write(row); err != nil {
			return err
		}
	}
}

func reportTime(s string) time.Time {
	t, _ := time.Parse(time.RFC3339, s)
	return t
}

// tally is what became of the keys of a file.
type tally struct {
	total, recalled, dead, cancelled, waiting, unknown int
	carried                                            int // keys that an earlier report has as recalled; not in total
	ambiguous                                          int // of the dead, those whose message may have been recalled all the same
	codes                                              map[string]*codeTally
}

type codeTally struct {
	n       int
	message string // of the first
}

func (t *tally) open() int { return t.waiting + t.unknown }

// account looks up what became of each key, and writes the report, if there is to be one, up to its last row.
func (j *job) account(ctx context.Context) (*tally, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), accountTimeout)
	defer cancel()
	if j.report == nil {
		if t, err := j.allRecalled(ctx); t != nil || err != nil {
			return t, err
		}
		return j.tally(ctx, nil)
	}
	if j.earlier != nil {
		if err := j.earlier.carry(j.report); err != nil {
			return nil, err
		}
	}
	return j.tally(ctx, j.report.Write)
}

// allRecalled is the account of a run that recalled every key of its file, which the incident's counts tell by themselves; nil if
// it did not, and the keys have to be looked up one by one.
func (j *job) allRecalled(ctx context.Context) (*tally, error) {
	if j.insp == nil || j.earlier != nil || j.flags.redisSet { // a Redis that others use may have counted other files
		return nil, nil
	}
	st, err := j.insp.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("counting what became of the keys: %w", err)
	}
	var sum worker.Counts
	for _, app := range st.Apps {
		for _, g := range app.Groups {
			if g.Incident == j.in.incident {
				sum.Accepted += g.Counts.Accepted
				sum.Recalled += g.Counts.Recalled
			}
		}
	}
	n := j.in.summary.Distinct
	if sum.Accepted != int64(n) || sum.Recalled != int64(n) {
		return nil, nil
	}
	return &tally{total: n, recalled: n, codes: map[string]*codeTally{}}, nil
}

func (j *job) tally(ctx context.Context, write func(report.Row) error) (*tally, error) {
	l := &lookup{keys: j.lookUp, write: write, tally: tally{codes: map[string]*codeTally{}}}
	if j.earlier != nil {
		l.tally.carried = j.earlier.left.Len()
	}
	if err := l.file(ctx, j.in.file); err != nil {
		return nil, fmt.Errorf("looking up what became of the keys: %w", err)
	}
	return &l.tally, nil
}

func (j *job) lookUp(ctx context.Context, of keyfile.Target, keys []string) ([]worker.KeyRecord, error) {
	return j.insp.KeysOf(ctx, worker.Target{RobotCode: of.RobotCode, Conversation: worker.Conversation(of.Conversation)}, keys)
}

// lookupRows is how many rows are held to look the keys of each target up together, and still be written in the order of the file.
const lookupRows = 20_000

// lookup goes through a file and looks its keys up.
type lookup struct {
	keys  func(ctx context.Context, of keyfile.Target, keys []string) ([]worker.KeyRecord, error)
	write func(report.Row) error // nil: only count
	tally tally
	rows  []keyfile.Row
}

func (l *lookup) file(ctx context.Context, f *keyfile.File) error {
	var seen keyfile.Set
	err := f.Each(ctx, func(r keyfile.Row) error {
		if !seen.Add(r.Target(), r.Key) {
			return nil
		}
		l.rows = append(l.rows, r)
		if len(l.rows) < lookupRows {
			return nil
		}
		return l.flush(ctx)
	})
	if err != nil {
		return err
	}
	return l.flush(ctx)
}

func (l *lookup) flush(ctx context.Context) error {
	places := map[keyfile.Target][]int{}
	for i, r := range l.rows {
		places[r.Target()] = append(places[r.Target()], i)
	}
	records := make([]worker.KeyRecord, len(l.rows))
	for target, at := range places {
		keys := make([]string, len(at))
		for i, n := range at {
			keys[i] = l.rows[n].Key
		}
		found, err := l.keys(ctx, target, keys)
		if err != nil {
			return err
		}
		n := 0
		for _, rec := range found {
			for n < len(keys) && keys[n] != rec.Key {
				n++
			}
			if n == len(keys) {
				return fmt.Errorf("the key store answered for a key that was not asked for")
			}
			records[at[n]] = better(records[at[n]], rec)
		}
	}
	for i, r := range l.rows {
		if err := l.row(r, records[i]); err != nil {
			return err
		}
	}
	l.rows = l.rows[:0]
	return nil
}

// better chooses between what two apps know of a key, after its robot was moved from one to the other: what is done, then what may
// still be done.
func better(a, b worker.KeyRecord) worker.KeyRecord {
	rank := map[worker.KeyState]int{worker.KeyRecalled: 5, worker.KeyBound: 4, worker.KeyWaiting: 3, worker.KeyDead: 2, worker.KeyCancelled: 1}
	if a.Key == "" || rank[b.State] > rank[a.State] {
		return b
	}
	return a
}

func (l *lookup) row(r keyfile.Row, rec worker.KeyRecord) error {
	t := &l.tally
	t.total++
	row := report.Row{
		Key: r.Key, RobotCode: r.RobotCode, Conversation: r.Conversation, Ambiguous: rec.Ambiguous, State: rec.State.String(), Code: rec.Code, Message: rec.Message, RequestID: rec.RequestID,
		Attempts: rec.Attempts, SentAt: r.SentAt, Incident: rec.Incident,
	}
	switch rec.State {
	case worker.KeyRecalled:
		t.recalled++
		row.FinishedAt = rec.At
	case worker.KeyDead:
		t.dead++
		row.FinishedAt = rec.At
		t.code(rec)
		if rec.Ambiguous {
			t.ambiguous++
			row.Message = strings.Join(nonEmpty(row.Message, "the answer to a call was lost: the message may have been recalled after all"), "; ")
		}
	case worker.KeyCancelled:
		t.cancelled++
		row.FinishedAt = rec.At
	case worker.KeyWaiting, worker.KeyBound:
		t.waiting++
		row.State = worker.KeyWaiting.String() // that it was in a call when the program looked says nothing to the reader of a file
	default:
		t.unknown++
	}
	if l.write == nil {
		return nil
	}
	return l.write(row)
}

func (t *tally) code(rec worker.KeyRecord) {
	c := t.codes[rec.Code]
	if c == nil {
		c = &codeTally{message: rec.Message}
		t.codes[rec.Code] = c
	}
	c.n++
}

func (j *job) commitReport() error {
	if j.report == nil {
		return nil
	}
	return j.report.Commit()
}
