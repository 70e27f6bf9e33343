package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"dingrecall/upstream"
)

func oneOf(words ...string) func(string) string {
	return func(s string) string {
		if slices.Contains(words, s) {
			return ""
		}
		return fmt.Sprintf("%s is not known; choose one of %s", quote(s), strings.Join(words, ", "))
	}
}

// checkHostPort wants host:port. It does not show the value where that may be a URL with a password.
func checkHostPort(s string) string {
	if s == "" {
		return "is empty; write host:port"
	}
	if strings.ContainsAny(s, "@/") {
		return "is neither host:port nor a redis:// or rediss:// URL"
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Sprintf("%s is not host:port; write it like 127.0.0.1:6379", quote(s))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Sprintf("%s has no good port; choose one from 1 to 65535", quote(s))
	}
	if host == "" || strings.ContainsFunc(host, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return fmt.Sprintf("%s has no good host; write it like 127.0.0.1:6379", quote(s))
	}
	return ""
}

// checkListenAddr wants host:port, where an empty host is every address and port 0 is any free port.
func checkListenAddr(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Sprintf("%s is not host:port; write it like 127.0.0.1:8080", quote(s))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Sprintf("%s has no good port; choose one from 0 to 65535", quote(s))
	}
	if strings.ContainsAny(host, " /@\t\r\n") {
		return fmt.Sprintf("%s has no good host; write it like 127.0.0.1:8080", quote(s))
	}
	return ""
}

// isLoopback says whether only this machine can reach a host.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// checkBaseURL wants https, so that no token travels in the clear; http only to this machine, for the simulator.
func checkBaseURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return "is not a URL; write it like https://api.dingtalk.com"
	}
	switch {
	case u.User != nil:
		return "holds a user name or password; write only scheme and host, like https://api.dingtalk.com"
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return "has a query or a fragment; write only scheme and host, like https://api.dingtalk.com"
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		if err := (upstream.Config{BaseURL: s}).WithDefaults().Validate(); err != nil { // the last word is that of who calls there
			return "is of no use: " + err.Error()
		}
		return ""
	case u.Scheme == "http":
		return fmt.Sprintf("%s would send tokens in the clear; use https (http is for this machine only)", quote(s))
	default:
		return fmt.Sprintf("%s is neither https nor http; write it like https://api.dingtalk.com", quote(s))
	}
}

func checkWord(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return fmt.Sprintf("%s holds a space or control character; take it out", quote(s))
	}
	return ""
}

var appName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func checkAppName(s string) string {
	if s == "" {
		return "is missing; give the app a name, like main"
	}
	if !appName.MatchString(s) {
		return fmt.Sprintf("%s is not a name; use up to 64 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit", quote(s))
	}
	return ""
}

func checkAppKey(s string) string {
	if s == "" {
		return "is missing; copy it from the app's page at DingTalk (Client ID, formerly AppKey)"
	}
	if len(s) > 256 {
		return fmt.Sprintf("is %d bytes long; an app key has at most 256", len(s))
	}
	return checkWord(s)
}

// maxRobotCodeBytes is the longest robotCode that tasks accept.
const maxRobotCodeBytes = 128

func checkRobots(robots []string) string {
	seen := map[string]bool{}
	for _, r := range robots {
		switch {
		case r == "":
			return "holds an empty robotCode; take it out"
		case len(r) > maxRobotCodeBytes:
			return fmt.Sprintf("holds a robotCode of %d bytes; at most %d are allowed", len(r), maxRobotCodeBytes)
		case checkWord(r) != "":
			return checkWord(r)
		case seen[r]:
			return fmt.Sprintf("names %s twice; take one out", quote(r))
		}
		seen[r] = true
	}
	return ""
}
