package sqlnode

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/tenant"
)

// identity is who the node is, fixed at its first start: node.json in the data directory.
type identity struct {
	Format  int    `json:"format"` // of the data directory
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Incarnation is this data directory's: another one is another node, which can't have the same id.
	Incarnation string `json:"incarnation,omitempty"`
	// Joined says that the cluster was there before this node.
	Joined bool `json:"joined,omitempty"`
}

// IdentityFile is the name of the file, in the data directory, that says who the node is.
const IdentityFile = "node.json"

// dataFormat is the version of the layout of the data directory.
const dataFormat = 1

// openIdentity reads who the node is, or decides it at the first start.
func openIdentity(fsys disk.FS, dir, wantNode string) (identity, error) {
	path := filepath.Join(dir, IdentityFile)
	b, err := disk.ReadFile(fsys, "identity.read", path, 1<<16)
	if errors.Is(err, fs.ErrNotExist) {
		return makeIdentity(fsys, path, wantNode)
	}
	if err != nil {
		return identity{}, err
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return identity{}, fmt.Errorf("%s: %w", path, err)
	}
	if id.Format != dataFormat {
		return identity{}, fmt.Errorf("%s: the data directory has format %d; this program knows %d", path, id.Format, dataFormat)
	}
	if wantNode != "" && wantNode != id.Node {
		return identity{}, fmt.Errorf("the data directory is node %q's, not %q's: a node keeps its id", id.Node, wantNode)
	}
	if err := tenant.CheckLabel(id.Node); err != nil {
		return identity{}, fmt.Errorf("%s: node: %w", path, err)
	}
	if _, err := id.clusterID(); err != nil {
		return identity{}, fmt.Errorf("%s: %w", path, err)
	}
	if id.Incarnation == "" {
		id.Incarnation = id.Cluster // of the node that made the cluster
	}
	return id, nil
}

// clusterID is the cluster's id as connections say it.
func (id identity) clusterID() (c cluster.ID, err error) {
	b, err := hex.DecodeString(id.Cluster)
	if err != nil || len(b) != len(c) {
		return c, fmt.Errorf("cluster id %q: want %d hexadecimal digits", id.Cluster, 2*len(c))
	}
	return cluster.ID(b), nil
}

func makeIdentity(fsys disk.FS, path, node string) (identity, error) {
	var r [16]byte
	if _, err := rand.Read(r[:]); err != nil {
		return identity{}, err
	}
	id := identity{Format: dataFormat, Cluster: hex.EncodeToString(r[:]), Node: node}
	id.Incarnation = id.Cluster
	if id.Node == "" {
		id.Node = "node-" + id.Cluster[:8]
	}
	return id, writeIdentity(fsys, path, id)
}

func writeIdentity(fsys disk.FS, path string, id identity) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return disk.WriteFileAtomic(fsys, "identity.write", path, append(b, '\n'), 0o600)
}

// lockDir makes sure that no other process uses the data directory, until the file is closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another process uses the data directory %s", dir)
		}
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return f, nil
}
