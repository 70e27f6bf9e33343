package tokenstore

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"

	"dingrecall/upstream"
)

// KeySize is the length of a key that encrypts tokens, in bytes.
const KeySize = 32

// sealedMark is what an encrypted token begins with; one in clear begins with "{".
const sealedMark = "\x01"

// sealer encrypts with AES-256-GCM: the mark, a random nonce of 12 bytes, the ciphertext and its tag of 16. The app's name is additional data.
type sealer struct {
	aead  cipher.AEAD
	bound []byte
}

func newSealer(key upstream.Secret, app string) (*sealer, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("the key that encrypts tokens must have %d bytes", KeySize)
	}
	block, err := aes.NewCipher([]byte(key.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("the key that encrypts tokens: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("the key that encrypts tokens: %w", err)
	}
	return &sealer{aead: aead, bound: []byte("dingrecall token of app " + app)}, nil
}

// seal gives the form at rest of a token.
func (s *Store) seal(plain []byte) []byte {
	if s.sealer == nil {
		return plain
	}
	return s.sealer.aead.Seal([]byte(sealedMark), nil, plain, s.sealer.bound)
}

// open is the reverse of seal. With a key, a token in clear is not taken either: whoever can write to Redis could have put it there.
func (s *Store) open(stored []byte) ([]byte, error) {
	sealed, ok := bytes.CutPrefix(stored, []byte(sealedMark))
	switch {
	case ok && s.sealer == nil:
		return nil, errors.New("it is encrypted, and this process has no key")
	case s.sealer == nil:
		return stored, nil
	case !ok:
		return nil, errors.New("it is not encrypted, and this process has a key")
	}
	plain, err := s.sealer.aead.Open(nil, nil, sealed, s.sealer.bound)
	if err != nil {
		return nil, errors.New("it is encrypted with another key")
	}
	return plain, nil
}
