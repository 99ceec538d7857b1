package recovery

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/wire"
)

// SystemGroup is the group of the catalogue, which every node is a member of.
const SystemGroup wire.GroupID = 1

// Config is what a recovery needs.
type Config struct {
	DataDir string
	FS      disk.FS          // nil for the real one
	Log     *slog.Logger     // nil for none
	Now     func() time.Time // nil for time.Now
}

// Directory is the data directory of a node that does not run.
type Directory struct {
	cfg     Config
	lock    *os.File
	node    string
	cluster cluster.ID
}

// identityFile is the name of the file that says who a node is, and identityFormat the version that this package knows.
const (
	identityFile   = "node.json"
	identityFormat = 1
)

// Open locks the directory, and reads whose it is. Close must follow.
func Open(cfg Config) (_ *Directory, err error) {
	if cfg.FS == nil {
		cfg.FS = disk.OS()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &Directory{cfg: cfg}
	if d.lock, err = lock(cfg.DataDir); err != nil {
		return nil, err
	}
	if err := d.readIdentity(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close lets others have the directory.
func (d *Directory) Close() error { return d.lock.Close() }

// Node is the id of the node.
func (d *Directory) Node() string { return d.node }

// Cluster is the id of its cluster, as it is now.
func (d *Directory) Cluster() cluster.ID { return d.cluster }

// lock is the lock that a running node holds.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is no data directory of a node: it has no file \"lock\"", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another process uses the data directory %s: stop the node first", dir)
		}
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return f, nil
}

// loadIdentity returns node.json with all keys, whether this package knows them or not.
func (d *Directory) loadIdentity() (map[string]json.RawMessage, error) {
	path := filepath.Join(d.cfg.DataDir, identityFile)
	b, err := disk.ReadFile(d.cfg.FS, "identity.read", path, 1<<16)
	if err != nil {
		return nil, err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var format int
	if err := json.Unmarshal(keys["format"], &format); err != nil {
		return nil, fmt.Errorf("%s: format: %w", path, err)
	}
	if format != identityFormat {
		return nil, fmt.Errorf("%s: the data directory has format %d; this program knows %d", path, format, identityFormat)
	}
	return keys, nil
}

func (d *Directory) readIdentity() error {
	keys, err := d.loadIdentity()
	if err != nil {
		return err
	}
	path := filepath.Join(d.cfg.DataDir, identityFile)
	if err := json.Unmarshal(keys["node"], &d.node); err != nil {
		return fmt.Errorf("%s: node: %w", path, err)
	}
	if err := cluster.CheckNode(d.node); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := json.Unmarshal(keys["cluster"], &d.cluster); err != nil {
		return fmt.Errorf("%s: cluster: %w", path, err)
	}
	return nil
}

// setCluster makes the node one of another cluster; all else of its identity stays.
func (d *Directory) setCluster(id cluster.ID, joined bool) error {
	keys, err := d.loadIdentity()
	if err != nil {
		return err
	}
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	keys["cluster"] = text
	if joined {
		keys["joined"] = json.RawMessage("true")
	}
	b, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return err
	}
	if err := disk.WriteFileAtomic(d.cfg.FS, "identity.write", filepath.Join(d.cfg.DataDir, identityFile), append(b, '\n'), 0o600); err != nil {
		return err
	}
	d.cluster = id
	return nil
}

func newClusterID() (id cluster.ID, err error) {
	if _, err := rand.Read(id[:]); err != nil {
		return id, fmt.Errorf("draw a cluster id: %w", err)
	}
	return id, nil
}

// Groups lists the groups that the node has files of, ascending.
func (d *Directory) Groups() ([]wire.GroupID, error) {
	entries, err := d.cfg.FS.ReadDir("recover.list", filepath.Join(d.cfg.DataDir, "groups"))
	if err != nil {
		return nil, err
	}
	var ids []wire.GroupID
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil && n > 0 {
			ids = append(ids, wire.GroupID(n))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func (d *Directory) groupDir(id wire.GroupID) string {
	return filepath.Join(d.cfg.DataDir, "groups", strconv.FormatUint(uint64(id), 10))
}

// setAside is where what a group had is kept.
func (d *Directory) setAside(id wire.GroupID) string {
	return d.groupDir(id) + ".before-recovery-" + d.cfg.Now().UTC().Format("20060102T150405.000Z")
}

func (d *Directory) raft(id wire.GroupID) leader.RecoverConfig {
	return leader.RecoverConfig{Group: id, Node: leader.NodeID(d.node), FS: d.cfg.FS, Dir: filepath.Join(d.groupDir(id), "raft"), Log: d.cfg.Log}
}
