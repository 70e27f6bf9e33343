package keystore

import (
	"testing"
	"time"
)

func TestOffsetTrustsTheShortestExchange(t *testing.T) {
	t.Parallel()
	ours := time.Now()
	const apart = 3 * time.Hour // what Redis's clock is ahead
	var o offset
	// Each exchange: when it was sent, how long until the script ran, how long until the reply was there.
	for i, x := range []struct{ at, there, back time.Duration }{
		{0, time.Millisecond, time.Millisecond},
		{time.Second, time.Millisecond, 200 * time.Millisecond}, // this process was busy when the reply came
		{2 * time.Second, 150 * time.Millisecond, time.Millisecond},
		{40 * time.Second, 2 * time.Millisecond, 2 * time.Millisecond},
	} {
		sent := ours.Add(x.at)
		ran := sent.Add(x.there)
		got := o.local(ran.Add(apart).Round(0), sent, ran.Add(x.back))
		if off := got.Sub(ran); off < -2*time.Millisecond || off > 2*time.Millisecond {
			t.Errorf("exchange %d: off by %v", i, off)
		}
	}
}

func TestOffsetTellsRedisTime(t *testing.T) {
	t.Parallel()
	var o offset
	if d := time.Since(o.now()); d < 0 || d > time.Minute {
		t.Errorf("before the first exchange: off by %v", d)
	}
	const apart = -time.Hour
	sent := time.Now()
	o.local(sent.Add(apart).Round(0), sent, sent)
	if d := time.Until(o.now().Add(-apart)); d > time.Millisecond || d < -time.Minute {
		t.Errorf("off by %v", d)
	}
}

func TestOffsetFollowsAClockThatWasSet(t *testing.T) {
	t.Parallel()
	ours := time.Now()
	var o offset
	o.local(ours, ours, ours.Add(time.Millisecond))
	sent := ours.Add(time.Second)
	got := o.local(sent.Add(-time.Hour), sent, sent.Add(10*time.Millisecond))
	if got.Before(sent) || got.After(sent.Add(10*time.Millisecond)) {
		t.Errorf("the script ran %v after it was sent, and was answered after 10ms", got.Sub(sent))
	}
}
