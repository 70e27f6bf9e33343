package flow

import (
	"fmt"
	"strings"
)

// The chats of a Conversation. The empty one stands for one-to-one messages.
const (
	ChatGroup   = "group"
	ChatPrivate = "private"
)

// Conversation is where messages went that were not sent one-to-one: a group, or a private chat of people in which the robot
// takes part. The zero value is for one-to-one messages. Its fields are those of tasks.Conversation, so that one converts to
// the other.
type Conversation struct {
	Chat               string // ChatGroup or ChatPrivate; "" = one-to-one
	OpenConversationID string // of a chat
}

// Target is what keys share that may share a call: the robot that sent the messages, and the conversation they went to. It
// is a comparable value.
type Target struct {
	RobotCode string
	Conversation
}

// mark parts the pieces of a name. No robotCode and no openConversationId has it in it: control characters are refused
// where keys come in.
const mark = "\x1f"

// Name gives the one name of a target, under which the key store numbers it, as if it were a robot. That of a robot's
// one-to-one messages is its robotCode, as ever.
func (t Target) Name() string {
	if t.Conversation == (Conversation{}) {
		return t.RobotCode
	}
	return t.RobotCode + mark + t.Chat + mark + t.OpenConversationID
}

// ParseTarget is the inverse of Name. It refuses every text that Name does not give: such a name was made by another version
// of the program, and to call the service with a part of it would recall other messages than were meant.
func ParseTarget(name string) (Target, error) {
	part := strings.Split(name, mark)
	switch {
	case len(part) == 1:
		return Target{RobotCode: name}, nil
	case len(part) == 3 && (part[1] == ChatGroup || part[1] == ChatPrivate) && part[2] != "":
		return Target{RobotCode: part[0], Conversation: Conversation{Chat: part[1], OpenConversationID: part[2]}}, nil
	}
	return Target{}, fmt.Errorf("%q is the name of no robot and no conversation that this version knows", name)
}

// String is the target for a person: "dingabc", or "dingabc in group cid1", or "dingabc in private chat cid2".
func (t Target) String() string {
	switch t.Chat {
	case "":
		return t.RobotCode
	case ChatGroup:
		return t.RobotCode + " in group " + t.OpenConversationID
	default:
		return t.RobotCode + " in private chat " + t.OpenConversationID
	}
}
