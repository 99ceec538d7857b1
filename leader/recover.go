package leader

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/leader/logstore"
	"github.com/nearsql/nearsql/wire"
)

// RecoverConfig is the copy of a group that Examine and Recover work on. No Group may run on it.
type RecoverConfig struct {
	Group wire.GroupID
	Node  NodeID // whose copy it is
	FS    disk.FS
	Dir   string       // Config.Dir of the group
	Log   *slog.Logger // nil for none
}

// Remains is what a node has of a group whose majority may be lost.
type Remains struct {
	Members  []Member // of the newest configuration here
	Snapshot uint64   // index of the newest snapshot; 0 if there is none
	Last     uint64   // index of the last entry here, and its term; whether it was ever committed, nobody knows
	LastTerm uint64
	Term     uint64   // the newest that this node heard of
	Command  uint64   // index of the last entry that Machine was given
	Expelled []NodeID // whom earlier recoveries left behind
}

// Alone says that node is the only voter: then no majority is lost.
func (r *Remains) Alone(node NodeID) bool {
	for _, m := range r.Members {
		if m.Voter && m.ID != node {
			return false
		}
	}
	c := Configuration{Members: r.Members}
	m, ok := c.Member(node)
	return ok && m.Voter
}

// NotRecoverableError says why a copy of a group can't become the group.
type NotRecoverableError struct {
	Group  wire.GroupID
	Reason string
}

func (e *NotRecoverableError) Error() string {
	return fmt.Sprintf("group %d can't be recovered from this copy: %s", e.Group, e.Reason)
}

// recoveryTerms is how far a recovery raises the term. What the nodes that are left behind may still write without this one
// is of lower terms, short of a million elections: so an index and a term name one entry, as everywhere in Raft.
const recoveryTerms = 1 << 20

// Examine opens a copy as Run would, gives m the newest snapshot and all entries behind it, committed or not, and says what there
// is. It changes nothing but what any start mends. A NotRecoverableError says that the node has no copy, or is no member.
func Examine(cfg RecoverConfig, m Machine) (Remains, error) {
	g, err := openOffline(cfg, m)
	if err != nil {
		return Remains{}, err
	}
	r, err := g.examine()
	return r, errors.Join(err, g.closeFiles())
}

// Recover makes cfg.Node the only voter of the group, with all that its copy has, when the other voters are lost for good. Whatever
// a majority acknowledged and this copy lacks is lost; what was never acknowledged may come to be. It is given what Examine returned, and
// fails if that has changed. The entries follow all others; nothing is ever answered without them.
//
// The other voters must never start again with what they have: two of three would be a group of their own, with another history. This
// node, in this group, takes nothing from them and does not let them in again.
//
// A crash leaves the group as it was, or recovered; or as it was and deaf to the others, and then Recover must be called again.
func Recover(cfg RecoverConfig, was Remains, entries [][]byte) error {
	g, err := openOffline(cfg, noMachine{})
	if err != nil {
		return err
	}
	return errors.Join(g.recover(was, entries), g.closeFiles())
}

// openOffline opens the files of a group that does not run.
func openOffline(cfg RecoverConfig, m Machine) (*Group, error) {
	g, err := New(Config{Group: cfg.Group, Node: cfg.Node, FS: cfg.FS, Dir: cfg.Dir, Log: cfg.Log, Machine: m})
	if err != nil {
		return nil, err
	}
	if _, err := cfg.FS.Stat("recover.stat", filepath.Join(cfg.Dir, "log")); errors.Is(err, fs.ErrNotExist) {
		return nil, &NotRecoverableError{cfg.Group, "this node has no copy of it"}
	} else if err != nil {
		return nil, fmt.Errorf("group %d: %w", cfg.Group, err)
	}
	if err := g.openFiles(newHCLog(g.log)); err != nil {
		return nil, errors.Join(err, g.closeFiles())
	}
	return g, nil
}

// remains says what there is, without Command.
func (g *Group) remains() (Remains, error) {
	p := &g.run
	list, err := p.snapshots.List()
	if err != nil {
		return Remains{}, err
	}
	var r Remains
	if len(list) > 0 {
		r.Snapshot, r.Last, r.LastTerm = list[0].Index, list[0].Index, list[0].Term
	}
	last, err := p.store.LastIndex()
	if err != nil {
		return Remains{}, err
	}
	if last > 0 && last >= r.Last {
		var entry raft.Log
		if err := p.store.GetLog(last, &entry); err != nil {
			return Remains{}, err
		}
		r.Last, r.LastTerm = last, entry.Term
	}
	if r.Term, err = p.store.GetUint64([]byte("CurrentTerm")); err != nil {
		return Remains{}, err
	}
	r.Term = max(r.Term, r.LastTerm)
	conf, err := g.configurationOnDisk()
	if err != nil {
		return Remains{}, err
	}
	for _, s := range conf.Servers {
		r.Members = append(r.Members, Member{ID: NodeID(s.ID), Voter: s.Suffrage == raft.Voter})
	}
	r.Expelled = slices.Sorted(maps.Keys(p.expelled))
	switch _, ok := (Configuration{Members: r.Members}).Member(g.cfg.Node); {
	case r.Last == 0:
		return r, &NotRecoverableError{g.cfg.Group, "this node has no entry of it"}
	case !ok:
		return r, &NotRecoverableError{g.cfg.Group, fmt.Sprintf("node %s is no member of it", g.cfg.Node)}
	}
	return r, nil
}

func (g *Group) examine() (Remains, error) {
	r, err := g.remains()
	if err != nil {
		return r, err
	}
	p := &g.run
	if r.Snapshot > 0 {
		list, err := p.snapshots.List()
		if err != nil {
			return r, err
		}
		_, contents, err := p.snapshots.Open(list[0].ID)
		if err != nil {
			return r, err
		}
		if err := p.fsm.Restore(contents); err != nil {
			return r, fmt.Errorf("group %d: restore the newest snapshot: %w", g.cfg.Group, err)
		}
	}
	for i := r.Snapshot + 1; i <= r.Last; i++ {
		var entry raft.Log
		if err := p.store.GetLog(i, &entry); err != nil {
			return r, err
		}
		if entry.Type == raft.LogCommand {
			p.fsm.Apply(&entry)
		}
	}
	r.Command = p.fsm.applied()
	return r, p.store.Err()
}

func (g *Group) recover(was Remains, entries [][]byte) error {
	now, err := g.remains()
	switch {
	case err != nil:
		return err
	case now.Last != was.Last || now.LastTerm != was.LastTerm || now.Term != was.Term || now.Snapshot != was.Snapshot:
		return &NotRecoverableError{g.cfg.Group, "it is not as it was when it was examined"}
	}
	for _, e := range entries {
		if len(e) > EntryMax {
			return &EntryTooLargeError{len(e)}
		}
	}
	p := &g.run
	for _, m := range now.Members {
		if m.Voter && m.ID != g.cfg.Node {
			p.expelled[m.ID] = struct{}{}
		}
	}
	// In this order: whatever a crash leaves out comes later, and nothing counts before the last of it.
	if err := storeExpelled(p.store, p.expelled); err != nil {
		return &LogError{g.cfg.Group, err}
	}
	term := now.Term + recoveryTerms
	if err := p.store.SetUint64([]byte("CurrentTerm"), term); err != nil {
		return &LogError{g.cfg.Group, err}
	}
	if err := g.appendRecovery(now.Last, term, entries); err != nil {
		return &LogError{g.cfg.Group, err}
	}
	g.log.Warn("group recovered from one copy", "last", now.Last, "last_term", now.LastTerm, "term", term, "left_behind", fmt.Sprint(now.Members))
	return nil
}

// appendRecovery stores the entries and, with the last of them, the configuration of this node alone. Until that is there,
// this node is one of several as before.
func (g *Group) appendRecovery(last, term uint64, entries [][]byte) error {
	var batch []*raft.Log
	size := 0
	for _, e := range entries {
		last++
		batch = append(batch, &raft.Log{Index: last, Term: term, Type: raft.LogCommand, Data: e})
		if size += len(e); size < EntryMax {
			continue
		}
		if err := g.run.log.StoreLogs(batch); err != nil {
			return err
		}
		batch, size = nil, 0
	}
	conf := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(g.cfg.Node), Address: raft.ServerAddress(g.cfg.Node),
	}}}
	batch = append(batch, &raft.Log{Index: last + 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)})
	return g.run.log.StoreLogs(batch)
}

// expelledKey is where the stable store keeps whom recoveries left behind; see logstore/FORMAT.md.
const expelledKey = "Expelled"

const expelledVersion = 1

func loadExpelled(store *logstore.Store) (map[NodeID]struct{}, error) {
	b, err := store.Get([]byte(expelledKey))
	if err != nil {
		return nil, err
	}
	return decodeExpelled(b)
}

func decodeExpelled(b []byte) (map[NodeID]struct{}, error) {
	expelled := make(map[NodeID]struct{})
	if len(b) == 0 {
		return expelled, nil
	}
	if b[0] != expelledVersion {
		return nil, fmt.Errorf("%w: the list of nodes left behind has version %d, want %d", logstore.ErrCorrupt, b[0], expelledVersion)
	}
	for id := range strings.SplitSeq(string(b[1:]), "\n") {
		expelled[NodeID(id)] = struct{}{}
	}
	return expelled, nil
}

func storeExpelled(store *logstore.Store, expelled map[NodeID]struct{}) error {
	if len(expelled) == 0 {
		return nil
	}
	var b bytes.Buffer
	b.WriteByte(expelledVersion)
	for i, id := range slices.Sorted(maps.Keys(expelled)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(string(id))
	}
	return store.Set([]byte(expelledKey), b.Bytes())
}
