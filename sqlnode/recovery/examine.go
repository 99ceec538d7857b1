package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Copy is what the node has of a group.
type Copy struct {
	Group   wire.GroupID
	Raft    leader.Remains
	Tenants []Tenant // by id
}

// Tenant is where a tenant stands in a Copy.
type Tenant struct {
	Record  tenant.Tenant
	Pos     wire.Pos
	Pages   uint32 // size in pages
	Trouble string // why this node can't serve it, although it knows where it stands; "" when it can
}

// Lost are the voters that are not there any more after a recovery.
func (c *Copy) Lost(node string) []leader.NodeID {
	var lost []leader.NodeID
	for _, m := range c.Raft.Members {
		if m.Voter && m.ID != leader.NodeID(node) {
			lost = append(lost, m.ID)
		}
	}
	return lost
}

// Learner says that the node has no vote in the group: other copies are likely to be newer.
func (c *Copy) Learner(node string) bool {
	for _, m := range c.Raft.Members {
		if m.ID == leader.NodeID(node) {
			return !m.Voter
		}
	}
	return true
}

// Examine says what the node has of a group. It reads the whole log behind the newest snapshot, as a start does, and changes nothing but
// what any start mends. Its errors are those of leader.Examine, and of package pagestore.
func (d *Directory) Examine(id wire.GroupID) (_ Copy, err error) {
	// Opening would make what is missing, and the node would take it for a group of its own.
	if _, err := d.cfg.FS.Stat("recover.stat", filepath.Join(d.groupDir(id), "raft")); errors.Is(err, fs.ErrNotExist) {
		return Copy{Group: id}, &NotRecoverableError{Group: id, Reason: "this node has no copy of it"}
	} else if err != nil {
		return Copy{Group: id}, fmt.Errorf("examine group %d: %w", id, err)
	}
	pages, err := pagestore.NewGroup(pagestore.Config{
		ID: id, Dir: d.groupDir(id), FS: d.cfg.FS, Log: d.cfg.Log, Now: d.cfg.Now,
		BuildBytes: math.MaxInt64, // nothing is built here: who waited for it would wait for ever
	})
	if err != nil {
		return Copy{}, err
	}
	defer pages.Close()
	m := &examiner{pages: pages}
	remains, err := leader.Examine(d.raft(id), m)
	if err == nil {
		err = m.err
	}
	if err != nil {
		return Copy{Group: id, Raft: remains}, fmt.Errorf("examine group %d: %w", id, err)
	}
	c := Copy{Group: id, Raft: remains}
	for _, t := range pages.Tenants() {
		rec, st := t.Record(), t.Logged()
		ct := Tenant{Record: rec, Pos: wire.Pos{Tenant: rec.ID, Epoch: rec.Epoch, TXID: st.TXID, Checksum: st.Checksum}, Pages: st.Pages}
		if err := t.Failed(); err != nil {
			ct.Trouble = err.Error()
		}
		c.Tenants = append(c.Tenants, ct)
	}
	slices.SortFunc(c.Tenants, func(a, b Tenant) int { return bytes.Compare(a.Record.ID[:], b.Record.ID[:]) })
	return c, nil
}

// examiner is a leader.Machine that brings pages to where the log ends.
type examiner struct {
	pages *pagestore.Group
	err   error // an entry that can't be understood here
}

// Apply implements leader.Machine.
func (m *examiner) Apply(index, term uint64, entry []byte) any {
	resp := m.pages.Apply(index, term, entry)
	if err, ok := resp.(*pagestore.EntryError); ok && m.err == nil {
		m.err = err
	}
	return resp
}

// Restore implements leader.Machine.
func (m *examiner) Restore(r io.Reader) error { return m.pages.Restore(r) }

// Snapshot implements leader.Machine.
func (m *examiner) Snapshot() (leader.SnapshotWriter, error) {
	return nil, fmt.Errorf("a group that is examined makes no snapshot")
}
