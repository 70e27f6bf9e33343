package chaos

import (
	"errors"
	"net/http"
	"time"

	"github.com/hibiken/asynq"

	"dingrecall/tasks"
)

// press does what a button of asynqmon does, on the admin address of some worker, and gives the status.
func (w *world) press(method, path string) int {
	w.Helper()
	req, err := http.NewRequest(method, w.anyone().admin+"/asynqmon/api/queues/"+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (w *world) pressed(method, path string, want int) {
	w.Helper()
	if got := w.press(method, path); got/100 != want/100 {
		w.Errorf("%s %s was answered with %d", method, path, got)
	}
}

func deleteDispatch(w *world) {
	for range 6 {
		for _, state := range []string{"pending", "scheduled", "retry"} {
			w.pressed(http.MethodDelete, tasks.QueueDispatch+"/"+state+"_tasks:delete_all", 200)
		}
		w.pause(w.between(0, time.Second))
	}
}

func pauseQueues(w *world) {
	queues := []string{tasks.QueueUrgent, tasks.QueueDefault, tasks.QueueBulk, tasks.QueueDispatch}
	for range 4 {
		q := queues[w.chance.IntN(len(queues))]
		w.pressed(http.MethodPost, q+":pause", 200)
		w.pause(w.between(time.Second, 4*time.Second))
		w.pressed(http.MethodPost, q+":resume", 200)
		w.pause(w.between(0, time.Second))
	}
}

// archive: the admin address refuses it, so it is done by an asynqmon that runs on its own.
func archive(w *world) {
	for range 5 {
		for _, q := range tasks.Queues() {
			w.pressed(http.MethodPost, q+"/pending_tasks:archive_all", 403)
			for _, all := range []func(string) (int, error){w.queue.ArchiveAllPendingTasks, w.queue.ArchiveAllScheduledTasks, w.queue.ArchiveAllRetryTasks} {
				if _, err := all(q); err != nil && !errors.Is(err, asynq.ErrQueueNotFound) {
					w.Fatal(err)
				}
			}
		}
		w.pause(w.between(0, 1500*time.Millisecond))
	}
}

func runDead(w *world) {
	w.replayed = true
	for range 4 {
		w.pressed(http.MethodPost, tasks.QueueDead+"/scheduled_tasks:run_all", 200)
		w.pressed(http.MethodPost, tasks.QueueDispatch+"/retry_tasks:run_all", 200)
		w.pause(w.between(0, 3*time.Second))
	}
}
