package simulator

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkRecall answers full calls, each with new keys, with every check and count on and no network in between.
func BenchmarkRecall(b *testing.B) {
	for name, cfg := range map[string]Config{
		"remember": {Rate: 1 << 30, Latency: 0, Failure: FailRandom, Reasons: ReasonMixed, Faults: []FaultRule{{Fault: FaultMissingKeys, Probability: 0.01}}},
		"forget":   {ForgetKeys: true},
	} {
		b.Run(name, func(b *testing.B) {
			cfg.Now = time.Now
			if cfg.Rate > 0 {
				cfg.Rate = 100_000 // never reached, but kept
			}
			x := setup(b, cfg)
			bodies := make([]string, b.N)
			for i := range bodies {
				bodies[i] = recallJSON(testRobot, x.keys(MaxKeys)...)
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := request(http.MethodPost, recallPath, x.token, bodies[next.Add(1)-1])
					x.sim.ServeHTTP(discard{http.Header{}}, r)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			b.StopTimer()
			if st := x.sim.Stats(); st.Calls != int64(b.N) || st.KeysRecalled != int64(b.N*MaxKeys) || st.Throttled != 0 {
				b.Fatalf("%d calls: counted %d, %d keys recalled, %d throttled", b.N, st.Calls, st.KeysRecalled, st.Throttled)
			}
		})
	}
}

// BenchmarkRecallHTTP does the same over HTTP on 127.0.0.1; client and server share the processors.
func BenchmarkRecallHTTP(b *testing.B) {
	x := setup(b, Config{Now: time.Now})
	srv, err := x.sim.Listen("")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = srv.Close() }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	bodies := make([]string, b.N)
	for i := range bodies {
		bodies[i] = recallJSON(testRobot, x.keys(MaxKeys)...)
	}
	var next atomic.Int64
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := http.NewRequest(http.MethodPost, srv.BaseURL()+recallPath, strings.NewReader(bodies[next.Add(1)-1]))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(tokenHeader, x.token)
			resp, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// BenchmarkLedger measures the time and the memory of one key.
func BenchmarkLedger(b *testing.B) {
	l := newLedger(false)
	c := &call{hashes: make([]uint64, 1)}
	b.ReportAllocs()
	for i := range b.N {
		c.hashes[0] = mix(uint64(i)) //nolint:gosec // i is not negative
		l.begin(c)
		l.mark(c.hashes[0], flagRecalled)
		l.end(c)
	}
	places := 0
	for i := range l.shards {
		places += len(l.shards[i].table)
	}
	b.ReportMetric(float64(8*places)/float64(b.N), "table-bytes/key")
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
