package cli

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
)

// submissions remembers the tasks that a job has put into the queue until they are gone from there: then all their keys are in the
// key store. It is safe for concurrent use.
type submissions struct {
	insp  *asynq.Inspector
	queue string

	mu  sync.Mutex
	ids []string // in the order of the queue
}

func newSubmissions(rdb redis.UniversalClient, class tasks.Class) *submissions {
	return &submissions{insp: asynq.NewInspectorFromRedisClient(rdb), queue: class.Queue()}
}

func (s *submissions) add(ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, ids...)
}

// maxLooks bounds the questions of one gone.
const maxLooks = 100

// gone says whether the queue has none of the tasks any more. It asks for the oldest only, until it finds one that is still there, so
// that it is cheap to ask again and again.
func (s *submissions) gone() (bool, error) {
	s.mu.Lock()
	ids := s.ids
	s.mu.Unlock()
	n := 0
	for n < min(len(ids), maxLooks) {
		_, err := s.insp.GetTaskInfo(s.queue, ids[n])
		if err == nil {
			break
		}
		if !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound) {
			return false, fmt.Errorf("looking for a submission in the queue %s: %w", s.queue, err)
		}
		n++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = s.ids[n:] // only add has touched it meanwhile, at its end
	return len(s.ids) == 0, nil
}

// workersAt counts the processes that run at a Redis and take the program's tasks.
func workersAt(rdb redis.UniversalClient) (int, error) {
	servers, err := asynq.NewInspectorFromRedisClient(rdb).Servers()
	if err != nil {
		return 0, fmt.Errorf("looking for workers: %w", err)
	}
	n := 0
	for _, s := range servers {
		if _, ok := s.Queues[tasks.QueueDispatch]; ok {
			n++
		}
	}
	return n, nil
}

// submissionsAt says whether the queues of a Redis hold submissions that nobody has taken in. Other tasks in them are the program's
// own and mean nothing by themselves.
func submissionsAt(rdb redis.UniversalClient) (bool, error) {
	insp := asynq.NewInspectorFromRedisClient(rdb)
	const pageSize = 100
	for _, class := range tasks.Classes() {
		for _, list := range []func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
			insp.ListPendingTasks, insp.ListActiveTasks, insp.ListRetryTasks, insp.ListScheduledTasks, insp.ListArchivedTasks,
		} {
			for page := 1; ; page++ {
				infos, err := list(class.Queue(), asynq.Page(page), asynq.PageSize(pageSize))
				if errors.Is(err, asynq.ErrQueueNotFound) {
					break
				}
				if err != nil {
					return false, fmt.Errorf("looking for submissions in the queue %s: %w", class.Queue(), err)
				}
				for _, info := range infos {
					if info.Type == tasks.TypeSubmit {
						return true, nil
					}
				}
				if len(infos) < pageSize {
					break
				}
			}
		}
	}
	return false, nil
}
