package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/copies"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/importer"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/sqlnode/peers"
	"github.com/nearsql/nearsql/wire"
)

// Node is one running node. It has parts, and no work of its own.
type Node struct {
	cfg       Config
	log       *slog.Logger
	id        identity
	lock      *os.File
	spares    *disk.Spares
	auth      *auth
	peers     *peers.Peers
	net       *cluster.Net // nil for a node on its own
	exile     exile
	groups    *groups
	cat       *catalogue.Directory
	dir       *directory
	keeper    *keeper
	ticks     *readpath.Ticks
	copies    *copies.Server // nil for a node on its own
	repl      *replicator    // nil for a node on its own
	sites     *sites
	engine    *engine.Engine
	importer  *importer.Importer
	metrics   *metrics
	handler   *httpapi.Handler
	inside    inside
	started   time.Time
	imports   atomic.Int64 // begun
	importing sync.Map     // tenant.ID -> nil: tenants that this process fills
	syncs     syncCounts

	state struct {
		sync.Mutex
		ready bool
		why   error // why not
	}
}

// New checks cfg, takes the data directory and opens what is in it. Run must follow.
func New(cfg Config) (_ *Node, err error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(cfg.DataDir, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := disk.MkdirAllDurable(cfg.FS, "groups.mkdir", filepath.Join(cfg.DataDir, "groups"), 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	n := &Node{cfg: cfg, log: cfg.Log, started: cfg.Now()}
	if n.lock, err = lockDir(cfg.DataDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.lock.Close()
		}
	}()
	if n.id, err = openIdentity(cfg.FS, cfg.DataDir, cfg.NodeID); err != nil {
		return nil, err
	}
	n.cfg.NodeID = n.id.Node
	n.cfg.space = newSpace(&n.cfg)
	if err := n.cfg.fitDescriptors(); err != nil {
		return nil, err
	}
	if n.spares, err = disk.NewSpares(spareDescriptors, cfg.Log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.spares.Close()
		}
	}()
	n.cfg.FS = n.spares.FS(n.cfg.space.FS(countingFS{cfg.FS, &n.syncs}))
	if err := n.clearTemp(); err != nil {
		return nil, err
	}
	if n.auth, err = openAuth(cfg.FS, cfg.DataDir, cfg.InsecureNoAuth); err != nil {
		return nil, err
	}
	if n.peers, err = peers.Open(cfg.FS, cfg.DataDir); err != nil {
		return nil, err
	}
	cache, err := sqlite.InstallPageCache(sqlite.PageCacheConfig{BudgetBytes: cfg.MemoryPages})
	switch {
	case errors.Is(err, sqlite.ErrPageCacheTooLate), errors.Is(err, sqlite.ErrPageCacheInstalled):
		n.log.Warn("page cache of this process is not the node's own", "error", err)
	case err != nil:
		return nil, err
	}
	guard, err := engine.OpenGuard(cfg.FS, filepath.Join(cfg.DataDir, "crashed-statements.json"), cfg.Log, cfg.Now)
	if err != nil {
		return nil, err
	}
	budget := pagestore.NewBudget(cfg.MemoryVersions)
	var network leader.Network
	if cfg.clustered() {
		if n.net, err = openNetwork(&n.cfg, n.id, n.peers); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				n.closeNetwork()
			}
		}()
		network = overCluster{n.net, n.refusedBy}
	}
	n.keeper = newKeeper(n)
	n.ticks = readpath.NewTicks(readpath.NewSystemClock())
	n.groups = newGroups(&n.cfg, budget, network)
	n.groups.led = n.keeper.changed
	n.groups.ticks = n.ticks
	if n.net != nil {
		n.copies = copies.NewServer(copies.ServerConfig{Groups: n.groups, Log: cfg.Log})
		n.groups.fetch = n.newFetcher
	}
	if err := n.openGroups(); err != nil {
		return nil, err
	}
	if n.net != nil {
		if n.repl, err = newReplicator(n, &n.cfg, budget, filepath.Join(cfg.DataDir, "replicas")); err != nil {
			return nil, err
		}
	}
	n.cat = catalogue.NewDirectory()
	n.dir = newDirectory()
	if n.sites, err = newSites(n, &n.cfg); err != nil {
		return nil, err
	}
	n.engine = engine.New(engine.Config{
		CRR: n.sites.files, RegisterSite: n.sites.register, Node: n.id.Node, Site: n.sites.keeps,
		MaxOpen: n.cfg.OpenTenants, IdleClose: cfg.IdleClose, TempDir: filepath.Join(cfg.DataDir, "tmp"), TempMax: cfg.TempMax, Space: n.cfg.space,
		Log: cfg.Log, Now: cfg.Now, Guard: guard,
	})
	n.importer = importer.New()
	if cfg.CheckProgram != "" {
		n.importer = importer.Child(cfg.CheckProgram)
	}
	n.state.why = errors.New("it is starting")
	n.metrics = newMetrics(n, budget, cache)
	deps := httpapi.Deps{
		SQL: sqlService{n}, Tenants: tenantService{n}, Auth: n.auth, Status: statusService{n}, Cluster: clusterService{n},
		Metrics: promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{}), Counts: n.metrics.http, Log: cfg.Log,
	}
	if n.net != nil {
		deps.Peers = n.net.HTTPTransport()
		deps.InternalRoutes = n.internalRoutes()
	}
	if n.handler, err = httpapi.New(cfg.HTTP, deps); err != nil {
		return nil, err
	}
	if n.net != nil {
		if err = n.net.HandleJoin(n.admit); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// openGroups opens the groups that are on disk, and that of the catalogue. The node that makes a cluster makes that
// one, once; all others follow from what the catalogue says.
func (n *Node) openGroups() error {
	ids, err := n.groups.onDisk()
	if err != nil {
		return err
	}
	var founders []leader.NodeID
	if !slices.Contains(ids, systemGroup) {
		ids = append([]wire.GroupID{systemGroup}, ids...)
		if !n.id.Joined {
			founders = []leader.NodeID{leader.NodeID(n.id.Node)}
		}
	}
	for _, id := range ids {
		if _, err := n.groups.add(id, founders); err != nil {
			return err
		}
		founders = nil // what else is on disk was made before
	}
	return nil
}

// clearTemp removes what an earlier process left behind.
func (n *Node) clearTemp() error {
	dir := filepath.Join(n.cfg.DataDir, "tmp")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	return nil
}

// ID is the node's id.
func (n *Node) ID() string { return n.id.Node }

// Handler is the HTTP API, for who serves it on a listener of his own.
func (n *Node) Handler() http.Handler { return n.handler }

// Run serves until ctx ends: it then takes no more requests, lets those under way end, hands on what it leads, and
// returns when all that it started has. It calls ready once, when requests are taken, with the
// listener's address (nil without one). An error of the log ends it too.
func (n *Node) Run(ctx context.Context, ready func(net.Addr)) error {
	defer n.lock.Close()
	defer n.spares.Close()
	// The parts below outlive the requests, and connections to other nodes outlive those.
	parts, stopParts := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopParts(nil)
	n.exile.Lock()
	n.exile.stop = func(err error) { stopParts(err) }
	n.exile.Unlock()
	links, stopLinks := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLinks()
	var wg, lines sync.WaitGroup
	fail := func(what string, err error) {
		if err != nil && parts.Err() == nil {
			n.log.Error(what+" ended", "error", err)
			stopParts(fmt.Errorf("%s: %w", what, err))
		}
	}
	if n.net != nil {
		lines.Go(func() { fail("cluster listener", n.net.Run(links)) })
		wg.Go(func() { fail("server for other nodes", n.serveNodes(parts)) })
		wg.Go(func() { _ = n.copies.Run(parts) })
		wg.Go(func() { n.repl.run(parts) })
	}
	wg.Go(func() { n.groups.run(parts, stopParts) })
	wg.Go(func() { _ = n.engine.Run(parts) })
	wg.Go(func() { _ = n.ticks.Run(parts) })
	wg.Go(func() { n.sites.run(parts) })
	wg.Go(func() { n.followCatalogue(parts) })
	wg.Go(func() { n.keeper.run(parts) })
	err := n.serve(ctx, parts, ready)
	n.setReady(false, errors.New("it is stopping"))
	n.engine.Close()
	if cause := context.Cause(parts); cause != nil && err == nil {
		err = cause
	}
	stopParts(nil)
	wg.Wait()
	stopLinks()
	lines.Wait()
	return err
}

// closeNetwork frees the cluster listener of a node that never ran.
func (n *Node) closeNetwork() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.net.Run(ended)
}

// serve serves HTTP until ctx ends or parts does.
func (n *Node) serve(ctx, parts context.Context, ready func(net.Addr)) error {
	up, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(parts, cancel)()
	if n.net == nil {
		// Alone there is no reason to take requests before they can be answered.
		if err := n.awaitReady(up); err != nil {
			return context.Cause(parts)
		}
	}
	var addr net.Addr
	served := make(chan error, 1)
	var srv publicServer
	if n.cfg.Listen != "" {
		l, err := listenPublic(&n.cfg)
		if err != nil {
			return err
		}
		addr = l.Addr()
		srv = n.newPublicServer()
		go func() { served <- srv.Serve(l) }()
	}
	if ready != nil {
		ready(addr)
	}
	var err error
	if n.net == nil || n.awaitReady(up) == nil {
		n.setReady(true, nil)
		n.log.Info("node is ready", "node", n.id.Node, "pop", n.cfg.PoP, "listen", fmt.Sprint(addr), "startup", n.cfg.Now().Sub(n.started).String())
		tenantService{n}.removeRests(up)
	}
	err = n.chores(up, served)
	if srv != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.ShutdownGrace)
		defer cancel()
		if err := srv.Shutdown(end); err != nil {
			n.log.Warn("requests were cut off", "after", n.cfg.ShutdownGrace)
			srv.Close()
		}
	}
	return errors.Join(err, context.Cause(parts))
}

// chores does what is to be done from time to time, until ctx ends or the HTTP server does.
func (n *Node) chores(ctx context.Context, served <-chan error) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case err := <-served:
			return fmt.Errorf("serve HTTP: %w", err)
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		tenantService{n}.removeRests(ctx)
		tenantService{n}.purge(ctx)
		if err := n.groups.clearLeft(); err != nil {
			n.log.Warn("files of groups that this node has left stay", "error", err)
		}
	}
}

func (n *Node) setReady(ready bool, why error) {
	n.state.Lock()
	n.state.ready, n.state.why = ready, why
	n.state.Unlock()
}
