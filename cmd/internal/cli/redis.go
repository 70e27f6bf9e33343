package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"dingrecall/config"
)

// redisPingTimeout bounds the first word with Redis: long enough for a busy server, short enough for a waiting person.
const redisPingTimeout = 5 * time.Second

// init silences the library's own log, once and before any goroutine reads that global: it writes several lines to standard error for
// each failed connection, whose error the caller gets, and reports, anyway.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// redisOptions are the options of every connection to the configured Redis.
func redisOptions(cfg config.Redis) *redis.Options {
	opts := &redis.Options{
		Addr:        cfg.Addr,
		Username:    cfg.Username,
		Password:    cfg.Password.Reveal(),
		DB:          cfg.DB,
		DialTimeout: redisPingTimeout,
		// The library would send CLIENT SETINFO, which an older Redis or a strict ACL refuses, and gain nothing for us.
		DisableIdentity: true,
	}
	if cfg.TLS {
		host, _, err := net.SplitHostPort(cfg.Addr)
		if err != nil {
			host = cfg.Addr
		}
		opts.TLSConfig = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	return opts
}

// withRedis runs f with the configuration, of which only Redis is needed, and a connection to it.
func (a *app) withRedis(cmd *cobra.Command, f func(ctx context.Context, cfg *config.Config, rdb *redis.Client) error) error {
	cfg, err := a.loadConfig(cmd, needRedis)
	if err != nil {
		return err
	}
	rdb, err := openRedis(cmd.Context(), cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	return f(cmd.Context(), cfg, rdb)
}

// openRedis connects to the configured Redis and makes sure that it answers. Its error is one line that says what to do. The caller
// closes the client.
func openRedis(ctx context.Context, cfg config.Redis) (*redis.Client, error) {
	rdb := redis.NewClient(redisOptions(cfg))
	if err := pingRedis(ctx, rdb); err != nil {
		_ = rdb.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connecting to Redis: %w", context.Cause(ctx))
		}
		return nil, explainRedis(err, cfg)
	}
	return rdb, nil
}

// pingRedis asks once, without the library's retries hiding what went wrong or making a person wait for it.
func pingRedis(ctx context.Context, rdb *redis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, redisPingTimeout)
	defer cancel()
	return rdb.Ping(ctx).Err()
}

// redisError is an error of Redis in words for its operator; it unwraps to what was wrong.
type redisError struct {
	message string
	cause   error
}

func (e *redisError) Error() string { return e.message }
func (e *redisError) Unwrap() error { return e.cause }

// explainRedis says what is wrong between this program and Redis and which setting mends it. Nothing of the password is in it.
func explainRedis(err error, cfg config.Redis) error {
	if err == nil {
		return nil
	}
	return &redisError{message: diagnoseRedis(err, cfg), cause: err}
}

func diagnoseRedis(err error, cfg config.Redis) string {
	at := "Redis at " + cfg.Addr
	text := err.Error()
	var dns *net.DNSError
	var timeout net.Error
	var header tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("cannot reach %s: connection refused; start it or pass --redis", at)
	case errors.As(err, &dns):
		return fmt.Sprintf("cannot reach %s: there is no such host; correct redis.addr or pass --redis", at)
	case strings.Contains(text, "WRONGPASS"):
		return fmt.Sprintf("%s refuses the user name or password; correct RECALL_REDIS_PASSWORD (or redis.passwordFile) and redis.username", at)
	case strings.Contains(text, "NOAUTH"):
		return fmt.Sprintf("%s wants a password; set RECALL_REDIS_PASSWORD or redis.passwordFile", at)
	case strings.Contains(text, "without any password configured"):
		return fmt.Sprintf("%s has no password, but one is configured; unset RECALL_REDIS_PASSWORD and redis.passwordFile", at)
	case strings.Contains(text, "NOPERM"):
		return fmt.Sprintf("%s does not let this user do what recall needs (NOPERM); extend its ACL or set redis.username", at)
	case strings.Contains(text, "DB index is out of range"), strings.Contains(text, "invalid DB index"):
		return fmt.Sprintf("%s has no database %d; correct redis.db", at, cfg.DB)
	case strings.HasPrefix(text, "LOADING"):
		return fmt.Sprintf("%s is still loading its data; try again in a moment", at)
	case strings.HasPrefix(text, "MASTERDOWN"), strings.HasPrefix(text, "READONLY"):
		return fmt.Sprintf("%s is a replica; give redis.addr the primary", at)
	case strings.HasPrefix(text, "MISCONF"), strings.HasPrefix(text, "OOM"):
		return fmt.Sprintf("%s does not take writes (%s); see to its disk and memory", at, firstWord(text))
	case errors.As(err, &authority), errors.As(err, &hostname):
		return fmt.Sprintf("%s shows a certificate that this machine does not trust (%s); correct redis.addr or the system's certificates", at, firstLine(text))
	case errors.As(err, &header), strings.Contains(text, "first record does not look like a TLS handshake"):
		return fmt.Sprintf("%s does not speak TLS; set redis.tls to false, or use its TLS port", at)
	case strings.Contains(text, "invalid reply"), strings.Contains(text, "can't parse"), strings.Contains(text, "HTTP/1"):
		return fmt.Sprintf("what answers at %s is not Redis; correct redis.addr or pass --redis", cfg.Addr)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Sprintf("%s closed the connection without an answer; if that port is Redis with TLS, set redis.tls to %v", at, !cfg.TLS)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		if cfg.TLS {
			// A Redis without TLS waits for the rest of what it takes for a command, and says nothing.
			return fmt.Sprintf("%s did not answer within %v; if it does not speak TLS, set redis.tls to false", at, redisPingTimeout)
		}
		return fmt.Sprintf("%s did not answer within %v; see whether redis.addr is right and that server not overloaded", at, redisPingTimeout)
	default:
		return fmt.Sprintf("cannot use %s: %s", at, firstLine(text))
	}
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}
