package exchange

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// node is another node that shares tenants with this one. All of it is guarded by Exchange.mu.
type node struct {
	name      string
	tenants   map[*tenant]struct{}
	dialling  bool
	failures  int
	notBefore time.Time
	seen      time.Time // when its last connection ended; zero: it had none
}

// setPeersLocked takes the sites of a tenant; what is known of those that were there before is kept.
func (x *Exchange) setPeersLocked(t *tenant, peers []Peer) {
	var list, backups []*peer
	for _, p := range peers {
		if p.Node == x.cfg.Node || p.Node == "" {
			continue
		}
		s := t.peer(p.Node)
		if s == nil || s.Site != p.Site || s.File != p.File {
			s = &peer{Peer: p, since: time.Now()}
		}
		// What it did not take before may be well now.
		s.Backup = p.Backup
		s.well()
		if p.Backup {
			backups = append(backups, s)
		} else {
			list = append(list, s)
		}
	}
	list = append(list, backups...)
	old := t.peers
	t.peers = list
	for _, p := range old {
		if t.peer(p.Node) == nil {
			x.leaveLocked(t, p.Node)
		}
		if !slices.Contains(list, p) {
			delete(t.greeting, p)
		}
	}
	for _, p := range list {
		n := x.mu.nodes[p.Node]
		if n == nil {
			n = &node{name: p.Node, tenants: make(map[*tenant]struct{})}
			x.mu.nodes[p.Node] = n
		}
		n.tenants[t] = struct{}{}
		if l := x.linkLocked(p.Node); l != nil {
			l.out.head(t, false)
		}
	}
	t.announce()
	kick(x.wake)
}

// leaveLocked notes that a node is no site of a tenant any more.
func (x *Exchange) leaveLocked(t *tenant, name string) {
	n := x.mu.nodes[name]
	if n == nil {
		return
	}
	delete(n.tenants, t)
	if len(n.tenants) > 0 {
		return
	}
	delete(x.mu.nodes, name)
	if l := x.mu.links[name]; l != nil && l.dialled {
		l.cancel(errIdle)
	}
}

// dialLocked connects to nodes, and returns when it is to be called again in any case.
func (x *Exchange) dialLocked(ctx context.Context, now time.Time) (next time.Time) {
	next = now.Add(time.Hour)
	for _, n := range x.mu.nodes {
		if n.name < x.cfg.Node || n.dialling || x.mu.links[n.name] != nil {
			continue
		}
		if n.notBefore.After(now) {
			next = earliest(next, n.notBefore)
			continue
		}
		n.dialling = true
		x.goroutines.Go(func() { x.dial(ctx, n) })
	}
	return next
}

// dial connects to a node once, and keeps the connection until it breaks.
func (x *Exchange) dial(ctx context.Context, n *node) {
	limit, cancel := context.WithTimeout(ctx, 2*x.cfg.Timing.Dead)
	conn, err := x.cfg.Dial(limit, n.name)
	cancel()
	var began time.Time
	if err == nil {
		began = time.Now()
		err = x.serve(ctx, n.name, conn, true)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	n.dialling = false
	if !began.IsZero() && time.Since(began) > x.cfg.Timing.Dead {
		n.failures = 0
	}
	n.failures++
	n.notBefore = time.Now().Add(min(x.cfg.Timing.backoff(n.failures), 2*x.cfg.Timing.Dead))
	kick(x.wake)
	if ctx.Err() == nil && err != nil {
		x.log.Info("connection between sites ended", "to", n.name, "error", err)
	}
}

// linkLocked is the connection to a node, when it is up; nil if there is none.
func (x *Exchange) linkLocked(name string) *link {
	if l := x.mu.links[name]; l != nil && l.up {
		return l
	}
	return nil
}

func jitter(d time.Duration) time.Duration { return rand.N(max(d, 1)) }
