package keystore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"dingrecall/worker/internal/flow"
)

// Letter is a dead letter in the outbox: keys of one target that died together of one code.
type Letter struct {
	ID        string // unique in the app: batch and number
	RobotCode string
	flow.Conversation
	Reason    flow.Reason
	RequestID string
	Incident  string
	Class     flow.Class
	Attempts  int
	Ambiguous bool
	Batch     int64
	DiedAt    time.Time
	Keys      []string
	SentAts   []time.Time // of each key, to the second
}

// Outbox gives up to about n dead letters that the queue does not have yet, none of them removed: Delivered does that.
func (s *Store) Outbox(ctx context.Context, n int) ([]Letter, error) {
	var fields []string
	for cursor := uint64(0); ; { // a scan may come back with nothing and not be at the end
		var err error
		fields, cursor, err = s.rdb.HScan(ctx, name(s.app, "outbox"), cursor, "", int64(n)).Result()
		if err != nil {
			return nil, fmt.Errorf("key store of app %q: read outbox: %w", s.app, err)
		}
		if len(fields) > 0 || cursor == 0 {
			break
		}
	}
	var out []Letter
	for i := 0; i+1 < len(fields) && len(out) < n; i += 2 {
		l, err := decodeLetter(fields[i], fields[i+1])
		if err != nil {
			return nil, fmt.Errorf("key store of app %q: dead letter %s: %w", s.app, fields[i], err)
		}
		out = append(out, l)
	}
	return out, nil
}

// Delivered removes dead letters that the queue has.
func (s *Store) Delivered(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	if err := s.rdb.HDel(ctx, name(s.app, "outbox"), ids...).Err(); err != nil {
		return fmt.Errorf("key store of app %q: remove from outbox: %w", s.app, err)
	}
	return nil
}

// decodeLetter reads what scripts/lib/3_letter.lua writes: netstrings.
func decodeLetter(id, s string) (Letter, error) {
	var f []string
	for len(s) > 0 {
		var i int
		for i < len(s) && s[i] != ':' {
			i++
		}
		n, err := strconv.Atoi(s[:i])
		if err != nil || n < 0 || n > len(s)-i-1 {
			return Letter{}, errShape
		}
		f = append(f, s[i+1:i+1+n])
		s = s[i+1+n:]
	}
	if len(f) < 13 || len(f)%2 == 0 {
		return Letter{}, errShape
	}
	var n [7]int64
	for i, at := range []int{5, 6, 7, 8, 9, 10} {
		x, err := strconv.ParseInt(f[at], 10, 64)
		if err != nil {
			return Letter{}, errShape
		}
		n[i] = x
	}
	target, err := flow.ParseTarget(f[0])
	if err != nil {
		return Letter{}, err // a newer worker knows it, and drains it
	}
	l := Letter{ID: id, RobotCode: target.RobotCode, Conversation: target.Conversation, Reason: flow.Reason{Code: f[1], Message: f[2]}, RequestID: f[3], Incident: f[4],
		Class: flow.Class(n[0]), Attempts: int(n[1]), Ambiguous: n[2] == 1, Batch: n[3], DiedAt: time.UnixMilli(n[4])}
	for i := 11; i < len(f); i += 2 {
		k, err := unpack(f[i])
		if err != nil {
			return Letter{}, err
		}
		deadline, err := strconv.ParseInt(f[i+1], 10, 64)
		if err != nil {
			return Letter{}, errShape
		}
		l.Keys = append(l.Keys, k)
		l.SentAts = append(l.SentAts, time.Unix(deadline-n[5], 0))
	}
	return l, nil
}
