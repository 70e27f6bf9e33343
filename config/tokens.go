package config

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"dingrecall/upstream"
)

// Credentials are what the app gets its tokens with.
func (a App) Credentials() upstream.Credentials {
	cred := upstream.Credentials{Kind: a.Kind, AppKey: a.AppKey, AppSecret: a.AppSecret, CorpID: a.CorpID}
	switch {
	case a.Kind != upstream.KindThirdParty:
	case a.SuiteTicketFile != "":
		cred.Ticket = upstream.TicketFile(a.SuiteTicketFile)
	case a.SuiteTicket != "":
		cred.Ticket = func() (upstream.Secret, error) { return a.SuiteTicket, nil }
	}
	return cred
}

// kinds are the kinds of apps, as words.
func kinds() []string {
	var words []string
	for _, kind := range upstream.Kinds() {
		words = append(words, string(kind))
	}
	return words
}

var corpID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

func checkCorpID(s string) string {
	if s == "" || corpID.MatchString(s) {
		return ""
	}
	return fmt.Sprintf("%s is not a corpId; copy it from the organisation's page at DingTalk: letters, digits, hyphens and underscores", quote(s))
}

// kinds checks that each app has what its kind needs and nothing else. Where the ticket comes from is a secret's affair: see RequireApps.
func (v *validator) kinds() {
	for i, app := range v.cfg.Apps {
		if !v.sound(appPath(i, "kind")) {
			continue
		}
		switch {
		case app.Kind == upstream.KindInternal && app.CorpID != "":
			v.add(appPath(i, "corpId"), "is not for an internal app; take it out, or set kind to third-party or unified")
		case app.Kind != upstream.KindInternal && app.CorpID == "":
			v.add(appPath(i, "corpId"), fmt.Sprintf("is missing; the kind %s needs the organisation whose messages are recalled", app.Kind))
		}
		for key, given := range map[string]bool{"suiteTicketFile": app.SuiteTicketFile != "", "suiteTicket": app.SuiteTicket != ""} {
			if given && app.Kind != upstream.KindThirdParty {
				v.add(appPath(i, key), fmt.Sprintf("is for the kind third-party alone; take it out (this app's kind is %s)", app.Kind))
			}
		}
	}
}

// tokenKeyBytes is the length of redis.tokenKey, for AES-256.
const tokenKeyBytes = 32

const notATokenKey = "is not a key of 32 bytes in base64 or hex; make one with: openssl rand -base64 32"

// decodeTokenKey replaces the text of redis.tokenKey by the bytes that it stands for.
func (l *loader) decodeTokenKey() {
	text := l.cfg.Redis.TokenKey.Reveal()
	if text == "" {
		return
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != tokenKeyBytes {
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		key, err = base64.RawStdEncoding.DecodeString(plain)
	}
	l.cfg.Redis.TokenKey = ""
	if err != nil || len(key) != tokenKeyBytes {
		l.problem(l.cfg.sources["redis.tokenKey"], "redis.tokenKey", "", notATokenKey)
		return
	}
	l.cfg.Redis.TokenKey = upstream.Secret(key)
}

// redis checks what Redis is told beside its address.
func (v *validator) redis() {
	if n := len(v.cfg.Redis.TokenKey); n != 0 && n != tokenKeyBytes {
		v.add("redis.tokenKey", notATokenKey)
	}
}

// tryTicketFile warns where the suite ticket cannot be read now. That is no mistake: whoever receives the tickets may not have had one yet, and
// other apps need not wait for it.
func (l *loader) tryTicketFile(target secretTarget, source, path string) {
	name := l.relative(*target.file, source)
	*target.file = name
	warn := func(message string) {
		l.cfg.Warnings = append(l.cfg.Warnings, oneLine(fmt.Sprintf("%s: %q %s", path, name, message)))
	}
	info, statErr := l.sources.Stat(name)
	if statErr == nil && !info.Mode().IsRegular() { // a pipe would be empty when its ticket is needed
		warn("cannot be read: " + upstream.ErrNoRegularFile.Error() + "; until it is one, this app gets no token and is on hold")
		return
	}
	data, err := l.sources.ReadFile(name)
	if err != nil {
		warn("cannot be read: " + explainRead(err) + "; until it can, this app gets no token and is on hold")
	} else if _, err := upstream.ParseTicket(data); err != nil {
		warn(err.Error() + "; until it holds a suite ticket, this app gets no token and is on hold")
	}
	if statErr == nil && info.Mode().Perm()&0o044 != 0 {
		warn(fmt.Sprintf("can be read by other users (mode %04o); chmod 600 would keep it to one", info.Mode().Perm()))
	}
}

// warnOfTicket warns of a suite ticket that cannot change.
func (l *loader) warnOfTicket(i int, app *App) {
	if app.SuiteTicket != "" {
		l.cfg.Warnings = append(l.cfg.Warnings, fmt.Sprintf("%s: does not change while recall runs, and the service pushes a new one about every "+
			"five hours; that does for a short run, and a worker needs a file (suiteTicketFile)", appPath(i, "suiteTicket")))
	}
}
