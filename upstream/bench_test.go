package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
)

func answerTo(keys []string) []byte {
	body, err := json.Marshal(map[string]any{"successResult": keys, "failedResult": map[string]string{}})
	if err != nil {
		panic(err)
	}
	return body
}

func BenchmarkEncode20(b *testing.B) {
	keys := testKeys(MaxKeys)
	b.ReportAllocs()
	for b.Loop() {
		appendRecall(make([]byte, 0, recallSize(Target{RobotCode: testRobot}, keys)), Target{RobotCode: testRobot}, keys)
	}
}

func BenchmarkDecode20(b *testing.B) {
	keys := testKeys(MaxKeys)
	call := &call{op: OpRecall, keys: keys, scrub: newScrubber(testToken)}
	r := reply{status: 200, header: http.Header{}, body: answerTo(keys)}
	b.SetBytes(int64(len(r.body)))
	b.ReportAllocs()
	for b.Loop() {
		if answer, e := readAnswer(r, call); e != nil || len(answer.Recalled) != MaxKeys {
			b.Fatalf("%+v %v", answer, e)
		}
	}
}

// BenchmarkDecodeAndJudge20Failed is the other end: every key failed, each with a reason to be searched.
func BenchmarkDecodeAndJudge20Failed(b *testing.B) {
	keys := testKeys(MaxKeys)
	failed := make(map[string]string)
	for i, key := range keys {
		failed[key] = fmt.Sprintf("撤回失败：robot.processQueryKey.expired (%d)", i)
	}
	body, err := json.Marshal(map[string]any{"successResult": []string{}, "failedResult": failed})
	if err != nil {
		b.Fatal(err)
	}
	call := &call{op: OpRecall, keys: keys, scrub: newScrubber(testToken)}
	r := reply{status: 200, header: http.Header{}, body: body}
	b.ReportAllocs()
	for b.Loop() {
		answer, e := readAnswer(r, call)
		if e != nil {
			b.Fatal(e)
		}
		for _, v := range answer.Verdicts(keys) {
			if v.Scope != KeyDead {
				b.Fatalf("%+v", v)
			}
		}
	}
}

// BenchmarkBatchRecall is a whole call over loopback, the server's work included.
func BenchmarkBatchRecall(b *testing.B) {
	keys := testKeys(MaxKeys)
	body := answerTo(keys)
	client := serve(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.BatchRecall(b.Context(), testToken, testRobot, keys); err != nil {
				b.Fatal(err)
			}
		}
	})
}
