package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Files name a node's certificates, in PEM.
type Files struct {
	CA   string // the authorities that other nodes' certificates must come from
	Cert string // the node's own
	Key  string
}

// Server returns what the cluster listener of a node needs: it takes nobody without a certificate of the
// cluster. The certificate of a connection names the node at the other end: PeerNode.
func (f Files) Server() (*tls.Config, error) {
	pair, pool, err := f.load()
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}, nil
}

// Client returns what is needed to dial node: it must show the certificate of that node.
func (f Files) Client(node string) (*tls.Config, error) {
	pair, pool, err := f.load()
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: HostName(node), MinVersion: tls.VersionTLS13}, nil
}

// ClientAny returns what is needed to dial a node of the cluster whose id is not known: it must show the certificate of some
// node. PeerNode tells which.
func (f Files) ClientAny() (*tls.Config, error) {
	pair, pool, err := f.load()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13,
		// The check of package tls wants a name, so it is made here without one.
		InsecureSkipVerify: true,
		VerifyConnection:   func(state tls.ConnectionState) error { return verifyNode(state, pool) },
	}, nil
}

// verifyNode refuses who has no certificate of a node from the authorities, for what servers do.
func verifyNode(state tls.ConnectionState, authorities *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	// Without keys' usages it would be those of servers: said for who reads it.
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	if PeerNode(state) == "" {
		return fmt.Errorf("the certificate of %q is of no node", state.PeerCertificates[0].Subject.CommonName)
	}
	return nil
}

func (f Files) load() (tls.Certificate, *x509.CertPool, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("certificate of this node: %w", err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("authority of the cluster: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return tls.Certificate{}, nil, fmt.Errorf("authority of the cluster: %s has no certificate", f.CA)
	}
	return pair, pool, nil
}

// PeerNode says which node the certificate of the other end is for; "" when it is for none.
func PeerNode(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return ""
	}
	node := state.PeerCertificates[0].Subject.CommonName
	if state.PeerCertificates[0].VerifyHostname(HostName(node)) != nil {
		return ""
	}
	return node
}
