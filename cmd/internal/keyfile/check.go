package keyfile

import (
	"context"
	"maps"
	"slices"
	"time"
)

// KeptBad is how many bad lines a Summary keeps; the others are only counted.
const KeptBad = 20

// BucketSize is the resolution of TargetSummary.Sent.
const BucketSize = 5 * time.Minute

// Summary is what Check found in a file.
type Summary struct {
	Name       string
	Format     Format
	Compressed bool
	Rows       int // good lines
	Distinct   int // different keys, counted per target
	Duplicates int // rows whose key an earlier row of the same target has: Rows - Distinct
	Skipped    int // good lines that Options.Skip leaves out; not among Rows
	Comments   int // lines skipped as comments
	Blank      int // lines skipped as empty
	BadLines   int
	Bad        []Bad // the first KeptBad of them, without Raw

	Targets map[Target]*TargetSummary

	// Of the distinct keys. Oldest and Newest are zero where no key says when it was sent.
	Oldest, Newest time.Time
	WithoutSentAt  int
}

// TargetSummary is what Check found of one target. It speaks of distinct keys; where a key is there more than once, its
// first row counts.
type TargetSummary struct {
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
	s := Summary{Name: f.Name(), Format: f.Format(), Compressed: f.Compressed(), Targets: make(map[Target]*TargetSummary)}
	var seen Set
	n, err := f.pass(ctx, func(r Row) error {
		s.Rows++
		if !seen.Add(r.Target(), r.Key) {
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

// Robots gives the robotCodes of the file, sorted.
func (s *Summary) Robots() []string {
	seen := make(map[string]bool)
	for t := range s.Targets {
		seen[t.RobotCode] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// Conversations is how many groups and private chats the file has keys of.
func (s *Summary) Conversations() int {
	n := 0
	for t := range s.Targets {
		if t.Chat != "" {
			n++
		}
	}
	return n
}

func (s *Summary) addKey(r Row) {
	target := s.Targets[r.Target()]
	if target == nil {
		target = &TargetSummary{Sent: make(map[int64]int)}
		s.Targets[r.Target()] = target
	}
	target.Keys++
	if !r.HasSentAt {
		target.WithoutSentAt++
		s.WithoutSentAt++
		return
	}
	size := int64(BucketSize / time.Second)
	at := r.SentAt.Unix()
	target.Sent[at-at%size]++ // moments before 1973 are refused, so that this rounds down
	if s.Oldest.IsZero() || r.SentAt.Before(s.Oldest) {
		s.Oldest = r.SentAt
	}
	if r.SentAt.After(s.Newest) {
		s.Newest = r.SentAt
	}
}
