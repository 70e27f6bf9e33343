package upstream

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// TestHostileAnswersTakeBoundedMemory: an answer that is made of what takes most to decode takes some hundred times its size for a moment
// (which makes 64 MiB of the largest that is read), and hardly anything of it is kept.
func TestHostileAnswersTakeBoundedMemory(t *testing.T) {
	keys := testKeys(MaxKeys)
	const size, kept = DefaultMaxResponseBytes / 4, 64 << 10
	const most = 256 * size
	fill := func(head, unit, tail string) string {
		return head + strings.Repeat(unit, (size-len(head)-len(tail))/len(unit)) + tail
	}
	for name, body := range map[string]string{
		"empty texts recalled":  fill(`{"successResult":[`, `"",`, `""]}`),
		"the same key recalled": fill(`{"successResult":[`, `"`+keys[0]+`",`, `""]}`),
		"empty reasons":         fill(`{"failedResult":{`, `"":"",`, `"":""}}`),
		"a list of failures":    fill(`{"failedResult":[`, `{"":""},`, `{"k":"`+keys[0]+`"}]}`),
		"numbers":               fill(`{"successResult":[`, `1,`, `1]}`),
		"depth":                 fill(`{"code":`, `[`, ``),
		"members":               fill(`{`, `"a":1,`, `"b":2}`),
		"scopes":                fill(`{"code":"x","accessdenieddetail":{"requiredScopes":[`, `"",`, `""]}}`),
		"a long code":           fill(`{"code":"`, `c`, `"}`),
		"a long message":        fill(`{"code":"x","message":"`, "机", `"}`),
		"a long word":           fill(`{"code":"x","message":"`, keys[0][:40], `"}`),
		"a page":                fill(`<html>`, `<title>`, ``),
		"spaces":                fill(``, ` `, `x`),
	} {
		call := &call{op: OpRecall, keys: keys, scrub: newScrubber(testToken)}
		r := reply{status: 400, header: http.Header{}, body: []byte(body)}
		var before, decoded, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		answer, e := readAnswer(r, call)
		runtime.ReadMemStats(&decoded)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if took := decoded.TotalAlloc - before.TotalAlloc; took > most {
			t.Errorf("%s: %d bytes were allocated, more than %d", name, took, most)
		}
		if left := int64(after.HeapAlloc) - int64(before.HeapAlloc); left > kept {
			t.Errorf("%s: %d bytes are kept, more than %d", name, left, kept)
		}
		runtime.KeepAlive(answer)
		runtime.KeepAlive(e)
		runtime.KeepAlive(r)
	}
}
