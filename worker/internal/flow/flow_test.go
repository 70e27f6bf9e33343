package flow_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"dingrecall/worker/internal/flow"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for s, want := range map[flow.State]string{flow.Unknown: "unknown", flow.Waiting: "waiting", flow.Recalled: "recalled", flow.Dead: "dead", flow.Cancelled: "cancelled", flow.Bound: "bound", 99: "unknown", -1: "unknown"} {
		if s.String() != want {
			t.Errorf("state %d is %q, want %q", int(s), s, want)
		}
	}
	for c, want := range map[flow.Class]string{flow.Urgent: "urgent", flow.Default: "default", flow.Bulk: "bulk"} {
		if c.String() != want {
			t.Errorf("class %d is %q, want %q", int(c), c, want)
		}
	}
	if flow.Urgent >= flow.Default || flow.Default >= flow.Bulk {
		t.Error("the smaller class goes first")
	}
}

func TestCalledAreTheFirstOfTheBatch(t *testing.T) {
	t.Parallel()
	b := flow.Batch{Cut: 2, Keys: []flow.BoundKey{{Key: "a"}, {Key: "b"}, {Key: "c"}}}
	if got := b.Called(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v", got)
	}
}

func TestLaterKeepsItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("redis blinked")
	err := fmt.Errorf("on the way: %w", &flow.Later{Delay: time.Second, Blame: true, Err: fmt.Errorf("attach: %w", cause)})
	var later *flow.Later
	if !errors.As(err, &later) || !errors.Is(err, cause) || later.Delay != time.Second || !later.Blame || err.Error() != "on the way: attach: redis blinked" {
		t.Errorf("%v", err)
	}
}
