package main

import (
	"runtime"
	"syscall"
	"testing"
)

const prGetTimerSlack = 30 // PR_GET_TIMERSLACK of prctl(2)

// All threads have the slack, those too that are made later.
func TestRelaxTimers(t *testing.T) {
	slack := func() uintptr {
		r, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
		if errno != 0 {
			t.Fatal(errno)
		}
		return r
	}
	before := slack()
	if err := relaxTimers(); err != nil {
		t.Fatal(err)
	}
	if slack() == before {
		t.Skip("built with cgo, or set already")
	}
	for range 8 { // goroutines that keep their threads, so that others are made
		got, done := make(chan uintptr), make(chan struct{})
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			got <- slack()
			<-done
		}()
		defer close(done)
		if s := <-got; s != uintptr(timerSlack.Nanoseconds()) {
			t.Errorf("a thread has a slack of %d ns, want %d", s, timerSlack.Nanoseconds())
		}
	}
}
