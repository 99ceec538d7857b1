package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// sites is this node's part in conflict-free tables: the files of the tenants that it holds, and what it
// exchanges with the other nodes that hold them.
type sites struct {
	n     *Node
	files *crrfiles.Manager
	x     *exchange.Exchange // nil for a node on its own
	wake  chan struct{}

	mu struct {
		sync.Mutex
		known map[tenant.ID]*siteOf
	}
}

// siteOf is what is known of one tenant with conflict-free tables that this node holds.
type siteOf struct {
	seen  wire.TXID // of main, when members were last read
	told  uint64    // version of the schema that its record had then
	peers []exchange.Peer
	site  crr.SiteID // of the file here
	last  crr.HLC    // its newest transaction that was announced
	file  crr.FileID
}

// siteEvery is how often the tenants here are looked over for conflict-free tables.
const siteEvery = time.Second

func newSites(n *Node, cfg *Config) (*sites, error) {
	s := &sites{n: n, wake: make(chan struct{}, 1)}
	s.mu.known = map[tenant.ID]*siteOf{}
	s.files = crrfiles.New(crrfiles.Config{Dir: filepath.Join(cfg.DataDir, "crr"), FS: cfg.FS, Log: cfg.Log, Now: cfg.Now, OnChange: s.changed})
	if n.net == nil {
		return s, nil
	}
	var err error
	s.x, err = exchange.New(exchange.Config{
		Node: n.id.Node, Host: s, Now: cfg.Now, Log: cfg.Log,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return n.net.Dial(ctx, node, cluster.PurposeExchange, 0)
		},
	})
	if err != nil {
		return nil, err
	}
	return s, n.net.Handle(cluster.PurposeExchange, func(ctx context.Context, c *cluster.Conn) { s.x.Serve(ctx, c.From(), c) })
}

// run keeps the files of this node's tenants up to their schemas and members until ctx ends.
func (s *sites) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = s.files.Run(ctx) })
	if s.x != nil {
		wg.Go(func() { _ = s.x.Run(ctx) })
	}
	tick := time.NewTicker(siteEvery)
	defer tick.Stop()
	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.wake:
		}
	}
}

// look brings each tenant with conflict-free tables up to date.
func (s *sites) look(ctx context.Context) {
	seen := map[tenant.ID]bool{}
	for r := range s.n.standing() {
		rec := r.Record()
		if rec.Tables == 0 || rec.State == tenant.StateDeleted || r.Failed() != nil {
			continue
		}
		seen[rec.ID] = true
		if err := s.bring(ctx, r, rec); err != nil && ctx.Err() == nil {
			s.n.log.Warn("conflict-free tables are not brought up yet", "tenant", string(rec.Name), "id", rec.ID, "error", err)
		}
	}
	s.mu.Lock()
	var gone []tenant.ID
	for id := range s.mu.known {
		if !seen[id] {
			gone = append(gone, id)
			delete(s.mu.known, id)
		}
	}
	s.mu.Unlock()
	for _, id := range gone {
		if s.x != nil {
			s.x.Remove(id)
		}
	}
}

// standing gives the tenants that this node holds for good: those that it has a vote on, and those placed here. What it fetched
// because it is read is no site.
func (n *Node) standing() func(yield func(*resident) bool) {
	return func(yield func(*resident) bool) {
		for _, h := range n.groups.all() {
			if h.id == systemGroup {
				continue
			}
			for _, t := range h.pages.Tenants() {
				if !yield(newResident(t, h)) {
					return
				}
			}
		}
		if n.repl == nil {
			return
		}
		for _, t := range n.repl.set.Tenants() {
			rec := t.Record()
			if rec.Placement.Holds(n.cfg.PoP, n.cfg.Region) && n.groups.get(rec.Group) == nil {
				if !yield(&resident{Tenant: t, group: rec.Group, q: quorum{t: t}}) {
					return
				}
			}
		}
	}
}

// isSite says whether writes to the tenant's conflict-free tables may be made on this node.
func (n *Node) isSite(r *resident) bool {
	return r.h != nil || r.Record().Placement.Holds(n.cfg.PoP, n.cfg.Region)
}

// bring opens the tenant's file here, gives it its number, and tells the exchange of its peers.
func (s *sites) bring(ctx context.Context, r *resident, rec tenant.Tenant) error {
	at := r.Position().TXID
	s.mu.Lock()
	k := s.mu.known[rec.ID]
	if k == nil {
		k = &siteOf{}
		s.mu.known[rec.ID] = k
	}
	done := k.seen == at && k.told == rec.Tables && k.site != 0
	s.mu.Unlock()
	if done {
		return nil
	}
	f, err := s.files.Open(ctx, r.Tenant)
	if errors.Is(err, crrfiles.ErrNone) {
		return nil // main does not show the tables here yet
	}
	if err != nil {
		return err
	}
	var (
		head  crr.Head
		peers []exchange.Peer
	)
	err = f.Write(ctx, func(w *crrfiles.Writer) (err error) {
		head = w.Site.Head()
		peers, err = s.readPeers(w, rec)
		return err
	})
	if err != nil {
		return err
	}
	if head.Site == 0 {
		if err := s.register(ctx, r.Tenant, head.File); err != nil {
			return err
		}
	}
	s.mu.Lock()
	changed := k.told != rec.Tables || !slices.Equal(k.peers, peers) || k.site != head.Site
	k.seen, k.told, k.peers, k.site, k.file = at, rec.Tables, peers, head.Site, head.File
	if k.last == 0 {
		k.last = head.Vector[head.Site]
	}
	s.mu.Unlock()
	if changed && s.x != nil {
		s.x.Add(rec.ID)
	}
	return nil
}

// readPeers are the other nodes that are sites of the tenant, as main says here.
func (s *sites) readPeers(w *crrfiles.Writer, rec tenant.Tenant) ([]exchange.Peer, error) {
	all, err := w.Sites(rec.ID)
	if err != nil {
		return nil, err
	}
	v := s.n.cat.View()
	g, _ := v.Group(rec.Group)
	var peers []exchange.Peer
	for _, m := range all {
		nd, ok := v.Node(m.Node)
		if m.Node == s.n.id.Node || m.State == crr.Retired || !ok || !rec.Placement.Allows(nd.Region) {
			continue
		}
		voter := slices.Contains(g.Members.Voters, m.Node)
		peers = append(peers, exchange.Peer{Node: m.Node, Site: m.Site, File: m.File, Backup: voter && !rec.Placement.Holds(nd.PoP, nd.Region)})
	}
	order := make([]string, 0, len(peers))
	for _, p := range peers {
		order = append(order, p.Node)
	}
	if s.n.repl != nil {
		s.n.repl.nearestFirst(v, order)
		slices.SortStableFunc(peers, func(a, b exchange.Peer) int { return slices.Index(order, a.Node) - slices.Index(order, b.Node) })
	}
	return peers, nil
}

// changed is told of each committed transaction of a file; it must not block.
func (s *sites) changed(f *crrfiles.File, head crr.Head) {
	if s.x == nil || head.Site == 0 {
		return
	}
	own := head.Vector[head.Site]
	s.mu.Lock()
	k := s.mu.known[f.Tenant()]
	if k == nil || own <= k.last {
		s.mu.Unlock()
		return
	}
	prev := k.last
	k.last = own
	s.mu.Unlock()
	s.x.Committed(f.Tenant(), crr.Committed{Stamp: crr.Stamp{HLC: own, Site: head.Site}, Prev: prev, Seq: head.Seq, Rows: 1})
}

// changedCatalogue wakes the look.
func (s *sites) changedCatalogue() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// declared tells all copies of a tenant that its conflict-free schema has changed.
func (s *sites) declared(ctx context.Context, r *resident, version uint64) {
	if r.h == nil || version <= r.Record().Tables {
		return
	}
	err := r.h.control(context.WithoutCancel(ctx), r.ID(), tenant.TablesChanged{Time: tenant.Millis(s.n.cfg.Now()), Version: version})
	if err != nil {
		s.n.log.Warn("nodes learn later of a change of conflict-free tables", "id", r.ID(), "error", err)
	}
	s.changedCatalogue()
}

// afterWrite looks whether a write changed the conflict-free schema: then all copies are told.
func (s *sites) afterWrite(ctx context.Context, r *resident, req *wire.Request) {
	if len(req.Statements) != 1 {
		return // such a change is a request of its own
	}
	if f := s.files.Lookup(r.Tenant); f != nil {
		if st := f.Schema(); st != nil && st.Version > r.Record().Tables {
			s.declared(ctx, r, st.Version)
		}
	}
}

// pullAll brings here what all sites of a tenant have, for a strong read of conflict-free tables.
func (s *sites) pullAll(ctx context.Context, id tenant.ID) error {
	if s.x == nil {
		return nil
	}
	missing, err := s.x.PullAll(ctx, id)
	if err != nil {
		return wire.NewError(wire.CodeUnreachable, "%w", err)
	}
	if len(missing) > 0 {
		names := make([]string, 0, len(missing))
		for _, u := range missing {
			names = append(names, fmt.Sprintf("%s (%s)", u.Node, u.Why))
		}
		return wire.NewError(wire.CodeUnreachable, "not all sites of the conflict-free tables could be asked: %v", names)
	}
	return nil
}

// writeLocal runs a request that writes conflict-free tables, here if this node is a site, else where one is.
func (n *Node) writeLocal(ctx context.Context, r *resident) error {
	if n.isSite(r) {
		return nil
	}
	if node := n.memberOf(r.group); node != "" {
		return &httpapi.ElsewhereError{Node: node}
	}
	return wire.NewError(wire.CodeUnreachable, "no site of the tenant's conflict-free tables is known")
}
