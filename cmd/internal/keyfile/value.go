package keyfile

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"dingrecall/tasks"
)

// maxText is how many characters of a line or a name a message shows.
const maxText = 120

// Epoch milliseconds between the years 1973 and 5138. Below are seconds, above are micro- or nanoseconds.
const (
	minMillis = 100_000_000_000
	maxMillis = 100_000_000_000_000
)

// values checks the parts of rows. It remembers the last robot and moment, since these repeat from row to row.
type values struct {
	now           time.Time
	defaultRobot  string
	defaultSentAt time.Time
	where         tasks.Conversation // of rows that name none

	lastChat, lastID []byte // of the last row with a conversation
	lastConversation tasks.Conversation

	robots     map[string]string // each robotCode once, however many rows have it
	lastMoment []byte
	lastSentAt time.Time
}

func (v *values) init(f *File) {
	v.now, v.defaultRobot, v.defaultSentAt, v.where = f.now, f.robot, f.sentAt, f.where
	v.robots = make(map[string]string)
}

func (v *values) key(b []byte) (string, string) {
	key := string(b)
	if reason := checkCode("key", key, tasks.CheckKey); reason != "" {
		return "", reason
	}
	return key, ""
}

func (v *values) robot(b []byte) (string, string) {
	if len(b) == 0 {
		if v.defaultRobot == "" {
			return "", "the line names no robot: add its robotCode, or give one for all such lines with --robot"
		}
		return v.defaultRobot, ""
	}
	if robot, ok := v.robots[string(b)]; ok {
		return robot, ""
	}
	robot := string(b)
	if reason := checkRobot(robot); reason != "" {
		return "", reason
	}
	if len(v.robots) < 100_000 { // a bound, should robots be as many as keys
		v.robots[robot] = robot
	}
	return robot, ""
}

func (v *values) sentAt(b []byte, logTime bool) (time.Time, string) {
	if len(b) == 0 {
		return v.defaultSentAt, ""
	}
	if bytes.Equal(b, v.lastMoment) {
		return v.lastSentAt, ""
	}
	at, reason := parseMoment(string(b), logTime)
	if reason == "" {
		reason = checkMoment(at, v.now)
	}
	if reason != "" {
		return time.Time{}, reason
	}
	v.lastMoment, v.lastSentAt = append(v.lastMoment[:0], b...), at
	return at, ""
}

// checkRobot returns what is wrong with a robotCode.
func checkRobot(robot string) string { return checkCode("robotCode", robot, tasks.CheckRobotCode) }

// checkCode returns what is wrong with a key or a robotCode. A file is held to a little more than a producer: a blank or
// an invisible character inside a line is more likely an accident of the file than part of a key, and costs a call.
func checkCode(what, s string, check func(string) error) string {
	if err := check(s); err != nil {
		return "the " + what + " " + err.Error()
	}
	if isSimple(s) {
		return ""
	}
	for _, r := range s {
		if unicode.IsSpace(r) {
			return "the " + what + " has a blank in it"
		}
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("the %s has the invisible character %U in it", what, r)
		}
	}
	return ""
}

// isSimple says whether s is all visible ASCII, as nearly every key is.
func isSimple(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// parseMoment reads RFC 3339 or epoch milliseconds. In the time field of a log line (logTime), seconds with a fraction
// are taken too, because that is what zap writes unless told otherwise, and they cannot be milliseconds.
func parseMoment(s string, logTime bool) (time.Time, string) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		switch {
		case n >= minMillis && n < maxMillis:
			return time.UnixMilli(n).UTC(), ""
		case n >= maxMillis:
			return time.Time{}, fmt.Sprintf("sentAt %d has more digits than milliseconds have: epoch milliseconds are wanted", n)
		case n >= minMillis/1000:
			return time.Time{}, fmt.Sprintf("sentAt %d looks like seconds: epoch milliseconds are wanted, %d000", n, n)
		}
		return time.Time{}, fmt.Sprintf("sentAt %d is no moment in this century: epoch milliseconds are wanted", n)
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if logTime && f >= minMillis/1000 && f < minMillis {
			return time.UnixMilli(int64(math.Round(f * 1000))).UTC(), ""
		}
		if f >= minMillis && f < maxMillis {
			return time.UnixMilli(int64(f)).UTC(), "" // 1.763866038123e12, as spreadsheets and some encoders write it
		}
		return time.Time{}, fmt.Sprintf("sentAt %s: whole epoch milliseconds are wanted", clip(s, 40))
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Sprintf("sentAt %q is neither RFC 3339 (2026-11-23T09:30:00+08:00) nor epoch milliseconds", clip(s, 40))
	}
	return at.UTC().Truncate(time.Millisecond), ""
}

// checkMoment returns what is wrong with a moment of sending. However long ago is fine: such a key is reported as expired.
func checkMoment(at, now time.Time) string {
	if ahead := at.Sub(now); ahead > tasks.MaxSentAtAhead {
		return fmt.Sprintf("sentAt %s lies in the future, by %s: check the clock or the time zone it was written with",
			at.Format(time.RFC3339), ahead.Round(time.Second))
	}
	return ""
}

// clip makes text printable on one line and cuts it after most characters.
func clip(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == '\n':
			return '⏎'
		case !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "..."
}
