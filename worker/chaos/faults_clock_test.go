package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dingrecall/worker/internal/proctest"
)

// A clock that is wrong is put into the standard library, and into one worker's process only: the program is built as it is, with a
// time.Now whose wall clock is off. Timers and differences go by the monotonic clock, which a jump leaves alone, as on a machine whose
// clock is set. (A system call that lies would not do: Go reads the clock without one; nor would a namespace, which moves the other clocks
// only.)
const skewSource = `package time

import "syscall"

var skewBy, skewFrom int64 = func() (by, from int64) {
	text, _ := syscall.Getenv("CLOCK_SKEW") // seconds, "@", after how many seconds of the process
	sign, at := int64(1), &by
	for _, c := range text {
		switch {
		case c == '-':
			sign = -1
		case c == '@':
			at = &from
		default:
			*at = 10**at + int64(c-'0')
		}
	}
	return sign * by, from * 1e9
}()

func skew(mono int64) int64 {
	if mono-startNano < skewFrom {
		return 0
	}
	return skewBy
}
`

// skewedRecall gives the program with the clock that CLOCK_SKEW sets. Its first build takes minutes, since nearly everything needs the
// time.
func skewedRecall(t *testing.T) string {
	t.Helper()
	temp := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(dir, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const reads = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), reads) != 1 {
		t.Fatal("this Go reads the clock in another way: see its time.Now")
	}
	replace := map[string]string{}
	for name, text := range map[string]string{
		"time.go": strings.Replace(string(source), reads, reads+"\tsec += skew(mono)\n", 1), "skew.go": skewSource,
	} {
		replace[filepath.Join(dir, name)] = filepath.Join(temp, name)
		if err := os.WriteFile(filepath.Join(temp, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return proctest.Build(t, "recall-skewed", []string{"build", "-overlay", name, "-o"}, "dingrecall/cmd/recall")
}

// wrongClock adds a worker whose clock is wrong by some time, from its start or from a moment on. asynq looks for tasks of dead
// workers once a minute, by the clock: it does so in that worker too before this is over.
func wrongClock(by time.Duration, jumps bool) func(*world) {
	return func(w *world) {
		after := 0
		if jumps {
			after = 5 + w.chance.IntN(20)
		}
		program := skewedRecall(w.T)
		w.struckAt = time.Now()
		w.hireAs(program, fmt.Sprintf("CLOCK_SKEW=%d@%d", int(by.Seconds()), after))
		w.pause(w.between(80*time.Second, 100*time.Second))
	}
}
