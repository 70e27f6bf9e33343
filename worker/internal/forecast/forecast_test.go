package forecast

import (
	"math"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return t0.Add(d) }

// near compares moments up to what the forecast leaves out: it spreads the time between two calls over them.
func near(got, want time.Time, by time.Duration) bool { return got.Sub(want).Abs() <= by }

// TestByHand: each of these was worked out with pencil and paper.
func TestByHand(t *testing.T) {
	t.Parallel()
	day := after(24 * time.Hour)
	month := after(4 * time.Hour) // 16:00 UTC is midnight in Shanghai
	cases := map[string]struct {
		in        Input
		missed    int
		calls     int
		end       time.Duration
		firstMiss time.Duration // 0: none
		spent     time.Duration // -1: not
		incidents map[string]Incident
	}{
		"nothing waits": {in: Input{Rate: 20}, spent: -1},
		"one key": {in: Input{Rate: 20, Latency: 300 * time.Millisecond, Piles: []Pile{{Class: 1, Robot: "r", Keys: 1, Deadline: day}}},
			calls: 1, end: 350 * time.Millisecond, spent: -1},
		"2,000 keys at 20 calls a second": {in: Input{Rate: 20, Piles: []Pile{{Class: 2, Robot: "r", Keys: 2000, Deadline: day}}},
			calls: 100, end: 5 * time.Second, spent: -1},
		"slots and latency allow less than the rate": {in: Input{Rate: 20, Slots: 4, Latency: time.Second, Piles: []Pile{{Class: 2, Robot: "r", Keys: 2000, Deadline: day}}},
			calls: 100, end: 26 * time.Second, spent: -1},
		"no rate, no slots": {in: Input{Piles: []Pile{{Class: 2, Robot: "r", Keys: 2000, Deadline: day}}}, calls: 100, spent: -1},
		"half of it is too late": {in: Input{Rate: 1, Piles: []Pile{{Class: 1, Robot: "r", Keys: 2000, Deadline: after(50 * time.Second)}}},
			missed: 1000, calls: 50, end: 50 * time.Second, firstMiss: 50 * time.Second, spent: -1},
		"a window that is closed": {in: Input{Rate: 1, Piles: []Pile{{Class: 1, Robot: "r", Keys: 40, Deadline: after(-time.Second)}, {Class: 1, Robot: "r", Keys: 40, Deadline: day}}},
			missed: 40, calls: 2, end: 2 * time.Second, firstMiss: -1, spent: -1},
		"a key of each of 100 robots costs 100 calls": {in: Input{Rate: 20, Piles: manyRobots(100, 1, day)}, calls: 100, end: 5 * time.Second, spent: -1},
		"a robot's piles share calls": {in: Input{Rate: 1, Piles: []Pile{{Class: 1, Robot: "r", Keys: 10, Deadline: after(time.Hour)}, {Class: 1, Robot: "r", Keys: 10, Deadline: day}}},
			calls: 1, end: time.Second, spent: -1},
		"an urgent call is filled up with bulk": {in: Input{Rate: 1, Piles: []Pile{{Class: 0, Robot: "r", Incident: "u", Keys: 5, Deadline: day}, {Class: 2, Robot: "r", Incident: "b", Keys: 35, Deadline: day}}},
			calls: 2, end: 2 * time.Second, spent: -1, incidents: map[string]Incident{"u": {Keys: 5, Calls: 1, End: after(time.Second)}, "b": {Keys: 35, Calls: 1, End: after(2 * time.Second)}}},
		"urgent goes before bulk, whatever the deadlines": {in: Input{Rate: 1, Piles: []Pile{
			{Class: 0, Robot: "r", Incident: "u", Keys: 200, Deadline: day}, {Class: 2, Robot: "s", Incident: "b", Keys: 200, Deadline: after(5 * time.Second)}}},
			missed: 200, calls: 10, end: 10 * time.Second, firstMiss: 5 * time.Second, spent: -1,
			incidents: map[string]Incident{"u": {Keys: 200, Calls: 10, End: after(10 * time.Second)}, "b": {Keys: 200, Missed: 200, End: after(5 * time.Second)}}},
		"robots take turns": {in: Input{Rate: 1, Piles: []Pile{{Class: 1, Robot: "a", Incident: "long", Keys: 1000, Deadline: day}, {Class: 1, Robot: "b", Incident: "short", Keys: 100, Deadline: day}}},
			calls: 55, end: 55 * time.Second, spent: -1,
			incidents: map[string]Incident{"long": {Keys: 1000, Calls: 50, End: after(55 * time.Second)}, "short": {Keys: 100, Calls: 5, End: after(10 * time.Second)}}},
		"the budget ends before the month": {in: Input{Rate: 1, Budget: &Budget{Left: 10, Turns: month, Next: 5000},
			Piles: []Pile{{Class: 2, Robot: "r", Incident: "early", Keys: 400, Deadline: after(3 * time.Hour)}, {Class: 2, Robot: "r", Incident: "late", Keys: 400, Deadline: day}}},
			missed: 200, calls: 30, end: 4*time.Hour + 20*time.Second, firstMiss: 3 * time.Hour, spent: 10 * time.Second,
			incidents: map[string]Incident{"early": {Keys: 400, Missed: 200, Calls: 10, End: after(3 * time.Hour)}, "late": {Keys: 400, Calls: 20, End: after(4*time.Hour + 20*time.Second)}}},
		"the reserve is for urgent keys": {in: Input{Rate: 1, Budget: &Budget{Left: 50, Reserve: 10, Turns: after(30 * time.Hour)},
			Piles: []Pile{{Class: 2, Robot: "r", Incident: "bulk", Keys: 2000, Deadline: day}, {Class: 0, Robot: "r", Incident: "urgent", Keys: 100, Deadline: day}}},
			missed: 1300, calls: 40, end: 24 * time.Hour, firstMiss: 24 * time.Hour, spent: 40 * time.Second,
			incidents: map[string]Incident{"bulk": {Keys: 2000, Missed: 1300, Calls: 35, End: day}, "urgent": {Keys: 100, Calls: 5, End: after(5 * time.Second)}}},
		"a hold": {in: Input{Rate: 1, Start: after(time.Minute), Piles: []Pile{{Class: 1, Robot: "r", Keys: 20, Deadline: after(30 * time.Second)}, {Class: 1, Robot: "r", Keys: 20, Deadline: day}}},
			missed: 20, calls: 1, end: 61 * time.Second, firstMiss: 30 * time.Second, spent: -1},
		"keys that wait for later": {in: Input{Rate: 1, Piles: []Pile{{Class: 1, Robot: "r", Keys: 20, Deadline: day, NotBefore: after(time.Minute)}, {Class: 1, Robot: "r", Keys: 40, Deadline: day}}},
			calls: 3, end: 61 * time.Second, spent: -1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.in.Now = t0
			got := Make(c.in)
			if got.Missed != c.missed || got.Calls != c.calls {
				t.Errorf("missed %d of %d in %d calls, want %d in %d", got.Missed, got.Keys, got.Calls, c.missed, c.calls)
			}
			if want := after(c.end); len(c.in.Piles) > 0 && !near(got.End, want, time.Millisecond) {
				t.Errorf("ends after %v, want %v", got.End.Sub(t0), c.end)
			}
			if c.firstMiss == 0 != got.FirstMiss.IsZero() || c.firstMiss > 0 && !near(got.FirstMiss, after(c.firstMiss), time.Millisecond) {
				t.Errorf("first missed after %v, want %v", got.FirstMiss.Sub(t0), c.firstMiss)
			}
			if c.spent < 0 != got.Spent.IsZero() || c.spent >= 0 && !near(got.Spent, after(c.spent), time.Millisecond) {
				t.Errorf("spent after %v, want %v", got.Spent.Sub(t0), c.spent)
			}
			for _, i := range got.Incidents {
				want, ok := c.incidents[i.Incident]
				if c.incidents == nil {
					continue
				}
				want.Incident = i.Incident
				if end := want.End; !ok || !near(i.End, end, time.Millisecond) {
					t.Errorf("%s ends after %v, want %v", i.Incident, i.End.Sub(t0), end.Sub(t0))
				}
				i.End, want.End = time.Time{}, time.Time{}
				if i != want {
					t.Errorf("got %+v, want %+v", i, want)
				}
			}
		})
	}
}

func manyRobots(n, keys int, deadline time.Time) []Pile {
	var piles []Pile
	for i := range n {
		piles = append(piles, Pile{Class: 1, Robot: string(rune('A' + i)), Keys: keys, Deadline: deadline})
	}
	return piles
}

func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   Input
		want float64
	}{
		{Input{}, math.Inf(1)},
		{Input{Rate: 20}, 20},
		{Input{Rate: 20, Slots: 8}, 20},
		{Input{Rate: 20, Slots: 8, Latency: 100 * time.Millisecond}, 20},
		{Input{Rate: 20, Slots: 8, Latency: time.Second}, 8},
		{Input{Slots: 8, Latency: 2 * time.Second}, 4},
	} {
		if got := c.in.Pace(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.in, got, c.want)
		}
	}
}

// BenchmarkMake forecasts a bad day: 300 robots with keys in each of the 288 buckets of 24 hours.
func BenchmarkMake(b *testing.B) {
	in := Input{Now: t0, Rate: 20, Budget: &Budget{Left: 40_000, Reserve: 100, Turns: after(20 * time.Hour), Next: 50_000}}
	for robot := range 300 {
		for bucket := range 288 {
			in.Piles = append(in.Piles, Pile{Class: robot % 3, Robot: string(rune('A' + robot)), Keys: 17, Deadline: after(time.Duration(bucket) * 5 * time.Minute)})
		}
	}
	b.ReportMetric(float64(len(in.Piles)), "piles")
	for b.Loop() {
		Make(in)
	}
}
