package keystore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dingrecall/worker/internal/flow"
)

// KeyRecord is what became of a key.
type KeyRecord struct {
	Key       string
	RobotCode string
	flow.Conversation
	State     flow.State // flow.Unknown: never accepted, or forgotten
	Class     flow.Class
	Ambiguous bool
	Attempts  int
	Incident  string
	Deadline  time.Time
	Code      string    // of a dead key
	Message   string    // of a dead key
	At        time.Time // when it was recalled, died or was cancelled
	RequestID string    // of the call that settled it
	Batch     int64     // in which a dead key died; 0 for others
}

// Target gives whose key it is.
func (r KeyRecord) Target() flow.Target {
	return flow.Target{RobotCode: r.RobotCode, Conversation: r.Conversation}
}

const lookupChunk = 200

// Lookup tells what became of keys, in their order, under the target of that name (a robotCode is one). With "" a key is looked
// for under every target of the app, and has a record for each that knows it. A key that nobody knows has one record in the
// state flow.Unknown.
func (s *Store) Lookup(ctx context.Context, target string, keys []string) ([]KeyRecord, error) {
	out := make([]KeyRecord, 0, len(keys))
	for from := 0; from < len(keys); from += lookupChunk {
		part := keys[from:min(from+lookupChunk, len(keys))]
		args := make([]any, 0, 1+len(part))
		args = append(args, target)
		for _, k := range part {
			args = append(args, pack(k))
		}
		v, err := s.run(ctx, "lookup", lookupScript, args...)
		if err != nil {
			return nil, err
		}
		rows, ok := v.([]any)
		if !ok || len(rows) != len(part) {
			return nil, fmt.Errorf("key store of app %q: lookup: %w", s.app, errShape)
		}
		for i, row := range rows {
			recs, err := decodeRecords(part[i], target, row)
			if err != nil {
				return nil, fmt.Errorf("key store of app %q: lookup: %w", s.app, err)
			}
			out = append(out, recs...)
		}
	}
	return out, nil
}

func decodeRecords(key, asked string, v any) ([]KeyRecord, error) {
	rows, ok := v.([]any)
	if !ok {
		return nil, errShape
	}
	if len(rows) == 0 {
		target := named(asked)
		return []KeyRecord{{Key: key, RobotCode: target.RobotCode, Conversation: target.Conversation, State: flow.Unknown}}, nil
	}
	out := make([]KeyRecord, 0, len(rows))
	for _, row := range rows {
		a, ok := row.([]any)
		if !ok || len(a) != 10 {
			return nil, errShape
		}
		var n [10]int64
		var s [10]string
		for i, x := range a {
			switch y := x.(type) {
			case int64:
				n[i] = y
			case string:
				s[i] = y
			default:
				return nil, errShape
			}
		}
		target := named(s[0])
		batch, err := number(a[9])
		if err != nil {
			return nil, err
		}
		r := KeyRecord{Key: key, RobotCode: target.RobotCode, Conversation: target.Conversation, State: flow.State(n[1]), Class: flow.Class(n[2]), Ambiguous: n[3] == 1,
			Attempts: int(n[4]), Incident: s[5], Deadline: time.Unix(n[6], 0), Batch: batch}
		r.Code, r.Message, _ = strings.Cut(s[7], "\n")
		ms, request, _ := strings.Cut(s[8], " ")
		if at, err := strconv.ParseInt(ms, 10, 64); err == nil {
			r.At, r.RequestID = time.UnixMilli(at), request
		}
		out = append(out, r)
	}
	return out, nil
}
