package cli

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/config"
	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
)

func TestSubmitTwiceIsOnce(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	path := keysCSV(t, broadcast(2500, false)) // 1,250 keys of each robot: four submissions
	for _, want := range []string{"in 4 submissions, incident keys.\n", "in 4 submissions, incident keys; 4 were in the queue already.\n"} {
		got := runWith(t.Context(), nil, nil, "submit", path, "--redis", mr.Addr())
		wantCode(t, got, ExitOK, "2,500 keys of 2 robots handed over "+want, "no worker runs at this Redis")
	}
	insp := asynq.NewInspector(asynq.RedisClientOpt{Addr: mr.Addr()})
	defer insp.Close()
	infos, err := insp.ListPendingTasks(tasks.QueueDefault)
	if err != nil || len(infos) != 4 {
		t.Fatalf("%d tasks, %v", len(infos), err)
	}
	keys := map[string]bool{}
	for _, info := range infos {
		s, problems, err := tasks.DecodeSubmission(info.Payload)
		if err != nil || len(problems) > 0 || s.Incident != "keys" || len(s.SentAts) != len(s.Keys) {
			t.Fatalf("%v %v %+v", err, problems, s)
		}
		for _, k := range s.Keys {
			keys[s.RobotCode+k] = true
		}
	}
	if len(keys) != 2500 {
		t.Errorf("%d keys in the queue", len(keys))
	}
}

func TestSubmitWarnsOfRobotsWithoutApp(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	file := writeFile(t, "apps:\n  - {name: main, appKey: k, robots: [dingrobot1], appSecretFile: nowhere}\n")
	got := runWith(t.Context(), nil, nil, "submit", "-c", file, keysCSV(t, broadcast(4, false)), "--redis", mr.Addr(), "--class", "bulk", "--incident", "x y")
	wantCode(t, got, ExitOK, "handed over in 2 submissions, incident x y.", "no app is configured for 1 robot of ")
}

func TestSubmitWaits(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	_, environ := service(t, simulator.Config{}, nil)
	startWorker(t, mr.Addr(), environ)
	keys := broadcast(100, true)
	got := runWith(t.Context(), nil, nil, "submit", keysCSV(t, keys), "--redis", mr.Addr(), "--wait")
	wantCode(t, got, ExitSomeDead, fmt.Sprintf("100 of %d keys recalled, 4 dead", len(keys)), "")
	if !strings.Contains(got.out, "recall dead replay --incident keys") || strings.Contains(got.err, "no worker runs") {
		t.Errorf("%+v", got)
	}
	got = runWith(t.Context(), nil, nil, "submit", keysCSV(t, keys[:5]), "--redis", mr.Addr(), "--wait", "--incident", "again")
	wantCode(t, got, ExitOK, "5 of 5 keys recalled", "")
}

// startWorker runs a worker as another process would.
func startWorker(t *testing.T, addr string, environ []string) {
	t.Helper()
	cfg, err := config.Load(config.Sources{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Apps[0].Rate = 0
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	w, err := worker.New(workerConfig(cfg), worker.Deps{Redis: rdb})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Stop()
		_ = rdb.Close()
	})
}

// TestSubmitInterrupted: it says how far it got and that doing it again is safe, and that is so.
func TestSubmitInterrupted(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	ctx, cancel := context.WithCancel(t.Context())
	path := keysCSV(t, broadcast(5000, false))
	// The bar is drawn for the first time when the first submission is in: that is when somebody interrupts.
	var errs bytes.Buffer
	onWrite := writerFunc(func(b []byte) (int, error) {
		cancel()
		return errs.Write(b)
	})
	code := Run(ctx, Env{Err: onWrite, Args: []string{"submit", path, "--redis", mr.Addr(), "--progress", "bar"}})
	got := result{code: code, err: errs.String()}
	wantCode(t, got, ExitInterrupted, "", "recall: interrupted; ")
	if !strings.Contains(got.err, "; 1,000 of 5,000 keys are in the queue: give the same command again, which sends none of them twice") {
		t.Errorf("%+v", got)
	}
	got = runWith(t.Context(), nil, nil, "submit", path, "--redis", mr.Addr())
	wantCode(t, got, ExitOK, "5,000 keys of 2 robots handed over in 6 submissions, incident keys; 1 was in the queue already.", "")
}

// writerFunc is a writer that is a function.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestSubmitManyRobots: keys of more robots than fit into memory at once still go out in submissions as full as can be, each once.
func TestSubmitManyRobots(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	var b strings.Builder
	b.WriteString("key,robot\n")
	const robots, each = 300, 200 // 60,000 keys, more than maxBuffered
	for i := range robots * each {
		fmt.Fprintf(&b, "key%d,robot%d\n", i, i%robots)
	}
	path := writeAt(t, filepath.Join(t.TempDir(), "many.csv"), b.String())
	got := runWith(t.Context(), nil, nil, "submit", path, "--redis", mr.Addr())
	wantCode(t, got, ExitOK, "60,000 keys of 300 robots handed over in 600 submissions", "")
}

func TestIncidentOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/data/sale 1123.csv.gz": "sale 1123", "keys.txt": "keys", "-": "stdin", "x.ndjson": "x", ".csv": ".csv", "a\tb.csv": "a", "\t": "file",
		strings.Repeat("x", 500): strings.Repeat("x", tasks.MaxIncidentBytes), "促销.log": "促销",
	} {
		if got := incidentOf(path); got != want || tasks.CheckIncident(got) != nil {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func TestParseSentAt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"": {}, "2026-11-23T16:30:00+08:00": now.Add(-30 * time.Minute), "1795424400000": now.Add(0), "90m": now.Add(-90 * time.Minute),
		"2h30m ago": now.Add(-150 * time.Minute), "1h 5m": now.Add(-65 * time.Minute),
	} {
		if got, err := parseSentAt(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"noon", "-5m", "1795424400", "2026-11-23", "99999999999999999999"} {
		if got, err := parseSentAt(in, now); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}
