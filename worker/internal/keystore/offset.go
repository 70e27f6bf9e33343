package keystore

import (
	"sync"
	"time"
)

// offset tells at which moment of this process's clock a script ran, from the moment of Redis's clock that it told. Between
// sending a script and having its reply anything may happen to this process or to the network; the exchange that took the
// shortest time tells most about how far the clocks are apart. Without it, calls would be late by whatever their replies
// were, and calls that are late by different amounts do not keep to the rate.
type offset struct {
	mu    sync.Mutex
	apart time.Duration // Redis's clock less ours, as the best exchange showed it
	trip  time.Duration // how long that took; 0 = none yet
	since time.Time     // when it was
	mean  time.Duration // how long exchanges take of late, a moving average
}

// usual gives how long an exchange takes of late.
func (o *offset) usual() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mean
}

// trust is for how long an exchange is believed over a slower one: clocks drift.
const trust = 30 * time.Second

// local gives the moment of our clock at which Redis's showed redis, for a script sent and answered at these moments of ours.
func (o *offset) local(redis, sent, received time.Time) time.Time {
	trip := received.Sub(sent)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mean += (trip - o.mean) / 4
	if o.trip == 0 || trip <= o.trip || received.Sub(o.since) > trust {
		o.apart, o.trip, o.since = redis.Sub(sent.Add(trip/2)), max(trip, 1), received
	}
	at := sent.Add(redis.Add(-o.apart).Sub(sent))
	// Whatever the clocks show, the script ran between the two moments. A clock that was set is believed anew.
	if at.Before(sent) || at.After(received) {
		o.apart, o.trip, o.since = redis.Sub(sent.Add(trip/2)), max(trip, 1), received
		at = sent.Add(trip / 2)
	}
	return at
}

// now gives what Redis's clock shows: what it showed at the best exchange, and the time that has gone by since, which no setting of our
// clock changes. Before the first exchange ours has to do.
func (o *offset) now() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.trip == 0 {
		return time.Now()
	}
	return o.since.Add(o.apart).Add(time.Since(o.since)).Round(0)
}
