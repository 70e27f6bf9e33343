package keystore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dingrecall/worker/internal/flow"
)

// rawKey is a key as the raw data have it.
type rawKey struct {
	rid                  int
	key                  string
	day                  int64
	state                flow.State // flow.Bound where a slot holds it
	flags, ver, att, inc int
	deadline             int64 // s
	rec                  string
	pack                 int64 // of which it is a member in the ledger, 0 = it has a record of its own
	class                flow.Class
	later                bool
	places               []string // where it waits: lists, the set of later, slots
}

func (k *rawKey) solo() bool { return k.flags/64 == 1 }

type rawSlot struct {
	state         string
	gen, run, rid int64
	batch, at     int64
	cut           int
	keys          []string // rid:key
}

// recount is a picture of an app made from the raw data alone, by other code than the one under test.
type recount struct {
	prefix  string
	today   int64
	nowMs   int64
	strs    map[string]map[string]string // hashes
	lists   map[string][]string
	zsets   map[string]map[string]float64
	ttl     map[string]time.Duration // of what must expire
	robots  map[int]string
	incs    map[int]string
	keys    map[string]*rawKey // by rid:key
	slots   map[int]*rawSlot
	waiting map[string]int // class:rid -> entries that count
	errs    []string
}

func (c *recount) fault(format string, args ...any) {
	c.errs = append(c.errs, fmt.Sprintf(format, args...))
}

// takeRecount reads all names of the app in two round trips and checks that they agree with one another.
func (b *bundle) takeRecount(t tb) *recount {
	c := b.readRaw(t)
	c.readLedgers()
	c.readWaiting()
	c.readSlots()
	c.checkPlaces()
	c.checkCounters()
	c.checkExpiry()
	c.checkRunning(b.params)
	return c
}

// check fails the test where the raw data do not agree with one another or with Status.
func (b *bundle) check(t tb) *recount {
	t.Helper()
	c := b.takeRecount(t)
	c.checkStatus(b.status(t))
	if len(c.errs) > 0 {
		t.Fatalf("the raw data do not agree:\n%s", strings.Join(c.errs, "\n"))
	}
	return c
}

func (b *bundle) readRaw(t tb) *recount {
	ctx := context.Background()
	c := &recount{prefix: Prefix(b.app), nowMs: b.clock.UnixMilli(), today: b.clock.Unix() / daySeconds,
		strs: map[string]map[string]string{}, lists: map[string][]string{}, zsets: map[string]map[string]float64{},
		ttl: map[string]time.Duration{}, robots: map[int]string{}, incs: map[int]string{0: ""}, keys: map[string]*rawKey{},
		slots: map[int]*rawSlot{}, waiting: map[string]int{}}
	names, err := b.rdb.Keys(ctx, c.prefix+"*").Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		return c
	}
	pipe := b.rdb.Pipeline()
	hashes, lists, zsets := map[string]*redis.MapStringStringCmd{}, map[string]*redis.StringSliceCmd{}, map[string]*redis.ZSliceCmd{}
	ttls := map[string]*redis.DurationCmd{}
	for _, full := range names {
		n := strings.TrimPrefix(full, c.prefix)
		switch {
		case n == "days", n == "cancelled", strings.HasPrefix(n, "token"):
		case strings.HasPrefix(n, "w:"):
			lists[n] = pipe.LRange(ctx, full, 0, -1)
		case strings.HasPrefix(n, "d:"), strings.HasPrefix(n, "ready:"), n == "later", n == "calling":
			zsets[n] = pipe.ZRangeWithScores(ctx, full, 0, -1)
		default:
			hashes[n] = pipe.HGetAll(ctx, full)
		}
		if strings.HasPrefix(n, "ledger:") || strings.HasPrefix(n, "pack:") || strings.HasPrefix(n, "call:") {
			ttls[n] = pipe.PTTL(ctx, full)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	for n, cmd := range hashes {
		c.strs[n] = cmd.Val()
	}
	for n, cmd := range lists {
		c.lists[n] = cmd.Val()
	}
	for n, cmd := range zsets {
		c.zsets[n] = map[string]float64{}
		for _, z := range cmd.Val() {
			c.zsets[n][z.Member.(string)] = z.Score
		}
	}
	for n, cmd := range ttls {
		c.ttl[n] = cmd.Val()
	}
	for id, n := range c.strs["robot:name"] {
		c.robots[c.number(id)] = n
	}
	for id, n := range c.strs["incident:name"] {
		c.incs[c.number(id)] = n
	}
	return c
}

func (c *recount) number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		c.fault("%q should be a number", s)
	}
	return n
}

func (c *recount) field(hash, f string) int {
	v, ok := c.strs[hash][f]
	if !ok {
		return 0
	}
	return c.number(v)
}

func big(s string) int64 {
	var n int64
	for i := range len(s) {
		n = n<<8 | int64(s[i])
	}
	return n
}

// fullDayAt gives the day near today of which only the number modulo 250 was kept.
func (c *recount) fullDayAt(m byte) int64 {
	for d := c.today + 1; d > c.today-249; d-- {
		if d%250 == int64(m) {
			return d
		}
	}
	return -1
}

func id(rid int, key string) string { return strconv.Itoa(rid) + ":" + key }

func (c *recount) readLedgers() {
	entries := map[string]int{}
	for n, fields := range c.strs {
		part := strings.Split(n, ":")
		if part[0] != "ledger" || len(part) != 3 {
			continue
		}
		day := int64(c.number(part[1]))
		meta := "ledger:" + part[1]
		entries[meta] += len(fields)
		if i := c.number(part[2]); i >= c.field(meta, "b") {
			c.fault("%s: bucket %d of %d", n, i, c.field(meta, "b"))
		}
		for f, rec := range fields {
			c.readRecord(day, f, rec)
		}
	}
	for n := range c.strs {
		if part := strings.Split(n, ":"); part[0] == "ledger" && len(part) == 2 && entries[n] != c.field(n, "n") {
			c.fault("%s says %d keys, its buckets have %d", n, c.field(n, "n"), entries[n])
		}
	}
}

func (c *recount) readRecord(day int64, f, rec string) {
	key, err := unpack(f[:len(f)-2])
	if err != nil {
		c.fault("ledger field %q: %v", f, err)
		return
	}
	pack := int64(0)
	if rec[0] >= 128 {
		if len(rec) != 6 {
			c.fault("key %s is a member of %x", key, rec)
			return
		}
		pack = big(rec[1:])
		all := fmt.Sprintf("pack:%d:%d", day, pack/64)
		if rec = c.strs[all][strconv.FormatInt(pack%64, 10)]; rec == "" {
			c.fault("key %s is a member of pack %d, which has no record", key, pack)
			return
		}
	}
	flags := int(rec[0])
	k := &rawKey{rid: int(big(f[len(f)-2:])), key: key, day: day, state: flow.State(flags / 8 % 8), flags: flags,
		class: flow.Class(flags / 2 % 4), ver: int(rec[1]), att: int(rec[2]), inc: int(big(rec[3:5])), deadline: big(rec[5:8]) + (day-100)*daySeconds, rec: rec, pack: pack}
	if want := map[flow.State]int{flow.Waiting: 8, flow.Recalled: 13, flow.Dead: 15, flow.Cancelled: 13}[k.state]; len(rec) != want {
		c.fault("key %s has a record of %d bytes in state %v", key, len(rec), k.state)
	}
	if other := c.keys[id(k.rid, key)]; other != nil {
		c.fault("key %s of robot %d is in the ledgers of days %d and %d", key, k.rid, day, other.day)
	}
	c.keys[id(k.rid, key)] = k
}

// rawPack is a pack as it stands in a list or a slot.
type rawPack struct {
	day   int64
	since int64 // ms
	rec   string
	keys  []string
	pack  int64 // its number, 0 = none
}

// unpackAll reads packs that stand one behind the other.
func (c *recount) unpackAll(where, s string) (packs []rawPack) {
	for len(s) > 0 {
		if len(s) < 18 {
			c.fault("%s has a pack %q", where, s)
			return packs
		}
		p := rawPack{day: c.fullDayAt(s[0]), since: big(s[2:5])*20 + c.fullDayAt(s[0])*daySeconds*1000, rec: s[5:13], pack: big(s[13:18])}
		n, usual := int(s[1]&127), s[1]&128 != 0
		if n < 1 || n > flow.MaxBatch {
			c.fault("%s has a pack of %d keys", where, n)
		}
		s = s[18:]
		for range n {
			size := 32
			if !usual {
				size, s = int(big(s[:2])), s[2:]
			}
			key, err := unpack(s[:size])
			if err != nil {
				c.fault("%s has a key %q", where, s[:size])
			}
			p.keys, s = append(p.keys, key), s[size:]
		}
		if n > 1 && p.rec[0]/64 == 1 {
			c.fault("%s has %d keys in a pack that must be called alone", where, n)
		}
		c.checkMembers(where, p)
		packs = append(packs, p)
	}
	return packs
}

// checkMembers: a pack that has a number holds all keys that are members of it.
func (c *recount) checkMembers(where string, p rawPack) {
	if p.pack == 0 {
		return
	}
	for _, k := range c.keys {
		if k.day == p.day && k.pack == p.pack && !slices.Contains(p.keys, k.key) {
			c.fault("%s has pack %d without its member %s", where, p.pack, k.key)
		}
	}
}

// waits notes that a key stands somewhere, if it counts: if its version, its class and its state are what the ledger has.
func (c *recount) waits(rid int, key string, day int64, ver byte, where string, class flow.Class) bool {
	k := c.keys[id(rid, key)]
	if k == nil || k.state != flow.Waiting || k.ver != int(ver) || k.day != day || (class >= 0 && k.class != class) {
		return false
	}
	k.places = append(k.places, where)
	return true
}

func (c *recount) readWaiting() {
	stale := 0
	for n, packs := range c.lists {
		part := strings.Split(n, ":")
		class, rid := c.number(part[1]), c.number(part[2])
		inBucket := 0
		for _, text := range packs {
			for _, p := range c.unpackAll(n, text) {
				stale += c.readPack(rid, p, n, flow.Class(class), &inBucket)
			}
		}
		c.waiting[part[1]+":"+part[2]] += inBucket
		if _, ok := c.zsets["d:"+part[1]+":"+part[2]][part[3]]; !ok {
			c.fault("the bucket of %s is in no directory", n)
		}
		if got := c.field("b:"+part[1]+":"+part[2], part[3]); got != inBucket {
			c.fault("the books have %d keys in %s, there are %d", got, n, inBucket)
		}
	}
	if got := c.field("meta", "stale"); got != stale {
		c.fault("%d places in lists are said not to count, there are %d", got, stale)
	}
	c.readDirectories()
	for m := range c.zsets["later"] {
		rid := int(big(m[:2]))
		key, err := unpack(m[4:])
		if err != nil {
			c.fault("later has %q", m)
		} else if c.waits(rid, key, c.fullDayAt(m[3]), m[2], "later", -1) {
			c.keys[id(rid, key)].later = true
		}
	}
}

// readPack notes where the keys of a pack stand, and gives the number of those that do not count.
func (c *recount) readPack(rid int, p rawPack, where string, class flow.Class, inBucket *int) (stale int) {
	for _, key := range p.keys {
		if !c.waits(rid, key, p.day, p.rec[1], where, class) {
			stale++
			continue
		}
		*inBucket++
		if k := c.keys[id(rid, key)]; k.rec != p.rec {
			c.fault("%s has key %s with the record %x, the ledger %x", where, key, p.rec, k.rec)
		}
	}
	return stale
}

func (c *recount) readDirectories() {
	for n, buckets := range c.zsets {
		if !strings.HasPrefix(n, "d:") {
			continue
		}
		for bucket := range buckets {
			if len(c.lists["w:"+n[2:]+":"+bucket]) == 0 {
				c.fault("%s names bucket %s, which is empty", n, bucket)
			}
		}
	}
	for n, sizes := range c.strs {
		if !strings.HasPrefix(n, "b:") {
			continue
		}
		for bucket := range sizes {
			if len(c.lists["w:"+n[2:]+":"+bucket]) == 0 {
				c.fault("%s counts in bucket %s, which is empty", n, bucket)
			}
		}
	}
}

func (c *recount) readSlots() {
	for n, h := range c.strs {
		if !strings.HasPrefix(n, "slot:") {
			continue
		}
		i := c.number(n[len("slot:"):])
		s := &rawSlot{state: h["state"], gen: int64(c.field(n, "gen")), run: int64(c.field(n, "run")), rid: int64(c.field(n, "rid")),
			batch: int64(c.field(n, "batch")), at: int64(c.field(n, "at")), cut: c.field(n, "cut")}
		c.slots[i] = s
		c.readBound(s, n, h["keys"])
		c.checkSlot(n, strconv.Itoa(i), s)
	}
	for _, set := range []string{"slots", "due", "held"} {
		for i := range c.strs[set] {
			if c.slots[c.number(i)] == nil {
				c.fault("%s names slot %s, which is not there", set, i)
			}
		}
	}
}

func (c *recount) readBound(s *rawSlot, n, items string) {
	for _, p := range c.unpackAll(n, items) {
		for _, key := range p.keys {
			k := c.keys[id(int(s.rid), key)]
			s.keys = append(s.keys, id(int(s.rid), key))
			switch {
			case k == nil:
				c.fault("%s has key %s, which is in no ledger", n, key)
			case k.state != flow.Waiting && k.state != flow.Bound, k.day != p.day:
				c.fault("%s has key %s in state %v of day %d", n, key, k.state, k.day)
			default:
				k.state = flow.Bound
				k.places = append(k.places, n)
				if ver := int(p.rec[1]); ver != k.ver {
					c.fault("%s has key %s at version %d, the ledger %d", n, key, ver, k.ver)
				}
			}
		}
	}
}

func (c *recount) checkSlot(n, i string, s *rawSlot) {
	gen := strconv.FormatInt(s.gen, 10)
	for set, want := range map[string]bool{"slots": s.state != "idle", "due": s.state == "due", "held": s.state == "held"} {
		if got, ok := c.strs[set][i]; ok != want || (want && got != gen) {
			c.fault("%s is %s at generation %s, and %s has it: %v %q", n, s.state, gen, set, ok, got)
		}
	}
	if at, ok := c.zsets["calling"][i]; ok != (s.state == "running" && s.batch > 0) || (ok && int64(at) != s.at/1000) {
		c.fault("%s is %s with batch %d, its call from %d us on; calling has it: %v %v", n, s.state, s.batch, s.at, ok, at)
	}
	switch {
	case (s.batch > 0) != (len(s.keys) > 0):
		c.fault("%s has batch %d with %d keys", n, s.batch, len(s.keys))
	case s.batch > 0 && (s.cut < 1 || s.cut > len(s.keys) || len(s.keys) > flow.MaxBatch):
		c.fault("%s has %d keys, %d to call", n, len(s.keys), s.cut)
	case s.batch > 0 && s.state == "idle", s.batch == 0 && (s.state == "running" || s.state == "held"):
		c.fault("%s is %s with %d keys", n, s.state, len(s.keys))
	}
}

// checkPlaces: a key that is not settled is in exactly one place, one that is settled in none.
func (c *recount) checkPlaces() {
	for _, k := range c.keys {
		want := 0
		if k.state == flow.Waiting || k.state == flow.Bound {
			want = 1
		}
		if len(k.places) != want {
			c.fault("key %s of robot %d is %v and stands in %d places: %v", k.key, k.rid, k.state, len(k.places), k.places)
		}
	}
}

func (c *recount) checkCounters() {
	total := 0
	for cr, n := range c.waiting {
		total += n
		if got := c.field("n", cr); got != n {
			c.fault("n of %s says %d wait, there are %d", cr, got, n)
		}
		class, rid, _ := strings.Cut(cr, ":")
		if _, ok := c.zsets["ready:"+class][rid]; !ok {
			c.fault("robot %s has %d keys of class %s and is not among the ready", rid, n, class)
		}
	}
	for cr, v := range c.strs["n"] {
		if c.number(v) != c.waiting[cr] {
			c.fault("n of %s says %s wait, there are %d", cr, v, c.waiting[cr])
		}
	}
	if got := c.field("meta", "waiting"); got != total {
		c.fault("%d keys wait in all, there are %d", got, total)
	}
}

func (c *recount) checkExpiry() {
	for n, ttl := range c.ttl {
		if ttl <= 0 {
			c.fault("%s never expires", n)
		}
	}
}

// checkRunning: where keys are ready and the app may call, some slot is on its way.
func (c *recount) checkRunning(p *Params) {
	if _, held := c.strs["meta"]["hold_code"]; held && int64(c.field("meta", "hold_until")) > c.nowMs || c.restUntil() > 0 {
		return
	}
	for class := range 3 {
		if left := p.Budget.Calls - c.field("meta", "used"); p.Budget.Calls > 0 && c.strs["meta"]["lifted"] == "" &&
			(left <= 0 || class > 0 && left <= p.Budget.Reserve) {
			continue
		}
		for rid, at := range c.zsets["ready:"+strconv.Itoa(class)] {
			if at <= float64(c.nowMs) && c.waiting[strconv.Itoa(class)+":"+rid] > 0 && len(c.strs["slots"]) == 0 {
				c.fault("robot %s is ready and every slot is idle", rid)
			}
		}
	}
	stuck := 0
	for _, at := range c.zsets["calling"] {
		if at <= float64(c.nowMs-5000) {
			stuck++
		}
	}
	// Some that were stuck may be back.
	if n := len(c.strs["slots"]) - stuck; n > 2*p.SlotsCap {
		c.fault("%d slots are not idle and not stuck, the cap is %d", n, p.SlotsCap)
	}
}

func (c *recount) counts() Counts {
	var n Counts
	for _, k := range c.keys {
		n.Accepted++
		switch k.state {
		case flow.Waiting:
			n.Waiting++
		case flow.Bound:
			n.Bound++
		case flow.Recalled:
			n.Recalled++
		case flow.Dead:
			n.Dead++
		case flow.Cancelled:
			n.Cancelled++
		default:
			c.fault("key %s is in state %d", k.key, k.state)
		}
	}
	return n
}

func (c *recount) checkStatus(st AppStatus) {
	if got := c.counts(); got != st.Total {
		c.fault("Status says %+v in all, there are %+v", st.Total, got)
	}
	groups := map[string]*recount{}
	for n, k := range c.keys {
		g := c.robots[k.rid] + " " + c.incs[k.inc]
		if groups[g] == nil {
			groups[g] = &recount{keys: map[string]*rawKey{}}
		}
		groups[g].keys[n] = k
	}
	for _, g := range st.Groups {
		var got Counts
		of := g.Target().Name() + " " + g.Incident
		if own := groups[of]; own != nil {
			got = own.counts()
		}
		delete(groups, of)
		if got != g.Counts {
			c.fault("Status says %+v of robot %q in incident %q, there are %+v", g.Counts, g.RobotCode, g.Incident, got)
		}
	}
	for of, own := range groups {
		c.fault("Status does not tell of %q, of which there are %+v", of, own.counts())
	}
	later := 0
	for _, k := range c.keys {
		if k.later {
			later++
		}
	}
	if int64(later) != st.Later || st.Slots != len(c.strs["slots"]) || st.Held != len(c.strs["held"]) || st.Outbox != int64(len(c.strs["outbox"])) {
		c.fault("Status says later %d, slots %d, held %d, outbox %d; there are %d, %d, %d, %d", st.Later, st.Slots, st.Held, st.Outbox,
			later, len(c.strs["slots"]), len(c.strs["held"]), len(c.strs["outbox"]))
	}
}

// checkReply: a reply lists every due slot, and the next moment at which something changes by itself.
func (c *recount) checkReply(r *Reply) {
	due := map[string]string{}
	for _, d := range r.Due {
		due[strconv.Itoa(d.Slot)] = strconv.FormatInt(d.Generation, 10)
	}
	if len(due) != len(c.strs["due"]) {
		c.fault("the reply lists %v as due, there are %v", due, c.strs["due"])
	}
	for i, gen := range c.strs["due"] {
		if due[i] != gen {
			c.fault("slot %s is due at generation %s, the reply lists %v", i, gen, due)
		}
	}
	if r.Outbox != len(c.strs["outbox"]) {
		c.fault("the reply says %d dead letters, there are %d", r.Outbox, len(c.strs["outbox"]))
	}
	if r.Status == StatusBatch {
		return // whoever has a batch asks again
	}
	if want := c.nextMoment(); want > 0 && (r.Next.IsZero() || r.Next.UnixMilli() > want) {
		c.fault("the reply says to look again at %v (%d ms), it must be by %d", r.Next, r.Next.UnixMilli(), want)
	}
}

// nextMoment gives the moment by which somebody has to look again, 0 = none, as doc.go promises it.
func (c *recount) nextMoment() int64 {
	next := math.Inf(1)
	hold := int64(0)
	if _, held := c.strs["meta"]["hold_code"]; held {
		hold = int64(c.field("meta", "hold_until"))
	}
	hold = max(hold, c.restUntil())
	for n, members := range c.zsets {
		for _, at := range members {
			if n == "later" || (strings.HasPrefix(n, "ready:") && (at > float64(c.nowMs) || hold > c.nowMs)) {
				next = min(next, at)
			}
		}
	}
	if math.IsInf(next, 1) {
		return 0
	}
	if hold > c.nowMs {
		next = max(next, float64(hold))
	}
	return int64(next)
}

// restUntil gives the end of a long rest after a throttle answer, ms, less the second before it; 0 = there is none.
func (c *recount) restUntil() int64 {
	p, err := readPace(c.strs["meta"]["pace"])
	if err != nil {
		c.fault("pace: %v", err)
	}
	if p == nil || p.from.UnixMilli() <= c.nowMs+5000 {
		return 0
	}
	return p.from.UnixMilli() - 1000
}

func (c *recount) inState(s flow.State) []string {
	var out []string
	for _, k := range c.keys {
		if k.state == s {
			out = append(out, k.key)
		}
	}
	slices.Sort(out)
	return out
}
