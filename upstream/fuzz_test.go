package upstream

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func FuzzReadAnswer(f *testing.F) {
	keys := testKeys(3)
	for _, body := range []string{
		``, `{}`, `null`, `[]`, `"x"`, `{"successResult":[]}`, `{"successResult":["` + keys[0] + `"],"failedResult":{"` + keys[0] + `":"x","` + keys[1] + `":1}}`,
		`{"successResult":[null,1]}`, `{"failedResult":[]}`, `{"status":1111,"punish":"deny"}`, `{"code":"system.error","requestid":"r","message":"` + keys[2] + `"}`,
		`{"code":null,"message":null,"failedResult":null}`, `<html><title>x</title>`, `{"successResult":["`, `{"code":{},"accessdenieddetail":{"requiredScopes":["a"]}}`,
		`{"accessToken":"t","expireIn":7200}`, `{"accessToken":"t","expireIn":"99999999999999999999"}`, "\xff\xfe", `{"message":"` + testToken + `"}`,
	} {
		for _, status := range []int{200, 302, 400, 403, 500} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		asked := &call{op: OpRecall, keys: keys, scrub: newScrubber(testToken)}
		r := reply{status: status, header: http.Header{}, body: []byte(body)}
		answer, e := readAnswer(r, asked)
		if e == nil {
			if status != http.StatusOK {
				t.Fatalf("status %d is a success", status)
			}
			checkPartition(t, keys, answer)
			for _, v := range answer.Verdicts(keys) {
				if err := checkVerdict(Signal{PerKey: true, Recalled: v.Scope == Done}, v); err != nil {
					t.Fatal(err)
				}
			}
			for _, key := range answer.Recalled {
				if !strings.Contains(body, `"`) {
					t.Fatalf("%q recalled by %q", key, body)
				}
			}
			return
		}
		if e.Class == "" || e.Error() == "" || strings.ContainsAny(e.Error(), "\n\r\x00") || strings.Contains(e.Error(), testToken) {
			t.Fatalf("error %q", e.Error())
		}
		if e.Partial != nil {
			checkPartition(t, keys, *e.Partial)
		}
		if err := checkVerdict(e.Signal(3), e.Verdict(3)); err != nil {
			t.Fatal(err)
		}
		if got := len(e.Verdicts(keys)); got != len(keys) {
			t.Fatalf("%d verdicts", got)
		}

		now := time.Unix(1, 0)
		token, e := readToken(r, &tokenCall{call: call{op: OpToken, scrub: newScrubber(testSecret)}, snake: status%2 == 1}, now, now)
		if e == nil && (status != 200 || token.Value == "" || !token.ExpiresAt.After(now) || !token.RefreshAt.After(now) || token.RefreshAt.After(token.ExpiresAt)) {
			t.Fatalf("token %+v of %q", token, body)
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

func FuzzJudge(f *testing.F) {
	for i, row := range documented {
		f.Add(row.status, row.code, "m", i%22, i%3 == 0, uint8(i))
		f.Add(200, "", row.code, i%22, true, uint8(i))
	}
	f.Add(0, "\x00\xff", strings.Repeat("漢 ", 2000), -1, false, uint8(255))
	f.Fuzz(func(t *testing.T, status int, code, message string, keys int, perKey bool, bits uint8) {
		classes := append(Classes(), "")
		s := Signal{
			Op: OpRecall, Class: classes[int(bits)%len(classes)], Status: status, Code: code, Message: message, Keys: keys,
			PerKey: perKey, Recalled: bits&1 != 0, Failed: bits&2 != 0, Reason: message, Lost: bits&4 != 0, Banned: bits&8 != 0, HTML: bits&16 != 0,
		}
		if bits&32 != 0 {
			s.Op = OpToken
		}
		if bits&64 != 0 {
			s.RetryAfter = time.Minute
		}
		if err := checkVerdict(s, Judge(s)); err != nil {
			t.Fatalf("%+v: %+v: %v", s, Judge(s), err)
		}
	})
}
