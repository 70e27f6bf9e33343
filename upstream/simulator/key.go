package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// Kind is the fate of a key that MakeKey made: what the simulator will say when it is asked to recall it.
type Kind uint8

// The fates. Whether a failing fate appears in failedResult or as the error of the whole call is for Config.Failure to say.
const (
	// Good is recalled, within the window of its sentAt.
	Good Kind = iota
	// Expired fails with robot.processQueryKey.expired, whatever its sentAt.
	Expired
	// Unknown fails with invalid.processQueryKey.
	Unknown
	// Foreign was sent by another robot and fails with not.allowed.robotCode, whoever asks.
	Foreign
	// SystemErrorAlways fails with system.error every time.
	SystemErrorAlways
	// NotRevoked fails with notRevoke.all.messages.
	NotRevoked
	// Flaky fails with system.error in Config.FlakyRate of the calls that carry it, and is Good in the others.
	Flaky
	// Silent is recalled but never mentioned in an answer.
	Silent

	kindEnd
)

var kindNames = [kindEnd]string{
	Good: "good", Expired: "expired", Unknown: "unknown", Foreign: "foreign", SystemErrorAlways: "system-error",
	NotRevoked: "not-revoked", Flaky: "flaky", Silent: "silent",
}

// String is the kind's name, as ParseKind reads it.
func (k Kind) String() string {
	if k >= kindEnd {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// Kinds lists every kind.
func Kinds() []Kind {
	all := make([]Kind, kindEnd)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// ParseKind reads a kind's name. The error lists the names there are.
func ParseKind(name string) (Kind, error) {
	for k, n := range kindNames {
		if n == name {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("no kind of key is called %q; the kinds are %s", name, strings.Join(kindNames[:], ", "))
}

// Real keys are 44 characters of standard Base64 that decode to 32 bytes (field reports and samples; no length is promised). A made key
// has that shape too:
//
//	bytes 0-5    the marker, which reads "SimKey01" in the Base64 text
//	byte  6      the kind
//	bytes 7-11   sentAt in seconds since 1970, big-endian; 0: not told
//	bytes 12-19  a bijection of n, so that two numbers never share a key
//	bytes 20-31  pseudo-random
const (
	keyMarker = "SimKey01"
	keyBytes  = 32
	keyChars  = 44
)

var keyMagic = func() [6]byte {
	raw, err := base64.StdEncoding.DecodeString(keyMarker)
	if err != nil || len(raw) != 6 {
		panic("simulator: the marker is not 6 bytes of Base64")
	}
	return [6]byte(raw)
}()

// MakeKey makes the n-th key of a seed: 44 characters of standard Base64, distinct for distinct n, which carry in themselves what the
// simulator will say of them, so that a generator of files and a simulator in another process agree without sharing anything. sentAt is
// kept to the second and counts against the window; the zero time means "sent just now, whenever asked".
func MakeKey(seed, n uint64, kind Kind, sentAt time.Time) string {
	var raw [keyBytes]byte
	copy(raw[:], keyMagic[:])
	raw[6] = byte(kind)
	if sec := unixSeconds(sentAt); sec > 0 {
		raw[7] = byte(sec >> 32)
		binary.BigEndian.PutUint32(raw[8:12], uint32(sec)) //nolint:gosec // the low 32 bits are meant; the rest is in byte 7
	}
	x := mix(n + mix(seed)) // mix is a bijection, so distinct n give distinct x
	binary.BigEndian.PutUint64(raw[12:20], x)
	y := mix(x ^ 0x6b6579)
	binary.BigEndian.PutUint64(raw[20:28], y)
	binary.BigEndian.PutUint32(raw[28:32], uint32(mix(y)>>32)) //nolint:gosec // a shift by 32 leaves 32 bits
	return base64.StdEncoding.EncodeToString(raw[:])
}

// ReadKey reads what MakeKey put into a key: its kind, and when it was sent (the zero time: not told). ok is false for a key that MakeKey
// did not make.
func ReadKey(key string) (kind Kind, sentAt time.Time, ok bool) {
	if len(key) != keyChars || key[:len(keyMarker)] != keyMarker {
		return 0, time.Time{}, false
	}
	// The first 16 characters hold the marker, the kind and sentAt; the rest need not be decoded.
	var head [12]byte
	if _, err := base64.StdEncoding.Decode(head[:], []byte(key[:16])); err != nil {
		return 0, time.Time{}, false
	}
	kind = Kind(head[6])
	if kind >= kindEnd {
		return 0, time.Time{}, false
	}
	if sec := int64(head[7])<<32 | int64(binary.BigEndian.Uint32(head[8:12])); sec > 0 {
		sentAt = time.Unix(sec, 0)
	}
	return kind, sentAt, true
}

func unixSeconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// mix is the finaliser of splitmix64: a bijection of 64 bits whose output looks random.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// mixString folds a string into 64 bits (FNV-1a, then mix), the same in every process.
func mixString(seed uint64, s string) uint64 {
	h := seed ^ 0xcbf29ce484222325
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// unit turns 64 random bits into a number in [0, 1).
func unit(x uint64) float64 { return float64(x>>11) / (1 << 53) }
