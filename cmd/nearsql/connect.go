package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
)

const (
	defaultDataDir = "nearsql-data"
	defaultListen  = "127.0.0.1:7600"

	rootKeyFile = "root.key" // written by the node, mode 0600
	addressFile = "address"  // written by serve: the URL of the node while it runs
)

func dataDirFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "data-dir", Usage: usage, Value: defaultDataDir, EnvVars: []string{"NEARSQL_DATA_DIR"}}
}

// patience is how long commands send reads, and writes with an idempotency key, again while no
// node can answer them.
const patience = 10 * time.Second

// clientFlags are those of all commands that talk to a node.
func clientFlags() []cli.Flag {
	return []cli.Flag{
		configFlag(),
		&cli.StringFlag{Name: "url", Usage: "`URL` of the node (default: that of the node in --data-dir)", EnvVars: []string{"NEARSQL_URL"}},
		&cli.StringFlag{Name: "token", Usage: "bearer `TOKEN` (default: the root key in --data-dir)", EnvVars: []string{"NEARSQL_TOKEN"}},
		dataDirFlag("`DIR` of a node on this machine, to find its address and root key"),
		&cli.StringFlag{Name: "tls-ca", Usage: "trust the certificates in PEM `FILE` instead of the system's", EnvVars: []string{"NEARSQL_TLS_CA"}},
		&cli.BoolFlag{Name: "json", Usage: "print JSON", EnvVars: []string{"NEARSQL_JSON"}},
	}
}

// connect gives a client of the node that flags, environment and config file name.
func connect(c *cli.Context) (*client.Client, error) {
	if err := applyConfig(c, sectionClient, clientFlags()); err != nil {
		return nil, err
	}
	dir := c.String("data-dir")
	base := c.String("url")
	if base == "" {
		found, err := readLine(filepath.Join(dir, addressFile))
		if err != nil {
			return nil, err
		}
		if base = found; base == "" {
			base = "http://" + defaultListen
		}
	}
	token := c.String("token")
	if token == "" && keyIsFor(c, base) {
		found, err := readLine(filepath.Join(dir, rootKeyFile))
		if err != nil {
			return nil, err
		}
		token = found
	}
	o := client.Options{Token: token, UserAgent: "nearsql-cli/" + version().Version, Patience: patience}
	if file := c.String("tls-ca"); file != "" {
		h, err := trusting(file)
		if err != nil {
			return nil, err
		}
		o.HTTP = h
	}
	node, err := client.New(base, o)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return node, nil
}

// keyIsFor says whether the root key of the data directory may be sent to base:
// to this machine, or where the user named both. A key in the working directory
// is not for any node that an URL names.
func keyIsFor(c *cli.Context, base string) bool {
	if c.IsSet("data-dir") || c.String("url") == "" {
		return true
	}
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// maxLineFile bounds the files that hold one line, in bytes.
const maxLineFile = 4096

// readLine gives the one line of a small file; "" when there is no such file.
func readLine(name string) (string, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxLineFile {
		return "", fmt.Errorf("%s is not a small file", name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

func trusting(file string) (*http.Client, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, usagef("--tls-ca: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usagef("--tls-ca: %s has no certificate in PEM", file)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
