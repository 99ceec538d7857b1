package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/certs"
	"github.com/nearsql/nearsql/tenant"
)

func certCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:        "cert",
		Usage:       "Make the certificates by which the nodes of a cluster know each other",
		Action:      groupAction,
		Subcommands: []*cli.Command{certCACommand(s), certNodeCommand(s)},
	}
}

// certFlags are the flags of both commands.
func certFlags(out string, more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "out", Usage: out + " (needed)"},
		&cli.BoolFlag{Name: "force", Usage: "replace files that exist"},
		&cli.BoolFlag{Name: "json", Usage: "print JSON", EnvVars: []string{"NEARSQL_JSON"}})
}

func certCACommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:  "ca",
		Usage: "Make the authority of a cluster",
		Description: "ca.crt goes to every node; ca.key signs certificates of nodes: whoever has it can make a node of the\n" +
			"cluster, so it is best kept on no node.",
		Flags: certFlags("write ca.crt and ca.key into `DIR`",
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the cluster, for people who look at the certificate"}),
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			out, err := wantFlag(c, "out")
			if err != nil {
				return err
			}
			wrote, err := makeAuthority(out, c.String("name"), c.Bool("force"), time.Now())
			if err != nil {
				return err
			}
			return printCerts(s, c.Bool("json"), wrote,
				fmt.Sprintf("Next: nearsql cert node --ca %s --out DIR NODE, for each node. Keep %s where no node is.", out, filepath.Join(out, certs.AuthorityKey)))
		},
	}
}

func certNodeCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "node",
		Usage:     "Make the certificate of a node",
		ArgsUsage: "NODE [HOST...]",
		Description: "NODE is the node's --node-id. HOSTs are names and addresses under which clients reach it: nodes do not\n" +
			"look at them, but with them the certificate may serve HTTPS too (serve --tls-cert).",
		Flags: certFlags("write NODE.crt, NODE.key and a copy of ca.crt into `DIR`",
			&cli.StringFlag{Name: "ca", Usage: "`DIR` of ca.crt and ca.key (needed)"}),
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return usagef("%s takes a node, and hosts (%s)", c.Command.HelpName, c.Command.ArgsUsage)
			}
			node, hosts := c.Args().First(), c.Args().Tail()
			if err := checkCertNames(node, hosts); err != nil {
				return err
			}
			ca, err := wantFlag(c, "ca")
			if err != nil {
				return err
			}
			out, err := wantFlag(c, "out")
			if err != nil {
				return err
			}
			wrote, err := makeNodeCert(ca, out, node, hosts, c.Bool("force"), time.Now())
			if err != nil {
				return err
			}
			return printCerts(s, c.Bool("json"), wrote, fmt.Sprintf("Next, on that node: nearsql serve --node-id %s --cluster-ca %s --cluster-cert %s --cluster-key %s …",
				node, filepath.Join(out, certs.AuthorityCert), filepath.Join(out, node+".crt"), filepath.Join(out, node+".key")))
		},
	}
}

// wantFlag is the value of a flag that must be given.
func wantFlag(c *cli.Context, name string) (string, error) {
	if v := c.String(name); v != "" {
		return v, nil
	}
	return "", usagef("%s needs --%s", c.Command.HelpName, name)
}

// printCerts says what was written.
func printCerts(s stdio, asJSON bool, wrote []string, next string) error {
	if asJSON {
		return printJSON(s.out, map[string]any{"files": wrote})
	}
	for _, f := range wrote {
		if _, err := fmt.Fprintf(s.out, "wrote %s\n", f); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(s.out, next)
	return err
}

// checkCertNames refuses what can't be a node and its hosts. A host that is the name of a node would let one node
// pass for another.
func checkCertNames(node string, hosts []string) error {
	if err := tenant.CheckLabel(node); err != nil {
		return usagef("node %q: %v", node, err)
	}
	if node+".crt" == certs.AuthorityCert {
		return usagef("a node can't be called %q: its files would have the names of the authority's", node)
	}
	_, reserved, _ := strings.Cut(certs.HostName(node), ".")
	for _, h := range hosts {
		name := strings.ToLower(strings.TrimSuffix(h, "."))
		switch {
		case net.ParseIP(h) != nil:
		case h == "" || len(h) > 253 || strings.ContainsFunc(h, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '*'
		}):
			return usagef("host %q is neither a host name nor an IP address", h)
		case name == reserved || strings.HasSuffix(name, "."+reserved) || strings.HasPrefix(name, "*") && strings.HasSuffix(reserved, name[1:]):
			return usagef("host %q: names below %s are those of nodes", h, reserved)
		}
	}
	return nil
}

// makeAuthority makes an authority in a directory, and says which files it wrote.
func makeAuthority(out, name string, force bool, now time.Time) ([]string, error) {
	if len(name) > 64 || strings.ContainsFunc(name, unprintable) {
		return nil, usagef("--name %q: want at most 64 bytes that can be printed", name)
	}
	return inScratch(out, func(scratch string) ([]string, error) {
		if err := certs.NewAuthority(scratch, now); err != nil {
			return nil, err
		}
		if name != "" {
			err := reissue(scratch, certs.AuthorityCert, certs.AuthorityKey, func(c *x509.Certificate) {
				c.Subject.CommonName += " of " + name
				c.RawSubject = nil // it would be taken before Subject
			})
			if err != nil {
				return nil, err
			}
		}
		return install(scratch, out, []string{certs.AuthorityKey, certs.AuthorityCert}, force)
	})
}

// makeNodeCert makes the certificate of a node, signed by the authority in ca, and says which files it wrote.
func makeNodeCert(ca, out, node string, hosts []string, force bool, now time.Time) ([]string, error) {
	return inScratch(out, func(scratch string) ([]string, error) {
		for _, f := range []string{certs.AuthorityCert, certs.AuthorityKey} {
			from, err := filepath.Abs(filepath.Join(ca, f))
			if err != nil {
				return nil, err
			}
			if err := os.Symlink(from, filepath.Join(scratch, f)); err != nil {
				return nil, err
			}
		}
		if err := certs.NewNode(scratch, node, now); err != nil {
			return nil, err
		}
		if len(hosts) > 0 {
			err := reissue(scratch, node+".crt", node+".key", func(c *x509.Certificate) {
				for _, h := range hosts {
					if ip := net.ParseIP(h); ip != nil {
						c.IPAddresses = append(c.IPAddresses, ip)
					} else {
						c.DNSNames = append(c.DNSNames, h)
					}
				}
			})
			if err != nil {
				return nil, err
			}
		}
		names := []string{node + ".key", node + ".crt"}
		same, err := sameFile(filepath.Join(scratch, certs.AuthorityCert), filepath.Join(out, certs.AuthorityCert))
		if err != nil {
			return nil, err
		}
		if !same {
			names = append(names, certs.AuthorityCert)
		}
		return install(scratch, out, names, force)
	})
}

// inScratch makes out, and runs do with an empty directory in it that is removed afterwards.
func inScratch(out string, do func(scratch string) ([]string, error)) (wrote []string, err error) {
	if err := os.MkdirAll(out, 0o700); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(out, ".cert-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	return do(scratch)
}

// reissue signs a certificate in dir again after a change, by the authority there.
func reissue(dir, certName, keyName string, change func(*x509.Certificate)) error {
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, certs.AuthorityCert), filepath.Join(dir, certs.AuthorityKey))
	if err != nil {
		return fmt.Errorf("authority of the cluster: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certName), filepath.Join(dir, keyName))
	if err != nil {
		return err
	}
	cert := *pair.Leaf
	change(&cert)
	parent := ca.Leaf
	if certName == certs.AuthorityCert {
		parent = &cert // it signs itself
	}
	der, err := x509.CreateCertificate(rand.Reader, &cert, parent, cert.PublicKey, ca.PrivateKey)
	if err != nil {
		return fmt.Errorf("sign %s: %w", certName, err)
	}
	return os.WriteFile(filepath.Join(dir, certName), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

// install copies files to out, readable by their owner alone. Unless it is forced it does nothing if one of them exists.
func install(from, out string, names []string, force bool) (wrote []string, err error) {
	for _, name := range names {
		path := filepath.Join(out, name)
		if _, err := os.Lstat(path); err == nil && !force {
			return nil, fmt.Errorf("%s exists; --force replaces it", path)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, name := range names {
		path := filepath.Join(out, name)
		if err := installFile(filepath.Join(from, name), path, force); err != nil {
			return wrote, err
		}
		wrote = append(wrote, path)
	}
	return wrote, nil
}

// installFile writes beside the file, so that it is whole or not there.
func installFile(from, path string, force bool) (err error) {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeIfThere(tmp.Name())) }()
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if force {
		return os.Rename(tmp.Name(), path)
	}
	return os.Link(tmp.Name(), path) // never replaces, whoever else writes there
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sameFile says whether there is a file at path with the content of another.
func sameFile(want, path string) (bool, error) {
	a, err := os.ReadFile(want)
	if err != nil {
		return false, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return bytes.Equal(a, b), err
}
