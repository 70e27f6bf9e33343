package tasks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
)

// ReconcileTaskID is the identity of the one reconcile task.
const ReconcileTaskID = "reconcile"

// NewSubmitTask builds the task of a submission, for the queue of its class. It is not validated here: [Client.Recall] does that for
// producers, [DecodeSubmission] for workers. V is set.
func NewSubmitTask(s Submission, class Class) (*asynq.Task, []asynq.Option) {
	return newSubmitTask(s, class, SubmitTaskID(s, class))
}

func newSubmitTask(s Submission, class Class, id string) (*asynq.Task, []asynq.Option) {
	s.V = s.version()
	return newTask(TypeSubmit, s, class.Queue(), id)
}

// NewDispatchTask builds the task of a busy slot. V is set.
func NewDispatchTask(d Dispatch) (*asynq.Task, []asynq.Option) {
	d.V = PayloadVersion
	return newTask(TypeDispatch, d, QueueDispatch, DispatchTaskID(d))
}

// NewAlarmTask builds an alarm, scheduled. V is set, and At rounded up to a whole second, as in [AlarmTaskID].
func NewAlarmTask(a Alarm) (*asynq.Task, []asynq.Option) {
	a.V = PayloadVersion
	a.At = ceilSecond(a.At)
	task, opts := newTask(TypeAlarm, a, QueueDefault, AlarmTaskID(a))
	return task, append(opts, asynq.ProcessAt(time.UnixMilli(a.At)))
}

// NewDeadTask builds a dead letter, scheduled for the end of its retention. The id makes enqueueing it twice harmless: see
// [DeadTaskID] and [DeadSubmissionTaskID]. V is set.
func NewDeadTask(d DeadLetter, id string) (*asynq.Task, []asynq.Option) {
	d.V = d.version()
	if d.Keys == nil {
		d.Keys = []string{} // "keys":[] reads better than null, and is what other languages expect
	}
	task, opts := newTask(TypeDead, d, QueueDead, id)
	// Rounded up: asynq cuts the moment to a second, and a letter that runs early would be taken for a replay.
	return task, append(opts, asynq.ProcessAt(time.UnixMilli(ceilSecond(d.RetainUntil))))
}

// NewReconcileTask builds the reconcile task. There is one at a time, by its id.
func NewReconcileTask() (*asynq.Task, []asynq.Option) {
	payload := struct {
		V int `json:"v"`
	}{PayloadVersion}
	return newTask(TypeReconcile, payload, QueueDefault, ReconcileTaskID)
}

// newTask encodes a payload and gathers the options that all tasks have. There is no Unique (the id is identity enough), no
// Retention (what became of a key is known elsewhere) and no Deadline (see [Timeout]).
func newTask(taskType string, payload any, queue, id string) (*asynq.Task, []asynq.Option) {
	return asynq.NewTask(taskType, encode(payload)), []asynq.Option{
		asynq.Queue(queue), asynq.TaskID(id), asynq.MaxRetry(MaxRetry), asynq.Timeout(Timeout),
	}
}

// encode writes a payload as JSON in which "<", ">" and "&" stay as they are, so that a note reads well in asynqmon.
func encode(payload any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(payload); err != nil {
		// Payloads have only strings, numbers and slices of them, which always encode.
		panic(fmt.Sprintf("tasks: encode %T: %v", payload, err))
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// SubmitTaskID is the identity of a submission, made from its content: version, robot, conversation, class, incident, keys in
// their order and when each was sent. The note does not count.
func SubmitTaskID(s Submission, class Class) string {
	h := sha256.New()
	hashInt(h, int64(s.version()))
	hashString(h, s.RobotCode)
	if s.Conversation != (Conversation{}) {
		hashString(h, s.Chat)
		hashString(h, s.OpenConversationID)
	}
	hashString(h, string(class))
	hashString(h, s.Incident)
	hashInt(h, int64(len(s.Keys)))
	for i, key := range s.Keys {
		hashString(h, key)
		hashInt(h, s.SentAtOf(i))
	}
	return "submit:" + hex.EncodeToString(h.Sum(nil)[:16])
}

// hashString writes a string with its length before it, so that no two sequences of strings hash the same bytes.
func hashString(h hash.Hash, s string) {
	hashInt(h, int64(len(s)))
	_, _ = h.Write([]byte(s)) // a hash never fails
}

func hashInt(h hash.Hash, n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	_, _ = h.Write(b[:])
}

// DispatchTaskID is the identity of a dispatch task: dispatch:<app>:<slot>:<generation>.
func DispatchTaskID(d Dispatch) string {
	return "dispatch:" + d.App + ":" + strconv.Itoa(d.Slot) + ":" + strconv.FormatInt(d.Generation, 10)
}

// AlarmTaskID is the identity of an alarm: alarm:<app>:<at>, where at is rounded up to a whole second, since asynq schedules to the
// second and an alarm that rings early would find nothing ready.
func AlarmTaskID(a Alarm) string {
	return "alarm:" + a.App + ":" + strconv.FormatInt(ceilSecond(a.At), 10)
}

// DeadTaskID is the identity of the n-th dead letter of a batch: dead:<app>:<batch>:<n>.
func DeadTaskID(app string, batch int64, n int) string {
	return "dead:" + app + ":" + strconv.FormatInt(batch, 10) + ":" + strconv.Itoa(n)
}

// DeadSubmissionTaskID is the identity of the dead letter that a submission's task left behind for one code:
// dead:<task id>:<code>. A second run of that task then makes no second letter.
func DeadSubmissionTaskID(taskID, code string) string {
	return "dead:" + taskID + ":" + code
}

func ceilSecond(ms int64) int64 {
	if rest := ms % 1000; rest > 0 {
		return ms + 1000 - rest
	}
	return ms
}
