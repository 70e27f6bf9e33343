package tasks

import (
	"errors"
	"fmt"
)

// The chats of a [Conversation].
const (
	// ChatGroup: the messages were sent to a group (groupMessages/send).
	ChatGroup = "group"
	// ChatPrivate: the messages were sent to a private chat of people in which the robot takes part (privateChatMessages/send). The
	// one-to-one messages of batchSend, from robot to person, are not these.
	ChatPrivate = "private"
)

// Conversation is where messages went that were not sent one-to-one. The zero value is for one-to-one messages.
type Conversation struct {
	// Chat is [ChatGroup] or [ChatPrivate]; empty for one-to-one messages.
	Chat string `json:"chat,omitempty"`
	// OpenConversationID is the openConversationId that the messages were sent with. Opaque and case-sensitive.
	OpenConversationID string `json:"openConversationId,omitempty"`
}

// String is the conversation for a person: "group cid1", "private chat cid2", or "" for one-to-one messages.
func (c Conversation) String() string {
	switch c.Chat {
	case "":
		return ""
	case ChatPrivate:
		return "private chat " + c.OpenConversationID
	}
	return c.Chat + " " + c.OpenConversationID
}

// CheckConversation says why something cannot be a conversation; nil means that it can. Beyond that its id is opaque.
func CheckConversation(c Conversation) error {
	switch {
	case c == Conversation{}:
		return nil
	case c.Chat == "":
		return fmt.Errorf("openConversationId %s comes without a chat: say whether it is a group or a private chat", quote(c.OpenConversationID))
	case c.Chat != ChatGroup && c.Chat != ChatPrivate:
		return fmt.Errorf("chat %s is neither %s nor %s", quote(c.Chat), ChatGroup, ChatPrivate)
	case c.OpenConversationID == "":
		return errors.New("openConversationId is missing or empty: messages of a " + c.Chat + " chat are recalled in their conversation")
	}
	if err := checkText(c.OpenConversationID, MaxConversationBytes); err != nil {
		return fmt.Errorf("openConversationId %s %w", quote(c.OpenConversationID), err)
	}
	return nil
}

// version is the version of a payload that speaks of the conversation.
func (c Conversation) version() int {
	if c == (Conversation{}) {
		return PayloadVersion
	}
	return PayloadVersionChat
}
