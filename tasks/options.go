package tasks

import (
	"fmt"
	"time"
)

// Option is something that [Client.Recall] can be told beside the robot and the keys.
type Option func(*options)

type options struct {
	sentAt   time.Time
	sentAts  []time.Time
	perKey   bool
	incident string
	note     string
	class    Class
	where    Conversation
	twice    bool // two different conversations were given
}

// SentAt says when the messages were sent, which is when their 24 hours began. Without it they count from when a worker first sees
// the keys: a worker may then still try when it is too late, and does not know which keys to take first.
func SentAt(t time.Time) Option { return func(o *options) { o.sentAt = t } }

// SentAts says when each message was sent: one time for each key, in the order of the keys. The zero time stands for what [SentAt]
// says.
func SentAts(ts []time.Time) Option {
	return func(o *options) { o.sentAts, o.perKey = ts, true }
}

// Incident names what the keys belong to, so that they are counted, reported and cancelled ("recall cancel") together.
func Incident(name string) Option { return func(o *options) { o.incident = name } }

// WithClass says how soon the keys go, compared with others. Without it, [ClassDefault].
func WithClass(c Class) Option { return func(o *options) { o.class = c } }

// GroupChat says that the messages were sent to a group, with groupMessages/send and this openConversationId. A call recalls
// messages of one conversation.
func GroupChat(openConversationID string) Option { return in(ChatGroup, openConversationID) }

// PrivateChat says that the messages were sent to a private chat of people in which the robot takes part, with
// privateChatMessages/send and this openConversationId. The one-to-one messages of batchSend need no option.
func PrivateChat(openConversationID string) Option { return in(ChatPrivate, openConversationID) }

// InConversation is [GroupChat] or [PrivateChat], for callers that have the chat as a value. The zero value is one-to-one.
func InConversation(c Conversation) Option { return in(c.Chat, c.OpenConversationID) }

func in(chat, id string) Option {
	c := Conversation{Chat: chat, OpenConversationID: id}
	return func(o *options) {
		o.twice = o.twice || o.where != (Conversation{}) && o.where != c
		o.where = c
	}
}

// Note adds free text for whoever reads the task in asynqmon. It is no part of a submission's identity.
func Note(text string) Option { return func(o *options) { o.note = text } }

// sentAtOf returns when the i-th key of the call was sent, in epoch milliseconds; 0 means not told.
func (o options) sentAtOf(i int) int64 {
	if o.perKey && !o.sentAts[i].IsZero() {
		return o.sentAts[i].UnixMilli()
	}
	if o.sentAt.IsZero() {
		return 0
	}
	return o.sentAt.UnixMilli()
}

// check gathers the options and finds everything that is wrong with a call.
func (c *Client) check(robotCode string, keys []string, opts []Option) (options, error) {
	var o options
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	var bad ValidationError
	problem := func(format string, args ...any) { bad.Problems = append(bad.Problems, fmt.Sprintf(format, args...)) }
	if err := CheckRobotCode(robotCode); err != nil {
		problem("robotCode %s %v", quote(robotCode), err)
	}
	if err := CheckConversation(o.where); err != nil {
		problem("%v", err)
	}
	if o.twice {
		problem("two conversations are given; a call of Recall is about one")
	}
	class, err := ParseClass(string(o.class))
	if err != nil {
		problem("%v", err)
	}
	o.class = class
	if err := CheckIncident(o.incident); err != nil {
		problem("incident %s %v", quote(o.incident), err)
	}
	if o.note != "" {
		if err := checkText(o.note, MaxNoteBytes); err != nil {
			problem("note %v", err)
		}
	}
	now := c.now()
	if err := checkTime(o.sentAt, now); err != nil {
		problem("%v", err)
	}
	if len(keys) == 0 {
		problem("there are no keys")
	}
	if o.perKey && len(o.sentAts) != len(keys) {
		problem("SentAts has %d times for %d keys; it must have one for each", len(o.sentAts), len(keys))
		o.perKey = false
	}
	for i, key := range keys {
		err := CheckKey(key)
		if err == nil && o.perKey {
			err = checkTime(o.sentAts[i], now)
		}
		if err != nil {
			bad.Keys = append(bad.Keys, KeyProblem{Index: i, Key: key, SentAt: o.sentAtOf(i), Reason: err.Error()})
		}
	}
	if len(bad.Problems) > 0 || len(bad.Keys) > 0 {
		return options{}, &bad
	}
	return o, nil
}

// checkTime is CheckSentAt for a time. The first millisecond of 1970 is a mistake, not "not told".
func checkTime(t, now time.Time) error {
	switch {
	case t.IsZero():
		return nil
	case t.UnixMilli() == 0:
		return fmt.Errorf("sentAt is 1970; use the zero time where it is not known")
	}
	return CheckSentAt(t.UnixMilli(), now)
}
