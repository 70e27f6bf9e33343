//go:build !linux

package redistest

import "os/exec"

// EndWithParent has no counterpart here: Main ends the process.
func EndWithParent(*exec.Cmd) {}
