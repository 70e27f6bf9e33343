package tasks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// testNow is what the clients of the tests take for the present.
var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const testRobot = "dingue4kfzdxbyn0pjqd"

// bundle is a client on a Redis of its own, and asynq's view of that Redis.
type bundle struct {
	client    *Client
	redis     *miniredis.Miniredis
	inspector *asynq.Inspector
}

func setup(t *testing.T) bundle {
	t.Helper()
	mr := miniredis.RunT(t)
	opt := asynq.RedisClientOpt{Addr: mr.Addr()}
	b := bundle{client: NewClient(opt), redis: mr, inspector: asynq.NewInspector(opt)}
	b.client.now = func() time.Time { return testNow }
	t.Cleanup(func() {
		_ = b.client.Close()
		_ = b.inspector.Close()
	})
	return b
}

// pending returns the submissions in a queue, in the order in which they were queued.
func (b bundle) pending(t *testing.T, queue string) []Submission {
	t.Helper()
	infos, err := b.inspector.ListPendingTasks(queue, asynq.PageSize(1000))
	if errors.Is(err, asynq.ErrQueueNotFound) {
		return nil
	}
	if err != nil {
		t.Fatalf("list %s: %v", queue, err)
	}
	var all []Submission
	for _, info := range infos {
		s, problems, err := DecodeSubmission(info.Payload)
		if err != nil || len(problems) > 0 {
			t.Fatalf("decode %s: %v, %v", info.Payload, problems, err)
		}
		all = append(all, s)
	}
	return all
}

// makeKeys makes n keys that look like real ones.
func makeKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("Kna29Ra5pdJznx1+havbumkQKw/zgfxZLapw5%06d=", i)
	}
	return keys
}

// fakeQueue stands for asynq where a test needs it to fail at a chosen moment.
type fakeQueue struct {
	ids   []string
	onPut func(n int) error // n counts from 1; nil accepts everything
}

func (f *fakeQueue) EnqueueContext(_ context.Context, task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	if f.onPut != nil {
		if err := f.onPut(len(f.ids) + 1); err != nil {
			return nil, err
		}
	}
	for _, opt := range opts {
		if opt.Type() == asynq.TaskIDOpt {
			f.ids = append(f.ids, opt.Value().(string))
		}
	}
	return &asynq.TaskInfo{Type: task.Type(), Payload: task.Payload()}, nil
}

func TestRecallPutsEveryKeyIntoRedis(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 999, 1000, 1001, 2500} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			keys := makeKeys(n)
			receipt, err := b.client.Recall(t.Context(), testRobot, keys)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			subs := b.pending(t, QueueDefault)
			for _, s := range subs {
				if s.RobotCode != testRobot || s.V != PayloadVersion {
					t.Errorf("submission of robot %q, version %d", s.RobotCode, s.V)
				}
				if len(s.Keys) > MaxKeysPerSubmission {
					t.Errorf("a submission has %d keys", len(s.Keys))
				}
				got = append(got, s.Keys...)
			}
			if !slices.Equal(got, keys) {
				t.Errorf("%d keys in Redis, %d given, or in another order", len(got), n)
			}
			want := (n + 999) / 1000
			if len(subs) != want || receipt.Submissions != want || len(receipt.TaskIDs) != want {
				t.Errorf("%d submissions in Redis, receipt %d with %d ids, want %d", len(subs), receipt.Submissions, len(receipt.TaskIDs), want)
			}
			if receipt.Keys != n || receipt.Duplicates != 0 || receipt.AlreadyQueued != 0 {
				t.Errorf("receipt %+v", receipt)
			}
		})
	}
}

func TestRecallOptions(t *testing.T) {
	t.Parallel()
	early, late := testNow.Add(-2*time.Hour), testNow.Add(-time.Hour)
	tests := []struct {
		name  string
		opts  []Option
		queue string
		want  Submission
	}{
		{"nothing told", nil, QueueDefault, Submission{}},
		{"sent at", []Option{SentAt(early)}, QueueDefault, Submission{SentAt: early.UnixMilli()}},
		{"the zero time is not told", []Option{SentAt(time.Time{})}, QueueDefault, Submission{}},
		{"sent at times of their own", []Option{SentAts([]time.Time{early, late})}, QueueDefault,
			Submission{SentAts: []int64{early.UnixMilli(), late.UnixMilli()}}},
		{"equal times become one", []Option{SentAts([]time.Time{late, late})}, QueueDefault, Submission{SentAt: late.UnixMilli()}},
		{"a zero time falls back", []Option{SentAt(early), SentAts([]time.Time{{}, late})}, QueueDefault,
			Submission{SentAts: []int64{early.UnixMilli(), late.UnixMilli()}}},
		{"a zero time stays not told", []Option{SentAts([]time.Time{{}, late})}, QueueDefault,
			Submission{SentAts: []int64{0, late.UnixMilli()}}},
		{"incident and note", []Option{Incident("spring mail"), Note("wrong link <a&b>")}, QueueDefault,
			Submission{Incident: "spring mail", Note: "wrong link <a&b>"}},
		{"group", []Option{GroupChat("cid+/=")}, QueueDefault, Submission{V: 2, Conversation: Conversation{ChatGroup, "cid+/="}}},
		{"private chat, said twice", []Option{PrivateChat("cid"), PrivateChat("cid")}, QueueDefault, Submission{V: 2, Conversation: Conversation{ChatPrivate, "cid"}}},
		{"one-to-one as a value", []Option{InConversation(Conversation{})}, QueueDefault, Submission{}},
		{"urgent", []Option{WithClass(ClassUrgent)}, QueueUrgent, Submission{}},
		{"bulk", []Option{WithClass(ClassBulk), nil}, QueueBulk, Submission{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if _, err := b.client.Recall(t.Context(), testRobot, []string{"a", "b"}, tt.opts...); err != nil {
				t.Fatal(err)
			}
			tt.want.RobotCode, tt.want.Keys = testRobot, []string{"a", "b"}
			if tt.want.V == 0 {
				tt.want.V = PayloadVersion
			}
			got := b.pending(t, tt.queue)
			if len(got) != 1 || string(encode(got[0])) != string(encode(tt.want)) {
				t.Errorf("got  %s\nwant [%s]", encode(got), encode(tt.want))
			}
		})
	}
}

func TestRecallTaskOptions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	receipt, err := b.client.Recall(t.Context(), testRobot, []string{"a+b/c="}, Note("<&>"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.inspector.GetTaskInfo(QueueDefault, receipt.TaskIDs[0])
	if err != nil {
		t.Fatal(err)
	}
	if info.Type != TypeSubmit || info.MaxRetry != MaxRetry || info.Timeout != Timeout || !info.Deadline.IsZero() || info.Retention != 0 {
		t.Errorf("task %+v", info)
	}
	want := `{"v":1,"robotCode":"dingue4kfzdxbyn0pjqd","keys":["a+b/c="],"note":"<&>"}`
	if string(info.Payload) != want {
		t.Errorf("payload %s\nwant    %s", info.Payload, want)
	}
}

func TestRecallFoldsDuplicates(t *testing.T) {
	t.Parallel()
	early, late := testNow.Add(-2*time.Hour), testNow.Add(-time.Hour)
	b := setup(t)
	receipt, err := b.client.Recall(t.Context(), testRobot, []string{"a", "b", "a", "c", "b", "B", "c"},
		SentAts([]time.Time{early, late, late, {}, early, early, early}))
	if err != nil {
		t.Fatal(err)
	}
	if receipt.Keys != 4 || receipt.Duplicates != 3 {
		t.Errorf("receipt %+v", receipt)
	}
	got := b.pending(t, QueueDefault)
	if len(got) != 1 || !slices.Equal(got[0].Keys, []string{"a", "b", "c", "B"}) {
		t.Fatalf("queued %s", encode(got))
	}
	// The latest time counts, and "not told" is later than any.
	want := []int64{late.UnixMilli(), late.UnixMilli(), 0, early.UnixMilli()}
	if !slices.Equal(got[0].SentAts, want) {
		t.Errorf("times %v, want %v", got[0].SentAts, want)
	}
}

func TestRecallTwiceIsOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := makeKeys(2500)
	first, err := b.client.Recall(t.Context(), testRobot, keys, Incident("x"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.client.Recall(t.Context(), testRobot, keys, Incident("x"), Note("a note is no part of the identity"))
	if err != nil {
		t.Fatal(err)
	}
	if second.AlreadyQueued != 3 || second.Submissions != 3 || !slices.Equal(first.TaskIDs, second.TaskIDs) {
		t.Errorf("second receipt %+v", second)
	}
	if got := b.pending(t, QueueDefault); len(got) != 3 {
		t.Errorf("%d tasks are queued, want 3", len(got))
	}
}

func TestRecallHalfWay(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	broken := errors.New("broken pipe")
	tests := []struct {
		name  string
		ctx   context.Context
		onPut func(n int) error
		in    int
		want  error
	}{
		{"the first fails", t.Context(), func(int) error { return broken }, 0, broken},
		{"the third fails", t.Context(), func(n int) error {
			if n == 3 {
				return broken
			}
			return nil
		}, 2000, broken},
		{"cancelled on the way, told as text only", ctx, func(n int) error {
			if n == 2 {
				cancel()
				return errors.New("UNKNOWN: redis eval error: context canceled")
			}
			return nil
		}, 1000, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			queue := &fakeQueue{onPut: tt.onPut}
			client := newClient(queue, nil)
			keys := makeKeys(2500)
			receipt, err := client.Recall(tt.ctx, testRobot, keys)
			var partial *PartialError
			if !errors.As(err, &partial) || !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want a PartialError of %v", err, tt.want)
			}
			if !slices.Equal(partial.Submitted, keys[:tt.in]) || !slices.Equal(partial.Remaining, keys[tt.in:]) {
				t.Errorf("%d submitted, %d remain; want %d submitted", len(partial.Submitted), len(partial.Remaining), tt.in)
			}
			if receipt.Submissions != tt.in/1000 || strings.Contains(err.Error(), "\n") {
				t.Errorf("receipt %+v, error %q", receipt, err)
			}
			// The same call again completes what the first began, under the same ids.
			done := slices.Clone(queue.ids)
			queue.onPut = func(n int) error { return nil }
			queue.ids = nil
			if _, err := client.Recall(t.Context(), testRobot, keys); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(queue.ids[:len(done)], done) || len(queue.ids) != 3 {
				t.Errorf("ids %v, the first time %v", queue.ids, done)
			}
		})
	}
}

func TestRecallWithEndedContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.client.Recall(ctx, testRobot, []string{"a"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := b.pending(t, QueueDefault); len(got) != 0 {
		t.Errorf("queued %v", got)
	}
}

func TestRecallWithoutRedis(t *testing.T) {
	t.Parallel()
	gone := miniredis.NewMiniRedis()
	if err := gone.Start(); err != nil {
		t.Fatal(err)
	}
	addr := gone.Addr()
	gone.Close()
	var nilRedis *redis.Client
	closed := NewClient(asynq.RedisClientOpt{Addr: addr})
	for range 2 {
		if err := closed.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	protected := miniredis.RunT(t)
	protected.RequireAuth("right")
	tests := []struct {
		name   string
		client *Client
		want   string
	}{
		{"nil option", NewClient(nil), ErrClosed.Error()},
		{"nil connection", NewClientFromRedis(nil), ErrClosed.Error()},
		{"nil pointer", NewClientFromRedis(nilRedis), ErrClosed.Error()},
		{"closed", closed, ErrClosed.Error()},
		{"nobody listens", NewClient(asynq.RedisClientOpt{Addr: addr}), "connection refused"},
		{"wrong password", NewClient(asynq.RedisClientOpt{Addr: protected.Addr(), Password: "s3cr3t"}), "WRONGPASS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() { _ = tt.client.Close() })
			_, err := tt.client.Recall(t.Context(), testRobot, []string{"a"})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "UNKNOWN") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestClientFromRedisLeavesItOpen(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer func() { _ = rdb.Close() }()
	client := NewClientFromRedis(rdb)
	if _, err := client.Recall(t.Context(), testRobot, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the connection is gone: %v", err)
	}
	if _, err := client.Recall(t.Context(), testRobot, []string{"b"}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
