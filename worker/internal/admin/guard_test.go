package admin

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"dingrecall/tasks"
)

const api = "/asynqmon/api/queues/"

// TestRefusal goes through all that asynqmon's page can ask for, and through ways around.
func TestRefusal(t *testing.T) {
	t.Parallel()
	type request struct{ method, path string }
	pass := []request{
		{"POST", api + "recall:pause"}, {"POST", api + "recall-dead:resume"},
		{"POST", api + "recall-dead/scheduled_tasks/dead:main:7:1:run"}, {"POST", api + "recall-dead/scheduled_tasks:run_all"},
		{"POST", api + "recall-dead/scheduled_tasks:batch_run"}, {"POST", api + "recall/retry_tasks/x:run"},
		{"POST", api + "recall-dispatch/archived_tasks:run_all"}, {"POST", api + "recall/active_tasks/x:cancel"},
		{"POST", api + "recall/active_tasks:cancel_all"}, {"POST", api + "recall/active_tasks:batch_cancel"},
		{"POST", api + "recall/groups/g/aggregating_tasks/x:run"}, {"POST", api + "recall/groups/g/aggregating_tasks:run_all"},
		{"DELETE", api + "recall-dead/scheduled_tasks/dead:main:7:1"}, {"DELETE", api + "recall-dead/scheduled_tasks:delete_all"},
		{"POST", api + "recall-dead/scheduled_tasks:batch_delete"}, {"DELETE", api + "recall-dispatch/pending_tasks/x"},
		{"DELETE", api + "somebody-elses"}, {"DELETE", api + "somebody-elses/pending_tasks/x"},
	}
	for _, r := range pass {
		if got := refusal(r.method, r.path); got != "" {
			t.Errorf("%s %s is refused: %s", r.method, r.path, got)
		}
	}
	states := []string{"pending_tasks", "scheduled_tasks", "retry_tasks", "groups/g/aggregating_tasks"}
	var archive, remove []request
	for _, q := range append(tasks.Queues(), "somebody-elses") {
		for _, state := range states {
			for _, end := range []string{"/x:archive", "/a:b:archive", "/x:run:archive", ":archive_all", ":batch_archive"} {
				archive = append(archive, request{"POST", api + q + "/" + state + end})
			}
		}
	}
	for _, q := range []string{"recall", "recall-urgent", "recall-bulk"} {
		for _, state := range slices.Concat(states, []string{"archived_tasks", "completed_tasks", "active_tasks"}) {
			remove = append(remove, request{"DELETE", api + q + "/" + state + "/x"}, request{"DELETE", api + q + "/" + state + "/a:run"},
				request{"DELETE", api + q + "/" + state + ":delete_all"}, request{"POST", api + q + "/" + state + ":batch_delete"})
		}
	}
	for _, r := range archive {
		if got := refusal(r.method, r.path); got != refuseArchive {
			t.Errorf("%s %s: %q", r.method, r.path, got)
		}
	}
	for _, r := range remove {
		if got := refusal(r.method, r.path); !strings.Contains(got, "not deleted here") {
			t.Errorf("%s %s: %q", r.method, r.path, got)
		}
	}
	for _, q := range tasks.Queues() {
		if got := refusal("DELETE", api+q); !strings.Contains(got, "stays") {
			t.Errorf("delete queue %s: %q", q, got)
		}
	}
	for _, r := range []request{
		{"POST", api + "recall/pending_tasks/x"}, {"PUT", api + "recall:pause"}, {"PATCH", api + "recall/pending_tasks/x:run"}, {"POST", "/asynqmon/api/other"},
		{"POST", "/asynqmon"}, {"POST", "/asynqmon/"}, {"POST", "/asynqmon//api/queues/recall:pause"}, {"POST", api + "a/../recall/scheduled_tasks:run_all"},
		{"POST", api + "recall/"}, {"POST", api}, {"DELETE", api}, {"POST", api + "recall/scheduled_tasks/x/:run"}, {"POST", api + "recall/scheduled_tasks:run_all/"},
		{"POST", api + "recall/scheduled_tasks:run_all\n"}, {"DELETE", api + "a/b/pending_tasks/x"}, {"POST", api + "recall/ACTIVE_tasks:cancel_all"},
	} {
		if got := refusal(r.method, r.path); got == "" {
			t.Errorf("%s %q passes", r.method, r.path)
		}
	}
}

// TestNoWayAround sends to a real asynqmon every spelling of a forbidden request that might pass the guard and still be understood behind
// it, and looks whether the task is where it was.
func TestNoWayAround(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, nil)
	client := asynq.NewClientFromRedisClient(b.rdb)
	insp := asynq.NewInspectorFromRedisClient(b.rdb)
	if _, err := client.Enqueue(asynq.NewTask(tasks.TypeSubmit, []byte(`{}`)), asynq.Queue(tasks.QueueDefault), asynq.TaskID("x")); err != nil {
		t.Fatal(err)
	}
	untouched := func() bool {
		info, err := insp.GetTaskInfo(tasks.QueueDefault, "x")
		return err == nil && info.State == asynq.TaskStatePending
	}
	tried := 0
	for _, method := range []string{"POST", "DELETE", "GET", "HEAD", "PUT", "PATCH", "OPTIONS", "CONNECT", "TRACE", "post", "delete"} {
		for _, end := range []string{"pending_tasks/x:archive", "pending_tasks:archive_all", "pending_tasks:batch_archive", "pending_tasks/x", "pending_tasks:delete_all", "pending_tasks:batch_delete"} {
			for _, path := range []string{
				api + "recall/" + end, api + "recall/" + strings.Replace(end, ":", "%3A", 1), api + "recall/" + strings.Replace(end, "/", "%2F", 1), api + "recall%2F" + end,
				"/asynqmon/%61pi/queues/recall/" + end, "/asynqmon%2Fapi/queues/recall/" + end, "/asynqmon//api/queues/recall/" + end,
				"/asynqmon/./api/queues/recall/" + end, "/asynqmon/x/../api/queues/recall/" + end, "/asynqmon/x/%2e%2e/api/queues/recall/" + end, "//asynqmon/api/queues/recall/" + end,
				api + "recall/" + end + "/", api + "recall/" + end + "?x=:run", api + "recall/" + end + "%00", api + "recall/" + end + ";a=:run", api + "%72ecall/" + end,
				api + "recall/" + strings.Replace(end, "archive", "%61rchive", 1), api + "recall/" + end + "#:run", api + "recall/%70" + end[1:],
			} {
				r := httptest.NewRequest(method, "/", strings.NewReader(`{"task_ids":["x"]}`))
				var err error
				if r.URL, err = r.URL.Parse("http://localhost" + path); err != nil {
					t.Fatal(err)
				}
				r.Host = "localhost"
				for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
					r.Header.Set(name, "POST")
				}
				r.Header.Set("X-Original-URL", api+"recall/"+end)
				b.ServeHTTP(httptest.NewRecorder(), r)
				tried++
				if !untouched() {
					t.Fatalf("%s %s got through", method, path)
				}
			}
		}
	}
	if tried < 1000 {
		t.Fatalf("only %d requests were tried", tried)
	}
	// The same request without the guard does what is feared, so the above has meant something.
	r := httptest.NewRequest("POST", api+"recall/pending_tasks/x:archive", nil)
	b.asynqmon.ServeHTTP(httptest.NewRecorder(), r)
	if untouched() {
		t.Fatal("asynqmon itself does not archive: this test shows nothing")
	}
	if got := b.ask("POST", api+"recall/archived_tasks/x:run"); got.Code >= 300 || !untouched() {
		t.Errorf("running an archived task: status %d %s", got.Code, got.Body)
	}
	if got := b.ask("POST", api+"recall/pending_tasks/x:archive"); got.Code != 403 || got.Body.String() != refuseArchive+"\n" {
		t.Errorf("status %d %s", got.Code, got.Body)
	}
}

func TestRunAndDeleteDeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, nil)
	client := asynq.NewClientFromRedisClient(b.rdb)
	insp := asynq.NewInspectorFromRedisClient(b.rdb)
	for _, id := range []string{"dead:main:1:1", "dead:main:2:1"} {
		if _, err := client.EnqueueContext(context.Background(), asynq.NewTask(tasks.TypeDead, []byte(`{}`)), asynq.Queue(tasks.QueueDead), asynq.TaskID(id), asynq.ProcessIn(1e12)); err != nil {
			t.Fatal(err)
		}
	}
	if w := b.ask("POST", api+"recall-dead/scheduled_tasks/dead:main:1:1:run"); w.Code >= 300 {
		t.Errorf("run: %d %s", w.Code, w.Body)
	}
	if w := b.ask("DELETE", api+"recall-dead/scheduled_tasks/dead:main:2:1"); w.Code >= 300 {
		t.Errorf("delete: %d %s", w.Code, w.Body)
	}
	info, err := insp.GetQueueInfo(tasks.QueueDead)
	if err != nil || info.Pending != 1 || info.Scheduled != 0 {
		t.Errorf("%+v, %v", info, err)
	}
}
