package config

import (
	"strings"

	"dingrecall/upstream"
)

// Redacted returns the configuration in effect as YAML, in the order of the schema. A secret that is set prints as "[redacted]", one
// that is not as "".
func (c *Config) Redacted() string {
	var b strings.Builder
	secrets := map[string]upstream.Secret{"redis.password": c.Redis.Password, "redis.tokenKey": c.Redis.TokenKey, "admin.token": c.Admin.Token}
	secretOf := map[string]string{}
	for _, place := range secretPlaces {
		secretOf[place.fileKey] = place.path
	}
	section := ""
	for _, leaf := range c.leaves() {
		head, key, _ := strings.Cut(leaf.path, ".")
		if head != section {
			if section == "upstream" {
				c.printApps(&b)
			}
			section = head
			b.WriteString(head + ":\n")
		}
		if path, ok := secretOf[leaf.path]; ok {
			_, name, _ := strings.Cut(path, ".")
			b.WriteString("  " + name + ": " + redact(secrets[path]) + "\n")
		}
		b.WriteString("  " + key + ": " + leaf.text() + "\n")
	}
	return b.String()
}

// printApps prints the apps, between upstream and worker.
func (c *Config) printApps(b *strings.Builder) {
	if len(c.Apps) == 0 {
		b.WriteString("apps: []\n")
		return
	}
	b.WriteString("apps:\n")
	for i := range c.Apps {
		app := &c.Apps[i]
		lead := "  - "
		for _, leaf := range app.leaves() {
			switch leaf.path {
			case "appSecretFile":
				b.WriteString(lead + "appSecret: " + redact(app.AppSecret) + "\n")
			case "suiteTicketFile":
				if app.SuiteTicket != "" { // seldom, and then instead of the file
					b.WriteString(lead + "suiteTicket: " + redact(app.SuiteTicket) + "\n")
				}
			}
			b.WriteString(lead + leaf.path + ": " + leaf.text() + "\n")
			lead = "    "
		}
	}
}

func redact(s upstream.Secret) string {
	if s == "" {
		return `""`
	}
	return `"[redacted]"`
}
