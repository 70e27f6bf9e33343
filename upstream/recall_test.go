package upstream

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	type seen struct {
		method, uri, body string
		header            http.Header
	}
	requests := make(chan seen, 1)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{r.Method, r.RequestURI, string(body), r.Header.Clone()}
		respond(200, `{"successResult":["a+/=<&>\"\\é"],"failedResult":{}}`, requestIDHeader, "req-1")(w, r)
	})
	key := "a+/=<&>\"\\é"
	answer, err := client.BatchRecall(t.Context(), testToken, testRobot, []string{key})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Answer{RequestID: "req-1", Recalled: []string{key}}); !reflect.DeepEqual(answer, want) {
		t.Errorf("answer %+v, want %+v", answer, want)
	}
	got := <-requests
	if got.method != "POST" || got.uri != "/v1.0/robot/otoMessages/batchRecall" {
		t.Errorf("request %s %s", got.method, got.uri)
	}
	if want := `{"robotCode":"dingue4kfzdxbyn0pjqd","processQueryKeys":["a+/=<&>\"\\é"]}`; got.body != want {
		t.Errorf("body %s, want %s", got.body, want)
	}
	for name, want := range map[string]string{
		"x-acs-dingtalk-access-token": testToken, "Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "dingrecall",
	} {
		if values := got.header.Values(name); !slices.Equal(values, []string{want}) {
			t.Errorf("header %s is %q, want %q", name, values, want)
		}
	}
}

func TestJSONStringIsWhatOthersRead(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "plain+/=", `q"b\`, "ctl\x00\x1f\n\t", "é漢🙂\u2028", "<&>"} {
		var got string
		if err := json.Unmarshal(appendJSONString(nil, s), &got); err != nil || got != s {
			t.Errorf("%q reads back as %q, %v", s, got, err)
		}
	}
}

func TestRequestsThatAreNotSent(t *testing.T) {
	t.Parallel()
	client := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	keys := testKeys(21)
	tests := []struct {
		name, token, robot string
		keys               []string
		code               string
		scope              Scope
	}{
		{"no token", "", testRobot, keys[:1], CodeRequestToken, AppHold},
		{"token with a line break", "abcdefgh\r\nX: y", testRobot, keys[:1], CodeRequestToken, AppHold},
		{"no robot", testToken, "", keys[:1], CodeRequestRobot, RobotDead},
		{"robot of no UTF-8", testToken, "a\xff", keys[:1], CodeRequestRobot, RobotDead},
		{"no keys", testToken, testRobot, nil, CodeRequestKeys, KeyDead},
		{"21 keys", testToken, testRobot, keys, CodeRequestKeys, BatchKey},
		{"empty key", testToken, testRobot, []string{keys[0], ""}, CodeRequestKeys, BatchKey},
		{"key of no UTF-8", testToken, testRobot, []string{"\xff"}, CodeRequestKeys, KeyDead},
		{"repeated key", testToken, testRobot, []string{keys[0], keys[1], keys[0]}, CodeRequestKeys, BatchKey},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := client.BatchRecall(t.Context(), test.token, test.robot, test.keys)
			e := asError(t, err)
			v := e.Verdict(len(test.keys))
			if e.Class != ClassRequest || e.Code != test.code || e.Lost || v.Scope != test.scope {
				t.Errorf("got %+v with verdict %+v, want code %s and scope %v", e, v, test.code, test.scope)
			}
			if strings.Contains(err.Error(), "abcdefgh") || strings.Contains(err.Error(), keys[0]) {
				t.Errorf("the error repeats the token or a key: %v", err)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	keys := testKeys(3)
	a, b, c := `"`+keys[0]+`"`, `"`+keys[1]+`"`, `"`+keys[2]+`"`
	tests := []struct {
		name, body string
		want       Answer
		scopes     []Scope
	}{
		{"all recalled", `{"successResult":[` + a + `,` + b + `,` + c + `],"failedResult":{}}`,
			Answer{Recalled: keys}, []Scope{Done, Done, Done}},
		{"another order", `{"successResult":[` + c + `,` + a + `,` + b + `]}`,
			Answer{Recalled: keys}, []Scope{Done, Done, Done}},
		{"named twice", `{"successResult":[` + a + `,` + a + `,` + b + `,` + c + `]}`,
			Answer{Recalled: keys}, []Scope{Done, Done, Done}},
		{"some failed", `{"successResult":[` + b + `],"failedResult":{` + a + `:"SYSTEM_ERROR",` + c + `:"robot.processQueryKey.expired"}}`,
			Answer{Recalled: keys[1:2], Failed: map[string]string{keys[0]: "SYSTEM_ERROR", keys[2]: "robot.processQueryKey.expired"}}, []Scope{Transient, Done, KeyDead}},
		{"reasons that are no strings", `{"successResult":[],"failedResult":{` + a + `:17,` + b + `:null,` + c + `:{"code":"system.error"}}}`,
			Answer{Failed: map[string]string{keys[0]: "17", keys[1]: "null", keys[2]: `{"code":"system.error"}`}}, []Scope{Unknown, Unknown, Transient}},
		{"one not mentioned", `{"successResult":[` + a + `],"failedResult":{` + b + `:"x"}}`,
			Answer{Recalled: keys[:1], Failed: map[string]string{keys[1]: "x"}, Unmentioned: keys[2:]}, []Scope{Done, Unknown, Transient}},
		{"none mentioned", `{"successResult":[],"failedResult":{}}`, Answer{Unmentioned: keys}, []Scope{Transient, Transient, Transient}},
		{"null and empty", `{"successResult":null,"failedResult":{}}`, Answer{Unmentioned: keys}, []Scope{Transient, Transient, Transient}},
		{"in both", `{"successResult":[` + a + `,` + b + `],"failedResult":{` + a + `:"invalid.processQueryKey",` + c + `:""}}`,
			Answer{Recalled: keys[1:2], Both: keys[:1], Failed: map[string]string{keys[2]: ""}, bothReasons: map[string]string{keys[0]: "invalid.processQueryKey"}}, []Scope{Transient, Done, Unknown}},
		{"foreign keys", `{"successResult":[` + a + `,"other",null],"failedResult":{"third":"x"}}`,
			Answer{Recalled: keys[:1], Unmentioned: keys[1:], Foreign: 3}, []Scope{Done, Transient, Transient}},
		{"case matters", `{"successResult":["` + strings.ToLower(keys[0]) + `"]}`, Answer{Unmentioned: keys, Foreign: 1}, []Scope{Transient, Transient, Transient}},
		{"failedResult as a list", `{"successResult":[` + a + `,` + b + `,` + c + `],"failedResult":[]}`, Answer{Recalled: keys}, []Scope{Done, Done, Done}},
		{"failedResult as a list of keys", `{"successResult":[` + b + `],"failedResult":[` + a + `,"other"]}`,
			Answer{Recalled: keys[1:2], Failed: map[string]string{keys[0]: ""}, Unmentioned: keys[2:]}, []Scope{Unknown, Done, Transient}},
		{"failedResult as a list of objects", `{"successResult":[` + b + `],"failedResult":[{"processQueryKey":` + a + `,"reason":"invalid.processQueryKey"},{"key":"other"},7,null,["x"],{"key":` + c + `,"why":{}}]}`,
			Answer{Recalled: keys[1:2], Failed: map[string]string{keys[0]: `{"processQueryKey":` + a + `,"reason":"invalid.processQueryKey"}`, keys[2]: `{"key":` + c + `,"why":{}}`}}, []Scope{KeyDead, Done, Unknown}},
		{"failedResult as a list, and in both", `{"successResult":[` + a + `],"failedResult":[{"k":` + a + `}]}`,
			Answer{Both: keys[:1], bothReasons: map[string]string{keys[0]: `{"k":` + a + `}`}, Unmentioned: keys[1:]}, []Scope{Transient, Transient, Transient}},
		{"failedResult as text", `{"successResult":[` + a + `,` + b + `,` + c + `],"failedResult":"none"}`, Answer{Recalled: keys}, []Scope{Done, Done, Done}},
		{"successResult as an object", `{"successResult":{` + a + `:true},"failedResult":{` + b + `:"x"}}`,
			Answer{Failed: map[string]string{keys[1]: "x"}, Unmentioned: []string{keys[0], keys[2]}}, []Scope{Transient, Unknown, Transient}},
		{"successResult as a list of objects", `{"successResult":[{"processQueryKey":` + a + `}],"failedResult":{}}`, Answer{Unmentioned: keys}, []Scope{Transient, Transient, Transient}},
		{"nested lists", `{"successResult":[[` + a + `]],"failedResult":{` + b + `:["system.error"]}}`,
			Answer{Failed: map[string]string{keys[1]: `["system.error"]`}, Unmentioned: []string{keys[0], keys[2]}}, []Scope{Transient, Transient, Transient}},
		{"lists inside another object", `{"result":{"successResult":[` + a + `]},"failedResult":{}}`, Answer{Unmentioned: keys}, []Scope{Transient, Transient, Transient}},
		{"the same list twice", `{"successResult":[` + a + `],"successResult":[` + b + `],"failedResult":{}}`,
			Answer{Recalled: keys[1:2], Unmentioned: []string{keys[0], keys[2]}}, []Scope{Transient, Done, Transient}},
		{"notRevoke.all.messages of one key", `{"successResult":[` + a + `,` + b + `],"failedResult":{` + c + `:"notRevoke.all.messages"}}`,
			Answer{Recalled: keys[:2], Failed: map[string]string{keys[2]: "notRevoke.all.messages"}}, []Scope{Done, Done, Transient}},
		{"successResult of numbers", `{"successResult":[` + a + `,1],"failedResult":{` + a + `:"x"}}`,
			Answer{Failed: map[string]string{keys[0]: "x"}, Unmentioned: keys[1:]}, []Scope{Unknown, Transient, Transient}},
		{"lists with a code", `{"code":"notRevoke.all.messages","successResult":[` + a + `,` + b + `,` + c + `]}`, Answer{Recalled: keys}, []Scope{Done, Done, Done}},
		{"request id in the body", `{"requestId":"r2","successResult":[` + a + `,` + b + `,` + c + `]}`, Answer{RequestID: "r2", Recalled: keys}, []Scope{Done, Done, Done}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, respond(200, test.body, "Content-Type", "text/html")) // the type of the content decides nothing
			answer, err := client.BatchRecall(t.Context(), testToken, testRobot, keys)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(answer, test.want) {
				t.Errorf("answer %+v\nwant   %+v", answer, test.want)
			}
			checkVerdicts(t, answer.Verdicts(keys), test.scopes)
		})
	}
}

// TestGzippedAnswers: nobody asked for them, and they are answers all the same.
func TestGzippedAnswers(t *testing.T) {
	t.Parallel()
	keys := testKeys(2)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(answerTo(keys))
	_ = w.Close()
	for name, handler := range map[string]http.HandlerFunc{
		"gzip":                respond(200, packed.String(), "Content-Encoding", " GZIP"),
		"x-gzip":              respond(200, packed.String(), "Content-Encoding", "x-gzip"),
		"unpacked on its way": respond(200, string(answerTo(keys)), "Content-Encoding", "gzip"),
	} {
		answer, err := serve(t, handler).BatchRecall(t.Context(), testToken, testRobot, keys)
		if err != nil || !slices.Equal(answer.Recalled, keys) {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
	}
	// A megabyte of the same byte packs into one kilobyte.
	packed.Reset()
	w = gzip.NewWriter(&packed)
	_, _ = w.Write(bytes.Repeat([]byte{' '}, 1<<20))
	_ = w.Close()
	client := serve(t, respond(200, packed.String(), "Content-Encoding", "gzip"), func(c *Config) { c.MaxResponseBytes = 4096 })
	_, err := client.BatchRecall(t.Context(), testToken, testRobot, keys)
	if e := asError(t, err); e.Class != ClassTooLarge {
		t.Errorf("a bomb: %+v", e)
	}
}

func checkVerdicts(t *testing.T, verdicts []Verdict, scopes []Scope) {
	t.Helper()
	if len(verdicts) != len(scopes) {
		t.Fatalf("%d verdicts, want %d", len(verdicts), len(scopes))
	}
	for i, v := range verdicts {
		if v.Scope != scopes[i] {
			t.Errorf("key %d: verdict %+v, want scope %v", i, v, scopes[i])
		}
		if (v.Code == "") != (v.Scope == Done) {
			t.Errorf("key %d: scope %v with code %q", i, v.Scope, v.Code)
		}
	}
}

func TestErrorThatSpeaksOfSingleKeys(t *testing.T) {
	t.Parallel()
	keys := testKeys(4)
	body := `{"code":"notRevoke.all.messages","requestid":"r","message":"x","successResult":["` + keys[0] + `"],"failedResult":{"` + keys[1] + `":"invalid.processQueryKey"}}`
	client := serve(t, respond(400, body))
	_, err := client.BatchRecall(t.Context(), testToken, testRobot, keys)
	e := asError(t, err)
	if e.Partial == nil || !slices.Equal(e.Partial.Recalled, keys[:1]) {
		t.Fatalf("Partial is %+v", e.Partial)
	}
	verdicts := e.Verdicts(keys)
	checkVerdicts(t, verdicts, []Scope{Done, KeyDead, Transient, Transient})
	if !verdicts[2].Ambiguous || verdicts[2].Code != "notRevoke.all.messages" {
		t.Errorf("a key of which nothing is said: %+v, want it ambiguous", verdicts[2])
	}

	// With all but one key spoken of, a key's code can only mean the last one.
	e.Code, e.Partial.Failed = "invalid.processQueryKey", map[string]string{keys[1]: "x", keys[2]: "x"}
	checkVerdicts(t, e.Verdicts(keys), []Scope{Done, Unknown, Unknown, KeyDead})
	e.Partial = nil
	checkVerdicts(t, e.Verdicts(keys), []Scope{BatchKey, BatchKey, BatchKey, BatchKey})
}
