//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup has a command begin a group of processes: tests have children.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// endGroup ends the command and its children. That they have ended already is no news.
func endGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
