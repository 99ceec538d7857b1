package sqlnode

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
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

	contacts    contacts
	conversions conversions
	caring      chan struct{} // holds one for each file that is replaced or salvaged
	// silentRetired counts sites that were retired since nobody heard of them.
	silentRetired atomic.Int64

	mu struct {
		sync.Mutex
		known map[tenant.ID]*siteOf
		// lingering are those whose copies stay until what this node wrote is elsewhere.
		lingering map[tenant.ID]linger
	}
}

// siteOf is what is known of one tenant with conflict-free tables that this node holds.
type siteOf struct {
	seen  wire.TXID // of main, when members were last read
	told  uint64    // version of the schema that its record had then
	peers []exchange.Peer
	site  crr.SiteID // of the file here
	file  crr.FileID
	care  care
	asked asked
	// strange are nodes of sites that the catalogue as it was here at view did not know: they are not among peers yet.
	strange []string
	view    uint64
}

const (
	// siteEvery is how often the tenants here are looked over for conflict-free tables.
	siteEvery = time.Second
	// siteSoon is for how long after the start they are looked over ten times as often.
	siteSoon = 10 * time.Second
)

func newSites(n *Node, cfg *Config) (*sites, error) {
	s := &sites{n: n, wake: make(chan struct{}, 1), caring: make(chan struct{}, caresMost)}
	s.mu.known, s.mu.lingering = map[tenant.ID]*siteOf{}, map[tenant.ID]linger{}
	s.files = crrfiles.New(crrfiles.Config{Dir: filepath.Join(cfg.DataDir, "crr"), FS: cfg.FS, Space: cfg.space, Log: cfg.Log, Now: cfg.Now, OnChange: s.changed, Ahead: s.ahead,
		Temp: func() *pagestore.TempSpace { return n.engine.TempSpace() }})
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
	wg.Go(func() { s.keepSites(ctx) })
	if s.x != nil {
		wg.Go(func() { _ = s.x.Run(ctx) })
	}
	began := time.Now()
	for {
		s.look(ctx, &wg)
		every := siteEvery
		if time.Since(began) < siteSoon {
			every /= 10 // groups and copies are being opened: what waits for their sites should not wait for a tick
		}
		tick := time.NewTimer(every)
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.wake:
		}
		tick.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// look brings each tenant with conflict-free tables up to date.
func (s *sites) look(ctx context.Context, work *sync.WaitGroup) {
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
		s.careFor(ctx, r, work)
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
			if n.groups.get(rec.Group) == nil && (rec.Placement.Holds(n.cfg.PoP, n.cfg.Region) || n.sites.stays(t)) {
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
	f := s.files.Known(rec.ID)
	done := k.seen == at && k.told == rec.Tables && k.site != 0 && f != nil && f.Number() == k.site && (len(k.strange) == 0 || k.view == s.n.cat.View().Version)
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
		head    crr.Head
		peers   []exchange.Peer
		strange []string
	)
	v := s.n.cat.View()
	err = f.Write(ctx, func(w *crrfiles.Writer) (err error) {
		head = w.Site.Head()
		all, err := w.Sites(rec.ID)
		peers, strange = s.peersOf(all, rec, v)
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
	k.strange, k.view = strange, v.Version
	s.mu.Unlock()
	if changed && s.x != nil {
		s.x.Add(rec.ID)
	}
	return nil
}

// inUse are the sites that are not retired, of each node the one with the newest number: its file has that one by now, and what it wrote under
// others. all is ascending.
func inUse(all []crrfiles.Site) []crrfiles.Site {
	var out []crrfiles.Site
	for i, m := range all {
		newer := func(o crrfiles.Site) bool { return o.Node == m.Node && o.State != crr.Retired }
		if m.State != crr.Retired && !slices.ContainsFunc(all[i+1:], newer) {
			out = append(out, m)
		}
	}
	return out
}

// changed is told of what is committed in a file; it must not block.
func (s *sites) changed(f *crrfiles.File, before, after crr.Head) {
	if s.x != nil {
		s.x.Committed(f.Tenant(), before, after)
	}
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
	if r.Record().Tables == 0 && !namesCRR(req.Statements[0].SQL) {
		return // most writes are of tenants without such tables: no file is looked for
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
		return unreached(missing)
	}
	return nil
}

// namesCRR says whether SQL could have to do with the schema crr: it has these letters.
func namesCRR(sql string) bool {
	for i := 0; i+3 <= len(sql); i++ {
		if sql[i]|0x20 == 'c' && strings.EqualFold(sql[i:i+3], "crr") {
			return true
		}
	}
	return false
}
