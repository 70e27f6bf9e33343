package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// DefaultBaseURL serves organisations of mainland China; the international service is https://api.dingtalk.io (documented).
	// Credentials of one are said not to work at the other (claimed), so tokens and recalls use the same one.
	DefaultBaseURL = "https://api.dingtalk.com"
	// DefaultTimeout bounds one call, from waiting for a connection to the last byte of the answer.
	DefaultTimeout = 10 * time.Second
	// DefaultMaxResponseBytes is far above any honest answer: 20 keys with their reasons are about 4 KiB. Decoding one takes up to 180 times
	// its size for a moment, where it is made for that.
	DefaultMaxResponseBytes = 256 << 10
	// DefaultMaxConns is enough for 20 calls a second at a latency of more than ten seconds.
	DefaultMaxConns = 256
)

// Config says where the service is and what a call may take. The zero value, through WithDefaults, is the mainland service.
type Config struct {
	// BaseURL is scheme, host and perhaps a path prefix, without a trailing slash. Empty: DefaultBaseURL. Plain http is
	// accepted for a simulator, and refused for the service's own hosts, since it would send the secret in clear.
	BaseURL string
	// Timeout bounds one call in all. Zero: DefaultTimeout. A call that takes longer costs an attempt and leaves its keys
	// ambiguous, so short values do harm; long ones keep a slot busy while the service hangs.
	Timeout time.Duration
	// MaxResponseBytes bounds what is read of an answer; a larger one is an error. Zero: DefaultMaxResponseBytes.
	MaxResponseBytes int64
	// MaxConns bounds the connections to the service, busy and idle together. Zero: DefaultMaxConns. A call waits, within its
	// timeout, for a free one: throughput is at most MaxConns divided by the latency of a call.
	MaxConns int
}

// WithDefaults returns a copy in which every zero field has its default.
func (c Config) WithDefaults() Config {
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxResponseBytes == 0 {
		c.MaxResponseBytes = DefaultMaxResponseBytes
	}
	if c.MaxConns == 0 {
		c.MaxConns = DefaultMaxConns
	}
	return c
}

// Validate reports all that is wrong with a Config that has its defaults, joined into one error.
func (c Config) Validate() error {
	var problems []error
	if err := checkBaseURL(c.BaseURL); err != nil {
		problems = append(problems, err)
	}
	if c.Timeout < time.Millisecond || c.Timeout > 10*time.Minute {
		problems = append(problems, fmt.Errorf("timeout is %v: give one from 1ms to 10m", c.Timeout))
	}
	if c.MaxResponseBytes < 1024 || c.MaxResponseBytes > 1<<30 {
		problems = append(problems, fmt.Errorf("max response bytes is %d: give a number from 1024 to 1073741824", c.MaxResponseBytes))
	}
	if c.MaxConns < 1 || c.MaxConns > 65535 {
		problems = append(problems, fmt.Errorf("max connections is %d: give a number from 1 to 65535", c.MaxConns))
	}
	return errors.Join(problems...)
}

// checkBaseURL never repeats a URL that has a user part, which may be a password.
func checkBaseURL(base string) error {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return errors.New("base URL cannot be read: give one like " + DefaultBaseURL)
	case u.User != nil:
		return errors.New("base URL has a user name or password in it: take it out, the service uses tokens")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return fmt.Errorf("base URL %q is not an http or https address: give one like %s", base, DefaultBaseURL)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(base, "#"):
		return fmt.Errorf("base URL %q has a query or a fragment: give scheme, host and at most a path", u.Scheme+"://"+u.Host+u.Path)
	case strings.ContainsFunc(base, unicode.IsSpace):
		return fmt.Errorf("base URL %q has a space in it", base)
	case !isPort(u.Port()):
		return fmt.Errorf("base URL %q has a port that is none: give one from 1 to 65535", base)
	case u.Scheme == "http" && isServiceHost(u.Hostname()):
		return fmt.Errorf("base URL %q would send secrets in clear: use https", base)
	}
	return nil
}

// isPort is true for none as well.
func isPort(port string) bool {
	n, err := strconv.Atoi(port)
	return port == "" || err == nil && n >= 1 && n <= 65535
}

func isServiceHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, domain := range []string{"dingtalk.com", "dingtalk.io"} {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}
