package deadletter_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/worker/internal/deadletter"
	"dingrecall/worker/internal/flow"
	"dingrecall/worker/internal/keystore"
	"dingrecall/worker/internal/redistest"
)

// graveyard is the queue of dead letters.
type graveyard struct {
	letters map[string]tasks.DeadLetter
	made    int
	failAt  int // the number of the letter that cannot be enqueued
}

func (g *graveyard) bury(_ context.Context, l tasks.DeadLetter, id string) error {
	g.made++
	if g.made == g.failAt {
		return errBlink
	}
	if g.letters == nil {
		g.letters = map[string]tasks.DeadLetter{}
	}
	if _, ok := g.letters[id]; !ok {
		g.letters[id] = l
	}
	return nil
}

func (g *graveyard) keys() []string {
	var all []string
	for _, l := range g.letters {
		all = append(all, l.Keys...)
	}
	slices.Sort(all)
	return all
}

// leaky is an outbox whose worker dies at a moment.
type leaky struct {
	*keystore.Store
	noRead, noDeliver bool
}

func (l *leaky) Outbox(ctx context.Context, n int) ([]keystore.Letter, error) {
	if l.noRead {
		return nil, errBlink
	}
	return l.Store.Outbox(ctx, n)
}

func (l *leaky) Delivered(ctx context.Context, ids []string) error {
	if l.noDeliver {
		return errBlink
	}
	return l.Store.Delivered(ctx, ids)
}

func TestDrainMovesAllAndLosesNone(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		s := newStore(rdb, "main")
		kill(t, s, names(600), "invalid.processQueryKey")
		box, g := &leaky{Store: s}, &graveyard{failAt: 7}
		// Whatever goes wrong, and however often, it is done again from what is left.
		if n, err := deadletter.Drain(ctx, "main", box, g.bury, retention); !errors.Is(err, errBlink) || n != 0 {
			t.Fatalf("%d, %v", n, err)
		}
		box.noDeliver = true
		if n, err := deadletter.Drain(ctx, "main", box, g.bury, retention); !errors.Is(err, errBlink) || n != 0 {
			t.Fatalf("%d, %v", n, err)
		}
		box.noDeliver, box.noRead = false, true
		if _, err := deadletter.Drain(ctx, "main", box, g.bury, retention); !errors.Is(err, errBlink) {
			t.Fatal(err)
		}
		box.noRead = false
		n, err := deadletter.Drain(ctx, "main", box, g.bury, retention)
		if err != nil || n != 30 || len(g.letters) != 30 {
			t.Errorf("moved %d, letters %d, %v", n, len(g.letters), err)
		}
		if !slices.Equal(g.keys(), names(600)) {
			t.Errorf("%d keys in the letters: lost or doubled", len(g.keys()))
		}
		made := g.made
		if n, err := deadletter.Drain(ctx, "main", box, g.bury, retention); err != nil || n != 0 || g.made != made {
			t.Errorf("once more: %d, %v", n, err)
		}
		for id, l := range g.letters {
			if !strings.HasPrefix(id, "dead:main:") || l.App != "main" || l.RobotCode != "robot" || l.Code != "invalid.processQueryKey" || l.Message != "words" || l.RequestID != "rid" ||
				l.Attempts != 1 || l.Class != tasks.ClassUrgent || l.Incident != "storm" || l.Batch == 0 || l.Ambiguous {
				t.Errorf("%s: %+v", id, l)
			}
			if ago := time.Since(time.UnixMilli(l.DiedAt)); ago < 0 || ago > time.Minute || l.RetainUntil != l.DiedAt+retention.Milliseconds() {
				t.Errorf("%s died %v ago, is kept until %d", id, ago, l.RetainUntil)
			}
			if ago := time.Since(time.UnixMilli(l.SentAt)); len(l.SentAts) != 0 || ago < time.Hour-time.Minute || ago > time.Hour+time.Minute {
				t.Errorf("%s was sent %v ago", id, ago)
			}
		}
	})
}

func TestALetterTellsEachKeysTime(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_780_000_000, 0)
	l := keystore.Letter{ID: "1:1:1", Keys: []string{"a", "b"}, SentAts: []time.Time{at, at.Add(time.Second)}, Class: flow.Bulk, Ambiguous: true, DiedAt: at}
	box := &once{letters: []keystore.Letter{l}}
	var got tasks.DeadLetter
	if _, err := deadletter.Drain(context.Background(), "main", box, func(_ context.Context, l tasks.DeadLetter, _ string) error { got = l; return nil }, time.Hour); err != nil {
		t.Fatal(err)
	}
	if got.SentAt != 0 || !slices.Equal(got.SentAts, []int64{1_780_000_000_000, 1_780_000_001_000}) || got.Class != tasks.ClassBulk || !got.Ambiguous {
		t.Errorf("%+v", got)
	}
}

type once struct{ letters []keystore.Letter }

func (o *once) Outbox(context.Context, int) ([]keystore.Letter, error) { return o.letters, nil }

func (o *once) Delivered(context.Context, []string) error {
	o.letters = nil
	return nil
}
