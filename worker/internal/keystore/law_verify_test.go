package keystore

import (
	"context"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"dingrecall/worker/internal/flow"
)

// verifySome writes what the service said of some keys of a robot: of dead ones, and of others, whose state has changed since they were
// looked up. Whoever is late names another batch.
func (w *lawWorld) verifySome(t *rapid.T) {
	robotCode := rapid.SampledFrom([]string{"ding-a", "ding-b", "ding-c"}).Draw(t, "robot")
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(w.model.keys)) {
		if dead := w.model.keys[id].state == flow.Dead; strings.HasPrefix(id, robotCode+" ") && (dead || len(ids) < 2) {
			ids = append(ids, id)
		}
	}
	e := lawEvent{kind: "verify", found: map[string]bool{}}
	var findings []Finding
	var want []bool
	for range rapid.IntRange(0, min(4, len(ids))).Draw(t, "keys") {
		id := rapid.SampledFrom(ids).Draw(t, "key")
		if _, twice := e.found[id]; twice {
			continue
		}
		k := w.model.keys[id]
		f := Finding{Key: strings.TrimPrefix(id, robotCode+" "), Batch: k.batch, Recalled: rapid.Bool().Draw(t, "recalled")}
		if rapid.IntRange(0, 4).Draw(t, "late") == 0 {
			f.Batch++
		}
		mine := k.state == flow.Dead && k.batch == f.Batch
		if mine {
			e.found[id] = f.Recalled
		}
		findings, want = append(findings, f), append(want, mine && (f.Recalled || k.amb))
	}
	var got []bool
	w.once(t, e, func(ctx context.Context) (r *Reply, err error) {
		r, got, err = w.verify(ctx, flow.Target{RobotCode: robotCode}, "verified", findings)
		return r, err
	})
	if !slices.Equal(got, want) {
		t.Fatalf("findings %+v: written %v, and the model says %v", findings, got, want)
	}
	for i, f := range findings {
		id := robotKey(robotCode, f.Key)
		switch {
		case want[i] && f.Recalled && w.model.keys[id].state != flow.Recalled:
			t.Fatalf("%s was found to be recalled and is %v", id, w.model.keys[id].state)
		case want[i] && f.Recalled:
			w.Verified++
		case want[i]:
			w.Certain++
		}
	}
}
