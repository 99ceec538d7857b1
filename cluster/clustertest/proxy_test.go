package clustertest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo is a TCP server that sends back what it gets; its address is returned.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func startProxy(t *testing.T, target string) *Proxy {
	p, err := NewProxy("127.0.0.1:0", target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := p.Conns(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
	return p
}

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func wantTimeout(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	_ = c.SetReadDeadline(time.Time{})
}

func TestProxy(t *testing.T) {
	p := startProxy(t, echo(t))
	c := dialTCP(t, p.Addr())
	write(t, c, "fast")
	wantRead(t, c, "fast")

	p.SetDelay(ToTarget, 20*time.Millisecond)
	p.SetDelay(FromTarget, 30*time.Millisecond)
	start := time.Now()
	write(t, c, "slow")
	wantRead(t, c, "slow")
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("the echo took %v", took)
	}
	p.SetDelay(ToTarget, 0)
	p.SetDelay(FromTarget, 0)

	for _, d := range []Direction{ToTarget, FromTarget} {
		p.Cut(d)
		write(t, c, "stall")
		wantTimeout(t, c)
		fresh := dialTCP(t, p.Addr())
		write(t, fresh, "stall")
		wantTimeout(t, fresh)
		p.Heal(d)
		wantRead(t, c, "stall")
		wantRead(t, fresh, "stall")
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	want := int64(len("fast") + len("slow") + 4*len("stall"))
	if to, from := p.Bytes(ToTarget), p.Bytes(FromTarget); to != want || from != want {
		t.Errorf("%d bytes there, %d back, want %d", to, from, want)
	}
}

func TestProxyReset(t *testing.T) {
	p := startProxy(t, echo(t))
	c, d := dialTCP(t, p.Addr()), dialTCP(t, p.Addr())
	for _, c := range []net.Conn{c, d} {
		write(t, c, "x")
		wantRead(t, c, "x")
	}
	p.Cut(ToTarget)
	write(t, d, "stalled")
	p.Reset()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read after a reset")
	}
	if _, err := d.Read(make([]byte, 1)); err == nil {
		t.Error("read after a reset")
	}
}

func TestProxyWithoutTarget(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c, err := net.Dial("tcp", startProxy(t, addr).Addr())
	if err != nil {
		return // reset already
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read from a target that is not there")
	}
}
