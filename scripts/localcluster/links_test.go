package localcluster

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// echoBehind relays from "a" to "b", which says everything again; it returns where to dial.
func echoBehind(t *testing.T, who func(from, to netip.AddrPort) string) (*Links, string) {
	t.Helper()
	behind, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { behind.Close() })
	go func() {
		for {
			c, err := behind.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	before, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLinks(who)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.relay(ctx, before, "b", behind.Addr().String()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l, before.Addr().String()
}

// line sends a line and waits for it to come back, not longer than most.
func line(c net.Conn, r *bufio.Reader, text string, most time.Duration) error {
	c.SetDeadline(time.Now().Add(most))
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		return err
	}
	got, err := r.ReadString('\n')
	if err == nil && got != text+"\n" {
		err = errors.New("got " + got)
	}
	return err
}

const short, long = 100 * time.Millisecond, 10 * time.Second

func TestLinks(t *testing.T) {
	l, addr := echoBehind(t, func(_, _ netip.AddrPort) string { return "a" })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if err := line(c, r, "hello", long); err != nil {
		t.Fatal(err)
	}
	if there, back := l.Bytes("a", "b"), l.Bytes("b", "a"); there != 6 || back != 6 {
		t.Errorf("%d bytes went there, %d back, want 6", there, back)
	}
	// Each way alone stops the line; what was under way comes when it heals.
	for i, w := range [][2]string{{"a", "b"}, {"b", "a"}} {
		l.Cut(w[0], w[1])
		if err := line(c, r, "cut", short); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the way from %s to %s is cut: %v", w[0], w[1], err)
		}
		if got := l.Bytes("a", "b"); (got > 6+int64(4*i)) != (i == 1) {
			t.Errorf("%d bytes went to b while the way from %s was cut", got, w[0])
		}
		l.Heal(w[0], w[1])
		c.SetDeadline(time.Now().Add(long))
		if got, err := r.ReadString('\n'); got != "cut\n" || err != nil {
			t.Fatalf("healed: got %q, %v", got, err)
		}
	}
	l.Cut("b", "c") // is none of ours
	if err := line(c, r, "still", long); err != nil {
		t.Error(err)
	}
	l.SetDelay("a", "b", 60*time.Millisecond)
	l.SetDelay("b", "a", 60*time.Millisecond)
	began := time.Now()
	if err := line(c, r, "far", long); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 120*time.Millisecond {
		t.Errorf("a round trip of 120 ms took %s", took)
	}
}

func TestNewConnectionsOverACutLinkHang(t *testing.T) {
	l, addr := echoBehind(t, func(_, _ netip.AddrPort) string { return "a" })
	l.Cut("a", "b")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if err := line(c, r, "one", short); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got through: %v", err)
	}
	l.Heal("a", "b")
	c.SetDeadline(time.Now().Add(long))
	if got, err := r.ReadString('\n'); got != "one\n" || err != nil {
		t.Errorf("healed: got %q, %v", got, err)
	}
}

func TestStrangersGetNothing(t *testing.T) {
	_, addr := echoBehind(t, func(_, _ netip.AddrPort) string { return "" })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return // it was ended before Dial had looked
	}
	defer c.Close()
	if err := line(c, bufio.NewReader(c), "hello", long); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection of nobody's is not ended: %v", err)
	}
}

func TestDialler(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("links are for Linux")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	from, to := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	if pid, err := dialler(from, to, []int{0, other.Process.Pid, os.Getpid()}); pid != os.Getpid() || err != nil {
		t.Errorf("got %d, %v; want %d", pid, err, os.Getpid())
	}
	if pid, err := dialler(from, to, []int{other.Process.Pid}); !errors.Is(err, errNoDialler) {
		t.Errorf("got %d, %v", pid, err)
	}
}

func TestProcess(t *testing.T) {
	p := NewProcess(t.TempDir()+"/log", "sh", "-c", `trap "exit $CODE" TERM; echo starting; echo "trouble" >&2; echo serves; while :; do sleep 0.05; done`)
	serves := func(line string) bool { return line == "serves\n" }
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if p.Running() || p.Pid() != 0 {
		t.Error("it runs before it was started")
	}
	for _, code := range []string{"0", "3"} {
		t.Setenv("CODE", code)
		if err := p.Start(ctx, serves); err != nil {
			t.Fatal(err)
		}
		if !p.Running() || p.Pid() == 0 || !strings.Contains(p.LogTail(100), "trouble") {
			t.Errorf("running %v, log %q", p.Running(), p.LogTail(100))
		}
		if err := p.Stop(); (err == nil) != (code == "0") {
			t.Errorf("exit code %s: %v", code, err)
		}
	}
	if err := p.Start(ctx, serves); err != nil {
		t.Fatal(err)
	}
	p.Pause()
	if !p.Paused() {
		t.Error("it is not paused")
	}
	p.Kill()
	if p.Running() {
		t.Error("it runs on")
	}
	if err := NewProcess(t.TempDir()+"/log", "sh", "-c", "echo no; exit 1").Start(ctx, serves); !errors.Is(err, ErrEnded) {
		t.Errorf("a process that ends at once: %v", err)
	}
}
