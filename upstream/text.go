package upstream

import (
	"errors"
	"html"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxMessageRunes bounds every message in an Error or a Verdict, so that a page or a stack trace does not end up, once a key,
// in a dead letter.
const MaxMessageRunes = 500

// maxCodeRunes bounds codes and request ids; the longest documented code has 68.
const maxCodeRunes = 128

// scrubber holds the secrets of one call. Answers may repeat what they were sent (a gateway's debug page does), so every text
// that came from elsewhere goes through it before it is kept.
type scrubber []string

func newScrubber(secrets ...string) scrubber {
	var s scrubber
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		s = append(s, secret)
		for _, form := range []string{url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret)} {
			if form != secret {
				s = append(s, form)
			}
		}
	}
	return s
}

// text returns t without the secrets.
func (s scrubber) text(t string) string {
	for _, secret := range s {
		if strings.Contains(t, secret) {
			t = strings.ReplaceAll(t, secret, redacted)
		}
	}
	return t
}

// reason is text for what is kept as it came, save where a secret would come together when somebody strips it of what cannot be
// seen, or undoes the escapes of JSON, addresses and pages (a body is kept as it is, so "\/" in it may be the "/" of a token): then that
// is done here.
func (s scrubber) reason(t string) string {
	t = s.text(t)
	if isPlain(t) && !strings.ContainsAny(t, escapeMarks) {
		return t
	}
	kept, bare := t, t
	for range maxNesting {
		flat := oneLine(bare, len(bare)+2)
		if clean := s.text(flat); clean != flat {
			kept, bare = clean, clean
		}
		inner := unescape(bare)
		if inner == bare {
			break
		}
		bare = inner
	}
	return kept
}

// clean is text, fit for one line of a log: no control characters, valid UTF-8, at most limit runes. It redacts before it cuts, so
// that no half of a secret is left at the end, and again after it has stripped what stood between the parts of one.
func (s scrubber) clean(t string, limit int) string { return oneLine(s.reason(t), limit) }

const (
	// escapeMarks begin the escapes that unescape undoes.
	escapeMarks = `\%&`
	// maxNesting is how often escapes may stand in one another: JSON in a string of JSON in a page has three.
	maxNesting = 4
)

// unescape undoes one layer of the escapes of JSON strings, of addresses and of pages. What is none stays.
func unescape(t string) string {
	if !strings.ContainsAny(t, escapeMarks) {
		return t
	}
	b := make([]byte, 0, len(t))
	for i := 0; i < len(t); i++ {
		rest := t[i+1:]
		if t[i] == '\\' && strings.HasPrefix(rest, "u") {
			if r, ok := fromHex(rest[1:], 4); ok {
				b = utf8.AppendRune(b, r)
				i += 5
				continue
			}
		}
		if r, ok := fromHex(rest, 2); ok && t[i] == '%' {
			b = append(b, byte(r)) //nolint:gosec // two digits are a byte
			i += 2
			continue
		}
		if t[i] == '\\' && rest != "" && strings.IndexByte(`\/"`, rest[0]) >= 0 {
			i++
		}
		b = append(b, t[i])
	}
	return html.UnescapeString(string(b))
}

// fromHex reads the n hexadecimal digits that s begins with.
func fromHex(s string, n int) (rune, bool) {
	if len(s) < n {
		return 0, false
	}
	var r rune
	for i := range n {
		digit := strings.IndexByte("0123456789abcdefABCDEF", s[i])
		if digit < 0 {
			return 0, false
		}
		if digit > 0xf {
			digit -= 6
		}
		r = r<<4 | rune(digit)
	}
	return r, true
}

// oneLine strips control and formatting characters (a bidirectional override can make a log line lie), folds white space and
// caps the length.
func oneLine(t string, limit int) string {
	if isPlain(t) && len(t) <= limit {
		return t
	}
	var b strings.Builder
	runes, space := 0, false
	for _, r := range t {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			continue
		}
		if runes >= limit-2 {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			runes++
			space = false
		}
		b.WriteRune(r)
		runes++
	}
	return b.String()
}

// isPlain is true for printable ASCII without spaces at the ends or side by side: what nearly every code and message is.
func isPlain(t string) bool {
	previous := byte(' ')
	for i := range len(t) {
		if c := t[i]; c < ' ' || c > '~' || c == ' ' && previous == ' ' {
			return false
		}
		previous = t[i]
	}
	return len(t) == 0 || previous != ' '
}

// userPart matches the user part of an address; Go's complaint about a bad proxy variable repeats the whole variable.
var userPart = regexp.MustCompile(`://[^\s/@"']*@`)

// redactedCause keeps the identity of an error (errors.Is and errors.As see through it) and replaces its text, since texts
// of net/http can quote what a server sent.
type redactedCause struct {
	text string
	err  error
}

func (s scrubber) cause(err error) error {
	text := userPart.ReplaceAllString(s.clean(err.Error(), MaxMessageRunes), "://"+redacted+"@")
	return &redactedCause{text: text, err: err}
}

func (c *redactedCause) Error() string { return c.text }

// Is and As look into the hidden error; there is no Unwrap, through which its raw text could be printed.
func (c *redactedCause) Is(target error) bool { return errors.Is(c.err, target) }

func (c *redactedCause) As(target any) bool { return errors.As(c.err, target) }

// appendJSONString appends s as a JSON string with nothing escaped that need not be: a key's "+", "/" and "=" go as they are,
// which encoding/json would also do, and so do "&", "<" and ">", which it would not. s must be valid UTF-8.
func appendJSONString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
			continue
		}
		b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
	}
	return append(append(b, s[start:]...), '"')
}

// sendable is true for what can go into JSON unchanged.
func sendable(s string) bool { return s != "" && utf8.ValidString(s) }

// isHeaderValue is true for visible ASCII, which every token is; anything else net/http would refuse, or a gateway cut.
func isHeaderValue(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// keysIn returns those of keys that text names: as words of their own, since a short key could be part of another word.
func keysIn(text string, keys []string) []string {
	var found []string
	for _, key := range keys {
		if containsWord(text, key) {
			found = append(found, key)
		}
	}
	return found
}

func containsWord(text, word string) bool {
	if word == "" {
		return false
	}
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(word)
		if (start == 0 || !isKeyByte(text[start-1])) && (end == len(text) || !isKeyByte(text[end])) {
			return true
		}
		from = start + 1
	}
}

// isKeyByte: standard and URL-safe Base64. A "=" before a key is an assignment ("key=..."), so it is none.
func isKeyByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '_' || c == '-'
}
