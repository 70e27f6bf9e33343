package keyfile

import "crypto/sha256"

// Set is a set of keys, each of a target, that remembers 16 bytes of each and not its text: about 40 MB a million keys.
// The zero value is empty and ready. Has may be called concurrently, as long as nobody calls Add.
type Set struct {
	seen map[[16]byte]struct{}
}

// Add adds a key of a target and says whether it was new.
func (s *Set) Add(of Target, key string) bool {
	if s.seen == nil {
		s.seen = make(map[[16]byte]struct{})
	}
	before := len(s.seen)
	s.seen[hash(of, key)] = struct{}{}
	return len(s.seen) > before
}

// Has says whether a key of a target was added.
func (s *Set) Has(of Target, key string) bool {
	_, ok := s.seen[hash(of, key)]
	return ok
}

// Len is the number of keys in the set.
func (s *Set) Len() int { return len(s.seen) }

// hash is cut from SHA-256, since two keys taken for one would mean a message that nobody recalls. The zero byte cannot be
// part of what names a target, so that no two run together alike.
func hash(of Target, key string) [16]byte {
	var room [256]byte // enough for what is usual, without an allocation
	buf := append(append(room[:0], of.RobotCode...), 0)
	if of.Chat != "" {
		buf = append(append(buf, of.Chat...), 0)
		buf = append(append(buf, of.OpenConversationID...), 0)
	}
	buf = append(buf, key...)
	sum := sha256.Sum256(buf)
	return [16]byte(sum[:16])
}
