package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"dingrecall/cmd/internal/keyfile"
	"dingrecall/config"
	"dingrecall/tasks"
	"dingrecall/worker"
)

// submitFlags are the flags of submit beside those of its file.
type submitFlags struct {
	keys     keyFlags
	progress string
	wait     bool
	holdWait time.Duration
}

func newSubmitCmd(a *app) *cobra.Command {
	var f submitFlags
	cmd := &cobra.Command{
		Use:   "submit FILE",
		Short: "Hand all keys of a file to the queue, for the workers to recall",
		Long: `submit reads a file of keys (- for standard input), checks all of it, and puts the keys into the queue in Redis. Workers
recall them. To submit the same file twice is the same as once, as long as the incident is the same too; so after a failure, do it again.

It needs no credentials. With --wait it stays until each key has come to its end, and says what became of them.

Exit status: 0 all keys are in the queue (with --wait: recalled), 2 the file, a flag or the configuration is wrong and nothing was sent,
4 interrupted, 1 anything else failed; with --wait also 3 some keys could not be recalled, 5 an app is on hold and keys are left.`,
		Example: `  recall submit keys.csv
  recall submit keys.csv --incident sale-1123 --class urgent --wait
  zcat log.gz | recall submit - --robot dingue4kfzdxbyn0pjqd`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error { return a.submit(cmd, args[0], f) },
	}
	f.keys.register(cmd, "the name of the file")
	flags := cmd.Flags()
	flags.StringVar(&f.progress, "progress", progressAuto, "`HOW` to show progress: auto, bar, plain or none")
	flags.BoolVar(&f.wait, "wait", false, "stay until each key is recalled or dead")
	flags.DurationVar(&f.holdWait, "hold-wait", 0, "with --wait: how long to wait on when all that is left waits for an app on hold; negative: for ever")
	return cmd
}

// submit is the command, from its flags to its exit status.
func (a *app) submit(cmd *cobra.Command, path string, f submitFlags) error {
	ctx := cmd.Context()
	cfg, err := a.loadConfig(cmd, needRedis)
	if err != nil {
		return err
	}
	view, err := a.newProgress(f.progress)
	if err != nil {
		return err
	}
	in, err := a.openKeys(ctx, path, f.keys, incidentOf(path), nil)
	if err != nil {
		return err
	}
	defer in.Close()
	if f.keys.dryRun {
		return a.printPlan(cfg, in, f.keys.skipBad != "")
	}
	if missing := robotsWithoutApp(cfg, in.summary); len(cfg.Apps) > 0 && len(missing) > 0 {
		fmt.Fprintf(a.Err, "recall: warning: %s\n", explainMissing(missing, in.summary.Name))
	}
	if in.summary.Distinct == 0 {
		return badInput(fmt.Errorf("%s has no good line; nothing was sent", in.summary.Name))
	}
	rdb, err := openRedis(ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer rdb.Close()
	queue := newSubmissions(rdb, in.class)
	if err := a.handOver(ctx, cfg, in, rdb, queue, view); err != nil {
		return err
	}
	if n, err := workersAt(rdb); err == nil && n == 0 {
		fmt.Fprintln(a.Err, "recall: warning: no worker runs at this Redis; the keys wait until one does (recall worker)")
	}
	if !f.wait {
		return nil
	}
	flags := runFlags{keys: f.keys, holdWait: f.holdWait, redisSet: true}
	j := &job{app: a, cfg: cfg, flags: flags, in: in, progress: view, rdb: rdb, started: a.Now(), insp: worker.NewInspector(rdb, appNames(cfg))}
	fed := make(chan error, 1)
	fed <- nil
	end, stopped, err := j.follow(ctx, queue, fed)
	view.finish()
	return j.conclude(ctx, end, stopped, err)
}

// handOver puts the keys of a file into the queue and says so.
func (a *app) handOver(ctx context.Context, cfg *config.Config, in *keyInput, rdb redis.UniversalClient, queue *submissions, view *progress) error {
	feed := &feeder{client: tasks.NewClientFromRedis(rdb), class: in.class, incident: in.incident}
	feed.queued = func(ids []string) {
		queue.add(ids)
		view.update(snapshot{total: in.summary.Distinct, submitted: int(feed.submitted.Load()), submitting: true, calls: -1, now: time.Now()})
	}
	err := feed.feed(ctx, in.file)
	n := int(feed.submitted.Load())
	view.update(snapshot{total: in.summary.Distinct, submitted: n, submitting: true, calls: -1, now: time.Now()})
	view.finish()
	if err != nil {
		return a.explainPartial(ctx, cfg, in, n, err)
	}
	fmt.Fprintf(a.Out, "%s of %s handed over in %s, incident %s", counted(n, "key", "keys"), in.robots(),
		counted(feed.submissions, "submission", "submissions"), in.incident)
	if feed.alreadyQueued > 0 {
		fmt.Fprintf(a.Out, "; %s in the queue already", counted(feed.alreadyQueued, "was", "were"))
	}
	if in.summary.Duplicates > 0 {
		fmt.Fprintf(a.Out, "; %s of keys that the file has twice left out", counted(in.summary.Duplicates, "row", "rows"))
	}
	_, err = fmt.Fprintln(a.Out, ".")
	return err
}

// explainPartial says how far a hand-over came that failed, and that to do it again is safe.
func (a *app) explainPartial(ctx context.Context, cfg *config.Config, in *keyInput, n int, err error) error {
	var trouble *keyfile.Error
	reason, code := err, ExitFailure
	var partial *tasks.PartialError
	switch {
	case ctx.Err() != nil:
		reason, code = errors.New("interrupted"), ExitInterrupted
	case errors.As(err, &trouble): // the file was changed while it was read
		code = ExitBadInput
	case errors.As(err, &partial):
		reason = explainRedis(partial.Err, cfg.Redis)
	}
	return withExit(code, fmt.Errorf("%w; %s of %s keys are in the queue: give the same command again, which sends none of them twice",
		reason, thousands(n), thousands(in.summary.Distinct)))
}

// incidentOf names an incident after a file, so that the same file twice is the same incident.
func incidentOf(path string) string {
	if path == "-" {
		return "stdin"
	}
	name := filepath.Base(path)
	for _, ext := range []string{".gz", ".csv", ".ndjson", ".jsonl", ".json", ".txt", ".log"} {
		if rest := strings.TrimSuffix(name, ext); rest != "" {
			name = rest
		}
	}
	name = strings.TrimSpace(strings.ToValidUTF8(name, "_"))
	for tasks.CheckIncident(name) != nil && name != "" {
		name = name[:len(name)-1]
	}
	if name == "" {
		return "file"
	}
	return name
}
