package keystore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dingrecall/worker/internal/flow"
)

// Budget is the calls that an app may make in a calendar month.
type Budget struct {
	Zone    *time.Location // in which the month turns; nil: calls are not counted
	Calls   int            // that may be made; 0: any number, and they are only counted
	Reserve int            // of Calls, those that are kept for urgent keys
}

// Validate tells what is wrong with the budget.
func (b Budget) Validate() error {
	switch {
	case b.Calls < 0 || b.Reserve < 0:
		return fmt.Errorf("calls of a month and their reserve must not be negative: %d, %d", b.Calls, b.Reserve)
	case b.Reserve > b.Calls:
		return fmt.Errorf("the reserve for urgent keys (%d) is more than the month's calls (%d)", b.Reserve, b.Calls)
	case b.Calls > 0 && b.Zone == nil:
		return errors.New("a month's calls need the time zone in which it turns")
	}
	return nil
}

// arg is the budget as the scripts want it; now is Redis's clock, as far as it is known.
func (b Budget) arg(now time.Time) string {
	if b.Zone == nil {
		return ""
	}
	from, turns := flow.Month(now, b.Zone)
	return fmt.Sprintf("%d %d %d %d", b.Calls, b.Reserve, from.UnixMilli(), turns.UnixMilli())
}

// Now gives Redis's clock, which all scripts go by: every reply tells it, and Sync.
func (s *Store) Now() time.Time {
	if s.now != nil {
		return s.now()
	}
	return s.offset.now()
}

// Sync asks Redis for its clock, so that Now is right before the first reply of a script.
func (s *Store) Sync(ctx context.Context) error {
	sent := time.Now()
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("key store of app %q: ask for the time: %w", s.app, err)
	}
	s.offset.local(now, sent, time.Now())
	return nil
}

// Codes of holds that are the key store's own and not the service's.
const (
	// CodeBudgetSpent: as many calls were made in this month as the configuration allows.
	CodeBudgetSpent = "budget.spent"
	// CodeBudgetReserved: what is left of the month's calls is kept for urgent keys, and none of those waits.
	CodeBudgetReserved = "budget.reserved"
)

// Settings is what the workers of an app last said of theirs, for whoever looks without having them.
type Settings struct {
	Rate    float64       // calls a second; 0: no limit
	Slots   int           // calls in flight at most
	Latency time.Duration // for which a call keeps its slot, of late; 0: not known
	Calls   int           // of a month; 0: no limit
	Reserve int           // of those, for urgent keys
}

// Tell lets others know an app's settings. They go by them in what they show, and in nothing else.
func (s *Store) Tell(ctx context.Context, v Settings) error {
	fields := []any{"rate", v.Rate, "slots", v.Slots, "calls", v.Calls, "reserve", v.Reserve}
	if v.Latency > 0 { // what a worker that has made calls said of them outlives one that has made none
		fields = append(fields, "latency", v.Latency.Microseconds())
	}
	if err := s.rdb.HSet(ctx, name(s.app, "settings"), fields...).Err(); err != nil {
		return fmt.Errorf("key store of app %q: tell the settings: %w", s.app, err)
	}
	return nil
}

func decodeSettings(m map[string]string) (*Settings, error) {
	if len(m) == 0 {
		return nil, nil
	}
	var n [4]int64
	for i, f := range []string{"slots", "latency", "calls", "reserve"} {
		if m[f] == "" {
			continue
		}
		v, err := strconv.ParseInt(m[f], 10, 64)
		if err != nil {
			return nil, errShape
		}
		n[i] = v
	}
	rate, err := strconv.ParseFloat(m["rate"], 64)
	if err != nil {
		return nil, errShape
	}
	return &Settings{Rate: rate, Slots: int(n[0]), Latency: time.Duration(n[1]) * time.Microsecond, Calls: int(n[2]), Reserve: int(n[3])}, nil
}

// BudgetStatus is how the month's calls stand.
type BudgetStatus struct {
	Used    int       // calls of this month that are made or under way
	Calls   int       // that may be made; 0: any number
	Reserve int       // of Calls, those that are kept for urgent keys
	Turns   time.Time // when the next month begins
	Spent   time.Time // when the last call that may be made was; zero: it was not yet
	Kept    time.Time // the same of the last call for keys that are not urgent
	Lifted  bool      // an operator lets calls go on beyond the limit until the month turns
}

// Left gives how many calls may still be made, all and of those for keys that are not urgent; -1: any number.
func (b BudgetStatus) Left() (all, others int) {
	if b.Calls == 0 || b.Lifted {
		return -1, -1
	}
	return max(0, b.Calls-b.Used), max(0, b.Calls-b.Reserve-b.Used)
}

// decodeBudget reads the month from the app's hash. It is nil where no calls are counted.
func decodeBudget(meta map[string]string, s *Settings, now time.Time) (*BudgetStatus, error) {
	if meta["month"] == "" {
		return nil, nil
	}
	used, err := strconv.Atoi(meta["used"])
	if err != nil {
		return nil, errShape
	}
	b := &BudgetStatus{Used: used, Turns: millis(meta["turns"]), Spent: millis(meta["spent"]), Kept: millis(meta["kept"]), Lifted: meta["lifted"] == "1"}
	if !now.Before(b.Turns) { // no script has run since the month turned
		*b = BudgetStatus{}
	}
	if s != nil {
		b.Calls, b.Reserve = s.Calls, s.Reserve
	}
	return b, nil
}

// hold says that the month's calls are why keys wait; noneUrgent: keys wait, and none of them is urgent.
func (b *BudgetStatus) hold(noneUrgent bool) *HoldStatus {
	if b == nil {
		return nil
	}
	all, others := b.Left()
	h := &HoldStatus{Since: b.Spent, NextProbe: b.Turns}
	switch {
	case all == 0:
		h.Reason = flow.Reason{Code: CodeBudgetSpent, Message: fmt.Sprintf("the %d calls of this month are made; its keys wait until the month turns, "+
			"or until recall release lets calls go on beyond them (monthlyCalls of the app says how many there are)", b.Calls)}
	case others == 0 && noneUrgent:
		h.Since = b.Kept
		h.Reason = flow.Reason{Code: CodeBudgetReserved, Message: fmt.Sprintf("of the %d calls of this month %d are left, which are kept for urgent keys "+
			"(urgentReserve of the app); other keys wait until the month turns, or until recall release", b.Calls, all)}
	default:
		return nil
	}
	return h
}
