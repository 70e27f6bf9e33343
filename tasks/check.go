package tasks

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// KeyProblem is a key that cannot be one, and why.
type KeyProblem struct {
	// Index is the key's place in what was submitted, from 0.
	Index int
	// Key is the key as it came.
	Key string
	// SentAt is the key's sending time as it came, in epoch milliseconds; 0 means not told.
	SentAt int64
	// Reason says what is wrong with the key.
	Reason string
}

// String describes the problem on one line, for instance: key 3 "K 1": contains a control character.
func (p KeyProblem) String() string {
	return fmt.Sprintf("key %d %s: %s", p.Index, quote(p.Key), p.Reason)
}

// CheckKey says why a string cannot be a processQueryKey; nil means that it can. Beyond that a key is opaque.
func CheckKey(key string) error { return checkText(key, MaxKeyBytes) }

// CheckRobotCode says why a string cannot be a robotCode; nil means that it can.
func CheckRobotCode(robotCode string) error { return checkText(robotCode, MaxRobotCodeBytes) }

// CheckIncident says why a string cannot name an incident; nil means that it can. The empty name means no incident.
func CheckIncident(incident string) error {
	if incident == "" {
		return nil
	}
	return checkText(incident, MaxIncidentBytes)
}

// minSentAt is in 1973: a smaller number is not the epoch milliseconds of anything sent.
const minSentAt = int64(100_000_000_000)

// CheckSentAt says why a number cannot be the epoch milliseconds at which something was sent; nil means that it can. 0 means not
// told, and is fine. More than [MaxSentAtAhead] after now is not.
func CheckSentAt(sentAt int64, now time.Time) error {
	if err := checkSentAtUnit(sentAt); err != nil {
		return err
	}
	if ahead := time.Duration(sentAt-now.UnixMilli()) * time.Millisecond; sentAt != 0 && sentAt > now.Add(MaxSentAtAhead).UnixMilli() {
		if sentAt/1000 >= minSentAt {
			return fmt.Errorf("sentAt %d is too large (is it microseconds? milliseconds are wanted)", sentAt)
		}
		return fmt.Errorf("sentAt %d is %s in the future (check the producer's clock)", sentAt, ahead.Round(time.Second))
	}
	return nil
}

func checkSentAtUnit(sentAt int64) error {
	switch {
	case sentAt == 0:
		return nil
	case sentAt < 0:
		return fmt.Errorf("sentAt %d is negative; milliseconds since 1970 are wanted", sentAt)
	case sentAt < minSentAt:
		return fmt.Errorf("sentAt %d is too small (is it seconds? milliseconds are wanted)", sentAt)
	}
	return nil
}

// Reasons why a text is refused. They are values so that checking a million keys allocates nothing.
var (
	errEmpty   = errors.New("is empty")
	errSpace   = errors.New("begins or ends with a space")
	errControl = errors.New("contains a control character")
	errUTF8    = errors.New("is not valid UTF-8 (it was damaged on the way)")
	errBOM     = errors.New("contains a byte order mark (U+FEFF)")
)

// checkText is what keys, robot codes and incidents have in common: not empty, not too long, no control characters, valid
// UTF-8, and no space at either end, which always is an accident of a file or a form.
func checkText(s string, maxBytes int) error {
	if s == "" {
		return errEmpty
	}
	if len(s) > maxBytes {
		return fmt.Errorf("is %d bytes long; at most %d are allowed", len(s), maxBytes)
	}
	if isPlain(s) {
		return nil
	}
	for _, r := range s {
		switch {
		case r == utf8.RuneError: // also what JSON makes of a damaged character
			return errUTF8
		case r == '\uFEFF':
			return errBOM
		case unicode.IsControl(r):
			return errControl
		}
	}
	if strings.TrimSpace(s) != s {
		return errSpace
	}
	return nil
}

// isPlain is the fast way for nearly all keys: visible ASCII only.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// quote puts a text of unknown origin into a message: on one line, and not longer than is useful.
func quote(s string) string {
	const most = 64
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q... (%d bytes)", s[:most], len(s))
}
