package simulator

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

func TestMakeKeyShapeAndFate(t *testing.T) {
	t.Parallel()
	sentAt := time.Date(2026, 11, 20, 8, 30, 15, 999, time.UTC)
	for _, kind := range Kinds() {
		key := MakeKey(7, 42, kind, sentAt)
		if raw, err := base64.StdEncoding.Strict().DecodeString(key); err != nil || len(raw) != 32 || len(key) != 44 {
			t.Errorf("%v: %q is not 32 bytes of standard Base64 (%v)", kind, key, err)
		}
		gotKind, gotSent, ok := ReadKey(key)
		if !ok || gotKind != kind || !gotSent.Equal(sentAt.Truncate(time.Second)) {
			t.Errorf("%v: read back %v, %v, %v", kind, gotKind, gotSent, ok)
		}
		parsed, err := ParseKind(kind.String())
		if err != nil || parsed != kind {
			t.Errorf("%v: parsed as %v, %v", kind, parsed, err)
		}
	}
	if _, sent, ok := ReadKey(MakeKey(7, 42, Good, time.Time{})); !ok || !sent.IsZero() {
		t.Errorf("the zero time came back as %v, %v", sent, ok)
	}
	// Files made by a generator are kept in the repository: a key once made must stay the same.
	const want = "SimKey01AQBqXzZAvNnbtJZzBmvJr8Ef4WEpaRiWvUA="
	if got := MakeKey(1, 2, Expired, time.Unix(0x6a5f3640, 0)); got != want {
		t.Errorf("the second key of seed 1 is %s, want %s", got, want)
	}
}

func TestMakeKeyDistinct(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	plus, slash := false, false
	for n := range uint64(20_000) {
		key := MakeKey(3, n, Good, time.Time{})
		if seen[key] {
			t.Fatalf("key %d was there before", n)
		}
		seen[key] = true
		plus, slash = plus || strings.Contains(key, "+"), slash || strings.Contains(key, "/")
	}
	if seen[MakeKey(4, 0, Good, time.Time{})] {
		t.Error("another seed made the same key")
	}
	if !plus || !slash {
		t.Error("no key has a plus or a slash, which real ones have")
	}
}

func TestReadKeyRefusesOthers(t *testing.T) {
	t.Parallel()
	good := MakeKey(1, 1, Good, time.Time{})
	beyond := MakeKey(1, 1, kindEnd, time.Time{})
	for _, key := range []string{"", keyMarker, "Kna29Ra5pdJznx1ghavbumkQKwDzgfxZLapw55G7x0Q=", good[:43], good + "A", "simKey01" + good[8:], keyMarker + "!!!!!!!!" + good[16:], beyond} {
		if kind, _, ok := ReadKey(key); ok {
			t.Errorf("%q was read as %v", key, kind)
		}
	}
	if _, err := ParseKind("bad"); err == nil || !strings.Contains(err.Error(), "good, expired, unknown") {
		t.Errorf("ParseKind: %v", err)
	}
	if got := kindEnd.String(); got != "kind(8)" {
		t.Errorf("a kind beyond the last is %q", got)
	}
}
