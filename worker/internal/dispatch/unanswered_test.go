package dispatch

import (
	"errors"
	"testing"
	"time"

	"dingrecall/upstream"
)

func hung() *upstream.Error {
	return &upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassTimeout, Message: "no answer within 10s", Lost: true, Err: errors.New("deadline")}
}

// TestCallsThatHangAskForNoSlots while none is answered; where others are, they do.
func TestCallsThatHangAskForNoSlots(t *testing.T) {
	t.Parallel()
	const rate, limit = 20, 64
	var l Latency
	var u unanswered
	for range 100 {
		u.observe(&l, 10*time.Second, noAnswer(hung()))
	}
	if n := l.Slots(rate, limit); n != coldSlots {
		t.Errorf("%d slots, and no call was ever answered", n)
	}
	u = unanswered{}
	for range 50 {
		u.observe(&l, 80*time.Millisecond, false)
	}
	usual := l.Slots(rate, limit)
	for range 100 {
		u.observe(&l, 10*time.Second, noAnswer(hung()))
	}
	if n := l.Slots(rate, limit); n != usual {
		t.Errorf("%d slots where all calls hang, and %d before", n, usual)
	}
	u.observe(&l, 80*time.Millisecond, false)
	if n := l.Slots(rate, limit); n < 2*usual {
		t.Errorf("%d slots where some calls hang, and %d where none does", n, usual)
	}
	u.observe(&l, 3*time.Second, noAnswer(serviceError(504, "")))
	if len(u.took) != 0 {
		t.Error("an error that the service answered is an answer")
	}
}
