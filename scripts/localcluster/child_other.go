//go:build !linux

package localcluster

import "syscall"

// childAttr keeps the terminal's signals from a child.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
