package tasks

import (
	"time"
	"unicode/utf8"
)

// Submission is the payload of a [TypeSubmit] task: a wish that some messages of one robot be recalled. Its class is the queue
// that the task is in.
type Submission struct {
	// V is the version of the payload. Missing or 0 counts as 1. With a Conversation it is 2.
	V int `json:"v"`
	// RobotCode is the robot that sent the messages.
	RobotCode string `json:"robotCode"`
	// Conversation is where the messages went, if they were not sent one-to-one: "chat" and "openConversationId".
	Conversation
	// Keys are the processQueryKeys that batchSend answered with. Opaque and case-sensitive.
	Keys []string `json:"keys"`
	// SentAt is when the messages were sent, in epoch milliseconds; 0 means not told, and the 24 hours are then counted from
	// the moment a worker first sees the submission.
	SentAt int64 `json:"sentAt,omitempty"`
	// SentAts has one time for each of Keys, where they differ. An entry of 0 means SentAt. Empty, or as long as Keys.
	SentAts []int64 `json:"sentAts,omitempty"`
	// Incident is a name under which keys are counted, reported and cancelled together.
	Incident string `json:"incident,omitempty"`
	// Note is free text for whoever reads the task in asynqmon.
	Note string `json:"note,omitempty"`
}

// SentAtOf returns when the message of Keys[i] was sent, in epoch milliseconds; 0 means not told.
func (s Submission) SentAtOf(i int) int64 {
	if i < len(s.SentAts) && s.SentAts[i] != 0 {
		return s.SentAts[i]
	}
	return s.SentAt
}

// Dispatch is the payload of a [TypeDispatch] task: the right, and the duty, to have one call of an app in flight.
type Dispatch struct {
	// V is the version of the payload. Missing or 0 counts as 1.
	V int `json:"v"`
	// App is the name of the app whose slot this is.
	App string `json:"app"`
	// Slot is the number of the slot within its app, from 1.
	Slot int `json:"slot"`
	// Generation counts how often the slot was woken; a task of an older generation has nothing to do.
	Generation int64 `json:"generation"`
}

// Alarm is the payload of a [TypeAlarm] task: at this moment, look for keys of the app that waited for later.
type Alarm struct {
	// V is the version of the payload. Missing or 0 counts as 1.
	V int `json:"v"`
	// App is the name of the app to wake.
	App string `json:"app"`
	// At is the moment in epoch milliseconds, a whole second.
	At int64 `json:"at"`
}

// DeadLetter is the payload of a [TypeDead] task: keys of one batch, or of one submission, that will not be recalled unless
// somebody replays them, and why. The task is scheduled for the end of its retention. Run earlier, it is a replay; run at its time,
// the letter is dropped.
type DeadLetter struct {
	// V is the version of the payload. Missing or 0 counts as 1. With a Conversation it is 2.
	V int `json:"v"`
	// App is the name of the app; empty where none is configured for the robot.
	App string `json:"app"`
	// RobotCode is the robot of the keys; empty where the submission could not be read.
	RobotCode string `json:"robotCode"`
	// Conversation is where the messages went, if they were not sent one-to-one.
	Conversation
	// Keys are the dead processQueryKeys; empty where the submission could not be read.
	Keys []string `json:"keys"`
	// Code is the service's code, or one of the Code constants.
	Code string `json:"code"`
	// Message is the service's message, or a sentence of ours.
	Message string `json:"message"`
	// RequestID is the service's id of the last call that carried the keys; empty where there was no call.
	RequestID string `json:"requestId,omitempty"`
	// Attempts is how many calls carried the keys.
	Attempts int `json:"attempts"`
	// Class is the class that the keys had, and have again when replayed.
	Class Class `json:"class"`
	// Incident is the incident that the keys belong to.
	Incident string `json:"incident,omitempty"`
	// SentAt and SentAts are as in [Submission].
	SentAt  int64   `json:"sentAt,omitempty"`
	SentAts []int64 `json:"sentAts,omitempty"`
	// DiedAt is when the keys died, in epoch milliseconds.
	DiedAt int64 `json:"diedAt"`
	// Ambiguous says that the answer of a call was lost: the messages may have been recalled after all.
	Ambiguous bool `json:"ambiguous,omitempty"`
	// Batch is the number of the batch that the keys died in, which fences a replay; 0 where they never were in one.
	Batch int64 `json:"batch,omitempty"`
	// RetainUntil is the end of retention, in epoch milliseconds; the task is scheduled for this moment.
	RetainUntil int64 `json:"retainUntil"`
	// Submission is the raw payload of a submission that could not be read, see [DeadLetter.SetRaw].
	Submission string `json:"submission,omitempty"`
	// SubmissionBase64 takes the place of Submission where the payload is not valid UTF-8.
	SubmissionBase64 []byte `json:"submissionBase64,omitempty"`
	// Origin is the task that the submission came in, see [OriginOf].
	Origin string `json:"origin,omitempty"`
}

// SentAtOf returns when the message of Keys[i] was sent, in epoch milliseconds; 0 means not told.
func (d DeadLetter) SentAtOf(i int) int64 {
	return Submission{SentAt: d.SentAt, SentAts: d.SentAts}.SentAtOf(i)
}

// SetRaw keeps the payload of a submission that could not be read, byte for byte, readable in asynqmon where it is text.
func (d *DeadLetter) SetRaw(payload []byte) {
	d.Submission, d.SubmissionBase64 = "", nil
	if utf8.Valid(payload) {
		d.Submission = string(payload)
		return
	}
	d.SubmissionBase64 = append([]byte(nil), payload...)
}

// Raw returns the payload kept by [DeadLetter.SetRaw], nil where there is none.
func (d DeadLetter) Raw() []byte {
	switch {
	case len(d.SubmissionBase64) > 0:
		return d.SubmissionBase64
	case d.Submission != "":
		return []byte(d.Submission)
	}
	return nil
}

// retentionSlack allows for the clock of the worker that forwards a scheduled task being ahead of the clock of the worker
// that runs it. Without it, a letter whose retention is over could be taken for a replay.
const retentionSlack = 2 * time.Hour

// IsReplay says whether a dead letter that runs at now was run by somebody, before its retention was over. The last two hours of the
// retention (a tenth of it, where that is less) counts as over, since the clocks of two workers may differ.
func (d DeadLetter) IsReplay(now time.Time) bool {
	slack := retentionSlack.Milliseconds()
	if tenth := (d.RetainUntil - d.DiedAt) / 10; tenth < slack {
		slack = max(tenth, 0)
	}
	return now.UnixMilli() < d.RetainUntil-slack
}

// OriginOf names the task that a dead letter came from, so that a person finds it in a log.
func OriginOf(taskID, taskType, queue string) string {
	return taskID + " (" + taskType + " in " + queue + ")"
}
