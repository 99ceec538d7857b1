package certs

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func authority(t *testing.T, nodes ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := NewAuthority(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := NewNode(dir, n, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func files(dir, node string) Files {
	return Files{CA: filepath.Join(dir, AuthorityCert), Cert: filepath.Join(dir, node+".crt"), Key: filepath.Join(dir, node+".key")}
}

// meet lets client dial server, whom it believes to be want; it returns whom the server saw.
func meet(t *testing.T, server, client Files, want string) (seen string, clientErr, serverErr error) {
	t.Helper()
	sc, err := server.Server()
	if err != nil {
		t.Fatal(err)
	}
	cc, err := client.Client(want)
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	srv := tls.Server(a, sc)
	go func() {
		err := srv.Handshake()
		if err == nil {
			_, err = srv.Write([]byte("x"))
		} else {
			a.Close()
		}
		done <- err
	}()
	cl := tls.Client(b, cc)
	clientErr = cl.Handshake()
	if clientErr == nil {
		_, clientErr = cl.Read(make([]byte, 1))
	}
	b.Close()
	serverErr = <-done
	return PeerNode(srv.ConnectionState()), clientErr, serverErr
}

func TestNodesOfAClusterKnowEachOther(t *testing.T) {
	dir := authority(t, "n1", "n2")
	seen, cerr, serr := meet(t, files(dir, "n1"), files(dir, "n2"), "n1")
	if cerr != nil || serr != nil || seen != "n2" {
		t.Fatalf("seen %q, client %v, server %v", seen, cerr, serr)
	}
}

func TestAnotherNodeIsRefused(t *testing.T) {
	dir := authority(t, "n1", "n2")
	if _, cerr, _ := meet(t, files(dir, "n1"), files(dir, "n2"), "n3"); cerr == nil {
		t.Fatal("n1 passed for n3")
	}
}

func TestAnotherClusterIsRefused(t *testing.T) {
	ours, theirs := authority(t, "n1"), authority(t, "n2")
	mixed := files(theirs, "n2")
	mixed.CA = filepath.Join(ours, AuthorityCert) // it trusts us
	if _, cerr, serr := meet(t, files(ours, "n1"), mixed, "n1"); cerr == nil || serr == nil {
		t.Fatalf("a node of another cluster was let in: client %v, server %v", cerr, serr)
	}
}

func TestFilesAreKept(t *testing.T) {
	dir := authority(t, "n1")
	before, _ := os.ReadFile(filepath.Join(dir, AuthorityKey))
	if err := NewAuthority(dir, time.Now()); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("second authority: %v", err)
	}
	if err := NewNode(dir, "n1", time.Now()); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("second certificate: %v", err)
	}
	after, _ := os.ReadFile(filepath.Join(dir, AuthorityKey))
	if string(before) != string(after) {
		t.Error("the authority's key was changed")
	}
	fi, err := os.Stat(filepath.Join(dir, AuthorityKey))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", fi.Mode(), err)
	}
	if err := NewNode(t.TempDir(), "n1", time.Now()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without an authority: %v", err)
	}
	if err := NewNode(dir, "", time.Now()); err == nil {
		t.Error("empty node id taken")
	}
}

// TestClientAny: any node of the cluster will do, and nobody else.
func TestClientAny(t *testing.T) {
	dir, theirs := authority(t, "n1", "n2"), authority(t, "n1")
	meetAny := func(server *tls.Config) error {
		cc, err := files(dir, "n2").ClientAny()
		if err != nil {
			t.Fatal(err)
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", server) // a pipe would not take both ends' last words at once
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				_ = c.(*tls.Conn).Handshake()
				_ = c.Close()
			}
		}()
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", l.Addr().String(), cc)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	own, err := files(dir, "n1").Server()
	if err != nil {
		t.Fatal(err)
	}
	if err := meetAny(own); err != nil {
		t.Errorf("a node of the cluster: %v", err)
	}
	other, err := files(theirs, "n1").Server()
	if err != nil {
		t.Fatal(err)
	}
	var unverified *tls.CertificateVerificationError
	if err := meetAny(other); !errors.As(err, &unverified) {
		t.Errorf("a node of another cluster: %v", err)
	}
	// Signed by the authority, but no node's.
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, AuthorityCert), filepath.Join(dir, AuthorityKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := meetAny(&tls.Config{Certificates: []tls.Certificate{pair}}); err == nil {
		t.Error("the authority's own certificate passed for a node's")
	}
}
