package sqlnode

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/importer"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// Node is one running node. It has parts, and no work of its own.
type Node struct {
	cfg       Config
	log       *slog.Logger
	id        identity
	lock      *os.File
	groups    []*hosted
	dir       *directory
	engine    *engine.Engine
	importer  *importer.Importer
	metrics   *metrics
	handler   *httpapi.Handler
	started   time.Time
	life      sync.Mutex // held while a tenant is created, renamed or deleted
	importing int        // imports begun; under life
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
	for _, d := range []string{"", "groups", "tmp"} {
		if err := os.MkdirAll(filepath.Join(cfg.DataDir, d), 0o700); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
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
	n.cfg.FS = countingFS{cfg.FS, &n.syncs}
	if err := n.clearTemp(); err != nil {
		return nil, err
	}
	a, err := openAuth(cfg.FS, cfg.DataDir, cfg.InsecureNoAuth)
	if err != nil {
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
	for _, id := range []wire.GroupID{systemGroup, defaultGroup} {
		h, err := openGroup(&n.cfg, id, budget)
		if err != nil {
			return nil, fmt.Errorf("group %d: %w", id, err)
		}
		n.groups = append(n.groups, h)
	}
	n.dir = newDirectory(n.groups)
	n.engine = engine.New(engine.Config{
		MaxOpen: cfg.OpenTenants, IdleClose: cfg.IdleClose, TempDir: filepath.Join(cfg.DataDir, "tmp"), TempMax: cfg.TempMax,
		Log: cfg.Log, Now: cfg.Now, Guard: guard,
	})
	n.importer = importer.New()
	if cfg.CheckProgram != "" {
		n.importer = importer.Child(cfg.CheckProgram)
	}
	n.state.why = errors.New("it is starting")
	n.metrics = newMetrics(n, budget, cache)
	n.handler, err = httpapi.New(cfg.HTTP, httpapi.Deps{
		SQL: sqlService{n}, Tenants: tenantService{n}, Auth: a, Status: statusService{n},
		Metrics: promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{}), Counts: n.metrics.http, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return n, nil
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

func (n *Node) group(id wire.GroupID) *hosted {
	for _, h := range n.groups {
		if h.id == id {
			return h
		}
	}
	return nil
}

// Run serves until ctx ends: it then takes no more requests, lets those under way end, and returns
// when all that it started has. It calls ready once, when requests are taken, with the
// listener's address (nil without one). An error of the log ends it too.
func (n *Node) Run(ctx context.Context, ready func(net.Addr)) error {
	defer n.lock.Close()
	// The parts below outlive the requests, so they get a context of their own.
	parts, stopParts := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopParts(nil)
	var wg sync.WaitGroup
	for _, h := range n.groups {
		wg.Go(func() {
			if err := h.run(parts); err != nil && parts.Err() == nil {
				n.log.Error("group ended", "group", h.id, "error", err)
				stopParts(err)
			}
		})
	}
	wg.Go(func() { _ = n.engine.Run(parts) })
	err := n.serve(ctx, parts, ready)
	n.setReady(false, errors.New("it is stopping"))
	n.engine.Close()
	if cause := context.Cause(parts); cause != nil && err == nil {
		err = cause
	}
	stopParts(nil)
	wg.Wait()
	return err
}

// serve waits until the groups are there, and serves HTTP until ctx ends or parts does.
func (n *Node) serve(ctx, parts context.Context, ready func(net.Addr)) error {
	up, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(parts, cancel)()
	for _, h := range n.groups {
		if err := h.ready(up); err != nil {
			return context.Cause(parts)
		}
	}
	var addr net.Addr
	served := make(chan error, 1)
	var srv *http.Server
	if n.cfg.Listen != "" {
		l, err := net.Listen("tcp", n.cfg.Listen)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		if n.cfg.TLSCert != "" {
			cert, err := tls.LoadX509KeyPair(n.cfg.TLSCert, n.cfg.TLSKey)
			if err != nil {
				l.Close()
				return fmt.Errorf("TLS: %w", err)
			}
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		}
		addr = l.Addr()
		srv = &http.Server{Handler: n.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute,
			MaxHeaderBytes: 64 << 10, ErrorLog: log.New(logWriter{n.log}, "", 0)}
		go func() { served <- srv.Serve(l) }()
	}
	n.setReady(true, nil)
	n.log.Info("node is ready", "node", n.id.Node, "pop", n.cfg.PoP, "listen", fmt.Sprint(addr), "startup", n.cfg.Now().Sub(n.started).String())
	if ready != nil {
		ready(addr)
	}
	tenantService{n}.removeRests(up)
	chores := time.NewTicker(time.Minute)
	defer chores.Stop()
	for {
		select {
		case err := <-served:
			return fmt.Errorf("serve HTTP: %w", err)
		case <-chores.C:
			tenantService{n}.purge(up)
			continue
		case <-up.Done():
		}
		break
	}
	if srv != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.ShutdownGrace)
		defer cancel()
		if err := srv.Shutdown(end); err != nil {
			n.log.Warn("requests were cut off", "after", n.cfg.ShutdownGrace)
			srv.Close()
		}
	}
	return context.Cause(parts)
}

func (n *Node) setReady(ready bool, why error) {
	n.state.Lock()
	n.state.ready, n.state.why = ready, why
	n.state.Unlock()
}

// logWriter gives what net/http has to say to the node's log.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	w.log.Debug("http", "message", string(b))
	return len(b), nil
}
