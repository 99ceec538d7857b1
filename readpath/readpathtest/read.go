package readpathtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/wire"
)

// Answer is what a read saw.
type Answer struct {
	Tenant  wire.TenantID
	Version int
	Node    string // that served it
	Role    readpath.Role
	Pos     wire.Pos
	Age     time.Duration // what the node says
}

// Read reads a tenant by name at a node, as sqlnode would, and checks what it saw against what had been answered. The error says
// that it was refused.
func (w *World) Read(ctx context.Context, node, name string, level readpath.Level) (Answer, error) {
	start := time.Now()
	a, err := w.read(ctx, w.Node(node), name, level, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.seen.Refused++
		return a, err
	}
	w.seen.Served++
	w.seen.Oldest = max(w.seen.Oldest, a.Age)
	if a.Role == readpath.RoleReplica {
		w.seen.ByReplica++
	}
	if level.Consistency == readpath.Bounded {
		for _, h := range w.history[a.Tenant] {
			if h.at.Before(start.Add(-level.Staleness)) && h.version > a.Version {
				w.Failed("%s read %q with a bound of %v at %s (role %d): version %d, but %d (group %d, txid %d, index %d, moved to %d, deleted %v) was answered %v before the read began; the node says %v",
					node, name, level.Staleness, a.Node, a.Role, a.Version, h.version, h.after.Group, h.after.TXID, h.after.Index, h.after.MovedTo, h.after.Deleted, start.Sub(h.at), a.Age)
				break
			}
		}
	}
	if b := level.Bookmark; b != nil && b.Epoch == a.Pos.Epoch && b.TXID > a.Pos.TXID {
		w.Failed("%s read %q with a bookmark of transaction %d: got %d", node, name, b.TXID, a.Pos.TXID)
	}
	return a, nil
}

// waitMax is how long a read waits at a node.
const waitMax = 300 * time.Millisecond

func (w *World) read(ctx context.Context, n *Node, name string, level readpath.Level, via []string) (Answer, error) {
	start, _ := n.ticks.Now()
	began := time.Now()
	for {
		f, s, role, err := n.facts(name)
		if err != nil {
			return Answer{}, err
		}
		f.Via, f.Waited, f.WaitMax = via, time.Since(began), waitMax
		d := readpath.Decide(level, &f, start)
		switch d.Action {
		case readpath.Serve:
			if s.Deleted || s.Name != name {
				// The catalogue is a directory: the copy itself says that this is not the tenant of that name.
				return Answer{}, wire.NewError(wire.CodeNoSuchTenant, "tenant %q is not here", name)
			}
			return Answer{s.Tenant, s.Version, n.Name, role, wire.Pos{Tenant: s.Tenant, Epoch: s.Epoch, TXID: s.TXID, Checksum: s.Checksum}, d.Staleness}, nil
		case readpath.Refuse:
			return Answer{}, d.Err
		case readpath.Wait:
			w.count(&w.seen.Waited)
			n.wait(ctx, f.Tenant, d.Limit)
			if time.Since(began) == f.Waited {
				time.Sleep(5 * time.Millisecond) // it could not be asked
			}
		case readpath.Forward:
			w.count(&w.seen.Forwarded)
			w.mu.Lock()
			connected, delay := w.connectedLocked(n.Name, d.Node), w.delay
			w.mu.Unlock()
			if !connected {
				return Answer{}, fmt.Errorf("%s does not reach %s", n.Name, d.Node)
			}
			time.Sleep(delay)
			a, err := w.read(ctx, w.Node(d.Node), name, level, append(slices.Clone(via), n.Name))
			time.Sleep(delay)
			return a, err
		}
	}
}

func (w *World) count(p *int) {
	w.mu.Lock()
	*p++
	w.mu.Unlock()
}

// wait asks for a fresh index.
func (n *Node) wait(ctx context.Context, id wire.TenantID, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	n.w.mu.Lock()
	_, v := n.copyLocked(id)
	var p *readpath.Prober
	if v != nil {
		p = n.probers[v.g.ID]
	}
	n.w.mu.Unlock()
	if p != nil {
		_ = p.Confirm(ctx) // Decide looks at what is known then
		return
	}
	_ = n.Follower.Confirm(ctx, id)
}

// facts gathers what Decide looks at: freshness first, positions after it.
func (n *Node) facts(name string) (f readpath.Facts, s State, role readpath.Role, err error) {
	n.w.mu.Lock()
	id, ok := n.names[name]
	if !ok {
		n.w.mu.Unlock()
		return f, s, 0, wire.NewError(wire.CodeNoSuchTenant, "no tenant %q here", name)
	}
	g := n.w.groups[n.groups[id]]
	_, v := n.copyLocked(id)
	var p *readpath.Prober
	if v != nil {
		p = n.probers[v.g.ID]
	}
	n.w.mu.Unlock()

	f = readpath.Facts{Tenant: id, Self: n.Name}
	if p != nil {
		f.Copy.Fresh, f.Copy.Askable, f.Copy.Role = p.Fresh(), true, readpath.RoleVoter
	} else {
		f.Copy.Fresh, f.Copy.Askable = n.Follower.Fresh(id), n.Follower.Askable(id)
	}

	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	c, now := n.copyLocked(id)
	switch {
	case c == nil || now != v || c.MovedTo != 0 && v == nil && n.copies[id] != c:
		f.Copy.Role = readpath.RoleNone
	case v != nil && v.leader == n.Name:
		f.Copy.Role = readpath.RolePrimary
	case v == nil:
		f.Copy.Role = readpath.RoleReplica
	}
	if c != nil {
		s = *c
		f.Copy.Epoch, f.Copy.Logged, f.Copy.Visible, f.Copy.Checksum = s.Epoch, s.TXID, s.TXID, s.Checksum
	}
	if n.w.Faults.PrimaryClock && c != nil {
		at := n.Clock.Now()
		age := max(0, at.Wall-c.Time)
		f.Copy.Fresh = readpath.Freshness{Known: true, AsOf: readpath.Instant{Mono: at.Mono - age, Boot: at.Boot - age, Wall: at.Wall - age}}
	}
	if g != nil {
		f.Primary = g.Leader
		if v != nil {
			f.Primary = v.leader
		}
		for _, name := range g.Voters {
			f.Nodes = append(f.Nodes, readpath.Candidate{Node: name, Voter: true})
		}
	}
	return f, s, f.Copy.Role, nil
}
