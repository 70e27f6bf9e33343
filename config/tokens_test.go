package config

import (
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dingrecall/upstream"
)

func TestTokenKeyIsReadInEveryForm(t *testing.T) {
	t.Parallel()
	odd := strings.Repeat("\xfb\xff", 16) // with both of the letters in which the alphabets differ
	for _, key := range []string{tokenKey, odd} {
		for _, text := range []string{
			base64.StdEncoding.EncodeToString([]byte(key)), base64.RawStdEncoding.EncodeToString([]byte(key)), base64.URLEncoding.EncodeToString([]byte(key)),
			base64.RawURLEncoding.EncodeToString([]byte(key)), hex.EncodeToString([]byte(key)), strings.ToUpper(hex.EncodeToString([]byte(key))),
		} {
			cfg := mustLoad(t, Sources{Environ: []string{"RECALL_REDIS_TOKEN_KEY=" + text}})
			if cfg.Redis.TokenKey.Reveal() != key || !strings.Contains(cfg.Redacted(), "  tokenKey: \"[redacted]\"\n") {
				t.Errorf("%s is read as %q", text, cfg.Redis.TokenKey.Reveal())
			}
			noSecretIn(t, "what is printed", allVerbs(cfg)+cfg.Redacted(), key, text)
		}
	}
	for _, text := range []string{tokenKey, "x", tokenKeyText[:40], tokenKeyText + "AAAA", strings.Repeat("ab", 31), strings.Repeat("ab", 33), strings.Repeat("*", 44)} {
		if _, err := Load(Sources{Environ: []string{"RECALL_REDIS_TOKEN_KEY=" + text}}); err == nil || strings.Contains(err.Error(), text) && len(text) > 1 {
			t.Errorf("%s: %v", text, err)
		}
	}
	// A value that was changed afterwards is checked as well, and a command that has no tokens needs no key.
	cfg := Defaults()
	cfg.Redis.TokenKey = "short"
	if problems := cfg.Validate(); len(problems) != 1 || problems[0].Path != "redis.tokenKey" {
		t.Errorf("got %v", problems)
	}
	if cfg := mustLoad(t, Sources{SkipAppSecrets: true, Environ: []string{"RECALL_REDIS_TOKEN_KEY=x", "RECALL_REDIS_TOKEN_KEY_FILE=/nowhere"}}); cfg.Redis.TokenKey != "" {
		t.Error("a key was read although none was wanted")
	}
}

// thirdParty is a third-party app from the environment.
var thirdParty = []string{"RECALL_APP_KEY=suitek", "RECALL_APP_SECRET=" + mainSecret, "RECALL_APP_KIND=third-party", "RECALL_APP_CORP_ID=dingcorp"}

// TestSuiteTicketIsReadAfresh: what the configuration remembers is the file and not the ticket.
func TestSuiteTicketIsReadAfresh(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "ticket")
	cfg := mustLoad(t, Sources{Environ: append([]string{"RECALL_APP_SUITE_TICKET_FILE=" + name}, thirdParty...)})
	if err := cfg.RequireApps(); err != nil {
		t.Errorf("a ticket that is not there yet: %v", err)
	}
	if len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], "no such file; until it can, this app gets no token and is on hold") {
		t.Errorf("warnings %q", cfg.Warnings)
	}
	cred := cfg.Apps[0].Credentials()
	if cred.Kind != upstream.KindThirdParty || cred.AppKey != "suitek" || cred.AppSecret != mainSecret || cred.CorpID != "dingcorp" {
		t.Errorf("credentials %+v", cred)
	}
	if _, err := cred.Ticket(); err == nil {
		t.Error("a ticket was read from nowhere")
	}
	for _, ticket := range []string{"one", "two\n"} {
		if err := os.WriteFile(name, []byte(ticket), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := cred.Ticket(); err != nil || got.Reveal() != strings.TrimSpace(ticket) {
			t.Errorf("%q, %v; want %q", got.Reveal(), err, ticket)
		}
	}
	cfg = mustLoad(t, Sources{Environ: append([]string{"RECALL_APP_SUITE_TICKET_FILE=" + name}, thirdParty...)})
	if len(cfg.Warnings) != 0 || strings.Contains(cfg.Redacted()+allVerbs(cfg), "two") {
		t.Errorf("warnings %q of\n%s", cfg.Warnings, cfg.Redacted())
	}
}

func TestSuiteTicketFileIsWarnedOf(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ticket string
		mode   fs.FileMode
		want   string
	}{
		"empty": {" \n", 0o600, `"etc/suite-ticket" is empty; until it holds a suite ticket`},
		"open":  {ticket, 0o644, "can be read by other users (mode 0644)"},
		"good":  {ticket, 0o600, ""},
		"long":  {strings.Repeat(ticket, 1000), 0o600, "is longer than 4096 bytes; until it holds a suite ticket"},
		"lines": {ticket + "\n" + ticket, 0o600, "holds more than one line, or no text; until"},
		"pipe":  {ticket, 0o600 | fs.ModeNamedPipe, "cannot be read: it is no regular file; until it is one, this app gets no token"},
	} {
		disk := files(valid)
		disk["etc/suite-ticket"] = tc.ticket
		s := sourcesOf(disk)
		s.Stat = func(file string) (fs.FileInfo, error) {
			if file == "etc/suite-ticket" {
				return fileInfo{mode: tc.mode}, nil
			}
			return fileInfo{mode: 0o600}, nil
		}
		cfg := mustLoad(t, s)
		if got := strings.Join(cfg.Warnings, "\n"); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: warnings %q", name, cfg.Warnings)
		}
		noSecretIn(t, "a warning", strings.Join(cfg.Warnings, "\n"))
	}
}

func TestSuiteTicketFromTheEnvironment(t *testing.T) {
	t.Parallel()
	cfg := mustLoad(t, Sources{Environ: append([]string{"RECALL_APP_SUITE_TICKET=" + ticket}, thirdParty...)})
	if err := cfg.RequireApps(); err != nil {
		t.Error(err)
	}
	if got, err := cfg.Apps[0].Credentials().Ticket(); err != nil || got.Reveal() != ticket {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
	if len(cfg.Warnings) != 1 || !strings.HasPrefix(cfg.Warnings[0], "apps[0].suiteTicket: does not change while recall runs") {
		t.Errorf("warnings %q", cfg.Warnings)
	}
	if !strings.Contains(cfg.Redacted(), "    suiteTicket: \"[redacted]\"\n") {
		t.Errorf("it is not shown as set:\n%s", cfg.Redacted())
	}
	noSecretIn(t, "what is printed", allVerbs(cfg)+cfg.Redacted()+strings.Join(cfg.Warnings, ""))

	// It wins over a file that the configuration file names; and without either, commands that need tokens say which to set.
	if cfg := mustLoad(t, sourcesOf(files(valid), "RECALL_APPS_SIDE_APP_SUITE_TICKET=another")); cfg.Apps[1].SuiteTicketFile != "" || cfg.Apps[1].SuiteTicket != "another" {
		t.Errorf("got %+v", cfg.Apps[1])
	}
	err := mustLoad(t, Sources{Environ: thirdParty}).RequireApps()
	want := `apps[0].suiteTicketFile: of app "default" is missing; set it, or RECALL_APP_SUITE_TICKET_FILE, to a file that holds the newest suite ticket`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, app := range []App{{Kind: upstream.KindInternal}, {Kind: upstream.KindUnified}, {Kind: upstream.KindThirdParty}} {
		if app.Credentials().Ticket != nil {
			t.Errorf("%s has a ticket", app.Kind)
		}
	}
}
