package worker

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// orphanWorld is a queue in which nothing is real but the watch.
type orphanWorld struct {
	orphans
	clock   time.Time
	active  []*asynq.TaskInfo
	owned   map[string]bool
	lookErr error
	fail    error
	adopted []string
}

func newOrphanWorld(ids ...string) *orphanWorld {
	w := &orphanWorld{clock: time.Unix(1_700_000_000, 0), owned: map[string]bool{}}
	for _, id := range ids {
		w.active = append(w.active, &asynq.TaskInfo{Queue: "q", ID: id})
	}
	w.orphans = orphans{now: func() time.Time { return w.clock },
		look: func(context.Context) ([]*asynq.TaskInfo, map[string]bool, error) { return w.active, w.owned, w.lookErr },
		adopt: func(_ context.Context, t *asynq.TaskInfo) error {
			if w.fail != nil {
				return w.fail
			}
			w.adopted = append(w.adopted, t.ID)
			return nil
		}}
	return w
}

// looks has n looks pass, one every watchEvery.
func (w *orphanWorld) looks(n int) (err error) {
	for range n {
		w.clock = w.clock.Add(watchEvery)
		err = w.watch(context.Background())
	}
	return err
}

// enough is how many looks it takes until a task is taken over.
const enough = int(goneAfter/watchEvery) + 1

func TestOrphansAreTakenOverOnceAndInTime(t *testing.T) {
	t.Parallel()
	w := newOrphanWorld("a", "b", "c")
	w.owned["q/b"] = true
	if err := w.looks(enough - 1); err != nil || len(w.adopted) != 0 {
		t.Fatalf("too early: %v, %v", w.adopted, err)
	}
	if err := w.looks(1); err != nil || !slices.Equal(w.adopted, []string{"a", "c"}) {
		t.Fatalf("taken over: %v, %v", w.adopted, err)
	}
	if err := w.looks(3 * enough); err != nil || len(w.adopted) != 2 {
		t.Errorf("taken over again, or one that is owned: %v, %v", w.adopted, err)
	}
	// What the bound of 45 s leaves for the kill itself: asynq keeps the word of a worker for 10 s.
	if most := 10*time.Second + time.Duration(enough)*watchEvery; most >= 40*time.Second {
		t.Errorf("it takes up to %v", most)
	}
	// The lease is 30 s, and the last word of a worker extended it: never before it is over.
	if least := 10*time.Second + goneAfter; least <= 30*time.Second {
		t.Errorf("taken over after %v", least)
	}
}

func TestOrphansForgetWhenNobodyCouldBeHeard(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(w *orphanWorld){
		"a look fails": func(w *orphanWorld) {
			w.lookErr = errBlink
			if err := w.looks(1); !errors.Is(err, errBlink) {
				panic(err)
			}
			w.lookErr = nil
		},
		"the watch itself was stopped": func(w *orphanWorld) { w.clock = w.clock.Add(time.Hour) },
		"an owner spoke up": func(w *orphanWorld) {
			w.owned["q/a"] = true
			_ = w.looks(1)
			w.owned = map[string]bool{}
		},
		"it was finished and came again": func(w *orphanWorld) {
			was := w.active
			w.active = nil
			_ = w.looks(1)
			w.active = was
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newOrphanWorld("a")
			_ = w.looks(enough - 1)
			disturb(w)
			if _ = w.looks(enough - 1); len(w.adopted) != 0 {
				t.Errorf("taken over %d looks after the disturbance", enough-1)
			}
			if _ = w.looks(1); len(w.adopted) != 1 {
				t.Error("not taken over after a full time without an owner")
			}
		})
	}
}

func TestOrphansTryAgain(t *testing.T) {
	t.Parallel()
	w := newOrphanWorld("a")
	w.fail = errBlink
	if err := w.looks(enough + 1); !errors.Is(err, errBlink) {
		t.Errorf("%v", err)
	}
	w.fail = nil
	if err := w.looks(1); err != nil || len(w.adopted) != 1 {
		t.Errorf("%v, %v", w.adopted, err)
	}
}
