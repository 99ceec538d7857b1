package clustertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
)

// dialTwo opens a connection from a to b.
func dialTwo(t *testing.T, n *Network, a, b string) (near, far net.Conn) {
	t.Helper()
	p := n.Node(b)
	n.mu.Lock()
	l := p.listener
	n.mu.Unlock()
	if l == nil {
		if _, err := p.Listen(); err != nil {
			t.Fatal(err)
		}
		l = p.listener
	}
	near, err := n.Node(a).Dial(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); err != nil || n != len(s) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

// wantSilence shows that nothing arrives for a virtual hour.
func wantSilence(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want silence", n, err)
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("%v is no timeout", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

func wantTook(t *testing.T, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got != want {
		t.Fatalf("took %v, want %v", got, want)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		n.SetDelay("a", "b", 30*time.Millisecond)
		n.SetDelay("b", "a", 5*time.Millisecond)
		start := time.Now()
		near, far := dialTwo(t, n, "a", "b")
		wantTook(t, start, 35*time.Millisecond)

		start = time.Now()
		write(t, near, "question")
		wantTook(t, start, 0)
		wantRead(t, far, "question")
		wantTook(t, start, 30*time.Millisecond)
		write(t, far, "answer")
		wantRead(t, near, "answer")
		wantTook(t, start, 35*time.Millisecond)

		// A shorter delay does not let later bytes pass earlier ones.
		start = time.Now()
		write(t, near, "first ")
		n.SetDelay("a", "b", 0)
		write(t, near, "second")
		wantRead(t, far, "first second")
		wantTook(t, start, 30*time.Millisecond)
		if got := n.Sent("a", "b"); got != int64(len("questionfirst second")) {
			t.Errorf("a sent %d bytes", got)
		}
		if got := n.Conns("b", "a"); got != 1 {
			t.Errorf("%d connections", got)
		}
	})
}

func TestCutStallsAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		n.SetDelayBoth("a", "b", 10*time.Millisecond)
		near, far := dialTwo(t, n, "a", "b")
		write(t, near, "early")
		time.Sleep(5 * time.Millisecond)
		write(t, near, "late")
		time.Sleep(5 * time.Millisecond)
		n.Cut("a", "b")
		wantRead(t, far, "early") // it was there before
		wantSilence(t, far)
		if got := n.Pending("a", "b"); got != int64(len("late")) {
			t.Errorf("%d bytes pending", got)
		}
		write(t, far, "other way")
		wantRead(t, near, "other way")

		near.Close()
		wantSilence(t, far)
		start := time.Now()
		n.Heal("a", "b")
		wantRead(t, far, "late")
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("read: %v, want EOF", err)
		}
		wantTook(t, start, 0)
		if _, err := far.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("write to who has closed: %v", err)
		}
	})
}

func TestCutHangsDials(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to string
	}{{"there", "a", "b"}, {"back", "b", "a"}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := New(Options{})
				l, _ := n.Node("b").Listen()
				defer l.Close()
				n.Cut(c.from, c.to)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				if _, err := n.Node("a").Dial(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("dial: %v", err)
				}
				wantTook(t, start, time.Minute)

				start = time.Now()
				time.AfterFunc(time.Hour, func() { n.Heal(c.from, c.to) })
				conn, err := n.Node("a").Dial(t.Context(), "b")
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				wantTook(t, start, time.Hour)
			})
		})
	}
}

func TestIsolate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		near, far := dialTwo(t, n, "a", "b")
		c, d := dialTwo(t, n, "c", "a")
		n.Isolate("b")
		write(t, near, "1")
		write(t, far, "2")
		write(t, c, "3")
		wantRead(t, d, "3")
		wantSilence(t, near)
		wantSilence(t, far)
		n.HealAll()
		wantRead(t, far, "1")
		wantRead(t, near, "2")
		n.Isolate("b")
		n.Rejoin("b")
		write(t, near, "4")
		wantRead(t, far, "4")
	})
}

func TestHoldAndRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		hello := func(p cluster.Purpose) string {
			b, err := cluster.Hello{From: "a", To: "b", Purpose: p}.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		n.Hold("a", "b", cluster.PurposeRaft)
		raft, raftFar := dialTwo(t, n, "a", "b") // opens all the same
		confirm, confirmFar := dialTwo(t, n, "a", "b")
		write(t, raft, hello(cluster.PurposeRaft))
		write(t, raft, "x")
		write(t, confirm, hello(cluster.PurposeConfirm))
		wantRead(t, confirmFar, hello(cluster.PurposeConfirm))
		wantSilence(t, raftFar)
		write(t, raftFar, "y")
		wantRead(t, raft, "y")
		n.Hold("a", "b")
		write(t, confirm, "z")
		wantSilence(t, confirmFar)
		n.Release("a", "b")
		wantRead(t, raftFar, hello(cluster.PurposeRaft)+"x")
		wantRead(t, confirmFar, "z")

		size := int64(len(hello(cluster.PurposeRaft)))
		if got := n.Sent("a", "b", cluster.PurposeRaft); got != size+1 {
			t.Errorf("%d bytes for raft, want %d", got, size+1)
		}
		if got := n.Sent("b", "a", cluster.PurposeRaft); got != 1 {
			t.Errorf("%d bytes for raft, back", got)
		}
		if got := n.Sent("a", "b", cluster.PurposeRaft, cluster.PurposeConfirm); got != n.Sent("a", "b") {
			t.Errorf("%d bytes for both", got)
		}
	})
}

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{Window: 1000})
		near, far := dialTwo(t, n, "a", "b")
		text := bytes.Repeat([]byte("0123456789"), 500)
		if err := near.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if got, err := near.Write(text); got != 1000 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("write: %d, %v", got, err)
		}
		if err := near.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		// Two writes at a time are not mixed.
		done := make(chan error, 2)
		for _, letter := range []string{"a", "b"} {
			go func() { _, err := near.Write(bytes.Repeat([]byte(letter), len(text))); done <- err }()
		}
		got := make([]byte, 1000+2*len(text))
		if _, err := io.ReadFull(far, got); err != nil {
			t.Fatal(err)
		}
		if s := string(got[1000:]); strings.Count(s, "ab")+strings.Count(s, "ba") != 1 {
			t.Error("writes were mixed")
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		// While one is under way, the other does not take the room that gets free.
		first, second := false, false
		c := near.(*conn)
		try := func(p []byte, mine *bool) (int, bool) {
			n.mu.Lock()
			defer n.mu.Unlock()
			wrote, w, err := c.writeLocked(p, mine)
			return wrote, err == nil && w == nil
		}
		if wrote, done := try(text, &first); wrote != 1000 || done {
			t.Errorf("wrote %d, %v", wrote, done)
		}
		if _, err := io.ReadFull(far, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		if wrote, done := try([]byte("second"), &second); wrote != 0 || done {
			t.Errorf("the second wrote %d, %v", wrote, done)
		}
		if wrote, done := try(text[1000:1400], &first); wrote != 400 || !done {
			t.Errorf("the first wrote %d more, %v", wrote, done)
		}
		c.out.writing = false
		// Closing ends a write and a read that wait.
		for _, op := range []func() error{
			func() error { _, err := near.Write(text); return err },
			func() error { _, err := near.Read(make([]byte, 1)); return err },
		} {
			go func() { done <- op() }()
		}
		synctest.Wait()
		near.Close()
		for range 2 {
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Errorf("ended with %v", err)
			}
		}
		if err := near.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		n.SetDelayBoth("a", "b", time.Second)
		near, far := dialTwo(t, n, "a", "b")
		write(t, near, "last words")
		near.Close()
		wantRead(t, far, "last words")
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("read: %v", err)
		}
		// What arrives where nobody reads takes no room, as long as its writer does not know.
		near, far = dialTwo(t, n, "a", "b")
		n.Cut("b", "a")
		far.Close()
		for range 3 {
			write(t, near, strings.Repeat("x", 1<<20))
			time.Sleep(time.Second)
		}
		n.HealAll()
		// Who leaves something unread resets.
		near, far = dialTwo(t, n, "a", "b")
		write(t, far, "unread")
		time.Sleep(time.Second)
		near.Close()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read: %v", err)
		}
	})
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		near, far := dialTwo(t, n, "a", "b")
		other, otherFar := dialTwo(t, n, "a", "c")
		n.CutBoth("a", "b")
		write(t, near, "lost")
		errs := make(chan error)
		go func() { _, err := far.Read(make([]byte, 1)); errs <- err }()
		synctest.Wait()
		n.Reset("b", "a")
		if err := <-errs; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if _, err := near.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
		write(t, other, "fine")
		wantRead(t, otherFar, "fine")
	})
}

func TestKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{})
		n.SetDelayBoth("a", "b", 10*time.Millisecond)
		near, far := dialTwo(t, n, "a", "b")
		old := n.Node("b")
		l := old.listener
		n.Cut("b", "c")
		dialled := make(chan error)
		go func() { _, err := old.Dial(t.Context(), "c"); dialled <- err }()
		synctest.Wait()

		start := time.Now()
		n.Kill("b")
		n.Kill("b")
		if err := <-dialled; !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("dial of a dead node: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept of a dead node: %v", err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of a dead node: %v", err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		wantTook(t, start, 10*time.Millisecond)
		if _, err := n.Node("a").Dial(t.Context(), "b"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v", err)
		}
		if _, err := old.Listen(); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("listen of a dead node: %v", err)
		}
		// Its next life.
		near, far = dialTwo(t, n, "a", "b")
		write(t, near, "again")
		wantRead(t, far, "again")
		// The power goes: nobody hears of it.
		n.Isolate("b")
		n.Kill("b")
		wantSilence(t, near)
		n.HealAll()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	})
}

func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Options{Backlog: 1})
		a, b := n.Node("a"), n.Node("b")
		if n.Node("a") != a || a.Name() != "a" {
			t.Error("another node of the same name")
		}
		if _, err := a.Dial(t.Context(), "b"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial nobody: %v", err)
		}
		l, err := b.Listen()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Listen(); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
		c, err := a.Dial(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := a.Dial(t.Context(), "b"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial beyond the backlog: %v", err)
		}
		l.Close()
		l.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("connection that nobody accepted: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		if c.LocalAddr().String() != "a" || c.RemoteAddr().String() != "b" || l.Addr().String() != "b" {
			t.Errorf("addresses %s %s %s", c.LocalAddr(), c.RemoteAddr(), l.Addr())
		}
	})
}
