package sqlnode

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/replicas"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// isReplica says whether a node is one that never votes, in a PoP far away.
func isReplica(id string) bool { return strings.HasPrefix(id, "r") }

// replicas is the nodes that never vote and are up.
func (s *simulation) replicas() []*simNode {
	return slices.DeleteFunc(s.up(), func(n *simNode) bool { return !isReplica(n.id.Node) })
}

// beginReplicas starts the nodes that never vote.
func (w *simWorld) beginReplicas() {
	for i := range w.replicas {
		id := fmt.Sprintf("r%d", i+1)
		w.mu.list = append(w.mu.list, id)
		n := w.s.start(id, "n1")
		w.s.node("n1").want(w.t, "POST", "/v1/nodes/"+id+"/drain", "", 202)
		w.s.await(time.Minute, func() string { return ready(n) })
	}
}

// distances sets what is usual between a node and the others.
func (w *simWorld) distances(id string) {
	for _, l := range append(w.ways(id), w.waysTo(id)...) {
		d := time.Duration(1+w.pick(8)) * time.Millisecond
		if w.far {
			d = time.Duration(40+w.pick(85)) * time.Millisecond
		} else if isReplica(l[0]) || isReplica(l[1]) {
			d = time.Duration(10+w.pick(60)) * time.Millisecond
		}
		w.s.net.SetDelay(l[0], l[1], d)
	}
}

// feeder is a node that r1 follows.
func (w *simWorld) feeder() string {
	if r := w.s.node("r1"); r != nil {
		for _, t := range r.repl.set.Tenants() {
			if st, ok := r.repl.follower.Status(t.ID()); ok && st.Feeder != "" {
				return st.Feeder
			}
		}
	}
	return "n1"
}

// place has a tenant's copies be elsewhere.
func (w *simWorld) place(id string, _ func()) {
	up := w.s.up()
	if len(up) == 0 {
		return
	}
	where := []string{"all", "all", "on-demand", "none", "pop:pop-" + id, "pop:pop-r1,pop:pop-r2"}[w.pick(6)]
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	path := fmt.Sprintf("/v1/tenants/t%d/placement", w.pick(simTenants))
	_, _ = up[w.pick(len(up))].ask(ctx, "PUT", path, `{"replicas":"`+where+`"}`, nil) // may be refused
}

// holdStreams holds back what replicas are sent, or what they ask, and nothing else.
func (w *simWorld) holdStreams(id string, wait func()) {
	list := w.waysTo(id)
	if w.pick(3) == 0 {
		list = w.ways(id)
	}
	// A link's holds end all at once: this one is left to its own when another fault has the link.
	w.mu.Lock()
	for i := 0; i < len(list); {
		if w.mu.held[list[i]] > 0 {
			list = append(list[:i], list[i+1:]...)
			continue
		}
		w.mu.held[list[i]]++
		w.s.net.Hold(list[i][0], list[i][1], cluster.PurposeStream)
		i++
	}
	w.mu.Unlock()
	wait()
	w.hold(list, -1)
}

// compareReplicas holds the copies of nodes that follow against those of voters.
func (w *simWorld) compareReplicas(first map[tenant.ID]simCopy) (wrong []string) {
	for _, n := range w.s.up() {
		for _, t := range n.repl.set.Tenants() {
			f, ok := first[t.ID()]
			if !ok {
				continue // deleted, or a group's that the node votes in now
			}
			c, err := n.replicaOf(t)
			switch {
			case err != nil && n.groups.get(t.Record().Group) != nil:
				wrong = append(wrong, fmt.Sprintf("%s votes on tenant %s, and keeps a copy that followed before", n.id.Node, t.Record().Name))
			case errors.Is(err, replica.ErrNotFollowed) && !t.Record().Placement.Holds(n.cfg.PoP, n.cfg.Region):
			case err != nil:
				wrong = append(wrong, fmt.Sprintf("%s: copy of tenant %s that follows: %v", n.id.Node, t.Record().Name, err))
			case f.pos != c.pos || f.sum != c.sum:
				wrong = append(wrong, fmt.Sprintf("tenant %s: node %s has %v with bytes %x, node %s, which follows, has %v with bytes %x",
					t.Record().Name, f.node, f.pos, f.sum[:4], c.node, c.pos, c.sum[:4]))
			}
		}
	}
	return wrong
}

// replicaOf is the node's copy of a tenant that it follows, once that has all that there is.
func (n *simNode) replicaOf(t *pagestore.Tenant) (simCopy, error) {
	c := simCopy{node: n.id.Node}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := n.repl.follower.Confirm(ctx, t.ID()); err != nil {
		return c, err
	}
	if err := visible(ctx, t, t.Logged().TXID); err != nil {
		return c, err
	}
	store, err := t.Acquire()
	if err != nil {
		return c, err
	}
	defer t.Release()
	snap, err := store.Snapshot()
	if err != nil {
		return c, err
	}
	defer snap.Close()
	c.pos = t.Position()
	sum := sha256.New()
	if _, err := snap.WriteTo(sum); err != nil {
		return c, err
	}
	sum.Sum(c.sum[:0])
	if c.pos != t.Position() {
		return c, errors.New("it is being written to")
	}
	return c, nil
}

// placedCopies says which node does not serve a tenant that is placed there from its own copy, fresh.
func (w *simWorld) placedCopies() string {
	for _, n := range w.s.up() {
		for row := range n.cat.View().Placed() {
			if !row.Placement.Holds(n.cfg.PoP, n.cfg.Region) || n.groups.get(row.Group) != nil {
				continue
			}
			status, text := n.do("POST", "/v1/tenants/"+string(row.Name)+"/sql?max_staleness=2s&on_stale=fail", `{"sql":"SELECT 1"}`)
			var a simAnswer
			if err := json.NewDecoder(bytes.NewReader([]byte(text))).Decode(&a); err != nil || status != 200 || a.Meta.Node != n.id.Node {
				return fmt.Sprintf("%s does not serve tenant %s, which is placed there: %d %s", n.id.Node, row.Name, status, text)
			}
		}
	}
	return ""
}

// unasked is groups whose indexes nobody confirms: it gives replicas what a primary believes to be committed.
type unasked struct{ *groups }

// Host implements replicas.Hosts.
func (u unasked) Host(id wire.GroupID) (replicas.Host, bool) { return unconfirmed(u.groups.Host(id)) }

// HostOf implements replicas.Hosts.
func (u unasked) HostOf(id wire.TenantID) (replicas.Host, bool) {
	return unconfirmed(u.groups.HostOf(id))
}

func unconfirmed(h replicas.Host, ok bool) (replicas.Host, bool) {
	h.ReadIndex = func(context.Context) (uint64, error) { return h.Pages.Index(), nil }
	return h, ok
}
