package keystore

import (
	"encoding/base64"
	"errors"
)

var strict = base64.StdEncoding.Strict()

// packedLen is what the usual key, 44 characters of canonical Base64, packs to.
const packedLen = 32

// pack gives the form in which a key is stored: the 32 bytes that a canonical 44-character Base64 key stands for, and any
// other key as it is behind a zero byte (two where one would make it look packed). A key has no control characters, so
// the forms cannot be confused, and every key has exactly one.
func pack(key string) string {
	if len(key) == 44 {
		if raw, err := strict.DecodeString(key); err == nil && len(raw) == packedLen && strict.EncodeToString(raw) == key {
			return string(raw)
		}
	}
	if len(key) == packedLen-1 {
		return "\x00\x00" + key
	}
	return "\x00" + key
}

// unpack is the inverse of pack.
func unpack(p string) (string, error) {
	switch {
	case len(p) == packedLen:
		return strict.EncodeToString([]byte(p)), nil
	case len(p) == packedLen+1 && p[0] == 0 && p[1] == 0:
		return p[2:], nil
	case len(p) > 1 && p[0] == 0:
		return p[1:], nil
	default:
		return "", errors.New("a stored key has no known form")
	}
}
