// Command speed measures this program, and compares ways to recall keys through a queue, side by side in one run: the same keys, the same
// service (in this process, answering at once or after 20 ms), one redis-server, a few interleaved rounds, medians. It prints tables in
// Markdown, with what was to be reached and whether it was. A goal that is missed is no failure.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// bench is what the parts of a run are given.
type bench struct {
	srv    *server
	out    io.Writer
	keys   int // for each way, and under a limit
	fill   int // that wait, where many are to wait
	huge   bool
	rounds int
	limit  time.Duration
	rate   float64
	only   *regexp.Regexp
}

// parts are what can be measured, in the order in which it is.
var parts = []struct {
	name, title string
	run         func(ctx context.Context, b *bench) error
}{
	{"compare", "Beside other ways", compare},
	{"memory", "Memory and round trips", memory},
	{"commands", "Where Redis's time goes", commands},
	{"scale", "Cost of a key by how many wait", scale},
	{"robots", "Cost of a key by how many robots there are", robots},
	{"limit", "Under a limit", underLimit},
	{"latency", "A lone key", latency},
	{"fairness", "Fairness", fairness},
}

func main() {
	b := &bench{out: os.Stdout}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	which := flag.String("part", "all", strings.Join(names, ", ")+", or all; several with commas")
	only := flag.String("only", "", "of the ways that are compared those whose name matches; all by default")
	flag.IntVar(&b.keys, "keys", 100_000, "keys for each way (fewer for those that are slow) and under the limit")
	flag.IntVar(&b.fill, "fill", 1_000_000, "keys that wait in the parts memory, commands, scale (at most), robots and fairness (there also twice as many)")
	flag.BoolVar(&b.huge, "huge", false, "10,000,000 keys as well in the part scale; some ten minutes more")
	flag.IntVar(&b.rounds, "rounds", 3, "interleaved rounds")
	flag.DurationVar(&b.limit, "limit", 60*time.Second, "the longest a way may take in a round")
	flag.Float64Var(&b.rate, "rate", 200, "calls a second in the part limit")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.start(ctx, *which, *only)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(1)
	}
}

func (b *bench) start(ctx context.Context, which, only string) (err error) {
	if b.only, err = regexp.Compile(only); err != nil {
		return err
	}
	if b.keys < 1000 || b.fill < 10_000 || b.rounds < 1 || b.rate <= 0 {
		return fmt.Errorf("at least 1,000 keys, 10,000 that wait, 1 round and a rate are needed")
	}
	wanted, err := chosen(which)
	if err != nil {
		return err
	}
	if b.srv, err = startRedis(); err != nil {
		return err
	}
	defer func() {
		if e := b.srv.stop(); e != nil && err == nil {
			err = e
		}
	}()
	b.printf("%s, %d processors, %s, Redis %s, %s\n",
		cpu(), runtime.NumCPU(), runtime.Version(), b.srv.version(ctx), time.Now().UTC().Format(time.DateOnly))
	for _, p := range parts {
		if !wanted[p.name] {
			continue
		}
		began := time.Now()
		b.printf("\n### %s\n", p.title)
		if err := p.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s took %v\n", p.name, time.Since(began).Round(time.Second))
	}
	return nil
}

// chosen reads which parts are wanted, before any of them takes its time.
func chosen(which string) (map[string]bool, error) {
	known, wanted := map[string]bool{}, map[string]bool{}
	for _, p := range parts {
		known[p.name] = true
	}
	for name := range strings.SplitSeq(which, ",") {
		switch name = strings.TrimSpace(name); {
		case name == "all":
			maps.Copy(wanted, known)
		case known[name]:
			wanted[name] = true
		default:
			return nil, fmt.Errorf("there is no part %q", name)
		}
	}
	return wanted, nil
}

func (b *bench) printf(format string, args ...any) { _, _ = fmt.Fprintf(b.out, format, args...) }

// with runs something beside a service that answers after a while.
func (b *bench) with(latency time.Duration, do func(*service) error) error {
	svc, err := newService(latency)
	if err != nil {
		return err
	}
	defer svc.close()
	return do(svc)
}

func cpu() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
