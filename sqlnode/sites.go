package sqlnode

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
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

// find is this node's copy of a tenant.
func (s *sites) find(id tenant.ID) (*resident, error) {
	for _, h := range s.n.groups.all() {
		if t, err := h.pages.Tenant(id); err == nil {
			return newResident(t, h), nil
		}
	}
	if s.n.repl != nil {
		if t, ok := s.n.repl.set.Tenant(id); ok {
			return &resident{Tenant: t, group: t.Record().Group, q: quorum{t: t}}, nil
		}
	}
	return nil, pagestore.ErrNoTenant
}

func (s *sites) file(ctx context.Context, id tenant.ID) (*crrfiles.File, error) {
	r, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return s.files.Open(ctx, r.Tenant)
}

// Peers implements exchange.Host.
func (s *sites) Peers(id wire.TenantID) []exchange.Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.mu.known[id]; k != nil {
		return k.peers
	}
	return nil
}

// Head implements exchange.Host.
func (s *sites) Head(ctx context.Context, id wire.TenantID) (crr.Head, error) {
	f, err := s.file(ctx, id)
	if err != nil {
		return crr.Head{}, err
	}
	return f.Head(ctx)
}

// Write implements exchange.Host.
func (s *sites) Write(ctx context.Context, id wire.TenantID, do func(*crr.Site) error) error {
	f, err := s.file(ctx, id)
	if err != nil {
		return err
	}
	return f.Write(ctx, func(w *crrfiles.Writer) error { return do(w.Site) })
}

// Read implements exchange.Host.
func (s *sites) Read(ctx context.Context, id wire.TenantID, do func(*crr.Reader) error) error {
	f, err := s.file(ctx, id)
	if err != nil {
		return err
	}
	r, err := f.NewReader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return do(r.Reader)
}

// Snapshot implements exchange.Host.
func (s *sites) Snapshot(ctx context.Context, id wire.TenantID, w io.Writer) error {
	f, err := s.file(ctx, id)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Join(s.n.cfg.DataDir, "tmp"), "crr-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "copy.db")
	if err := f.Snapshot(ctx, path); err != nil {
		return err
	}
	c, err := os.Open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(&contextWriter{ctx, w}, c)
	return err
}

// Sent implements exchange.Host. That a file went back is found by what peers have of it.
func (s *sites) Sent(wire.TenantID, crr.FileID, crr.HLC) error { return nil }

// Rewound implements exchange.Host: the file has given its number up, and gets another when it is looked at next.
func (s *sites) Rewound(id wire.TenantID, err *crr.RewoundError) {
	s.n.log.Error("a file of conflict-free tables went back, as after a restore from a copy: it gets a new number", "id", id, "error", err)
	s.mu.Lock()
	if k := s.mu.known[id]; k != nil {
		k.site, k.last = 0, 0
	}
	s.mu.Unlock()
	s.changedCatalogue()
}

// Behind implements exchange.Host.
func (s *sites) Behind(id wire.TenantID, why error) {
	s.n.log.Error("conflict-free tables here are too far behind to be brought up by changes: drop the copy here and place it again", "id", id, "error", why)
}

// changedCatalogue wakes the look.
func (s *sites) changedCatalogue() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// registration asks the primary of a tenant's group for a site number. It is JSON between nodes.
type registration struct {
	Tenant string       `json:"tenant"`
	Group  wire.GroupID `json:"group"`
	Node   string       `json:"node"`
	File   string       `json:"file"` // hexadecimal
}

// pathRegister is where nodes send them.
const pathRegister = "/internal/v1/sites"

// register gives the file of this node its site number, by the tenant's primary: engine.Registrar.
func (s *sites) register(ctx context.Context, t *pagestore.Tenant, file crr.FileID) error {
	ctx, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	rec := t.Record()
	reg := registration{Tenant: rec.ID.String(), Group: rec.Group, Node: s.n.id.Node, File: hex.EncodeToString(file[:])}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		err := s.tryRegister(ctx, &reg)
		var w *wire.Error
		if err == nil || errors.As(err, &w) && w.Code != wire.CodeNotPrimary && w.Code != wire.CodeUnknownOutcome {
			return err
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return wire.NewError(wire.CodeUnreachable, "no site number can be had from the tenant's primary now: %w", err)
		}
	}
}

func (s *sites) tryRegister(ctx context.Context, reg *registration) error {
	h := s.n.groups.get(reg.Group)
	node := ""
	if h == nil {
		node = s.n.memberOf(reg.Group)
	} else if l, err := h.awaitLeader(ctx); err != nil {
		return err
	} else if !l.Primary {
		node = string(l.Leader)
	} else {
		return s.registerHere(ctx, reg)
	}
	if node == "" || s.n.net == nil {
		return wire.NewError(wire.CodeNotPrimary, "no member of group %d is known", reg.Group)
	}
	var a systemAnswer
	if err := s.n.postJSON(ctx, node, pathRegister, reg, &a); err != nil {
		return err
	}
	if a.Error != nil {
		return wire.NewError(a.Error.Code, "%s", a.Error.Message)
	}
	return nil
}

// registerHere numbers a file of any node: this one is the tenant's primary.
func (s *sites) registerHere(ctx context.Context, reg *registration) error {
	id, err := wire.ParseTenantID(reg.Tenant)
	if err != nil {
		return wire.NewError(wire.CodeBadRequest, "%w", err)
	}
	var file crr.FileID
	b, err := hex.DecodeString(reg.File)
	if err != nil || len(b) != len(file) {
		return wire.NewError(wire.CodeBadRequest, "file id %.80q: want %d hexadecimal digits", reg.File, 2*len(file))
	}
	copy(file[:], b)
	h := s.n.groups.get(reg.Group)
	if h == nil {
		return wire.NewError(wire.CodeNotPrimary, "group %d is not here", reg.Group)
	}
	t, err := h.pages.Tenant(id)
	if err != nil {
		return wire.NewError(wire.CodeNoSuchTenant, "%w", err)
	}
	site, err := s.n.engine.RegisterSite(ctx, t, quorum{h: h, t: t}, reg.Node, file)
	if err == nil {
		s.n.log.Info("site registered", "id", id, "node", reg.Node, "site", int(site))
	}
	return err
}

func (s *sites) serveRegister(w http.ResponseWriter, r *http.Request) {
	var (
		reg registration
		a   systemAnswer
	)
	err := json.NewDecoder(io.LimitReader(r.Body, maxCall)).Decode(&reg)
	if err != nil {
		err = wire.NewError(wire.CodeBadJSON, "%w", err)
	} else {
		err = s.registerHere(r.Context(), &reg)
	}
	if err != nil {
		e := wire.AsError(err)
		a.Error = &systemError{e.Code, e.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // who asked is gone if this fails
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
