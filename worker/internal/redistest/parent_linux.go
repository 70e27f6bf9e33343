package redistest

import (
	"os/exec"
	"syscall"
)

// EndWithParent has a process end when the test process ends, however that happens.
func EndWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
