package chaos

import (
	"time"

	"dingrecall/upstream/simulator"
)

func serviceDown(w *world) {
	for _, a := range w.agents {
		a.door.down()
	}
	w.pause(time.Minute)
	for _, a := range w.agents {
		a.door.up(w.T)
	}
}

// serviceFails has a share of the calls fail in some way, for some seconds.
func serviceFails(how simulator.Fault, share float64, from, to int) func(*world) {
	return func(w *world) {
		if err := w.service.sim.SetFaults(simulator.FaultRule{Fault: how, Probability: share}); err != nil {
			w.Fatal(err)
		}
		w.pause(w.between(time.Duration(from)*time.Second, time.Duration(to)*time.Second))
		if err := w.service.sim.SetFaults(); err != nil {
			w.Fatal(err)
		}
	}
}

func revokeTokens(w *world) {
	for range 5 {
		w.service.sim.RevokeTokens()
		w.pause(w.between(200*time.Millisecond, time.Second))
	}
}
