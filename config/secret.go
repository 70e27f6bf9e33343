package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"dingrecall/upstream"
)

// secretTarget is where a secret and the name of its file go.
type secretTarget struct {
	secret *upstream.Secret
	file   *string
}

// maxSecretBytes bounds a secret: a bigger file is some other file.
const maxSecretBytes = 4096

// setSecret checks and stores a secret. No message holds any of it, nor its length.
func (l *loader) setSecret(target *upstream.Secret, value, source, path string) {
	switch {
	case len(value) > maxSecretBytes:
		l.problem(source, path, "", "is longer than %d bytes; is this the right value?", maxSecretBytes)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		l.problem(source, path, "", "holds a line break or another control character; it must be a single line of text")
	case strings.TrimSpace(value) != value:
		l.problem(source, path, "", "begins or ends with a space; take it out")
	default:
		*target = upstream.Secret(value)
	}
}

// secretFile reads a secret from the file that is named under a key.
func (l *loader) secretFile(target secretTarget, source, path string) {
	name := l.relative(*target.file, source)
	*target.file = name
	data, err := l.sources.ReadFile(name)
	if err != nil {
		l.problem(source, path, quote(name), "cannot be read: %s", explainRead(err))
		return
	}
	// A byte order mark before it and one newline at its end are what editors and echo leave behind, not part of the secret.
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		l.problem(source, path, quote(name), "is empty; it must hold the secret")
		return
	}
	l.setSecret(target.secret, string(data), source, path)
	if info, err := l.sources.Stat(name); err == nil && info.Mode().Perm()&0o044 != 0 {
		l.cfg.Warnings = append(l.cfg.Warnings, oneLine(fmt.Sprintf("%s: %q can be read by other users (mode %04o); chmod 600 would keep it to one", path, name, info.Mode().Perm())))
	}
}
