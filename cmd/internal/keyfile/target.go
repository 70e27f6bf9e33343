package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"dingrecall/tasks"
)

// Target is whose key a row has: a robot's, and where the message was sent to a group or a private chat, in which. Keys of one target
// may share a call. It is comparable.
type Target struct {
	RobotCode string
	tasks.Conversation
}

// String is the target for a person.
func (t Target) String() string {
	if where := t.Conversation.String(); where != "" {
		return t.RobotCode + " in " + where
	}
	return t.RobotCode
}

// conversation makes the conversation of a row out of what the row says and what the options fill in. A chat that is neither
// group nor private is somebody else's word, unless there is an openConversationId.
func (v *values) conversation(chat, id []byte) (tasks.Conversation, string) {
	if len(id) == 0 && !isChat(chat) {
		return v.defaultConversation()
	}
	if bytes.Equal(chat, v.lastChat) && bytes.Equal(id, v.lastID) {
		return v.lastConversation, ""
	}
	c := tasks.Conversation{Chat: strings.ToLower(string(chat)), OpenConversationID: string(id)}
	if c.Chat == "" {
		c.Chat = v.where.Chat
	}
	if c.OpenConversationID == "" && (c.Chat == v.where.Chat || v.where.Chat == "") {
		c.OpenConversationID = v.where.OpenConversationID
	}
	if c.Chat == "" {
		return c, noChat
	}
	if reason := checkConversation(c); reason != "" {
		return c, reason
	}
	v.lastChat, v.lastID, v.lastConversation = append(v.lastChat[:0], chat...), append(v.lastID[:0], id...), c
	return c, ""
}

// defaultConversation is that of a row that says nothing: of --conversation, or one-to-one.
func (v *values) defaultConversation() (tasks.Conversation, string) {
	switch {
	case v.where.OpenConversationID == "":
		return tasks.Conversation{}, ""
	case v.where.Chat == "":
		return tasks.Conversation{}, noChat
	}
	return v.where, ""
}

const noChat = "the line has an openConversationId, and does not say of what: add a chat (group or private), or give one for all such lines with --chat"

func isChat(chat []byte) bool {
	return strings.EqualFold(string(chat), tasks.ChatGroup) || strings.EqualFold(string(chat), tasks.ChatPrivate)
}

func checkConversation(c tasks.Conversation) string {
	if err := tasks.CheckConversation(c); err != nil {
		return err.Error()
	}
	if c.OpenConversationID == "" {
		return ""
	}
	return checkCode("openConversationId", c.OpenConversationID, func(string) error { return nil })
}

// checkWhere says what is wrong with the conversation of the options, for a file of a layout.
func (l layout) checkWhere(c tasks.Conversation) error {
	if c == (tasks.Conversation{}) {
		return nil
	}
	if c.Chat != "" && !isChat([]byte(c.Chat)) {
		return fmt.Errorf("the chat to use where a file names none: %q is neither %s nor %s", c.Chat, tasks.ChatGroup, tasks.ChatPrivate)
	}
	switch {
	case c.OpenConversationID == "" && !l.mayHaveConversation():
		return fmt.Errorf("nothing says in which %s chat the messages are: give its openConversationId with --conversation", c.Chat)
	case c.OpenConversationID == "":
		return nil
	case c.Chat == "" && !l.mayHaveChat():
		return errors.New("nothing says whether the conversation is a group or a private chat: give --chat")
	case c.Chat == "":
		c.Chat = tasks.ChatGroup // either will do, to check the other part
	}
	if reason := checkConversation(c); reason != "" {
		return fmt.Errorf("the conversation to use where a file names none: %s", reason)
	}
	return nil
}

func (l layout) mayHaveConversation() bool {
	return l.format == FormatNDJSON || l.format == FormatCSV && l.columns.conversation >= 0
}

func (l layout) mayHaveChat() bool {
	return l.format == FormatNDJSON || l.format == FormatCSV && l.columns.chat >= 0
}
