package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Names of the files that NewAuthority and NewNode write.
const (
	AuthorityCert = "ca.crt"
	AuthorityKey  = "ca.key"
)

// Validity of what is made here. Nodes check dates, so both are generous; a node's
// certificate can be replaced at any time.
const (
	authorityYears = 20
	nodeYears      = 5
)

// hostSuffix makes a node id a DNS name that no host has.
const hostSuffix = ".node.nearsql.internal"

// NewAuthority makes the authority of a cluster in dir: ca.crt, for every node, and ca.key, to be kept apart. It
// never replaces files.
func NewAuthority(dir string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "nearsql cluster authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(authorityYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make authority: %w", err)
	}
	return writePair(filepath.Join(dir, AuthorityCert), filepath.Join(dir, AuthorityKey), der, key)
}

// NewNode makes the certificate of node in dir, signed by the authority there: NODE.crt and NODE.key. It
// never replaces files.
func NewNode(dir, node string, now time.Time) error {
	if node == "" || len(node) > 63 {
		return fmt.Errorf("node id %q: want 1 to 63 characters", node)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, AuthorityCert), filepath.Join(dir, AuthorityKey))
	if err != nil {
		return fmt.Errorf("authority of the cluster: %w", err)
	}
	ca, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return fmt.Errorf("authority of the cluster: %w", err)
	}
	if !ca.IsCA {
		return fmt.Errorf("%s is no certificate of an authority", filepath.Join(dir, AuthorityCert))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: node}, DNSNames: []string{HostName(node)},
		NotBefore: now.Add(-time.Hour), NotAfter: earlier(now.AddDate(nodeYears, 0, 0), ca.NotAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), pair.PrivateKey)
	if err != nil {
		return fmt.Errorf("make certificate of node %s: %w", node, err)
	}
	return writePair(filepath.Join(dir, node+".crt"), filepath.Join(dir, node+".key"), der, key)
}

// HostName is the DNS name that the certificate of a node must have.
func HostName(node string) string { return node + hostSuffix }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func serialNumber() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return n, nil
}

// writePair writes certificate and key, the key for its owner's eyes only.
func writePair(certPath, keyPath string, der []byte, key *ecdsa.PrivateKey) error {
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	for _, p := range []string{certPath, keyPath} {
		if _, err := os.Stat(p); err == nil {
			return fmt.Errorf("%s exists: it is not replaced", p)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := writeNew(keyPath, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	return writeNew(certPath, "CERTIFICATE", der, 0o644)
}

func writeNew(path, kind string, der []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
