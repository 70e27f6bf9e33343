package tasks

import (
	"fmt"
	"math"
	"time"
)

// Task types.
const (
	// TypeSubmit asks for the recall of some keys of one robot; its payload is a [Submission], its class is the queue it is in.
	TypeSubmit = "recall:submit"
	// TypeDispatch is one busy slot of an app; its payload is a [Dispatch]. Workers make it.
	TypeDispatch = "recall:dispatch"
	// TypeDead is a dead letter; its payload is a [DeadLetter]. Workers make it; running it early replays its keys.
	TypeDead = "recall:dead"
	// TypeAlarm wakes an app when keys that wait for later become ready; its payload is an [Alarm]. Workers make it.
	TypeAlarm = "recall:alarm"
	// TypeReconcile repairs what went missing, periodically. Workers make it; its payload is {"v":1}.
	TypeReconcile = "recall:reconcile"
)

// Queues of asynq. Each must be known to a worker, because asynq forwards the scheduled tasks of known queues only.
const (
	// QueueUrgent holds the submissions of [ClassUrgent].
	QueueUrgent = "recall-urgent"
	// QueueDefault holds the submissions of [ClassDefault], the alarms and the reconcile task.
	QueueDefault = "recall"
	// QueueBulk holds the submissions of [ClassBulk].
	QueueBulk = "recall-bulk"
	// QueueDispatch holds the dispatch tasks.
	QueueDispatch = "recall-dispatch"
	// QueueDead holds the dead letters, each scheduled at the end of its retention.
	QueueDead = "recall-dead"
)

// Queues returns all queues that the program uses.
func Queues() []string {
	return []string{QueueUrgent, QueueDefault, QueueBulk, QueueDispatch, QueueDead}
}

// Limits.
const (
	// MaxKeysPerSubmission is how many keys [Client.Recall] puts into one task at most. A task stays small enough to be read
	// in asynqmon and admitted in one go.
	MaxKeysPerSubmission = 1000
	// MaxKeysPerTask is how many keys a worker accepts in one submission, for producers that cut less finely than
	// [Client.Recall]. A submission with more is malformed.
	MaxKeysPerTask = 10_000
	// MaxPayloadBytes is the longest payload a worker tries to read; MaxKeysPerTask keys of MaxKeyBytes fit.
	MaxPayloadBytes = 8 << 20
	// MaxKeyBytes bounds one processQueryKey. Those seen have 44 bytes; no length is promised.
	MaxKeyBytes = 512
	// MaxRobotCodeBytes bounds a robotCode.
	MaxRobotCodeBytes = 128
	// MaxConversationBytes bounds an openConversationId. Those seen have about 30.
	MaxConversationBytes = 256
	// MaxIncidentBytes bounds the name of an incident.
	MaxIncidentBytes = 128
	// MaxNoteBytes bounds a note. [Client.Recall] refuses a longer one, a worker cuts it.
	MaxNoteBytes = 512
	// MaxSentAtAhead is how far in the future a sending time may lie, to allow for clocks that differ.
	MaxSentAtAhead = 10 * time.Minute
	// PayloadVersion is the version of the payloads that this package writes, but for the next.
	PayloadVersion = 1
	// PayloadVersionChat is the version of submissions and dead letters that have a [Conversation]: a worker that knows only the
	// version before would recall one-to-one messages in their place, and so must refuse them.
	PayloadVersionChat = 2
)

// Options of every task.
const (
	// MaxRetry is the retry limit of every task: none in practice, and the most that fits asynq's 32-bit field. asynq archives a
	// task whose retries are used up, and its archive keeps 9,999 tasks and drops the rest; attempts are counted per key
	// elsewhere.
	MaxRetry = math.MaxInt32
	// Timeout bounds one run of a task. A run takes seconds; one that is stuck for this long is given to another handler.
	// A task must have a timeout and no deadline: asynq never hands a task to its handler whose deadline passed while it
	// was queued.
	Timeout = 5 * time.Minute
)

// Codes of dead letters that the program itself makes. All other codes are the service's own.
const (
	// CodeWindowClosed: the 24 hours within which the message could be recalled were over before a call could be made.
	CodeWindowClosed = "window.closed"
	// CodeSubmissionMalformed: a submission could not be read at all; the dead letter holds its raw payload.
	CodeSubmissionMalformed = "submission.malformed"
	// CodeKeyMalformed: these keys of a submission cannot be keys; its other keys went on.
	CodeKeyMalformed = "key.malformed"
	// CodeRobotUnconfigured: no app is configured for the robot of a submission.
	CodeRobotUnconfigured = "robot.unconfigured"
	// CodeTargetLimit: the robot or the conversation of a submission is one more than an app can have in a Redis.
	CodeTargetLimit = "target.limit"
)

// Class says how soon keys are to be recalled, compared with other keys of the same app.
type Class string

// The classes, first to last.
const (
	// ClassUrgent goes first, and does not wait for a call to fill up.
	ClassUrgent Class = "urgent"
	// ClassDefault is what submissions have that say nothing.
	ClassDefault Class = "default"
	// ClassBulk goes last.
	ClassBulk Class = "bulk"
)

// Classes returns all classes, the most urgent first.
func Classes() []Class { return []Class{ClassUrgent, ClassDefault, ClassBulk} }

// Queue returns the queue in which submissions of the class wait. A class that is none of the three has none: "".
func (c Class) Queue() string {
	switch c {
	case ClassUrgent:
		return QueueUrgent
	case ClassDefault:
		return QueueDefault
	case ClassBulk:
		return QueueBulk
	}
	return ""
}

// ParseClass reads the name of a class. The empty name is [ClassDefault].
func ParseClass(name string) (Class, error) {
	switch c := Class(name); c {
	case "":
		return ClassDefault, nil
	case ClassUrgent, ClassDefault, ClassBulk:
		return c, nil
	}
	return "", fmt.Errorf("unknown class %s: use urgent, default or bulk", quote(name))
}

// ClassOfQueue returns the class of the submissions in a queue, and false for a queue that holds none.
func ClassOfQueue(queue string) (Class, bool) {
	for _, c := range Classes() {
		if c.Queue() == queue {
			return c, true
		}
	}
	return "", false
}
