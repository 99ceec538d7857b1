package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/certs"
)

// pair loads a certificate that was written, and holds its files to be private.
func pair(t *testing.T, cert, key string) *x509.Certificate {
	t.Helper()
	for _, f := range []string{cert, key} {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
	}
	p, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return p.Leaf
}

// greet has one node dial another, and returns whom the dialled one saw.
func greet(t *testing.T, server, client certs.Files, want string) (string, error) {
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
	srv := tls.Server(a, sc)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if srv.Handshake() != nil {
			a.Close()
			return
		}
		srv.Write([]byte("x"))
	}()
	cl := tls.Client(b, cc)
	if err = cl.Handshake(); err == nil {
		_, err = cl.Read(make([]byte, 1))
	}
	b.Close()
	<-ended
	return certs.PeerNode(srv.ConnectionState()), err
}

func TestCert(t *testing.T) {
	t.Chdir(t.TempDir())
	command(t, "", "cert", "ca", "--out", "ca", "--name", "acme").want(t, 0, "wrote ca/ca.key\nwrote ca/ca.crt\nNext: nearsql cert node --ca ca", "")
	ca := pair(t, "ca/ca.crt", "ca/ca.key")
	if ca.Subject.CommonName != "nearsql cluster authority of acme" || !ca.IsCA || !ca.MaxPathLenZero {
		t.Errorf("authority: %v, %v", ca.Subject, ca.IsCA)
	}
	command(t, "", "cert", "node", "--ca", "ca", "--out", "n1", "n1").want(t, 0, "wrote n1/ca.crt\nNext, on that node: nearsql serve --node-id n1 --cluster-ca n1/ca.crt", "")
	command(t, "", "cert", "node", "n2", "db.example.com", "10.1.2.3", "--ca", "ca", "--out", "ca", "--json").want(t, 0, `{"files":["ca/n2.key","ca/n2.crt"]}`, "")
	n1 := pair(t, "n1/n1.crt", "n1/n1.key")
	if !slices.Equal(n1.DNSNames, []string{certs.HostName("n1")}) || len(n1.IPAddresses) > 0 {
		t.Errorf("n1 is for %q, %v", n1.DNSNames, n1.IPAddresses)
	}
	n2 := pair(t, "ca/n2.crt", "ca/n2.key")
	for _, host := range []string{"db.example.com", "10.1.2.3", certs.HostName("n2")} {
		if err := n2.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	one := certs.Files{CA: "n1/ca.crt", Cert: "n1/n1.crt", Key: "n1/n1.key"}
	two := certs.Files{CA: "ca/ca.crt", Cert: "ca/n2.crt", Key: "ca/n2.key"}
	if who, err := greet(t, one, two, "n1"); who != "n2" || err != nil {
		t.Errorf("n2 dials n1, which sees %q: %v", who, err)
	}
	if who, err := greet(t, two, one, "n2"); who != "n1" || err != nil {
		t.Errorf("n1 dials n2, which sees %q: %v", who, err)
	}
	if _, err := greet(t, two, one, "n3"); err == nil {
		t.Error("n2 passes for n3")
	}
	if left, _ := filepath.Glob("*/.*"); len(left) > 0 {
		t.Errorf("files were left: %q", left)
	}
}

func TestCertKeepsFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	command(t, "", "cert", "ca", "--out", "ca").want(t, 0, "", "")
	command(t, "", "cert", "node", "--ca", "ca", "--out", "n1", "n1").want(t, 0, "", "")
	key, node := read("ca/ca.key"), read("n1/n1.key")
	command(t, "", "cert", "ca", "--out", "ca").want(t, 1, "", "ca/ca.key exists; --force replaces it")
	command(t, "", "cert", "node", "--ca", "ca", "--out", "n1", "n1").want(t, 1, "", "n1/n1.key exists; --force replaces it")
	if read("ca/ca.key") != key || read("n1/n1.key") != node {
		t.Error("a file was replaced")
	}
	// Another node's certificates may lie beside; another cluster's may not.
	command(t, "", "cert", "node", "--ca", "ca", "--out", "n1", "n2").want(t, 0, "wrote n1/n2.crt\nNext", "")
	command(t, "", "cert", "ca", "--out", "other").want(t, 0, "", "")
	command(t, "", "cert", "node", "--ca", "other", "--out", "n1", "n3").want(t, 1, "", "n1/ca.crt exists")
	if _, err := os.Stat("n1/n3.key"); err == nil {
		t.Error("n1/n3.key was written though not all could be")
	}
	command(t, "", "cert", "ca", "--out", "ca", "--force").want(t, 0, "", "")
	command(t, "", "cert", "node", "--ca", "ca", "--out", "n1", "n1", "--force").want(t, 0, "n1/ca.crt", "")
	if read("ca/ca.key") == key || read("n1/n1.key") == node || read("n1/ca.crt") != read("ca/ca.crt") {
		t.Error("--force did not replace the files")
	}
	pair(t, "n1/n1.crt", "n1/n1.key")
}

func TestCertRefusals(t *testing.T) {
	t.Chdir(t.TempDir())
	command(t, "", "cert", "ca", "--out", "ca").want(t, 0, "", "")
	for _, c := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"ca"}, 2, "out"},
		{[]string{"ca", "--out", "x", "more"}, 2, "takes 0 arguments"},
		{[]string{"ca", "--out", "x", "--name", strings.Repeat("n", 65)}, 2, "at most 64"},
		{[]string{"node", "--out", "x", "n1"}, 2, "ca"},
		{[]string{"node", "--ca", "ca", "--out", "x"}, 2, "takes a node"},
		{[]string{"node", "--ca", "ca", "--out", "x", "../n1"}, 2, "only a-z"},
		{[]string{"node", "--ca", "ca", "--out", "x", "ca"}, 2, "authority"},
		{[]string{"node", "--ca", "ca", "--out", "x", "n1", "a b"}, 2, "neither a host name"},
		{[]string{"node", "--ca", "ca", "--out", "x", "n1", certs.HostName("n2")}, 2, "those of nodes"},
		{[]string{"node", "--ca", "ca", "--out", "x", "n1", strings.ToUpper(certs.HostName("n2")) + "."}, 2, "those of nodes"},
		{[]string{"node", "--ca", "ca", "--out", "x", "n1", "*.node.nearsql.internal"}, 2, "those of nodes"},
		{[]string{"node", "--ca", "ca", "--out", "x", "n1", "*.nearsql.internal"}, 2, "those of nodes"},
		{[]string{"node", "--ca", "nothere", "--out", "x", "n1"}, 1, "authority of the cluster"},
		{[]string{"frobnicate"}, 2, "unknown command"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			command(t, "", append([]string{"cert"}, c.args...)...).want(t, c.code, "", c.err)
		})
	}
	if left, _ := filepath.Glob("x/*"); len(left) > 0 {
		t.Errorf("files were left: %q", left)
	}
}
