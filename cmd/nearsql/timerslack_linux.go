package main

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// timerSlack is how much later than asked the kernel may wake the threads of a node. Go's monitor thread sleeps 20 µs at a time
// whenever there is work: with the kernel's own slack of 50 µs its waking takes up to a tenth of a busy node's CPU.
const timerSlack = time.Millisecond

const prSetTimerSlack = 29 // PR_SET_TIMERSLACK of prctl(2)

// relaxTimers lets the kernel wake the threads of this process up to timerSlack late, so that they wake less often. Threads that are
// made later inherit it.
func relaxTimers() error {
	_, _, errno := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(timerSlack.Nanoseconds()), 0)
	if errors.Is(errno, syscall.ENOTSUP) {
		return nil // built with cgo: Go does not know all threads
	}
	if errno != 0 {
		return os.NewSyscallError("prctl(PR_SET_TIMERSLACK)", errno)
	}
	return nil
}
