package keyfile

import "crypto/sha256"

// Set is a set of keys, each of a robot, that remembers 16 bytes of each and not its text: about 40 MB a million keys.
// The zero value is empty and ready. Has may be called concurrently, as long as nobody calls Add.
type Set struct {
	seen map[[16]byte]struct{}
}

// Add adds a key of a robot and says whether it was new.
func (s *Set) Add(robotCode, key string) bool {
	if s.seen == nil {
		s.seen = make(map[[16]byte]struct{})
	}
	before := len(s.seen)
	s.seen[hash(robotCode, key)] = struct{}{}
	return len(s.seen) > before
}

// Has says whether a key of a robot was added.
func (s *Set) Has(robotCode, key string) bool {
	_, ok := s.seen[hash(robotCode, key)]
	return ok
}

// Len is the number of keys in the set.
func (s *Set) Len() int { return len(s.seen) }

// hash is cut from SHA-256, since two keys taken for one would mean a message that nobody recalls. The zero byte cannot be
// part of a robotCode, so that no two pairs run together alike.
func hash(robotCode, key string) [16]byte {
	var room [256]byte // enough for what is usual, without an allocation
	buf := append(append(append(room[:0], robotCode...), 0), key...)
	sum := sha256.Sum256(buf)
	return [16]byte(sum[:16])
}
