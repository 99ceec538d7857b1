package recovery

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// NotRecoverableError says why the node can't recover a group, or need not.
type NotRecoverableError = leader.NotRecoverableError

// Recovered says what a recovery did.
type Recovered struct {
	Kept       map[wire.GroupID]string // directories with what the groups had before
	Cluster    cluster.ID              // of the cluster now
	NewCluster bool                    // it was another before
}

// Recover makes the node the only voter of groups that were examined. It must not be started before Recover has returned
// nil; after an error Examine and Recover are called again.
func (d *Directory) Recover(copies []Copy) (Recovered, error) {
	r := Recovered{Kept: make(map[wire.GroupID]string), Cluster: d.cluster}
	next := d.cluster
	for _, c := range copies {
		if c.Raft.Alone(leader.NodeID(d.node)) {
			return r, &leader.NotRecoverableError{Group: c.Group, Reason: "this node is its only voter: nothing is lost, and it starts as it is"}
		}
		if c.Group == SystemGroup {
			var err error
			if next, err = newClusterID(); err != nil {
				return r, err
			}
		}
	}
	for i := range copies {
		kept, err := d.keep(&copies[i], next)
		if err != nil {
			return r, fmt.Errorf("keep what group %d has: %w", copies[i].Group, err)
		}
		r.Kept[copies[i].Group] = kept
	}
	if next != d.cluster {
		// First of all: a node that leads what it recovered alone must be out of the others' reach.
		if err := d.setCluster(next, false); err != nil {
			return r, fmt.Errorf("change the cluster's id: %w", err)
		}
		r.Cluster, r.NewCluster = next, true
	}
	for i := range copies {
		c := &copies[i]
		entries, err := raiseEpochs(c, d.cfg.Now())
		if err != nil {
			return r, fmt.Errorf("group %d: %w", c.Group, err)
		}
		if err := leader.Recover(d.raft(c.Group), c.Raft, entries); err != nil {
			return r, fmt.Errorf("recover group %d: %w", c.Group, err)
		}
	}
	return r, nil
}

// raiseEpochs makes the entries by which a group's tenants begin a new epoch.
func raiseEpochs(c *Copy, now time.Time) ([][]byte, error) {
	entries := make([][]byte, 0, len(c.Tenants))
	for _, t := range c.Tenants {
		payload, err := tenant.EncodeEvent(tenant.EpochRaised{Time: now, Epoch: t.Record.Epoch + 1})
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", t.Record.ID, err)
		}
		entry, err := txn.AppendEntry(nil, &txn.Header{
			Kind: txn.Control, Code: uint16(tenant.CodeEpochRaised), Tenant: t.Record.ID, Epoch: t.Record.Epoch, Group: c.Group,
			Policy: t.Record.Policy, PageSize: t.Record.PageSize, TimeUnixMilli: uint64(now.UnixMilli()),
			PrevTXID: t.Pos.TXID, PrevSum: t.Pos.Checksum, NextTXID: t.Pos.TXID, NextSum: t.Pos.Checksum, Commit: t.Pages,
		}, payload)
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", t.Record.ID, err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Discard sets aside what the node has of a group that was recovered from another node's copy: the group's members give it
// all anew. With the system group, and only then, the node takes the id that the cluster has since. It returns where the files are.
func (d *Directory) Discard(id wire.GroupID, newCluster string) (kept string, err error) {
	switch {
	case id == SystemGroup:
		next, err := cluster.ParseID(newCluster)
		if err != nil {
			return "", fmt.Errorf("the cluster has another id since its system group was recovered: %w", err)
		}
		if err := d.setCluster(next, true); err != nil {
			return "", fmt.Errorf("change the cluster's id: %w", err)
		}
	case newCluster != "":
		return "", fmt.Errorf("the cluster's id changes with the system group (%d) alone", SystemGroup)
	}
	if _, err := d.cfg.FS.Stat("recover.stat", d.groupDir(id)); err != nil {
		return "", fmt.Errorf("group %d: %w", id, err)
	}
	kept = d.setAside(id)
	if err := d.cfg.FS.Rename("recover.rename", d.groupDir(id), kept); err != nil {
		return "", fmt.Errorf("group %d: %w", id, err)
	}
	return kept, d.cfg.FS.SyncDir("recover.syncdir", filepath.Dir(kept))
}

// note is positions.json: what a group was before it was recovered.
type note struct {
	Version       int             `json:"version"`
	Time          time.Time       `json:"time"`
	Node          string          `json:"node"`
	ClusterBefore string          `json:"cluster_before"`
	ClusterAfter  string          `json:"cluster_after"`
	Group         wire.GroupID    `json:"group"`
	Members       []leader.Member `json:"members"`
	Snapshot      uint64          `json:"snapshot"`
	Last          uint64          `json:"last"`
	LastTerm      uint64          `json:"last_term"`
	Term          uint64          `json:"term"`
	Tenants       []noteTenant    `json:"tenants"`
}

type noteTenant struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	State    string `json:"state"`
	Epoch    uint32 `json:"epoch"`
	TXID     uint64 `json:"txid"`
	Checksum string `json:"checksum"`
	Trouble  string `json:"trouble,omitempty"`
}

// NoteFile is the file, beside a group's old log, that says where its tenants stood.
const NoteFile = "positions.json"

// keep copies the log of a group, with a note of what it had, durably.
func (d *Directory) keep(c *Copy, next cluster.ID) (string, error) {
	n := note{
		Version: 1, Time: d.cfg.Now().UTC(), Node: d.node, ClusterBefore: d.cluster.String(), ClusterAfter: next.String(), Group: c.Group,
		Members: c.Raft.Members, Snapshot: c.Raft.Snapshot, Last: c.Raft.Last, LastTerm: c.Raft.LastTerm, Term: c.Raft.Term, Tenants: []noteTenant{},
	}
	for _, t := range c.Tenants {
		n.Tenants = append(n.Tenants, noteTenant{
			ID: t.Record.ID.String(), Name: string(t.Record.Name), State: t.Record.State.String(), Epoch: uint32(t.Pos.Epoch),
			TXID: uint64(t.Pos.TXID), Checksum: t.Pos.Checksum.String(), Trouble: t.Trouble,
		})
	}
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return "", err
	}
	dir := d.setAside(c.Group)
	if _, err := d.cfg.FS.Stat("recover.stat", dir); err == nil {
		return "", fmt.Errorf("%s exists", dir)
	}
	if err := copyDir(d.cfg.FS, filepath.Join(d.groupDir(c.Group), "raft"), filepath.Join(dir, "raft")); err != nil {
		return "", err
	}
	return dir, disk.WriteFileAtomic(d.cfg.FS, "recover.note", filepath.Join(dir, NoteFile), append(b, '\n'), 0o600)
}
