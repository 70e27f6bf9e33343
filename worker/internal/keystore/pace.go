package keystore

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// pace is what throttle answers have made of an app's rate. scripts/lib/5_limit.lua writes it, and goes by the same curve.
type pace struct {
	low, goal float64   // the share of the rate after the rest, and the one that it comes back to
	from      time.Time // when the rest is over
	back      time.Duration
	climb     time.Duration
}

const paceBelow = 0.97 // below of RATE in 5_limit.lua

func readPace(text string) (*pace, error) {
	if text == "" {
		return nil, nil
	}
	f := strings.Fields(text)
	if len(f) != 7 {
		return nil, errShape
	}
	var n [7]float64
	for i := range f {
		var err error
		if n[i], err = strconv.ParseFloat(f[i], 64); err != nil {
			return nil, errShape
		}
	}
	ms := func(f float64) time.Duration { return time.Duration(f) * time.Millisecond }
	return &pace{low: n[0], goal: n[1], from: time.UnixMilli(int64(n[2])), back: ms(n[3]), climb: ms(n[4])}, nil
}

// share gives the share of the configured rate that is in use at a moment.
func (p *pace) share(now time.Time) float64 {
	if p == nil {
		return 1
	}
	switch t := now.Sub(p.from); {
	case t <= 0:
		return p.low
	case t < p.back:
		return p.low + (p.goal-p.low)*t.Seconds()/p.back.Seconds()
	default:
		up := (t - p.back).Seconds() / p.climb.Seconds()
		return math.Min(1, p.goal*(1+(1-paceBelow)*up*up*up))
	}
}

// rest gives until when nobody calls, zero where that is not so.
func (p *pace) rest(now time.Time) time.Time {
	if p == nil || !p.from.After(now) {
		return time.Time{}
	}
	return p.from
}
