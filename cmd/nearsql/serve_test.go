package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nearsql/nearsql/tenant"
)

var optionsZero tenant.CreateOptions // asks for nothing

func TestCheckListen(t *testing.T) {
	cert := settings{TLSCert: "c", TLSKey: "k"}
	for _, c := range []struct {
		listen string
		set    settings
		want   string
	}{
		{"127.0.0.1:7600", settings{}, ""},
		{"localhost:0", settings{NoAuth: true}, ""},
		{"[::1]:7600", settings{NoAuth: true}, ""},
		{"127.0.0.1:7600", cert, ""},
		{"0.0.0.0:7600", cert, ""},
		{"0.0.0.0:7600", settings{PlainHTTP: true}, ""},
		{"0.0.0.0:7600", settings{}, "--insecure-plain-http"},
		{":7600", settings{}, "--insecure-plain-http"},
		{"node.example:7600", settings{}, "--insecure-plain-http"},
		{":7600", settings{NoAuth: true, PlainHTTP: true}, "--insecure-no-auth is for loopback only"},
		{"10.0.0.1:7600", settings{NoAuth: true, TLSCert: "c", TLSKey: "k"}, "--insecure-no-auth is for loopback only"},
		{"127.0.0.1:7600", settings{TLSCert: "c"}, "together"},
		{"7600", settings{}, "want HOST:PORT"},
	} {
		c.set.Listen = c.listen
		err := checkListen(c.set)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %+v: got %v, want %q", c.listen, c.set, err, c.want)
		}
		if exitCode(err) != exitUsage && err != nil {
			t.Errorf("%v is no usage error", err)
		}
	}
}

func TestServeRefusesFlags(t *testing.T) {
	t.Chdir(t.TempDir())
	for want, args := range map[string][]string{
		"--label":                               {"--label", "x"},
		"given twice":                           {"--label", "x=1", "--label", "x=2"},
		"--pop":                                 {"--pop", "Fra nkfurt"},
		"--limit":                               {"--limit", "size=1"},
		"--log-level":                           {"--log-level", "loud"},
		"--checkpoint-bytes: 1000 is too small": {"--checkpoint-bytes", "1000"},
		"--checkpoint-age":                      {"--checkpoint-age", "0s"},
		"--ltx-bytes":                           {"--ltx-bytes", "much"},
		"--ltx-age":                             {"--ltx-age", "-1s"},
		"--min-free-space":                      {"--min-free-space", "-1"},
		"--log-format":                          {"--log-format", "xml"},
		"takes 0 argument":                      {"now"},
		"nothere":                               {"--nothere"},
	} {
		command(t, "", append([]string{"serve"}, args...)...).want(t, 2, "", want)
	}
}

// fakeNode runs until its context ends; slow ones don't even then.
type fakeNode struct {
	running chan struct{}
	ended   chan struct{}
	slow    bool
	err     error
}

func (n *fakeNode) Run(ctx context.Context, ready func(net.Addr)) error {
	ready(&net.TCPAddr{IP: net.IPv4zero, Port: 7600})
	close(n.running)
	if n.err != nil {
		return n.err
	}
	<-ctx.Done()
	if n.slow {
		<-n.ended
	}
	return ctx.Err()
}

func TestServeStopsOnSignals(t *testing.T) {
	for _, slow := range []bool{false, true} {
		dir := t.TempDir()
		set := settings{DataDir: dir, Log: slog.New(slog.DiscardHandler)}
		n := &fakeNode{running: make(chan struct{}), ended: make(chan struct{}), slow: slow}
		signals := make(chan os.Signal)
		exited := make(chan int, 1)
		done := make(chan error)
		var out bytes.Buffer
		go func() {
			done <- serve(t.Context(), n, set, stdio{out: &out, err: io.Discard}, signals, func(code int) { exited <- code })
		}()
		<-n.running
		if b, err := os.ReadFile(filepath.Join(dir, addressFile)); err != nil || string(b) != "http://127.0.0.1:7600\n" {
			t.Errorf("got %q, %v", b, err)
		}
		signals <- syscall.SIGTERM
		if slow {
			signals <- syscall.SIGINT
			if code := <-exited; code != exitInterrupted {
				t.Errorf("got %d", code)
			}
			close(n.ended)
		}
		if err := <-done; err != nil {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, addressFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the address stays: %v", err)
		}
		if !strings.Contains(out.String(), "serves at http://127.0.0.1:7600") {
			t.Errorf("got %q", out.String())
		}
	}
}

func TestServeReportsWhyItEnded(t *testing.T) {
	boom := errors.New("boom")
	n := &fakeNode{running: make(chan struct{}), err: boom}
	set := settings{DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), TLSCert: "x"}
	if err := serve(t.Context(), n, set, stdio{out: io.Discard, err: io.Discard}, nil, func(int) {}); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}
