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
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server of this run's own.
type server struct {
	cmd *exec.Cmd
	dir string
	rdb *redis.Client
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
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server (apt-get install -y redis-server): %w", err)
	}
	s.rdb = redis.NewClient(&redis.Options{Addr: addr, PoolSize: 200})
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
	if s.cmd.Process != nil {
		_ = s.cmd.Process.Kill() // it may have ended by itself
	}
	_ = s.cmd.Wait() // it was killed: that is no news
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
