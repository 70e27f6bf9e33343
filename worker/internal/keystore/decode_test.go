package keystore

import (
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dingrecall/worker/internal/flow"
)

// aKey draws what may be a key: no control characters, 1 to 512 bytes, often of a length that is stored in a way of its own.
func aKey(t *rapid.T, label string) string {
	n := rapid.SampledFrom([]int{1, 30, 31, 32, 33, 43, 44, 45, 512}).Draw(t, label+" length")
	switch rapid.IntRange(0, 3).Draw(t, label+" kind") {
	case 0:
		return base64.StdEncoding.EncodeToString(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, label))
	case 1: // like Base64, and seldom canonical
		return rapid.StringMatching(`[A-Za-z0-9+/]{43}=`).Draw(t, label)
	case 2:
		return strings.Repeat(rapid.SampledFrom([]string{"a", "A", "\x7e", "\xff"}).Draw(t, label), n)
	default:
		return rapid.StringOfN(rapid.RuneFrom([]rune(" aZ9+/=-_键é")), 1, n, 512).Draw(t, label)
	}
}

func TestPackIsInjective(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for range 20 {
			a, b := aKey(t, "a"), aKey(t, "b")
			pa, pb := pack(a), pack(b)
			if back, err := unpack(pa); err != nil || back != a {
				t.Fatalf("%q packs to %q and comes back as %q, %v", a, pa, back, err)
			}
			if (a == b) != (pa == pb) {
				t.Fatalf("%q and %q pack to %q and %q", a, b, pa, pb)
			}
		}
	})
	seen := map[string]string{}
	for _, k := range oddKeys() {
		p := pack(k)
		if other, ok := seen[p]; ok {
			t.Errorf("%q and %q pack to the same", k, other)
		}
		seen[p] = k
		if len(k) == 44 && k == testKey(7) && len(p) != 32 {
			t.Errorf("the usual key packs to %d bytes", len(p))
		}
	}
}

func FuzzPack(f *testing.F) {
	for _, k := range oddKeys() {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, k string) {
		if k == "" || strings.ContainsFunc(k, func(r rune) bool { return r < ' ' }) {
			return // no key: tasks refuses it
		}
		p := pack(k)
		if back, err := unpack(p); err != nil || back != k {
			t.Fatalf("%q packs to %q and comes back as %q, %v", k, p, back, err)
		}
		if len(p) == packedLen && len(k) != 44 {
			t.Fatalf("%q, which is no Base64 of 32 bytes, packs to as many", k)
		}
	})
}

// FuzzUnpack: what is stored, or not, never makes a panic; what is taken for a packed key packs to itself.
func FuzzUnpack(f *testing.F) {
	for _, k := range oddKeys() {
		f.Add(pack(k))
	}
	f.Add("")
	f.Add("\x00")
	f.Fuzz(func(t *testing.T, p string) {
		k, err := unpack(p)
		if err == nil && k == "" {
			t.Fatalf("%q unpacks to nothing", p)
		}
		if err == nil && !strings.HasPrefix(k, "\x00") && len(k) != 44 && pack(k) != p {
			t.Fatalf("%q unpacks to %q, which packs to %q", p, k, pack(k))
		}
	})
}

func FuzzDecodeLetter(f *testing.F) {
	f.Add("4:ding1:c1:m1:r0:1:01:11:01:513:179543520000086280:1:\x00k10:1795435200")
	f.Add("1:a1:c0:0:0:1:01:01:01:11:15:862802:\x00k1:1")
	f.Add("9223372036854775807:")
	f.Add("0:")
	f.Add("-1:")
	f.Add(":")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := decodeLetter("id", s)
		if err == nil && (len(l.Keys) == 0 || len(l.Keys) != len(l.SentAts)) {
			t.Fatalf("%q is a letter with %d keys and %d times", s, len(l.Keys), len(l.SentAts))
		}
	})
}

func FuzzDecodeBound(f *testing.F) {
	f.Add("\x21\x00\x02\x00k\x08\x01\x00\x00\x00\x83\x00\x10")
	f.Add("\x21\xff\xff")
	f.Add("\x00")
	f.Fuzz(func(t *testing.T, s string) {
		keys, err := decodeBound(s)
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.Key == "" {
				t.Fatalf("%q has a key without a name", s)
			}
		}
	})
}

// anyReply draws what a script might answer if it had gone wrong: the right shape with some of it replaced.
func anyReply(t *rapid.T) any {
	wild := func(label string, right any) any {
		switch rapid.IntRange(0, 14).Draw(t, label) {
		case 0:
			return nil
		case 1:
			return int64(math.MaxInt64)
		case 2:
			return "9e9"
		case 3:
			return []any{}
		case 4:
			return int64(-1)
		default:
			return right
		}
	}
	bound := "\x21\x01\x00\x00\x00\x08\x01\x00\x00\x00\x83\x00\x10\x00\x02\x00k" // packs of one key
	extra := []any{wild("batch", int64(5)), wild("run", int64(1)), wild("robot", "ding"), wild("cut", int64(1)), wild("tries", int64(0)), wild("note", ""),
		wild("wait", int64(0)), wild("ok", int64(0)), wild("keys", strings.Repeat(bound, rapid.IntRange(0, 22).Draw(t, "n")))}
	due := []any{wild("slot", "1"), wild("gen", "7")}
	if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
		due = append(due, "1")
	}
	return []any{wild("status", rapid.SampledFrom([]string{"batch", "idle", "ok"}).Draw(t, "which")), wild("due", due), wild("next", int64(1795435200000)),
		wild("outbox", int64(0)), wild("now", int64(1795435200000000)), wild("extra", extra)}
}

func TestDecodeReplyNeverPanics(t *testing.T) {
	t.Parallel()
	good, bad := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		for range 40 {
			r, err := decodeReply(anyReply(t))
			if err != nil {
				bad++
				continue
			}
			good++
			if r.Status == StatusBatch && (r.Batch == nil || r.Batch.Cut < 1 || r.Batch.Cut > len(r.Batch.Keys) || len(r.Batch.Keys) > flow.MaxBatch) {
				t.Fatalf("a batch of %+v", r.Batch)
			}
			_ = r.Batch == nil || r.Batch.Called() != nil
		}
	})
	if good == 0 || bad == 0 {
		t.Errorf("%d good replies and %d bad ones were tried", good, bad)
	}
	for _, v := range []any{nil, "OK", []any{}, []any{"ok"}, int64(1)} {
		if _, err := decodeReply(v); err == nil {
			t.Errorf("%v is no reply", v)
		}
	}
}

func TestDecodedDeadlineIsRightAllYear(t *testing.T) {
	t.Parallel()
	today := time.Now().Unix() / daySeconds
	for day := today - 200; day <= today+1; day++ {
		if got := fullDay(today, day%250); got != day {
			t.Errorf("day %d is read as %d, %d days off", day, got, got-day)
		}
	}
}

func TestParamsValidate(t *testing.T) {
	t.Parallel()
	if err := testParams().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		spoil func(*Params)
		says  string
	}{
		{func(p *Params) { p.Slots = 0 }, "slots must be 1 to 255 and at most the cap: 0, cap 8"},
		{func(p *Params) { p.Slots, p.SlotsCap = 256, 256 }, "slots must be 1 to 255 and at most the cap: 256, cap 256"},
		{func(p *Params) { p.SlotsCap = 3 }, "slots must be 1 to 255 and at most the cap: 4, cap 3"},
		{func(p *Params) { p.SlotsCap = 256 }, "slots must be 1 to 255 and at most the cap: 4, cap 256"},
		{func(p *Params) { p.Linger = -1 }, "must not be negative"},
		{func(p *Params) { p.Interval = -1 }, "must not be negative"},
		{func(p *Params) { p.Stuck = -1 }, "must not be negative"},
		{func(p *Params) { p.Life = time.Millisecond }, "at least a second: 1ms"},
		{func(p *Params) { p.LedgerTTL = 47 * time.Hour }, "48 hours at least: 47h"},
		{func(p *Params) { p.LedgerTTL = 201 * 24 * time.Hour }, "longer than 200 days: 4824h"},
		{func(p *Params) { p.Admit = -1 }, "and not -1"},
		{func(p *Params) { p.Admit = MaxAdmit + 1 }, fmt.Sprint("and not ", MaxAdmit+1)},
		{func(p *Params) { p.Letter = 0 }, "a dead letter holds one key at least"},
		{func(p *Params) { p.ProbeMax = 0 }, "probes are a second apart at least"},
	} {
		p := testParams()
		c.spoil(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q is not in %v", c.says, err)
		}
	}
}
