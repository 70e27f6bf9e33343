package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"dingrecall/upstream/simulator"
)

// window is how long after sending a key can be recalled (official documentation).
const window = 24 * time.Hour

// line is one line of the file.
type line struct {
	key, robot string
	sentAt     time.Time // zero: the file does not say
}

// broadcast is what the file tells of.
type broadcast struct {
	opts  options
	lines []line
	told  int // of the expired keys, those whose sentAt is in the file
}

// newBroadcast makes the lines in the order of sending. Special keys and repeated lines stand at random places among the
// good ones, as they would in a log.
func newBroadcast(o options) *broadcast {
	b := &broadcast{opts: o, lines: make([]line, 0, o.lines)}
	rng := rand.New(rand.NewPCG(o.seed, 0x6b657973)) //nolint:gosec // a file to try things with needs no secrets
	robots := make([]string, o.robots)
	for i := range robots {
		robots[i] = robotCode(rng)
	}
	kinds := shuffledKinds(o, rng)
	first := o.now.Add(-o.age)
	span := o.age - min(10*time.Minute, o.age/2)
	for i, kind := range kinds {
		sentAt := first.Add(span * time.Duration(i) / time.Duration(len(kinds))).UTC().Truncate(time.Second) // a key tells seconds
		l := line{robot: robots[rng.IntN(len(robots))], sentAt: sentAt}
		if kind == simulator.Expired {
			sentAt = sentAt.Add(-window)
			l.sentAt = time.Time{}
			if b.told < (o.expired+1)/2 && o.format != "plain" {
				l.sentAt = sentAt
				b.told++
			}
		}
		l.key = simulator.MakeKey(o.seed, uint64(i), kind, sentAt) //nolint:gosec // i is not negative
		b.lines = append(b.lines, l)
	}
	b.repeat(rng)
	return b
}

// shuffledKinds says what becomes of each distinct key.
func shuffledKinds(o options, rng *rand.Rand) []simulator.Kind {
	kinds := make([]simulator.Kind, o.lines-o.duplicates) // good, the zero kind, where nothing else is said
	at := 0
	for _, special := range []struct {
		kind simulator.Kind
		n    int
	}{{simulator.Expired, o.expired}, {simulator.Unknown, o.unknown}, {simulator.Foreign, o.foreign}, {simulator.SystemErrorAlways, o.systemError}} {
		for range special.n {
			kinds[at] = special.kind
			at++
		}
	}
	rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	return kinds
}

// repeat puts a copy of some lines further down.
func (b *broadcast) repeat(rng *rand.Rand) {
	for range b.opts.duplicates {
		from := rng.IntN(len(b.lines))
		to := from + 1 + rng.IntN(len(b.lines)-from)
		b.lines = append(b.lines, line{})
		copy(b.lines[to+1:], b.lines[to:])
		b.lines[to] = b.lines[from]
	}
}

// robotCode makes one of the usual shape: ding, and 16 lower-case letters and digits.
func robotCode(rng *rand.Rand) string {
	const chars = "abcdefghijklmnopqrstuvwxyz0123456789"
	code := []byte("ding")
	for range 16 {
		code = append(code, chars[rng.IntN(len(chars))])
	}
	return string(code)
}

func (b *broadcast) write(w io.Writer, format string) error {
	var err error
	switch format {
	case "ndjson":
		err = b.writeNDJSON(w)
	case "plain":
		err = b.writePlain(w)
	default:
		err = b.writeCSV(w)
	}
	if err != nil {
		return fmt.Errorf("writing the keys: %w", err)
	}
	return nil
}

func (b *broadcast) writeCSV(w io.Writer) error {
	cw := csv.NewWriter(w)
	if err := cw.Write([]string{"processQueryKey", "robotCode", "sentAt"}); err != nil {
		return err //nolint:wrapcheck // write does
	}
	for _, l := range b.lines {
		sentAt := ""
		if !l.sentAt.IsZero() {
			sentAt = l.sentAt.Format(time.RFC3339)
		}
		if err := cw.Write([]string{l.key, l.robot, sentAt}); err != nil {
			return err //nolint:wrapcheck // write does
		}
	}
	cw.Flush()
	return cw.Error() //nolint:wrapcheck // write does
}

// writeNDJSON writes the answers of batchSend as a service might have logged them.
func (b *broadcast) writeNDJSON(w io.Writer) error {
	type answer struct {
		SentAt         int64    `json:"sentAt,omitempty"`
		RobotCode      string   `json:"robotCode"`
		Key            string   `json:"processQueryKey"`
		Invalid        []string `json:"invalidStaffIdList"`
		FlowControlled []string `json:"flowControlledStaffIdList"`
	}
	enc := json.NewEncoder(w)
	for _, l := range b.lines {
		a := answer{RobotCode: l.robot, Key: l.key, Invalid: []string{}, FlowControlled: []string{}}
		if !l.sentAt.IsZero() {
			a.SentAt = l.sentAt.UnixMilli()
		}
		if err := enc.Encode(a); err != nil {
			return err //nolint:wrapcheck // write does
		}
	}
	return nil
}

// writePlain says in a comment what else must be said with --robot.
func (b *broadcast) writePlain(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "# to be used with --robot %s\n", b.lines[0].robot); err != nil {
		return err //nolint:wrapcheck // write does
	}
	for _, l := range b.lines {
		if _, err := fmt.Fprintln(w, l.key); err != nil {
			return err //nolint:wrapcheck // write does
		}
	}
	return nil
}

// describe says what the file holds and what a run on it is to end with.
func (b *broadcast) describe() string {
	o := b.opts
	distinct := len(b.lines) - o.duplicates
	dead := o.expired + o.unknown + o.foreign + o.systemError
	var s strings.Builder
	fmt.Fprintf(&s, "%d lines, %d distinct keys, robots: %d, seed %d; a run is to end with\n", len(b.lines), distinct, o.robots, o.seed)
	fmt.Fprintf(&s, "%8d recalled\n%8d dead\n", distinct-dead, dead)
	for _, part := range []struct {
		n    int
		what string
	}{
		{b.told, "window.closed                  (expired, and the file says so: no call is spent on them)"},
		{o.expired - b.told, "robot.processQueryKey.expired  (expired, and the file has no sentAt)"},
		{o.unknown, "invalid.processQueryKey        (unknown)"},
		{o.foreign, "not.allowed.robotCode          (sent by another robot)"},
		{o.systemError, "system.error                   (never answered otherwise)"},
	} {
		if part.n > 0 {
			fmt.Fprintf(&s, "  %8d %s\n", part.n, part.what)
		}
	}
	return s.String()
}
