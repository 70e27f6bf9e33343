package chaos

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/tasks"
	"dingrecall/upstream/simulator"
	"dingrecall/worker"
)

// entry is a key that was handed over.
type entry struct {
	key      string
	kind     simulator.Kind
	target   worker.Target
	incident string
	accepted time.Time // when the producer was told that it is in Redis; zero: it was not told yet
}

// handOver is one call of a producer.
type handOver struct {
	entries []*entry
	keys    []string
	target  worker.Target
	opts    []tasks.Option
}

// producers hand keys over until they are told to stop, and keep the ledger of what they handed over.
type producers struct {
	client *tasks.Client
	seed   uint64

	stop context.CancelFunc
	gone chan struct{} // closed when the world ends before its time: nothing can be handed over any more
	done sync.WaitGroup

	mu     sync.Mutex        // guards all below, until all producers are done
	ledger map[string]*entry // by key
	past   []*handOver
	chance *rand.Rand
	next   uint64
}

const (
	producing    = 3   // producers at once
	keysASecond  = 240 // of all of them
	aDay         = 24 * time.Hour
	againAfter   = 200 * time.Millisecond
	handOverTime = 15 * time.Second
)

var targets = []worker.Target{
	{RobotCode: "dingrobotone"}, {RobotCode: "dingrobottwo"}, {RobotCode: "dingrobotthree"},
	{RobotCode: "dingrobotone", Conversation: worker.Conversation{Chat: tasks.ChatGroup, OpenConversationID: "cidChaos=="}},
}

func newProducers(t *testing.T, addr string, seed uint64) *producers {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = rdb.Close() })
	return &producers{client: tasks.NewClientFromRedis(rdb), seed: seed, ledger: map[string]*entry{}, gone: make(chan struct{}), chance: rand.New(rand.NewPCG(seed, 2))}
}

// start has keys handed over from now on: many at first, so that there is something to do.
func (p *producers) start(ctx context.Context, backlog int) {
	ctx, p.stop = context.WithCancel(ctx)
	for range producing {
		p.done.Go(func() { p.produce(ctx, backlog/producing) })
	}
}

// end has no more keys handed over, once those are in whose handing over has begun.
func (p *producers) end() {
	p.stop()
	p.done.Wait()
}

// abandon ends the producers though keys may not be in.
func (p *producers) abandon() {
	close(p.gone)
	p.end()
}

func (p *producers) produce(ctx context.Context, backlog int) {
	for n := 0; n < backlog; {
		n += p.hand(ctx, 200)
	}
	began, n := time.Now(), 0
	for ctx.Err() == nil {
		n += p.hand(ctx, 0)
		due := began.Add(time.Duration(float64(n*producing) / keysASecond * float64(time.Second)))
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(due)):
		}
	}
}

// hand hands some keys over, and again until it is told that they are in: that is what a producer has to do. size 0: by chance.
func (p *producers) hand(ctx context.Context, size int) int {
	h := p.plan(size)
	for {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverTime)
		_, err := p.client.Recall(try, h.target.RobotCode, h.keys, h.opts...)
		cancel()
		if err == nil {
			p.took(h)
			return len(h.keys)
		}
		select {
		case <-p.gone:
			return len(h.keys)
		case <-time.After(againAfter):
		}
	}
}

// plan makes up what is handed over next; now and then the same as before, as producers do that are not sure.
func (p *producers) plan(size int) *handOver {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.past) > 0 && p.chance.IntN(20) == 0 {
		return p.past[p.chance.IntN(len(p.past))]
	}
	if size == 0 {
		size = []int{1, 3, 20, 45, 100}[p.chance.IntN(5)]
	}
	sent := time.Now().Add(-time.Duration(p.chance.IntN(7200)) * time.Second).Truncate(time.Second)
	h := &handOver{target: targets[p.chance.IntN(len(targets))]}
	incident := []string{"", "mail", "mail", "sale", "storm"}[p.chance.IntN(5)]
	h.opts = []tasks.Option{tasks.SentAt(sent), tasks.Incident(incident), tasks.WithClass(tasks.Classes()[p.chance.IntN(3)]),
		tasks.InConversation(tasks.Conversation(h.target.Conversation))}
	for range size {
		p.next++
		e := &entry{kind: simulator.Good, target: h.target, incident: incident}
		switch p.chance.IntN(200) {
		case 0:
			e.kind = simulator.Unknown
		case 1:
			e.kind = simulator.Expired
		}
		e.key = simulator.MakeKey(p.seed, p.next, e.kind, sent)
		h.entries, h.keys = append(h.entries, e), append(h.keys, e.key)
		p.ledger[e.key] = e
	}
	return h
}

func (p *producers) took(h *handOver) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	fresh := false
	for _, e := range h.entries {
		if e.accepted.IsZero() {
			e.accepted, fresh = now, true
		}
	}
	if fresh {
		p.past = append(p.past, h)
	}
}
