//go:build unix

package main

import "syscall"

// apart puts the node in a process group of its own: Ctrl-C is for quickstart,
// which then stops the node.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
