// Package proctest gives tests the program as its users run it: the built binary, in processes of its own that end with the test at the
// latest, and a proxy that misbehaves between them and Redis.
package proctest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"dingrecall/worker/internal/redistest"
)

var built struct {
	sync.Mutex
	dir    string
	byName map[string]*building
}

// building is one thing that is built once.
type building struct {
	sync.Mutex
	path string // "" until it is there
}

// Main runs the tests of a package, removes what they built, and ends the redis-server that they shared. It is for TestMain.
func Main(m *testing.M) int {
	code := redistest.Main(m)
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}

// Build runs go with arguments that end in "-o", to which it adds a path, and what to build. It gives that path, and builds the same
// thing once for all tests of a process.
func Build(t testing.TB, name string, args []string, what string) string {
	t.Helper()
	dir, b := placeOf(t, name)
	b.Lock()
	defer b.Unlock()
	if b.path != "" {
		return b.path
	}
	path := filepath.Join(dir, name)
	out, err := exec.Command("go", append(args, path, what)...).CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", what, err, out)
	}
	b.path = path
	return path
}

func placeOf(t testing.TB, name string) (dir string, b *building) {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "recall")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.byName = dir, map[string]*building{}
	}
	if built.byName[name] == nil {
		built.byName[name] = &building{}
	}
	return built.dir, built.byName[name]
}

// Recall gives the path of the program, which it builds at first use.
func Recall(t testing.TB) string {
	t.Helper()
	return Build(t, "recall", []string{"build", "-o"}, "dingrecall/cmd/recall")
}

// Process is one run of a program.
type Process struct {
	Out  *Output
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Output gathers what a process writes, to both streams.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String gives what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Run starts a program with nothing in its environment but env, HOME and PATH. It ends with the test at the latest, and what it wrote is
// then shown if the test failed.
func Run(t testing.TB, name, path string, env []string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, Out: &Output{}, done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.Out, p.Out
	redistest.EndWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its status is read from ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("%s wrote:\n%s", p.name, p.Out)
		}
	})
	return p
}

// Signal sends a signal to the process, if it has not ended.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %s: %v", p.name, err)
	}
}

// Kill ends the process as kill -9 does, and waits until it is gone.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Ended says whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Status waits until the process has ended, and gives its exit status.
func (p *Process) Status(within time.Duration) int {
	p.t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-timer.C:
		p.t.Fatalf("%s has not ended within %v", p.name, within)
		return -1
	}
}

// Until waits until something is so, and fails the test where that takes too long.
func Until(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	if !WaitFor(within, ok) {
		t.Fatalf("waited %v in vain until %s", within, what)
	}
}

// WaitFor waits until something is so. False: it took too long.
func WaitFor(within time.Duration, ok func() bool) bool {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			return false
		case <-tick.C:
		}
	}
	return true
}
