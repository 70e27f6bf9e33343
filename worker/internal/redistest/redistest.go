// Package redistest gives tests the two kinds of Redis that the program must work on: miniredis, inside the process and
// fast, and a real redis-server, for truth. A test that wants the real one fails where there is none; it never skips.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Backend is one kind of Redis.
type Backend struct {
	Name string
	Open func(t testing.TB) *redis.Client // an empty database of its own, closed when the test ends
}

// Backends gives both kinds, the fast one first.
func Backends() []Backend {
	return []Backend{{"miniredis", Mini}, {"redis-server", Real}}
}

// Each runs a test on both kinds, in parallel.
func Each(t *testing.T, f func(t *testing.T, rdb *redis.Client)) {
	for _, b := range Backends() {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			f(t, b.Open(t))
		})
	}
}

// Mini gives a client of a miniredis of the test's own.
func Mini(t testing.TB) *redis.Client {
	t.Helper()
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

var (
	shared struct {
		sync.Mutex
		server *Server
	}
	database atomic.Int64
)

// databases bounds how many tests of one process use the shared server at once: each empties its own when it ends.
const databases = 4096

// Real gives a client of a database of its own on the process's redis-server, which is started at first use and ended by
// Main. It never flushes anything that it does not own.
func Real(t testing.TB) *redis.Client {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := Start("--save", "", "--databases", strconv.Itoa(databases))
		if err != nil {
			t.Fatalf("a real redis-server is needed for this test (apt-get install redis-server): %v", err)
		}
		shared.server = s
	}
	rdb := redis.NewClient(&redis.Options{Addr: shared.server.Addr, DB: int(database.Add(1)) % databases})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := rdb.FlushDB(ctx).Err(); err != nil { // the database is this test's own
			t.Errorf("empty the test's database: %v", err)
		}
		_ = rdb.Close()
	})
	return rdb
}

// Main runs the tests of a package and ends the redis-server that they started. It is for TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		if err := shared.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop redis-server:", err)
			return max(code, 1)
		}
	}
	return code
}

// Server is a redis-server process on a free port of 127.0.0.1.
type Server struct {
	Addr string
	args []string
	cmd  *exec.Cmd
	dir  string
	out  bytes.Buffer
}

// errPortTaken says that another redis-server got a port between the moment that it was found free and that of its use.
var errPortTaken = errors.New("another server has the port")

// Start starts a redis-server with further arguments and waits until it answers.
func Start(args ...string) (s *Server, err error) {
	for range 5 {
		if s, err = startOnce(args); !errors.Is(err, errPortTaken) {
			break
		}
	}
	return s, err
}

func startOnce(args []string) (*Server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: addr, dir: dir, args: append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", dir}, args...)}
	if err := s.launch(); err != nil {
		_ = s.Stop()
		return nil, fmt.Errorf("%w\n%s", err, s.out.String())
	}
	return s, nil
}

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	s.cmd = exec.Command("redis-server", s.args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	EndWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	if err := s.waitUntilUp(); err != nil {
		return fmt.Errorf("redis-server on %s: %w", s.Addr, err)
	}
	return nil
}

func (s *Server) waitUntilUp() error {
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := rdb.Ping(ctx).Err()
		if err == nil {
			return s.isOwn(ctx, rdb)
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// isOwn fails where it is another server that answers: its directory is not this one's.
func (s *Server) isOwn(ctx context.Context, rdb *redis.Client) error {
	got, err := rdb.ConfigGet(ctx, "dir").Result()
	if err == nil && filepath.Base(got["dir"]) != filepath.Base(s.dir) {
		err = errPortTaken
	}
	return err
}

// Kill ends the server at once, as a crash would, and waits until it is gone: it writes nothing any more.
func (s *Server) Kill() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = s.cmd.Wait() // it was killed: that is no news
	return nil
}

// Dir is where the server writes.
func (s *Server) Dir() string { return s.dir }

// Restart starts the server again after Kill, on the same port and with what it had written.
func (s *Server) Restart() error { return s.launch() }

// Stop ends the server and removes what it wrote.
func (s *Server) Stop() error {
	if s.cmd.Process != nil {
		if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		_ = s.cmd.Wait() // likewise
	}
	return os.RemoveAll(s.dir)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
