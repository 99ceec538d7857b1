package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/sqlnode/copies"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/replicas"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// hosted is one Raft group on this node: its log, and the copies of its tenants.
type hosted struct {
	id     wire.GroupID
	node   string         // this one
	single bool           // there are no other nodes
	lane   *replicas.Lane // what nodes are fed from that follow; nil if there are no others
	pages  *pagestore.Group
	now    func() time.Time
	slog   *slog.Logger

	scrubEvery time.Duration
	broken     chan error // why the group must end

	open    func(founders []leader.NodeID) (*leader.Group, error) // makes the log's next life
	current atomic.Pointer[life]
	// skipConfirm is set by tests alone: reads then don't ask the voters, to see that this is found out.
	skipConfirm atomic.Bool
	fresh       *freshness
	led         func()             // is told when the leadership changes; may be nil
	fetcher     *copies.Fetcher    // nil for a node on its own
	stop        context.CancelFunc // ends run; set when it runs
}

// life is the log from one start to its end; rarely, a group has several (leader.ErrRunAgain).
type life struct {
	*leader.Group
	over chan struct{} // closed when the next one has begun
}

// log is the group's log as it is now.
func (h *hosted) log() *leader.Group { return h.current.Load().Group }

// leadership is who leads, and channels of which one is closed when that changes.
func (h *hosted) leadership() (l leader.Leadership, changed, over <-chan struct{}) {
	c := h.current.Load()
	l, changed = c.Leadership()
	return l, changed, c.over
}

// fail ends the group with err; the first one counts.
func (h *hosted) fail(err error) {
	select {
	case h.broken <- err:
	default:
	}
}

// Groups of a new cluster.
const (
	systemGroup  wire.GroupID = 1 // of the catalogue
	defaultGroup wire.GroupID = 2 // where tenants are put that ask for no other
)

// groupDir is where a group's files are.
func groupDir(dataDir string, id wire.GroupID) string {
	return filepath.Join(dataDir, "groups", strconv.Itoa(int(id)))
}

// openGroup opens a group on disk, or makes it. founders begin a new one; without them a group that
// is not on disk waits until its primary adds this node. network is nil for a node on its own.
func openGroup(cfg *Config, id wire.GroupID, budget *pagestore.Budget, network leader.Network, ticks *readpath.Ticks, founders []leader.NodeID) (*hosted, error) {
	dir := groupDir(cfg.DataDir, id)
	var (
		lane     *replicas.Lane
		observer pagestore.Observer
	)
	if network != nil {
		lane = replicas.NewLane(id, 0, cfg.Log)
		observer = lane
	}
	hasState := groupHasState(cfg, dir) || network == nil && founders == nil
	pages, err := pagestore.NewGroup(pagestore.Config{
		Observer: observer,
		ID:       id, Dir: dir, FS: cfg.FS, Budget: budget, Log: cfg.Log, Now: cfg.Now,
		CheckpointBytes: cfg.CheckpointBytes, CheckpointAge: cfg.CheckpointAge, BuildDelay: buildDelay,
		LTXBytes: cfg.LTXBytes, LTXAge: cfg.LTXAge, LTXRetention: cfg.LTXRetention,
		Space: cfg.space,
	})
	if err != nil {
		return nil, err
	}
	h := &hosted{id: id, node: cfg.NodeID, single: network == nil, lane: lane, pages: pages, now: cfg.Now, scrubEvery: cfg.ScrubEvery, slog: cfg.Log, broken: make(chan error, 1)}
	timeout := cfg.HeartbeatTimeout
	if network == nil {
		timeout = aloneTimeout
	}
	h.open = func(founders []leader.NodeID) (*leader.Group, error) {
		return leader.New(leader.Config{
			Group: id, Node: leader.NodeID(cfg.NodeID), FS: cfg.FS, Dir: filepath.Join(dir, "raft"), Machine: machine{pages, h.fail}, Log: cfg.Log,
			Network: network, InitialVoters: founders, HasState: hasState, MayChange: h.whole, MayAppend: func(bytes int) error { return cfg.space.Entries(int64(bytes)) },
			// The stores' own bounds come first; here they only must not be in the way.
			QueueEntries: 1 << 16, QueueBytes: 512 << 20, BatchEntries: 512,
			TrailingBytes:    min(cfg.CheckpointBytes, 16<<20),
			HeartbeatTimeout: timeout, ElectionTimeout: timeout, LeaseTimeout: timeout / 2,
			DrainTimeout: max(cfg.ShutdownGrace/2, time.Second),
		})
	}
	g, err := h.open(founders)
	if err != nil {
		return nil, err
	}
	h.current.Store(&life{g, make(chan struct{})})
	h.fresh = newFreshness(h, ticks)
	pages.SetLog(groupLog{h})
	return h, nil
}

// buildDelay is how long a voter leaves transactions as they came while nobody reads the tenant here: what one page got by many of them is
// then put together at once. Whoever comes to read does not wait for it.
const buildDelay = 100 * time.Millisecond

// groupHasState says whether a group's directory holds pages of earlier runs.
func groupHasState(cfg *Config, dir string) bool {
	for _, sub := range []string{"bases", "segments"} {
		if names, err := cfg.FS.ReadDir("group.list", filepath.Join(dir, sub)); err == nil && len(names) > 0 {
			return true
		}
	}
	return false
}

// aloneTimeout is raft's for a node that has no others to hear of.
const aloneTimeout = 200 * time.Millisecond

// whole is leader.Config.MayChange: an error while copies are missing that a snapshot promised.
func (h *hosted) whole() error {
	if hollow := h.pages.Hollow(); len(hollow) > 0 {
		return fmt.Errorf("%d tenants are still being fetched here", len(hollow))
	}
	return nil
}

// groupLog is the log as stores see it: its errors are those that clients are told.
type groupLog struct{ h *hosted }

// Propose implements pagestore.Log.
func (l groupLog) Propose(entry []byte, done func(response any, err error)) {
	l.h.log().Propose(entry, func(response any, err error) {
		if err != nil {
			err = leaderError(err)
		}
		done(response, err)
	})
}

// Primary implements pagestore.Log.
func (l groupLog) Primary() error { return l.h.log().Primary() }

// Snapshot implements pagestore.Log.
func (l groupLog) Snapshot() error { return l.h.log().Snapshot() }

// machine is a group's pages as the log drives them.
type machine struct {
	pages *pagestore.Group
	fatal func(error) // ends the group: what is in its log can't be understood here
}

func (m machine) Apply(index, term uint64, entry []byte) any {
	resp := m.pages.Apply(index, term, entry)
	if err, ok := resp.(*pagestore.EntryError); ok {
		m.fatal(err)
	}
	return resp
}

func (m machine) Restore(r io.Reader) error { return m.pages.Restore(r) }

func (m machine) Snapshot() (leader.SnapshotWriter, error) {
	c, err := m.pages.Capture()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// run runs both until ctx ends or the log fails.
func (h *hosted) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { h.watchLeadership(ctx) })
	wg.Go(func() { _ = h.pages.Run(ctx) })
	wg.Go(func() { h.scrub(ctx) })
	wg.Go(func() { h.fresh.run(ctx) })
	if h.fetcher != nil {
		wg.Go(func() { _ = h.fetcher.Run(ctx) })
	}
	wg.Go(func() {
		select {
		case err := <-h.broken:
			cancel(err)
		case <-ctx.Done():
		}
	})
	err := h.runLog(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	cancel(nil)
	wg.Wait()
	if h.lane != nil {
		h.lane.End()
	}
	h.pages.Close()
	return err
}

// runLog runs the log, again where it asks for that.
func (h *hosted) runLog(ctx context.Context) error {
	for {
		now := h.current.Load()
		err := now.Run(ctx)
		if !errors.Is(err, leader.ErrRunAgain) || ctx.Err() != nil {
			return err
		}
		h.slog.Warn("the group's log begins anew", "group", h.id, "error", err)
		next, err := h.open(nil)
		if err != nil {
			return err
		}
		h.current.Store(&life{next, make(chan struct{})})
		close(now.over)
	}
}

// scrubFirst is how long after its start a node reads all bases for the first time, at the latest.
const scrubFirst = time.Hour

// scrub reads all bases from time to time, so that rot is found before somebody asks for the page.
func (h *hosted) scrub(ctx context.Context) {
	next := time.NewTimer(min(h.scrubEvery, scrubFirst))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		next.Reset(h.scrubEvery)
		report, err := h.pages.Scrub(ctx)
		if err != nil && ctx.Err() == nil {
			h.slog.Warn("scrub", "group", h.id, "error", err)
			continue
		}
		h.slog.Info("scrub", "group", h.id, "report", fmt.Sprintf("%+v", report))
	}
}

// watchLeadership drops what was speculated on a term that has ended.
func (h *hosted) watchLeadership(ctx context.Context) {
	var term uint64
	for {
		l, changed, over := h.leadership()
		if term != 0 && l.Term != term {
			h.pages.LostPrimary()
		}
		term = l.Term
		if h.led != nil {
			h.led()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-over:
		}
	}
}

// awaitLeader waits until this node is the primary of the group, or knows who is.
func (h *hosted) awaitLeader(ctx context.Context) (leader.Leadership, error) {
	for {
		l, changed, over := h.leadership()
		if l.Primary || l.Leader != "" && string(l.Leader) != h.node {
			return l, nil
		}
		select {
		case <-ctx.Done():
			return l, ctx.Err()
		case <-changed:
		case <-over:
		}
	}
}

// whileLeads is a context that ends, too, when this node does not hold the given one for the leader any more: a primary
// that is cut off would else be waited for although there is another. stop must be called.
func (h *hosted) whileLeads(ctx context.Context, id leader.NodeID) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			l, changed, over := h.leadership()
			if l.Leader != id {
				cancel()
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-over:
			}
		}
	}()
	return ctx, cancel
}

// propose puts one entry in the log and waits for what became of it.
func (h *hosted) propose(ctx context.Context, entry []byte) error {
	type result struct {
		resp any
		err  error
	}
	c := make(chan result, 1)
	h.log().Propose(entry, func(resp any, err error) { c <- result{resp, err} })
	select {
	case r := <-c:
		if r.err != nil {
			return r.err
		}
		if err, ok := r.resp.(error); ok {
			return &pagestore.RefusedError{Reason: err}
		}
		return nil
	case <-ctx.Done():
		return &leader.UnknownOutcomeError{Err: ctx.Err()}
	}
}

// control puts an event of a tenant's life in its group's log.
func (h *hosted) control(ctx context.Context, id wire.TenantID, e tenant.Event) error {
	payload, err := tenant.EncodeEvent(e)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		hd := txn.Header{Kind: txn.Control, Tenant: id, Epoch: 1, Group: h.id, Code: uint16(e.Code()), TimeUnixMilli: uint64(h.now().UnixMilli())}
		if t, err := h.pages.Tenant(id); err == nil {
			rec, st := t.Record(), t.Logged()
			hd.Epoch, hd.Policy, hd.PageSize = rec.Epoch, rec.Policy, rec.PageSize
			hd.PrevTXID, hd.PrevSum, hd.NextTXID, hd.NextSum, hd.Commit = st.TXID, st.Checksum, st.TXID, st.Checksum, st.Pages
		}
		entry, err := txn.AppendEntry(nil, &hd, payload)
		if err != nil {
			return err
		}
		err = h.propose(ctx, entry)
		// A transaction may have come first: the event follows that then.
		if err == nil || try == 20 || !isPositionError(err) {
			return err
		}
	}
}
