package dispatch

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"dingrecall/upstream"
	"dingrecall/worker/internal/redistest"
)

func TestWhatIsToldOfTrouble(t *testing.T) {
	t.Parallel()
	const fails = "one call after the other fails: the keys wait and are tried again"
	const again = "calls are answered again"
	const rests = "the service wants a long rest: no call of the app is made until it is over"
	const odd = "an answer that is in no table"
	answer := func(err *upstream.Error) func(r *run) {
		return func(r *run) {
			if err == nil {
				r.reportAnswered()
				return
			}
			r.report(newDecider(testPolicy(), testBatch(20), testNow).failed(err), err)
		}
	}
	fail, good, bad := answer(hung()), answer(nil), answer(serviceError(400, "invalid.processQueryKey"))
	page := answer(&upstream.Error{Op: upstream.OpRecall, Class: upstream.ClassService, Status: 403, HTML: true})
	minute := answer(serviceError(403, "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"))
	second := answer(serviceError(403, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"))
	many := func(n int, f func(r *run)) []func(r *run) { return slices.Repeat([]func(r *run){f}, n) }
	for name, c := range map[string]struct {
		calls []func(r *run)
		want  []string
	}{
		"a few that fail":                  {many(manyFailures-1, fail), nil},
		"many":                             {many(3*manyFailures, fail), []string{fails}},
		"and then they do not":             {slices.Concat(many(20, fail), many(3, good)), []string{fails, again}},
		"a bad key is an answer":           {slices.Concat(many(20, fail), many(3, bad)), []string{fails, again}},
		"with answers in between":          {slices.Concat(many(7, fail), many(1, good), many(7, fail), many(1, bad), many(7, fail)), nil},
		"a page":                           {many(5, page), []string{rests}},
		"a limit per minute":               {many(5, minute), []string{rests}},
		"a limit per second":               {many(50, second), nil},
		"nobody knows it":                  {many(5, answer(serviceError(400, "brand.new"))), []string{odd}},
		"two that nobody knows":            {slices.Concat(many(3, answer(serviceError(400, "brand.new"))), many(3, answer(serviceError(400, "newer")))), []string{odd, odd}},
		"every call, and nobody knows why": {many(20, answer(serviceError(400, "brand.new"))), []string{odd, fails}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logged, logs := observer.New(zap.InfoLevel)
			r := &run{Dispatcher: &Dispatcher{deps: Deps{Log: zap.New(logged)}}, app: &App{Name: testApp}}
			for _, f := range c.calls {
				f(r)
			}
			var said []string
			for _, e := range logs.All() {
				said = append(said, e.Message)
			}
			if !slices.Equal(said, c.want) {
				t.Errorf("said %q, not %q", said, c.want)
			}
		})
	}
}

func TestTroubleIsToldAgain(t *testing.T) {
	t.Parallel()
	var tr trouble
	said := 0
	for i := range 61 { // a failure a minute
		if _, _, say := tr.failed(testNow.Add(time.Duration(i) * time.Minute)); say {
			said++
		}
	}
	if said != 6 {
		t.Errorf("said %d times in an hour", said)
	}
	for i := range 3 * mostOdd {
		tr.isOdd(testNow, fmt.Sprint(i))
	}
	if len(tr.odd) > mostOdd {
		t.Errorf("%d odd answers are remembered", len(tr.odd))
	}
	if !tr.rests(testNow, time.Minute) || tr.rests(testNow.Add(59*time.Second), time.Minute) || !tr.rests(testNow.Add(time.Minute), time.Minute) {
		t.Error("a rest is news once")
	}
}

// TestAnOutageIsToldByTheRun: what the parts say, a run says.
func TestAnOutageIsToldByTheRun(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb *redis.Client) {
		b := setup(t, rdb, nil)
		logged, logs := observer.New(zap.InfoLevel)
		b.deps.Log = zap.New(logged)
		b.service.answer = func(n int, c fakeCall) (upstream.Answer, error) {
			if n <= manyFailures {
				return upstream.Answer{}, hung()
			}
			return allRecalled(c.keys), nil
		}
		at := b.admit(20)
		for retry := range manyFailures {
			later(t, b.run(at, retry))
		}
		if b.app.Latency.Average() != 0 {
			t.Errorf("a latency of %v, and no call was answered", b.app.Latency.Average())
		}
		if err := b.run(at, manyFailures); err != nil {
			t.Fatal(err)
		}
		if n := logs.Len(); n != 2 || logs.All()[0].Level != zap.WarnLevel || logs.All()[1].Level != zap.InfoLevel {
			t.Errorf("logged %v", logs.All())
		}
	})
}
