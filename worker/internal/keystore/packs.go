package keystore

// packOfKeys is how keys wait, and how a slot holds them: up to 20 that share a record. scripts/lib/4_waiting.lua makes and describes
// them.
type packOfKeys struct {
	day    byte   // of the ledger, modulo 250
	record string // as the ledger has it
	keys   []string
}

const (
	packHead  = 18  // day, number of keys, since when they wait (3), record (8), number (5)
	packUsual = 128 // added to the number: each key has packedLen bytes, and no length in front
)

// cutPack takes the first pack of a text.
func cutPack(s string) (p packOfKeys, rest string, err error) {
	if len(s) < packHead {
		return p, "", errShape
	}
	n, usual := int(s[1]%packUsual), s[1] >= packUsual
	p = packOfKeys{day: s[0], record: s[5:13], keys: make([]string, n)}
	s = s[packHead:]
	for i := range p.keys {
		size := packedLen
		if !usual {
			if len(s) < 2 {
				return p, "", errShape
			}
			size = int(s[0])<<8 | int(s[1])
			s = s[2:]
		}
		if len(s) < size {
			return p, "", errShape
		}
		p.keys[i], s = s[:size], s[size:]
	}
	return p, s, nil
}
