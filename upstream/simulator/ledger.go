package simulator

import (
	"hash/maphash"
	"sync"
)

// What the ledger remembers of a key, in the low bits of its entry.
const (
	flagKnown    uint64 = 1 << iota // makes every entry differ from an empty place
	flagRecalled                    // its message is recalled, whether or not the client was told
	flagTold                        // the client was told what became of it, for ever
	flagMask     = flagKnown | flagRecalled | flagTold
)

const (
	shardBits  = 6
	firstTable = 64 // places of a shard's first table
)

// ledger knows which keys are in a call at the moment and, unless it forgets, what became of every key it has seen. It is sharded by the
// key's hash, so calls that run at once seldom wait for one another. Ten million keys cost 8 bytes times the places of the tables
// (16,777,216 when filled evenly). Of a key it keeps 61 bits of hash: with 10 million keys the odds that any two are taken for one are about
// one in 40,000.
type ledger struct {
	seed   maphash.Seed
	forget bool
	shards [1 << shardBits]shard
}

type shard struct {
	mu     sync.Mutex       // guards all below
	flight map[uint64]*call // by hash: the call that last took the key up
	table  []uint64         // open addressing with linear probing; 0 is an empty place
	used   int
	_      [64]byte // keeps neighbours out of one cache line
}

// asking counts what was notable about the keys of one call when it began.
type asking struct {
	fresh       int64 // never asked before
	afterAnswer int64 // asked although the client had been told its fate for ever
	afterRecall int64 // asked although recalled
	overlaps    int64 // in another call at the same moment
}

func newLedger(forget bool) *ledger {
	l := &ledger{seed: maphash.MakeSeed(), forget: forget}
	for i := range l.shards {
		l.shards[i].flight = map[uint64]*call{}
	}
	return l
}

func (l *ledger) hash(key string) uint64 { return maphash.String(l.seed, key) }

func (l *ledger) shard(hash uint64) *shard { return &l.shards[hash>>(64-shardBits)] }

// begin notes that the call has taken up its keys (c.hashes, distinct).
func (l *ledger) begin(c *call) asking {
	var a asking
	for _, h := range c.hashes {
		s := l.shard(h)
		s.mu.Lock()
		if other := s.flight[h]; other != nil {
			a.overlaps++
			other.overlapped.Add(1)
		}
		s.flight[h] = c
		if !l.forget {
			place := s.find(h)
			switch entry := *place; {
			case entry == 0:
				a.fresh++
			default:
				if entry&flagTold != 0 {
					a.afterAnswer++
				}
				if entry&flagRecalled != 0 {
					a.afterRecall++
				}
			}
			s.put(place, h, 0)
		}
		s.mu.Unlock()
	}
	return a
}

// end notes that the call is over. After it, no other call can be found to overlap with this one.
func (l *ledger) end(c *call) {
	for _, h := range c.hashes {
		s := l.shard(h)
		s.mu.Lock()
		if s.flight[h] == c {
			delete(s.flight, h)
		}
		s.mu.Unlock()
	}
}

// mark adds a flag to a key and tells whether it had it before.
func (l *ledger) mark(h, flag uint64) (had bool) {
	if l.forget {
		return false
	}
	s := l.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	place := s.find(h)
	had = *place&flag != 0
	s.put(place, h, flag)
	return had
}

// recalled tells whether the key's message is recalled, as far as is remembered.
func (l *ledger) recalled(h uint64) bool {
	if l.forget {
		return false
	}
	s := l.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.table) > 0 && *s.find(h)&flagRecalled != 0
}

// reset forgets every key. Calls under way stay known.
func (l *ledger) reset() {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		s.table, s.used = nil, 0
		s.mu.Unlock()
	}
}

// find returns the place of a hash: its entry, or the empty place where it belongs.
func (s *shard) find(h uint64) *uint64 {
	if s.table == nil {
		s.table = make([]uint64, firstTable)
	}
	mask := uint64(len(s.table) - 1)
	for i := h >> 3 & mask; ; i = (i + 1) & mask {
		if e := s.table[i]; e == 0 || e&^flagMask == h&^flagMask {
			return &s.table[i]
		}
	}
}

// put adds flags to the entry at place, makes the entry if there is none, and keeps a quarter of the places empty.
func (s *shard) put(place *uint64, h, flags uint64) {
	if *place != 0 {
		*place |= flags
		return
	}
	*place = h&^flagMask | flagKnown | flags
	s.used++
	if s.used < len(s.table)/4*3 {
		return
	}
	old := s.table
	s.table = make([]uint64, 2*len(old))
	for _, e := range old {
		if e != 0 {
			*s.find(e) = e
		}
	}
}
