package e2e_test

import "syscall"

// childAttr makes a child die with the test, also when that is killed.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
