package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/sqlnode/copies"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// groups is the groups of this node. They come and go as the catalogue says.
type groups struct {
	cfg     *Config
	budget  *pagestore.Budget
	network leader.Network // nil for a node on its own
	ticks   *readpath.Ticks
	led     func()                        // is told when the leadership of a group changes
	fetch   func(*hosted) *copies.Fetcher // nil for a node on its own

	list atomic.Pointer[[]*hosted] // by id; never changed in place

	mu struct {
		sync.Mutex
		ctx     context.Context // of what runs; nil before run
		stopped bool
		running map[*hosted]chan struct{} // closed when it has ended
		failed  func(error)
	}
}

func newGroups(cfg *Config, budget *pagestore.Budget, network leader.Network) *groups {
	g := &groups{cfg: cfg, budget: budget, network: network}
	g.list.Store(&[]*hosted{})
	g.mu.running = map[*hosted]chan struct{}{}
	return g
}

// all returns the groups that are open now, by id.
func (g *groups) all() []*hosted { return *g.list.Load() }

// get returns the group; nil if it is not here.
func (g *groups) get(id wire.GroupID) *hosted {
	for _, h := range g.all() {
		if h.id == id {
			return h
		}
	}
	return nil
}

// onDisk lists the groups that have files.
func (g *groups) onDisk() ([]wire.GroupID, error) {
	entries, err := g.cfg.FS.ReadDir("groups.list", filepath.Join(g.cfg.DataDir, "groups"))
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	var ids []wire.GroupID
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil && n > 0 {
			ids = append(ids, wire.GroupID(n))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// add opens a group and, once run was called, runs it. It is not an error if it is here already.
func (g *groups) add(id wire.GroupID, founders []leader.NodeID) (*hosted, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.get(id); h != nil {
		return h, nil
	}
	if g.mu.stopped {
		return nil, leader.ErrStopped
	}
	h, err := openGroup(g.cfg, id, g.budget, g.network, g.ticks, founders)
	if err != nil {
		return nil, fmt.Errorf("group %d: %w", id, err)
	}
	h.led = g.led
	if g.fetch != nil {
		h.fetcher = g.fetch(h)
	}
	list := append(slices.Clone(g.all()), h)
	slices.SortFunc(list, func(a, b *hosted) int { return int(a.id) - int(b.id) })
	g.list.Store(&list)
	g.cfg.space.SetLogs(len(list))
	if g.mu.ctx != nil {
		g.startLocked(h)
	}
	return h, nil
}

func (g *groups) startLocked(h *hosted) {
	ctx, cancel := context.WithCancel(g.mu.ctx)
	over := make(chan struct{})
	g.mu.running[h] = over
	h.stop = cancel
	failed := g.mu.failed
	go func() {
		defer close(over)
		if err := h.run(ctx); err != nil && ctx.Err() == nil {
			g.cfg.Log.Error("group ended", "group", h.id, "error", err)
			failed(err)
		}
	}()
}

// run runs the groups until ctx ends, and then waits for them. failed is called when one fails.
func (g *groups) run(ctx context.Context, failed func(error)) {
	g.mu.Lock()
	g.mu.ctx, g.mu.failed = ctx, failed
	for _, h := range g.all() {
		g.startLocked(h)
	}
	g.mu.Unlock()
	<-ctx.Done()
	g.mu.Lock()
	g.mu.stopped = true
	var all []chan struct{}
	for _, over := range g.mu.running {
		all = append(all, over)
	}
	g.mu.Unlock()
	for _, over := range all {
		<-over
	}
}

// leftInfix is in the names of the directories of groups that this node has left.
const leftInfix = ".left-"

// leave ends a group here for good. Its files are kept aside, for clearLeft.
func (g *groups) leave(h *hosted) error {
	g.mu.Lock()
	over := g.mu.running[h]
	if over == nil {
		g.mu.Unlock()
		return fmt.Errorf("group %d does not run", h.id)
	}
	delete(g.mu.running, h)
	list := slices.DeleteFunc(slices.Clone(g.all()), func(o *hosted) bool { return o == h })
	g.list.Store(&list)
	g.mu.Unlock()
	h.stop()
	<-over
	g.cfg.space.SetLogs(len(g.all()))
	dir := groupDir(g.cfg.DataDir, h.id)
	if err := g.cfg.FS.Rename("groups.leave", dir, dir+leftInfix+strconv.FormatInt(g.cfg.Now().UnixMilli(), 10)); err != nil {
		return err
	}
	return g.cfg.FS.SyncDir("groups.syncdir", filepath.Dir(dir))
}

// clearLeft removes the files of groups that were left longer than the grace period ago.
func (g *groups) clearLeft() error {
	dir := filepath.Join(g.cfg.DataDir, "groups")
	entries, err := g.cfg.FS.ReadDir("groups.list", dir)
	if err != nil {
		return err
	}
	before := g.cfg.Now().Add(-g.cfg.DeleteGrace).UnixMilli()
	var errs []error
	for _, e := range entries {
		_, at, ok := strings.Cut(e.Name(), leftInfix)
		if !ok {
			continue
		}
		if ms, err := strconv.ParseInt(at, 10, 64); err == nil && ms < before {
			errs = append(errs, g.cfg.FS.RemoveAll("groups.remove", filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
