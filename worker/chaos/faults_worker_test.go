package chaos

import (
	"syscall"
	"time"
)

func killOne(w *world) {
	a := w.busy()
	a.Kill()
	w.strike(a)
	w.over = w.struckAt
	w.pause(15 * time.Second) // producers go on: do their keys wait?
}

func killAll(w *world) {
	dead := w.living()
	for _, a := range dead {
		a.Signal(syscall.SIGKILL)
	}
	for _, a := range dead {
		a.Kill()
	}
	w.strike(dead...)
	w.pause(w.between(0, 5*time.Second))
	for range workers {
		w.hire()
	}
	w.over = time.Now()
	w.pause(15 * time.Second)
}

// stopOne stops a worker for longer than the lease of its tasks, 30 s. When it comes back, it has calls to settle that are others' now.
func stopOne(w *world) {
	a := w.busy()
	a.Signal(syscall.SIGSTOP)
	w.strike(a)
	w.over = w.struckAt
	w.pause(w.between(33*time.Second, 45*time.Second))
	a.Signal(syscall.SIGCONT)
	w.pause(5 * time.Second)
	a.isStruck.Store(false)
}

// budget is what a worker has to end in.
const budget = 25 * time.Second

func (w *world) terminate(agents ...*agent) {
	began := time.Now()
	for _, a := range agents {
		a.Signal(syscall.SIGTERM)
	}
	for _, a := range agents {
		if status := a.Status(budget); status != 0 {
			w.Errorf("%s ended with status %d", a.name, status)
		}
		w.ended = append(w.ended, time.Since(began))
	}
}

func termEach(w *world) {
	for _, a := range w.living() {
		w.terminate(a)
		w.hire()
		w.pause(w.between(0, time.Second))
	}
}

func termAll(w *world) {
	w.terminate(w.living()...)
	w.pause(w.between(0, time.Second))
	for range workers {
		w.hire()
	}
}
