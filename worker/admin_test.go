package worker

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
)

// TestAdmin: the admin server shows what the inspector sees, and asynqmon reaches a Redis that wants a password and has databases.
func TestAdmin(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	m.RequireAuth("swordfish")
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), Password: "swordfish", DB: 3})
	t.Cleanup(func() { _ = rdb.Close() })
	client := asynq.NewClientFromRedisClient(rdb)
	if _, err := client.Enqueue(asynq.NewTask(tasks.TypeSubmit, []byte(`{"v":1,"robotCode":"r","keys":["k"]}`)), asynq.Queue(tasks.QueueBulk)); err != nil {
		t.Fatal(err)
	}
	a, err := NewAdmin(AdminConfig{Addr: "127.0.0.1:0"}, AdminDeps{Redis: rdb, Inspector: NewInspector(rdb, []string{"main"}), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/metrics": `dingrecall_queue_tasks{queue="recall-bulk",state="pending"} 1`,
		"/asynqmon/api/queues/recall-bulk/pending_tasks": `\"keyCount\":1`,
		"/":       "<td>main</td>",
		"/readyz": "ready\n",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %v, no %q in\n%s", path, resp.StatusCode, err, want, body)
		}
	}
	for range 2 {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	}
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the caller's connection was closed: %v", err)
	}
}

func TestNewAdminRefuses(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = rdb.Close() })
	type other struct{ redis.UniversalClient }
	insp := NewInspector(rdb, nil)
	for name, c := range map[string]struct {
		cfg  AdminConfig
		deps AdminDeps
		want string
	}{
		"no redis":     {AdminConfig{Addr: "127.0.0.1:0"}, AdminDeps{Inspector: insp, Metrics: prometheus.NewRegistry()}, "required"},
		"other redis":  {AdminConfig{Addr: "127.0.0.1:0"}, AdminDeps{Redis: other{rdb}, Inspector: insp, Metrics: prometheus.NewRegistry()}, "cannot be opened a second time"},
		"open address": {AdminConfig{Addr: "0.0.0.0:0"}, AdminDeps{Redis: rdb, Inspector: insp, Metrics: prometheus.NewRegistry()}, "needs a token"},
	} {
		if _, err := NewAdmin(c.cfg, c.deps); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSameRedis: the second connection has the options of the first.
func TestSameRedis(t *testing.T) {
	t.Parallel()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, Password: "p"})
	t.Cleanup(func() { _ = cluster.Close() })
	conn, err := sameRedis(cluster)
	if err != nil {
		t.Fatal(err)
	}
	second, ok := conn.MakeRedisClient().(*redis.ClusterClient)
	if !ok || second == cluster || second.Options().Password != "p" {
		t.Errorf("%T", second)
	}
	_ = second.Close()
	single := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = single.Close() })
	if conn, err = sameRedis(single); err != nil {
		t.Fatal(err)
	}
	one := conn.MakeRedisClient().(redis.UniversalClient)
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	if err := single.Ping(context.Background()).Err(); err != nil {
		t.Errorf("closing the second closed the first: %v", err)
	}
}
