package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"dingrecall/config"
)

func TestOpenRedis(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.RequireUserAuth("bob", "hunter22")
	rdb, err := openRedis(t.Context(), config.Redis{Addr: server.Addr(), Username: "bob", Password: "hunter22", DB: 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Error(err)
	}
	if err := rdb.Close(); err != nil {
		t.Error(err)
	}
	if got, err := server.DB(3).Get("k"); err != nil || got != "v" {
		t.Errorf("the key is not in database 3: %q %v", got, err)
	}
}

// TestOpenRedisSaysWhatIsWrong talks to servers that are wrong in one way each.
func TestOpenRedisSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	locked := miniredis.RunT(t)
	locked.RequireAuth("hunter22")
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  config.Redis
		want string
	}{
		"nobody there":    {config.Redis{Addr: nobody}, "cannot reach Redis at " + nobody + ": connection refused; start it or pass --redis"},
		"no password":     {config.Redis{Addr: locked.Addr()}, "set RECALL_REDIS_PASSWORD or redis.passwordFile"},
		"wrong password":  {config.Redis{Addr: locked.Addr(), Password: "hunter33"}, "refuses the user name or password"},
		"a web server":    {config.Redis{Addr: web.Listener.Addr().String()}, "is not Redis"},
		"no TLS there":    {config.Redis{Addr: web.Listener.Addr().String(), TLS: true}, "does not speak TLS; set redis.tls to false"},
		"bad certificate": {config.Redis{Addr: secure.Listener.Addr().String(), TLS: true}, "a certificate that this machine does not trust"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, err := openRedis(t.Context(), c.cfg)
			if err == nil {
				_ = rdb.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "hunter") {
				t.Errorf("got %q, want %q in it", err, c.want)
			}
		})
	}
}

func TestOpenRedisInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openRedis(ctx, config.Redis{Addr: "127.0.0.1:1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestExplainRedis has the answers that take a server of a special kind, as redis-server gives them.
func TestExplainRedis(t *testing.T) {
	t.Parallel()
	plain, secure := config.Redis{Addr: "h:1", DB: 5}, config.Redis{Addr: "h:1", TLS: true}
	for _, c := range []struct {
		err  error
		cfg  config.Redis
		want string
	}{
		{errors.New("ERR DB index is out of range"), plain, "Redis at h:1 has no database 5; correct redis.db"},
		{errors.New("LOADING Redis is loading the dataset in memory"), plain, "still loading"},
		{errors.New("MASTERDOWN Link with MASTER is down"), plain, "is a replica"},
		{errors.New("READONLY You can't write against a read only replica."), plain, "is a replica"},
		{errors.New("MISCONF Redis is configured to save RDB snapshots"), plain, "does not take writes (MISCONF)"},
		{errors.New("NOPERM this user has no permissions to run the 'ping' command"), plain, "does not let this user"},
		{errors.New("ERR AUTH <password> called without any password configured for the default user"), plain, "unset RECALL_REDIS_PASSWORD"},
		{&net.DNSError{Name: "h", IsNotFound: true}, plain, "no such host"},
		{context.DeadlineExceeded, plain, "did not answer within 5s; see whether"},
		{context.DeadlineExceeded, secure, "if it does not speak TLS, set redis.tls to false"},
		{io.EOF, plain, "set redis.tls to true"},
		{fmt.Errorf("read: %w", syscall.ECONNRESET), secure, "set redis.tls to false"},
		{errors.New("something else\nand more"), plain, "cannot use Redis at h:1: something else"},
	} {
		err := explainRedis(c.err, c.cfg)
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || !errors.Is(err, c.err) {
			t.Errorf("%v: got %q, want %q in it", c.err, err, c.want)
		}
	}
	if explainRedis(nil, plain) != nil {
		t.Error("no error is explained")
	}
}
