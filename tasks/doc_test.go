package tasks

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// block is a fenced block of docs/tasks.md: ```json submission.
type block struct{ lang, kind, text string }

func docBlocks(t *testing.T) (page string, blocks []block) {
	t.Helper()
	b, err := os.ReadFile("../docs/tasks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+) ?([a-z]*)\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		blocks = append(blocks, block{m[1], m[2], m[3]})
	}
	return string(b), blocks
}

func TestDocPayloadsDecode(t *testing.T) {
	t.Parallel()
	_, blocks := docBlocks(t)
	count := make(map[string]int)
	for _, b := range blocks {
		if b.lang != "json" {
			continue
		}
		count[b.kind]++
		var err error
		var version int
		switch b.kind {
		case "submission":
			var s Submission
			var problems []KeyProblem
			if s, problems, err = DecodeSubmission([]byte(b.text)); len(problems) > 0 || len(s.Keys) == 0 {
				t.Errorf("%d keys, problems %v in:\n%s", len(s.Keys), problems, b.text)
			}
			version = s.V
		case "dead":
			var d DeadLetter
			d, err = DecodeDeadLetter([]byte(b.text))
			version = d.V
			if d.Code == CodeSubmissionMalformed {
				_, _, cause := DecodeSubmission(d.Raw())
				if cause == nil || cause.Error() != d.Message {
					t.Errorf("the page has the message %q, the decoder says %v", d.Message, cause)
				}
			}
		case "dispatch":
			var d Dispatch
			d, err = DecodeDispatch([]byte(b.text))
			version = d.V
		case "alarm":
			var a Alarm
			a, err = DecodeAlarm([]byte(b.text))
			version = a.V
		case "reconcile":
			task, _ := NewReconcileTask()
			version = 1
			if strings.ReplaceAll(strings.TrimSpace(b.text), " ", "") != string(task.Payload()) {
				t.Errorf("the page has %s, the task %s", b.text, task.Payload())
			}
		default:
			t.Errorf("a JSON block of unknown kind %q", b.kind)
		}
		want := PayloadVersion
		if strings.Contains(b.text, `"chat"`) {
			want = PayloadVersionChat
		}
		if err != nil || version != want {
			t.Errorf("version %d, %v in:\n%s", version, err, b.text)
		}
	}
	for kind, want := range map[string]int{"submission": 4, "dead": 2, "dispatch": 1, "alarm": 1, "reconcile": 1} {
		if count[kind] != want {
			t.Errorf("%d JSON blocks of kind %s were found, want %d", count[kind], kind, want)
		}
	}
}

func TestDocGoExampleIsTheTestedOne(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, blocks := docBlocks(t)
	found := 0
	for _, b := range blocks {
		if b.lang != "go" {
			continue
		}
		found++
		flat := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		if !strings.Contains(flat(string(source)), flat(b.text)) {
			t.Errorf("example_test.go does not have:\n%s", b.text)
		}
	}
	if found != 1 {
		t.Errorf("%d Go blocks were found, want 1", found)
	}
}

// TestDocNamesLimits compares the numbers and names that the page spells out with the constants.
func TestDocNamesLimits(t *testing.T) {
	t.Parallel()
	page, _ := docBlocks(t)
	for _, want := range []string{
		TypeSubmit, TypeDispatch, TypeDead, TypeAlarm, TypeReconcile, QueueUrgent, QueueDefault, QueueBulk, QueueDispatch, QueueDead,
		CodeWindowClosed, CodeSubmissionMalformed, CodeKeyMalformed, CodeRobotUnconfigured, CodeTargetLimit,
	} {
		if !strings.Contains(page, "`"+want+"`") {
			t.Errorf("the page does not name %s", want)
		}
	}
	for _, want := range []string{
		fmt.Sprintf("1 to %d bytes", MaxRobotCodeBytes), fmt.Sprintf("1 to %d bytes", MaxConversationBytes), "`" + ChatGroup + "` or `" + ChatPrivate + "`", fmt.Sprintf("each 1 to %d bytes", MaxKeyBytes), fmt.Sprintf("up to %d bytes", MaxIncidentBytes),
		fmt.Sprintf("%d bytes are kept", MaxNoteBytes), "1 to 10,000 keys, 1,000 are advised", "(8,388,608 bytes)",
		"| max retry | " + strconv.Itoa(MaxRetry), fmt.Sprintf("| timeout | %d seconds", int(Timeout.Seconds())),
		fmt.Sprintf("at most %d minutes in the future", int(MaxSentAtAhead.Minutes())),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if MaxKeysPerTask != 10_000 || MaxKeysPerSubmission != 1_000 || MaxPayloadBytes != 8_388_608 || PayloadVersion != 1 {
		t.Error("a limit changed: change the page, and the texts in this test")
	}
}

// pbText and pbInt encode a protobuf field as the page describes it.
func pbText(number uint64, s string) []byte {
	b := binary.AppendUvarint(nil, number<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func pbInt(number, n uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, number<<3), n)
}

// TestDocRedisLayout writes a task with the commands of the page, without asynq, and has asynq run it.
func TestDocRedisLayout(t *testing.T) {
	t.Parallel()
	_, blocks := docBlocks(t)
	var script, payload string
	for _, b := range blocks {
		if b.lang == "lua" {
			script = b.text
		}
		if b.kind == "submission" && payload == "" {
			payload = b.text
		}
		if b.lang == "python" && !strings.Contains(b.text, script) {
			t.Error("the Python example has another script than the Lua block before it")
		}
	}
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	defer func() { _ = rdb.Close() }()
	const id = "made-by-hand"
	message := append(pbText(1, "recall:submit"), pbText(2, payload)...)
	message = append(message, pbText(3, id)...)
	message = append(message, pbText(4, "recall")...)
	message = append(message, pbInt(5, 2147483647)...)
	message = append(message, pbInt(8, 300)...)
	if err := rdb.SAdd(t.Context(), "asynq:queues", "recall").Err(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{1, 0} { // the second time it is there already
		keys := []string{"asynq:{recall}:t:" + id, "asynq:{recall}:pending"}
		n, err := rdb.Eval(t.Context(), script, keys, message, id, time.Now().UnixNano()).Int64()
		if err != nil || n != want {
			t.Fatalf("the script answers %d, %v; want %d", n, err, want)
		}
	}
	opt := asynq.RedisClientOpt{Addr: mr.Addr()}
	inspector := asynq.NewInspector(opt)
	defer func() { _ = inspector.Close() }()
	info, err := inspector.GetTaskInfo(QueueDefault, id)
	if err != nil {
		t.Fatal(err)
	}
	if info.State != asynq.TaskStatePending || info.MaxRetry != MaxRetry || info.Timeout != Timeout || !info.Deadline.IsZero() || info.Type != TypeSubmit {
		t.Errorf("asynq reads %+v", info)
	}
	got := make(chan string, 1)
	server := asynq.NewServer(opt, asynq.Config{
		Queues: map[string]int{QueueDefault: 1}, Concurrency: 1, TaskCheckInterval: 10 * time.Millisecond, LogLevel: asynq.FatalLevel,
	})
	if err := server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		got <- string(task.Payload())
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	select {
	case p := <-got:
		if p != payload {
			t.Errorf("the handler got %s", p)
		}
	case <-time.After(20 * time.Second):
		t.Error("the task did not run")
	}
}
