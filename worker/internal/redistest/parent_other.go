//go:build !linux

package redistest

import "os/exec"

// endWithParent has no counterpart here: Main ends the process.
func endWithParent(*exec.Cmd) {}
