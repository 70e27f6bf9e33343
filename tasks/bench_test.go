package tasks

import "testing"

func BenchmarkEncode(b *testing.B) {
	s := Submission{V: 1, RobotCode: testRobot, Keys: makeKeys(1000), SentAt: testNow.UnixMilli()}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = NewSubmitTask(s, ClassDefault)
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "keys/s")
}

func BenchmarkDecode(b *testing.B) {
	payload := encode(Submission{V: 1, RobotCode: testRobot, Keys: makeKeys(1000), SentAt: testNow.UnixMilli()})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DecodeSubmission(payload); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "keys/s")
}

// BenchmarkRecall measures a whole call but Redis.
func BenchmarkRecall(b *testing.B) {
	client := newClient(&fakeQueue{}, nil)
	keys := makeKeys(100_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Recall(b.Context(), testRobot, keys); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(len(keys))/b.Elapsed().Seconds(), "keys/s")
}
