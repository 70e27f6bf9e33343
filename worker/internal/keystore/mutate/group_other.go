//go:build !unix

package main

import "os/exec"

// ownGroup has no counterpart here.
func ownGroup(*exec.Cmd) {}

// endGroup ends the command; its children find out by themselves.
func endGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
