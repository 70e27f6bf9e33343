package upstream

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

// seedBodies are answers of every shape, good and bad, with the secret in some.
func seedBodies(keys []string) []string {
	a, b, c := `"`+keys[0]+`"`, `"`+keys[1]+`"`, `"`+keys[2]+`"`
	return []string{
		``, `{}`, `null`, `[]`, `"x"`, `{"successResult":[]}`, `{"successResult":[` + a + `],"failedResult":{` + a + `:"x",` + b + `:1}}`,
		`{"successResult":[` + a + `,` + b + `,` + c + `],"failedResult":{}}`, `{"SUCCESSRESULT":[` + a + `],"successresult":[` + b + `]}`,
		`{"successResult":[null,1]}`, `{"failedResult":[]}`, `{"failedResult":[{"k":` + a + `,"why":"invalid.processQueryKey"},` + b + `]}`,
		`{"successResult":{` + a + `:true},"failedResult":{` + b + `:{"code":"system.error"}}}`, `{"successResult":[[` + a + `]]}`,
		`{"successResult":[` + strings.ToLower(a) + `,` + b[:20] + `","` + c[1:] + `],"failedResult":{}}`, `{"successResult":["+/x4="," ` + a[1:] + `]}`,
		`{"status":1111,"punish":"deny"}`, `{"status":1111,"successResult":[` + a + `]}`,
		`{"code":"system.error","requestid":"r","message":"` + keys[2] + `"}`, `{"code":"notRevoke.all.messages","successResult":[` + a + `],"failedResult":{` + b + `:"SYSTEM_ERROR"}}`,
		`{"code":"0","successResult":[],"failedResult":{}}`, `{"code":null,"message":null,"failedResult":null}`,
		`<html><title>x</title>`, `{"successResult":["`, `{"successResult":[` + a + `]}{}`, "\ufeff{}", "\xff\xfe", "\x1f\x8b\x08",
		`{"code":{},"accessdenieddetail":{"requiredScopes":["a"]}}`, `{"code":"x","accessdenieddetail":{"requiredScopes":"` + testToken + `"}}`,
		`{"message":"` + testToken + `"}`, `{"failedResult":{` + a + `:"` + testToken + `",` + b + `:["` + testToken + `"]}}`,
		`{"failedResult":{` + a + `:"` + testToken[:9] + `\u200d` + testToken[9:] + `"}}`, `{"code":"` + testToken[:9] + `\u0001` + testToken[9:] + `"}`,
	}
}

// FuzzReadAnswer reads any answer to a recall. A key is done only where the body says so of that very key, every key has one fate,
// nothing tells the token, and what is kept is bounded.
func FuzzReadAnswer(f *testing.F) {
	keys := testKeys(3)
	for _, body := range seedBodies(keys) {
		for _, status := range []int{200, 204, 302, 400, 403, 429, 500} {
			f.Add(status, body, "")
		}
	}
	f.Add(302, "", "https://elsewhere.example/?"+testToken)
	f.Add(302, "", "http://%zz"+testToken)
	f.Fuzz(func(t *testing.T, status int, body, location string) {
		asked := &call{op: OpRecall, keys: keys, scrub: newScrubber(testToken)}
		r := reply{status: status, header: http.Header{"Location": {location}}, body: []byte(body)}
		answer, e := readAnswer(r, asked)
		if string(r.body) != body {
			t.Fatal("the body was changed")
		}
		again, e2 := readAnswer(r, asked)
		if !reflect.DeepEqual(answer, again) || !reflect.DeepEqual(e, e2) {
			t.Fatal("the same answer was read in two ways")
		}
		named := wordsOf(body)
		if !once(body) {
			named.failed = nil // the later of two counts, and the other way to read it knows both
		}
		if e == nil {
			if status != http.StatusOK {
				t.Fatalf("status %d is a success", status)
			}
			checkAnswer(t, keys, answer, named)
			checkStable(t, asked, answer)
			return
		}
		checkError(t, keys, e, named)
		if e.Lost && status >= 300 && status < 500 {
			t.Fatalf("status %d, and the answer is lost", status)
		}
	})
}

// words is another way to read a body: the texts in its lists of recalled keys, and the names and texts in what it has of failed ones, of
// members in whatever case. Of a member that comes twice it takes both, so it says too much rather than too little.
type words struct{ recalled, failed map[string]bool }

func wordsOf(body string) words {
	w := words{map[string]bool{}, map[string]bool{}}
	decoder := json.NewDecoder(strings.NewReader(body))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return w
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return w
		}
		var value any
		if decoder.Decode(&value) != nil {
			return w
		}
		switch {
		case strings.EqualFold(name.(string), "successResult"):
			list, _ := value.([]any)
			for _, item := range list {
				if text, ok := item.(string); ok {
					w.recalled[text] = true
				}
			}
		case strings.EqualFold(name.(string), "failedResult"):
			object, _ := value.(map[string]any)
			for key := range object {
				w.failed[key] = true
			}
		}
	}
	return w
}

// once is true for a body in which no member comes twice, as far as it matters.
func once(body string) bool {
	folded := strings.ToLower(body)
	return strings.Count(folded, "failedresult") < 2 && !strings.Contains(body, `\u`)
}

// checkAnswer is what holds of every answer, whole or part of an error.
func checkAnswer(t *testing.T, keys []string, a Answer, named words) {
	t.Helper()
	checkPartition(t, keys, a)
	verdicts := a.Verdicts(keys)
	if len(verdicts) != len(keys) {
		t.Fatalf("%d verdicts for %d keys", len(verdicts), len(keys))
	}
	for i, v := range verdicts {
		done := slices.Contains(a.Recalled, keys[i])
		if done != (v.Scope == Done) || done && (!named.recalled[keys[i]] || named.failed[keys[i]]) {
			t.Fatalf("key %d: %+v, in the answer's list of recalled keys: %v, in the body's: %v, of failed keys: %v", i, v, done, named.recalled[keys[i]], named.failed[keys[i]])
		}
		if err := checkVerdict(Signal{PerKey: true, Recalled: done}, v); err != nil {
			t.Fatal(err)
		}
	}
	if e := a.AsError(); e != nil {
		v := e.Verdict(len(keys))
		if !v.Scope.BlamesNoKey() || slices.ContainsFunc(verdicts, func(v Verdict) bool { return v.Scope == Done || v.Scope == KeyDead }) {
			t.Fatalf("%+v is the error %+v", a, e)
		}
		if err := checkVerdict(e.Signal(len(keys)), v); err != nil {
			t.Fatal(err)
		}
	}
	checkNoToken(t, fmt.Sprintf("%+v %+v", a, verdicts))
}

func checkNoToken(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, testToken) {
		t.Fatalf("the token is in %q", text)
	}
}

// checkStable writes an answer as the service would have, and reads it again: every verdict is the same.
func checkStable(t *testing.T, asked *call, a Answer) {
	t.Helper()
	failed := map[string]string{}
	for _, key := range a.Both {
		failed[key] = a.bothReasons[key]
	}
	for key, reason := range a.Failed {
		failed[key] = reason
	}
	body, err := json.Marshal(map[string]any{"requestid": a.RequestID, "successResult": append(slices.Clone(a.Recalled), a.Both...), "failedResult": failed})
	if err != nil {
		t.Fatal(err)
	}
	again, e := readAnswer(reply{status: 200, header: http.Header{}, body: body}, asked)
	if e != nil || again.RequestID != a.RequestID || !reflect.DeepEqual(again.Verdicts(asked.keys), a.Verdicts(asked.keys)) {
		t.Fatalf("%+v is written as %s and read as %+v, %v", a, body, again, e)
	}
}

// checkError is what holds of every failed call.
func checkError(t *testing.T, keys []string, e *Error, named words) {
	t.Helper()
	if !slices.Contains(Classes(), e.Class) || e.Error() == "" || strings.ContainsAny(e.Error(), "\n\r\x00") {
		t.Fatalf("error %q of class %q", e.Error(), e.Class)
	}
	for _, text := range []struct {
		text  string
		limit int
	}{{e.Code, maxCodeRunes}, {e.Message, MaxMessageRunes}, {e.RequestID, maxCodeRunes}, {strings.Join(e.RequiredScopes, ""), MaxKeys * maxCodeRunes}} {
		if n := utf8.RuneCountInString(text.text); n > text.limit {
			t.Fatalf("%d runes are kept, more than %d", n, text.limit)
		}
	}
	checkNoToken(t, everyText(e))
	if err := checkVerdict(e.Signal(len(keys)), e.Verdict(len(keys))); err != nil {
		t.Fatal(err)
	}
	verdicts := e.Verdicts(keys)
	if len(verdicts) != len(keys) {
		t.Fatalf("%d verdicts for %d keys", len(verdicts), len(keys))
	}
	if e.Partial != nil {
		checkAnswer(t, keys, *e.Partial, named)
	}
	for i, v := range verdicts {
		if v.Scope == Done && (e.Partial == nil || !slices.Contains(e.Partial.Recalled, keys[i])) {
			t.Fatalf("key %d is done, and the error says nothing of it", i)
		}
	}
}

// FuzzReadToken reads any answer to a request for a token: it is good for some time, or it is an error that tells nothing of it.
func FuzzReadToken(f *testing.F) {
	for _, body := range append(seedBodies(testKeys(3)),
		`{"accessToken":"t","expireIn":7200}`, `{"accessToken":"t","expireIn":"99999999999999999999"}`, `{"accessToken":"`+testSecret+`","expireIn":1}`,
		`{"accessToken":"a b","expireIn":7200}`, `{"accessToken":{"a":1},"expireIn":7200}`, `{"accessToken":"t","expireIn":-1}`,
	) {
		for _, status := range []int{200, 302, 400, 401, 500} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		now := time.Unix(1, 0)
		r := reply{status: status, header: http.Header{}, body: []byte(body)}
		token, e := readToken(r, &tokenCall{call: call{op: OpToken, scrub: newScrubber(testToken)}, snake: status%2 == 1}, now, now)
		if e != nil {
			checkError(t, nil, e, words{})
			return
		}
		if status != 200 || !isHeaderValue(token.Value.Reveal()) || !token.ExpiresAt.After(now) || !token.RefreshAt.After(now) || token.RefreshAt.After(token.ExpiresAt) {
			t.Fatalf("token %+v of %q", token, body)
		}
		if !strings.Contains(fmt.Sprintf("%v %+v %#v", token, token, token), redacted) {
			t.Fatal("the token prints with its value")
		}
	})
}

// FuzzReadBody reads any body in any encoding: never more than the limit and one byte.
func FuzzReadBody(f *testing.F) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(bytes.Repeat([]byte("answer"), 500))
	_ = w.Close()
	for _, encoding := range []string{"", "gzip", " X-GZip", "br", "gzip, gzip"} {
		for _, body := range [][]byte{nil, []byte("{}"), packed.Bytes(), packed.Bytes()[:30], []byte("\x1f\x8b")} {
			f.Add(body, encoding, uint16(1000))
		}
	}
	f.Fuzz(func(t *testing.T, sent []byte, encoding string, limit uint16) {
		response := &http.Response{Header: http.Header{"Content-Encoding": {encoding}}, Body: io.NopCloser(iotest.HalfReader(bytes.NewReader(sent)))}
		got, err := readBody(response, new(bytes.Buffer), int64(limit))
		if err != nil || len(got) > int(limit)+1 {
			t.Fatalf("%d bytes, %v, with a limit of %d", len(got), err, limit)
		}
		if !isGzip(response.Header) && !bytes.Equal(got, sent[:min(len(sent), int(limit)+1)]) {
			t.Fatal("the body was changed")
		}
	})
}

// checkPartition: each key that was asked is in exactly one list, and nothing else is in any.
func checkPartition(t *testing.T, keys []string, a Answer) {
	t.Helper()
	var all []string
	all = append(append(append(all, a.Recalled...), a.Unmentioned...), a.Both...)
	for key := range a.Failed {
		all = append(all, key)
	}
	slices.Sort(all)
	want := slices.Sorted(slices.Values(keys))
	if !slices.Equal(all, want) {
		t.Fatalf("the lists hold %q, asked were %q", all, want)
	}
}

// FuzzJudge judges any signal.
func FuzzJudge(f *testing.F) {
	for i, row := range documented {
		f.Add(row.status, row.code, "m", i%22, i%3 == 0, uint8(i), "scope")
		f.Add(200, "", row.code, i%22, true, uint8(i), "")
		f.Add(row.status, strings.ToUpper(strings.ReplaceAll(row.code, ".", " ")), row.code, 20, false, uint8(i), "")
	}
	f.Add(0, "\x00\xff", strings.Repeat("漢 ", 2000), -1, false, uint8(255), "")
	f.Fuzz(func(t *testing.T, status int, code, message string, keys int, perKey bool, bits uint8, scope string) {
		classes := append(Classes(), "")
		s := Signal{
			Op: OpRecall, Class: classes[int(bits)%len(classes)], Status: status, Code: code, Message: message, Keys: keys,
			PerKey: perKey, Recalled: bits&1 != 0, Failed: bits&2 != 0, Reason: message, Lost: bits&4 != 0, Banned: bits&8 != 0, HTML: bits&16 != 0,
		}
		if scope != "" {
			s.RequiredScopes = []string{scope}
		}
		if bits&32 != 0 {
			s.Op = OpToken
		}
		if bits&64 != 0 {
			s.RetryAfter = time.Minute
		}
		v := Judge(s)
		fail := func(why any) { t.Helper(); t.Fatalf("%+v: %+v: %v", s, v, why) }
		if err := checkVerdict(s, v); err != nil {
			fail(err)
		}
		if v != Judge(s) {
			fail("another verdict at the second time")
		}
		switch v.Scope {
		case KeyDead, BatchKey, RobotDead:
			if !v.Known {
				fail("keys die of a code that nobody knows")
			}
		case AppHold, BudgetHold:
			if v.Hint == "" || !v.Blameless {
				fail("a hold that does not say what to do, or blames the keys")
			}
		}
		if !s.PerKey && s.RetryAfter > 0 && v.Rest != s.RetryAfter {
			fail("Retry-After is not kept")
		}

		// What the message says, and how the code is written, changes no decision.
		other := s
		other.Code = swapCase(s.Code)
		if s.PerKey {
			other.Reason = swapCase(s.Reason)
		} else {
			other.Message = "something else"
		}
		w := Judge(other)
		if w.Scope != v.Scope || w.Throttle != v.Throttle || w.Rest != v.Rest || w.Known != v.Known || w.Known && w.Code != v.Code {
			fail(fmt.Sprintf("written otherwise it is %+v", w))
		}
	})
}

// swapCase makes capitals of small letters and the other way round.
func swapCase(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}
