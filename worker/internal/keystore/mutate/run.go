package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// What became of a mutant.
const (
	killed     = "killed"
	survived   = "survived"
	equivalent = "equivalent" // survived, and is listed with the reason
	noLua      = "no Lua"     // did not load: it is no mutant
)

// packageDir is where the tests of the scripts are, seen from the top of the module.
const packageDir = "worker/internal/keystore"

// doesNotLoad is the exit status of the tests where a script does not load: see mutant_test.go.
const doesNotLoad = 3

// others are the packages that use the key store: a mutant that its own tests let live is held against theirs.
var others = []string{"./worker/internal/dispatch", "./worker/internal/intake", "./worker/internal/deadletter", "./worker"}

// runner runs the tests with one file of the scripts changed.
type runner struct {
	module  string // the top of the module
	tmp     string
	binary  string
	timeout time.Duration
	full    bool // hold survivors against the other packages, too
}

// newRunner compiles the tests once: they read the scripts from where they are told.
func newRunner(ctx context.Context, module string, timeout time.Duration, full bool) (*runner, error) {
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	r := &runner{module: module, tmp: tmp, binary: filepath.Join(tmp, "keystore.test"), timeout: timeout, full: full}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", r.binary, "./"+packageDir)
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("compile the tests: %w\n%s", err, out), r.close())
	}
	return r, nil
}

func (r *runner) close() error { return os.RemoveAll(r.tmp) }

// try runs the tests against a mutant. by is the first test that failed.
func (r *runner) try(ctx context.Context, m mutant) (what, by string, err error) {
	dir := filepath.Join(r.tmp, "mutant")
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(filepath.Join(dir, "scripts"), os.DirFS(scriptsDir(r.module)))); err != nil {
		return "", "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "scripts", filepath.FromSlash(m.File)), []byte(m.text), 0o600); err != nil {
		return "", "", err
	}
	for _, args := range r.rounds() {
		cmd := exec.CommandContext(ctx, r.binary, append(args, "-test.v=test2json", "-test.failfast", "-rapid.nofailfile", "-rapid.shrinktime", "0s")...)
		cmd.Dir, cmd.Env = filepath.Join(r.module, packageDir), append(os.Environ(), "KEYSTORE_SCRIPTS="+dir)
		if what, by, err := r.watch(cmd); err != nil || what != survived {
			return what, by, err
		}
	}
	if !r.full {
		return survived, "", nil
	}
	return r.tryOthers(ctx, m)
}

// tryOthers holds a mutant against the tests of the packages that use the key store.
func (r *runner) tryOthers(ctx context.Context, m mutant) (what, by string, err error) {
	file := filepath.Join(scriptsDir(r.module), filepath.FromSlash(m.File))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: filepath.Join(r.tmp, "mutant", "scripts", filepath.FromSlash(m.File))}})
	if err != nil {
		return "", "", err
	}
	name := filepath.Join(r.tmp, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		return "", "", err
	}
	for _, p := range others {
		cmd := exec.CommandContext(ctx, "go", "test", "-v=test2json", "-failfast", "-overlay", name, p)
		cmd.Dir = r.module
		if what, by, err := r.watch(cmd); err != nil || what != survived {
			return what, by, err
		}
	}
	return survived, "", nil
}

// slow are tests that take seconds, and find little that others do not.
const slow = "^TestTwoThousandRobots$|^TestOneKeyUnderManyRobots$|^TestRateSettlesAtWhatTheServiceAllows$"

// rounds are the tests of the key store, those that find most in the shortest time first. The real redis-server comes before the one that
// is embedded, which is several times slower.
func (r *runner) rounds() [][]string {
	out := [][]string{
		{"-test.run", "^TestConservation$/^redis-server$/^0$"},
		{"-test.skip", slow + "|^TestConservation$|/^miniredis$"}, // of alternatives, the one with a subtest comes last, or else it hides the others
	}
	if r.full {
		out = append(out, []string{"-test.run", slow + "|^TestConservation$"}, []string{"-test.skip", slow + "|^TestConservation$|/^redis-server$"})
	}
	return out
}

// failed is how a test says that it has failed. In the format for test2json, which puts a mark in front, it does so at once.
var failed = regexp.MustCompile(`^\x16?\s*--- FAIL: (\S+)`)

// watch runs tests until one fails.
func (r *runner) watch(cmd *exec.Cmd) (what, by string, err error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", "", err
	}
	var said strings.Builder
	cmd.Stderr = &said
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	late := time.AfterFunc(r.timeout, func() { endGroup(cmd) })
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<24)
	for by == "" && lines.Scan() {
		if f := failed.FindStringSubmatch(lines.Text()); f != nil {
			by = f[1]
			endGroup(cmd)
		} else if strings.HasPrefix(lines.Text(), "panic: ") {
			by = lines.Text()
		}
	}
	_, _ = io.Copy(io.Discard, out)
	err = cmd.Wait()
	onTime := late.Stop()
	var exit *exec.ExitError
	switch {
	case by != "":
		return killed, by, nil
	case !onTime:
		return killed, "no end within " + r.timeout.String(), nil
	case err == nil:
		return survived, "", nil
	case errors.As(err, &exit) && exit.ExitCode() == doesNotLoad:
		return noLua, "", nil
	case strings.Contains(said.String(), "panic: "):
		return killed, "a panic", nil
	}
	return "", "", fmt.Errorf("the tests could not be run: %w\n%s", err, said.String())
}

func scriptsDir(module string) string { return filepath.Join(module, packageDir, "scripts") }

// readMutants gives all mutants of all scripts.
func readMutants(module string) ([]mutant, error) {
	var out []mutant
	files := os.DirFS(scriptsDir(module))
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".lua" {
			return err
		}
		text, err := fs.ReadFile(files, path)
		out = append(out, mutantsOf(path, string(text))...)
		return err
	})
	return out, err
}
