package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
)

// bury puts dead letters into the queue, as a worker does.
func bury(t *testing.T, rdb *redis.Client, letters ...tasks.DeadLetter) {
	t.Helper()
	client := asynq.NewClientFromRedisClient(rdb)
	for i, l := range letters {
		l.V, l.DiedAt, l.RetainUntil = 1, time.Now().UnixMilli(), time.Now().Add(time.Hour+time.Duration(i)*time.Second).UnixMilli()
		payload, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		task := asynq.NewTask(tasks.TypeDead, payload)
		if _, err := client.Enqueue(task, asynq.Queue(tasks.QueueDead), asynq.TaskID(fmt.Sprintf("dead:%d", i+1)), asynq.ProcessAt(time.UnixMilli(l.RetainUntil))); err != nil {
			t.Fatal(err)
		}
	}
}

var threeLetters = []tasks.DeadLetter{
	{App: "main", RobotCode: "dingone", Incident: "coupon", Code: "system.error", Message: "unknown system error", RequestID: "REQ-1", Attempts: 10, Keys: []string{"a", "b"}, Class: tasks.ClassBulk, SentAt: 1_700_000_000_000, Ambiguous: true},
	{App: "main", RobotCode: "dingtwo", Code: "window.closed", Message: "too late", Keys: []string{"c"}, Class: tasks.ClassDefault},
	{App: "other", RobotCode: "dingone", Code: "system.error", Message: "m", Keys: []string{"d"}, Class: tasks.ClassDefault},
}

// states tells in which state the tasks of the letters are; one that is gone is missing.
func states(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	insp := asynq.NewInspectorFromRedisClient(rdb)
	var out []string
	for i := range threeLetters {
		if info, err := insp.GetTaskInfo(tasks.QueueDead, fmt.Sprintf("dead:%d", i+1)); err == nil {
			out = append(out, fmt.Sprintf("%d %s", i+1, info.State))
		}
	}
	return strings.Join(out, ", ")
}

func TestDeadList(t *testing.T) {
	t.Parallel()
	rdb, environ := queueOnly(t)
	if got := run(t, environ, "dead", "list"); got.code != ExitOK || got.out != "no dead letters\n" {
		t.Errorf("%+v", got)
	}
	bury(t, rdb, threeLetters...)
	got := run(t, environ, "dead", "list", "--limit", "2")
	lines := strings.Split(got.out, "\n")
	if len(lines) < 8 || !strings.HasPrefix(lines[0], "ID      KEYS  CODE           ROBOT    INCIDENT  DIED") ||
		!strings.HasPrefix(lines[1], "dead:1     2  system.error   dingone  coupon    ") || !strings.HasPrefix(lines[2], "dead:2     1  window.closed  dingtwo            ") || lines[3] != "" ||
		!strings.HasPrefix(lines[5], "system.error         2     3  ") || !strings.HasSuffix(got.out, "\n2 of 3 dead letters shown, with 4 keys in all; --limit 0 lists all\n") {
		t.Errorf("got\n%s", got.out)
	}
	for filter, want := range map[string]string{
		"--app=other": "1 dead letter with 1 key\n", "--robot=dingone": "2 dead letters with 3 keys\n", "--incident=coupon": "1 dead letter with 2 keys\n",
		"--code=window.closed": "1 dead letter with 1 key\n", "--code=x": "no dead letters of that kind\n",
	} {
		if got := run(t, environ, "dead", "list", filter); got.code != ExitOK || !strings.HasSuffix(got.out, want) {
			t.Errorf("%s: %+v", filter, got)
		}
	}
	got = run(t, environ, "dead", "list", "--json", "--limit", "0")
	var ids []string
	for line := range strings.Lines(got.out) {
		var v deadView
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.State != "scheduled" || v.Code == "" || len(v.Keys) == 0 {
			t.Errorf("%v in %s", err, line)
		}
		ids = append(ids, v.ID)
	}
	if strings.Join(ids, " ") != "dead:1 dead:2 dead:3" {
		t.Errorf("ids %v", ids)
	}
	if got := run(t, environ, "dead", "list", "--json", "--limit", "1"); strings.Count(got.out, "\n") != 1 {
		t.Errorf("%+v", got)
	}
}

func TestDeadShow(t *testing.T) {
	t.Parallel()
	rdb, environ := queueOnly(t)
	malformed := tasks.DeadLetter{Code: tasks.CodeSubmissionMalformed, Message: "no JSON", Keys: []string{}, Class: tasks.ClassDefault, Origin: "x (recall:submit in recall)"}
	malformed.SetRaw([]byte("{\"keys\":\n"))
	bury(t, rdb, threeLetters[0], malformed)
	got := run(t, environ, "dead", "show", "dead:1")
	for _, want := range []string{"id          dead:1\n", "code        system.error\n", "message     unknown system error\n", "meaning     ", "ambiguous   a call's answer was lost", "request id  REQ-1\n",
		"attempts    10\n", "class       bulk\n", " (in 1 h 0 min)\n", "replay      recall dead replay dead:1\n", "\n2 keys:\nKEY  SENT\na    2023-11-1", "\nb    2023-11-1"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	if got := run(t, environ, "dead", "show", "dead:2"); !strings.Contains(got.out, `submission "{\"keys\":\n"`) || !strings.Contains(got.out, "came in     x (recall:submit in recall)\n") {
		t.Errorf("%s", got.out)
	}
	if got := run(t, environ, "dead", "show", "--json", "dead:1", "dead:2"); strings.Count(got.out, "\n") != 2 || !strings.HasPrefix(got.out, `{"id":"dead:1","state":"scheduled","v":1,`) {
		t.Errorf("%s", got.out)
	}
}

func TestDeadActions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args   []string
		code   int
		out    string // the end of the output
		errs   string
		states string
	}{
		"replay one":     {[]string{"replay", "dead:1"}, ExitOK, "replayed 1 dead letter with 2 keys\nNo worker seems to be running at this Redis: the keys wait until one does.\n", "", "1 pending, 2 scheduled, 3 scheduled"},
		"replay by code": {[]string{"replay", "--code", "system.error", "-y"}, ExitOK, "replayed 2 dead letters with 3 keys\nNo worker", "", "1 pending, 2 scheduled, 3 pending"},
		"replay all":     {[]string{"replay", "--all", "--yes"}, ExitOK, "replayed 3 dead letters with 4 keys\n", "", "1 pending, 2 pending, 3 pending"},
		"purge two":      {[]string{"purge", "dead:1", "dead:3"}, ExitOK, "purged 2 dead letters with 3 keys\n", "", "2 scheduled"},
		"purge all":      {[]string{"purge", "--all", "--yes"}, ExitOK, "purged 3 dead letters with 4 keys\n", "", ""},
		"purge an app's": {[]string{"purge", "--app", "main", "--yes"}, ExitOK, "purged 2 dead letters with 3 keys\n", "", "3 scheduled"},
		"none":           {[]string{"purge", "--code", "x", "--yes"}, ExitOK, "no dead letters of that kind: nothing was purged\n", "", "all"},
		"unasked":        {[]string{"purge", "--all"}, ExitBadInput, "", "this would purge 3 dead letters with 4 keys; add --yes if that is meant", "all"},
		"which":          {[]string{"replay"}, ExitBadInput, "", "say which", "all"},
		"both":           {[]string{"replay", "dead:1", "--code", "x"}, ExitBadInput, "", "not both", "all"},
		"all but":        {[]string{"purge", "--all", "--code", "x", "-y"}, ExitBadInput, "", "--all is everything", "all"},
		"no such":        {[]string{"purge", "dead:1", "nope"}, ExitBadInput, "", "there is no such dead letter: nope", "all"},
		"nothing shown":  {[]string{"show"}, ExitBadInput, "", "the ID of a dead letter is missing", "all"},
		"bad limit":      {[]string{"list", "--limit", "-1"}, ExitBadInput, "", "--limit: -1 is negative", "all"},
		"subcommand":     {[]string{"lst"}, ExitBadInput, "", `Did you mean "list"?`, "all"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, environ := queueOnly(t)
			bury(t, rdb, threeLetters...)
			got := run(t, environ, append([]string{"dead"}, c.args...)...)
			if got.code != c.code || !strings.HasPrefix(got.out, c.out) || !strings.Contains(got.err, c.errs) || (c.errs == "") != (got.err == "") || strings.Count(got.err, "\n") > 1 {
				t.Errorf("status %d, output\n%serror\n%s", got.code, got.out, got.err)
			}
			if c.states == "all" {
				c.states = "1 scheduled, 2 scheduled, 3 scheduled"
			}
			if s := states(t, rdb); s != c.states {
				t.Errorf("now %q, want %q", s, c.states)
			}
		})
	}
}

// TestReplayTwice: a letter that is on its way already is said to be.
func TestReplayTwice(t *testing.T) {
	t.Parallel()
	rdb, environ := queueOnly(t)
	bury(t, rdb, threeLetters...)
	if got := run(t, environ, "dead", "replay", "dead:1"); got.code != ExitOK {
		t.Fatalf("%+v", got)
	}
	if got := run(t, environ, "dead", "replay", "dead:1"); got.code != ExitBadInput || !strings.Contains(got.err, "is being replayed already (its task is pending)") {
		t.Errorf("%+v", got)
	}
	if got := run(t, environ, "dead", "replay", "--all", "-y"); got.code != ExitOK || !strings.HasPrefix(got.out, "replayed 2 dead letters with 2 keys\n") {
		t.Errorf("%+v", got)
	}
}

// TestConfirm: a person at a terminal is asked, and only a yes is one.
func TestConfirm(t *testing.T) {
	t.Parallel()
	for answer, purged := range map[string]bool{"y\n": true, "YES\n": true, "y": true, "n\n": false, "\n": false, "": false, "yesterday\n": false} {
		rdb, environ := queueOnly(t)
		bury(t, rdb, threeLetters...)
		var out, errs bytes.Buffer
		code := Run(t.Context(), Env{In: strings.NewReader(answer), Out: &out, Err: &errs, Args: []string{"dead", "purge", "--all"}, Environ: environ, IsTerminal: func(any) bool { return true }})
		if !strings.HasPrefix(errs.String(), "Purge 3 dead letters with 4 keys? [y/N] ") {
			t.Errorf("%q: asked %q", answer, errs.String())
		}
		if gone := states(t, rdb) == ""; gone != purged || (code == ExitOK) != purged || (code == ExitInterrupted) == purged {
			t.Errorf("%q: status %d, purged %v\n%s%s", answer, code, gone, out.String(), errs.String())
		}
	}
}

func TestConfirmInterrupted(t *testing.T) {
	t.Parallel()
	a := &app{Env: Env{In: blocked{t.Context()}, IsTerminal: func(any) bool { return true }}.withDefaults()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.confirmDead(ctx, purgeDead, deadChoice{}, deadSum{1, 1}); err == nil {
		t.Error("an interrupt was taken for a yes")
	}
}

// blocked is a terminal at which nobody types.
type blocked struct{ ctx context.Context }

func (b blocked) Read([]byte) (int, error) { <-b.ctx.Done(); return 0, b.ctx.Err() }
