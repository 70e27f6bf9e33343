package keyfile

import (
	"context"
	"time"
)

// KeptBad is how many bad lines a Summary keeps; the others are only counted.
const KeptBad = 20

// BucketSize is the resolution of RobotSummary.Sent.
const BucketSize = 5 * time.Minute

// Summary is what Check found in a file.
type Summary struct {
	Name       string
	Format     Format
	Compressed bool
	Rows       int // good lines
	Distinct   int // different keys, counted per robot
	Duplicates int // rows whose key an earlier row of the same robot has: Rows - Distinct
	Skipped    int // good lines that Options.Skip leaves out; not among Rows
	Comments   int // lines skipped as comments
	Blank      int // lines skipped as empty
	BadLines   int
	Bad        []Bad // the first KeptBad of them, without Raw

	Robots map[string]*RobotSummary

	// Of the distinct keys. Oldest and Newest are zero where no key says when it was sent.
	Oldest, Newest time.Time
	WithoutSentAt  int
}

// RobotSummary is what Check found of one robot. It speaks of distinct keys; where a key is there more than once, its
// first row counts.
type RobotSummary struct {
	Keys          int
	WithoutSentAt int
	// Sent counts the keys by the moment of sending, rounded down to BucketSize (the map's keys are epoch seconds).
	Sent map[int64]int
}

// Check reads the whole file before anything is sent. Bad lines are counted, and handed to bad where that is not nil (a
// BadWriter's Write, say). It fails as Scan does, and with an *Error where there is neither a row nor a bad line.
//
// Memory: 16 bytes and a map's overhead for each distinct key.
func Check(ctx context.Context, f *File, bad func(Bad) error) (Summary, error) {
	s := Summary{Name: f.Name(), Format: f.Format(), Compressed: f.Compressed(), Robots: make(map[string]*RobotSummary)}
	var seen Set
	n, err := f.pass(ctx, func(r Row) error {
		s.Rows++
		if !seen.Add(r.RobotCode, r.Key) {
			s.Duplicates++
			return nil
		}
		s.addKey(r)
		return nil
	}, func(b Bad) error {
		s.BadLines++
		if len(s.Bad) < KeptBad {
			kept := b
			kept.Raw = nil
			s.Bad = append(s.Bad, kept)
		}
		if bad == nil {
			return nil
		}
		return bad(b)
	})
	if err != nil {
		return s, err
	}
	s.Distinct = seen.Len()
	s.Skipped, s.Comments, s.Blank = n.skipped, n.comments, n.blank
	if s.Rows+s.Skipped+s.BadLines == 0 {
		return s, f.fail("has no keys in it")
	}
	return s, nil
}

func (s *Summary) addKey(r Row) {
	robot := s.Robots[r.RobotCode]
	if robot == nil {
		robot = &RobotSummary{Sent: make(map[int64]int)}
		s.Robots[r.RobotCode] = robot
	}
	robot.Keys++
	if !r.HasSentAt {
		robot.WithoutSentAt++
		s.WithoutSentAt++
		return
	}
	size := int64(BucketSize / time.Second)
	at := r.SentAt.Unix()
	robot.Sent[at-at%size]++ // moments before 1973 are refused, so that this rounds down
	if s.Oldest.IsZero() || r.SentAt.Before(s.Oldest) {
		s.Oldest = r.SentAt
	}
	if r.SentAt.After(s.Newest) {
		s.Newest = r.SentAt
	}
}
