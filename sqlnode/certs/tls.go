package certs

import (
	"crypto/tls"
	"crypto/x509"
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
