package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server of this run's own.
type server struct {
	cmd *exec.Cmd
	dir string
	rdb *redis.Client

	trips atomic.Int64 // round trips of rdb
}

func startRedis() (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	_ = l.Close()
	dir, err := os.MkdirTemp("", "speed")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	s := &server{dir: dir, cmd: exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "")}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the keyboard is for this program, which ends it
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start redis-server (apt-get install -y redis-server): %w", err), os.RemoveAll(dir))
	}
	s.rdb = redis.NewClient(&redis.Options{Addr: addr, PoolSize: 200})
	s.rdb.AddHook(counting{&s.trips})
	for range 500 {
		if err = s.rdb.Ping(context.Background()).Err(); err == nil {
			return s, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.Join(err, s.stop())
}

func (s *server) stop() error {
	_ = s.rdb.Close()
	_ = s.cmd.Process.Kill() // it may have ended by itself
	_ = s.cmd.Wait()         // it was killed: that is no news
	return os.RemoveAll(s.dir)
}

// info reads a number of INFO.
func (s *server) info(ctx context.Context, section, field string) (float64, error) {
	text, err := s.rdb.Info(ctx, section).Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == field {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("INFO %s has no %s", section, field)
}

// spent is how long Redis used the processor so far.
func (s *server) spent(ctx context.Context) (time.Duration, error) {
	var sum float64
	for _, field := range []string{"used_cpu_sys", "used_cpu_user"} {
		n, err := s.info(ctx, "cpu", field)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum * float64(time.Second)), nil
}

// memory is all that Redis uses, but for the buffers of connections.
func (s *server) memory(ctx context.Context) (float64, error) {
	used, err := s.info(ctx, "memory", "used_memory")
	if err != nil {
		return 0, err
	}
	clients, err := s.info(ctx, "memory", "mem_clients_normal")
	return used - clients, err
}

func (s *server) version(ctx context.Context) string {
	text, err := s.rdb.Info(ctx, "server").Result()
	if err != nil {
		return "of unknown version"
	}
	_, line, _ := strings.Cut(text, "redis_version:")
	line, _, _ = strings.Cut(line, "\r")
	return line
}

// counting counts round trips: a pipeline or a transaction is one.
type counting struct{ trips *atomic.Int64 }

// DialHook implements redis.Hook.
func (c counting) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (c counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.trips.Add(1)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (c counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.trips.Add(1)
		return next(ctx, cmds)
	}
}
