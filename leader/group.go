package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/leader/logstore"
	"github.com/nearsql/nearsql/leader/snapshots"
)

// Group is one Raft group on this node. Its methods may be called by several
// goroutines, before, during and after Run.
type Group struct {
	cfg Config
	log *slog.Logger

	// started is closed when run is set, stopped when Run ends.
	started chan struct{}
	stopped chan struct{}
	run     parts

	// goroutines are what Run waits for; they begin while proposals.open, which
	// the waiting comes after, or are begun by one another.
	goroutines sync.WaitGroup

	// snapshotting serializes Snapshot; changing is held by a change of members.
	snapshotting sync.Mutex
	changing     sync.Mutex
	refused      atomic.Uint64 // messages of other nodes that raft was not given
	asked        atomic.Uint64 // number of the last question to other nodes, or round of questions

	proposals struct {
		sync.Mutex
		open    bool        // whether any are taken
		count   int         // that are not answered
		bytes   int64       // of them
		waiting []*proposal // for raft
		handing bool        // some of those that waited are being given to raft
	}
	refusals struct {
		sync.Mutex
		waiting  []refusal
		answered bool          // by a goroutine of Run
		wake     chan struct{} // holds one; constant
	}
	state struct {
		sync.Mutex
		leadership Leadership
		changed    chan struct{} // closed when leadership changes
	}
}

// parts are what Run makes; constant from when started is closed.
type parts struct {
	raft      *raft.Raft
	running   atomic.Pointer[raft.Raft] // the same, for raft's own goroutines, which are there before it is
	transport transport
	store     *logstore.Store
	log       *groupLog // store, as raft sees it
	snapshots *snapshots.Store
	expelled  map[NodeID]struct{} // nodes that a recovery left behind; see Recover
	fsm       *fsm
	notify    chan bool
	diverged  chan struct{} // holds one: raft can't go on with its log

	// All nil without a network.
	net         *netTransport
	links       *links
	confirming  net.Listener // of questions
	confirmers  *peers       // for rounds of reads
	askers      *peers       // for all other questions
	reads       *rounds      // of the primary
	remoteReads *rounds      // of other nodes
	hints       *hints

	window    int                      // of proposals that raft's channel surely has room for
	waiting   chan struct{}            // holds one: proposals wait for raft
	underway  chan *proposal           // in the order in which raft got them
	answering atomic.Pointer[proposal] // the one whose outcome is awaited
}

// New returns a group that does nothing before Run.
func New(cfg Config) (*Group, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	g := &Group{
		cfg:     cfg,
		log:     cfg.Log.With("group", uint32(cfg.Group), "node", string(cfg.Node)),
		started: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	g.state.changed = make(chan struct{})
	g.refusals.wake = make(chan struct{}, 1)
	return g, nil
}

// Run opens the log, restores the machine and takes part in the group until
// ctx ends, when it returns nil. It returns after its last goroutine. A
// LogError means that the process must end. Run is called once.
func (g *Group) Run(ctx context.Context) error {
	defer close(g.stopped)
	if err := g.open(); err != nil {
		return errors.Join(err, g.closeFiles())
	}
	close(g.started)
	r := g.run.raft
	endNetwork := g.runNetwork()

	g.refusals.Lock()
	g.refusals.answered = true
	g.refusals.Unlock()
	stop, stopHanding := make(chan struct{}), make(chan struct{})
	var handing, answering sync.WaitGroup
	g.setOpen(true) // before this node can be announced as primary
	g.goroutines.Go(func() { g.watchLeadership(r, g.run.notify, stop) })
	g.goroutines.Go(func() { g.answerRefusals(stop) })
	handing.Go(func() { g.handOverWaiting(stopHanding) })
	answering.Go(g.answerUnderway)

	diverged := false
	select {
	case <-ctx.Done():
	case <-g.run.store.Failed():
		g.log.Error("the log failed: the group ends", "error", g.run.store.Err())
	case <-g.run.diverged:
		g.log.Warn("a snapshot took the place of the log")
		diverged = true
	}

	g.setOpen(false)
	close(stopHanding)
	close(stop)
	g.drain(r, &handing, &answering)
	endNetwork()
	g.setLeadership(func(l *Leadership) { *l = Leadership{} })
	err := g.closeFiles()
	if failure := g.run.store.Err(); failure != nil {
		return &LogError{Group: g.cfg.Group, Err: failure}
	}
	if diverged {
		return errors.Join(ErrRunAgain, err)
	}
	return err
}

// runNetwork starts what answers and asks other nodes, and returns how to end it.
func (g *Group) runNetwork() (end func()) {
	p := &g.run
	if p.net == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(p.net.inbox.run)
	wg.Go(func() { g.answerQuestions(ctx, p.confirming) })
	wg.Go(func() { p.hints.run(ctx) })
	wg.Go(func() {
		(&silence{raft: p.raft, node: raft.ServerID(g.cfg.Node), timeout: g.cfg.HeartbeatTimeout}).run(ctx)
	})
	for _, asking := range []*peers{p.confirmers, p.askers} {
		asking.begin(ctx)
		wg.Go(func() { asking.wait(ctx) })
	}
	for _, reading := range []*rounds{p.reads, p.remoteReads} {
		wg.Go(func() { reading.run(ctx) })
	}
	return func() {
		cancel()
		_ = p.confirming.Close()
		_ = p.net.Close()
		wg.Wait()
	}
}

func (g *Group) setOpen(open bool) {
	g.proposals.Lock()
	g.proposals.open = open
	g.proposals.Unlock()
}

// drain waits for the outcome of what was proposed, and shuts raft down.
//
// It must be in this order, since raft forgets what it holds when it shuts
// down: an outcome that is waited for, of a proposal, a barrier or a transfer,
// would never come. As long as raft runs, it comes: entries are committed, or
// the lease ends for lack of a majority.
func (g *Group) drain(r *raft.Raft, handing, answering *sync.WaitGroup) {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		handing.Wait()
		g.proposals.Lock()
		waiting := g.proposals.waiting
		g.proposals.waiting = nil
		g.proposals.Unlock()
		for _, p := range waiting {
			g.finish(p, nil, &NotPrimaryError{})
		}
		close(g.run.underway)
		answering.Wait()
		g.goroutines.Wait()
	}()
	if awaitFor(drained, g.cfg.DrainTimeout) {
		g.handOn()
	}
	down := r.Shutdown()
	if g.run.net != nil {
		// raft waits for the answers of other nodes: there won't be any.
		_ = g.run.net.Close()
	}
	if err := down.Error(); err != nil {
		g.log.Error("shut raft down", "error", err)
	}
	if awaitFor(drained, time.Second) {
		return
	}
	// The machine or the disk hung, for so long that what waits for them stays
	// behind. Those who proposed must not wait.
	g.log.Error("outcomes did not come", "waited", g.cfg.DrainTimeout)
	if p := g.run.answering.Load(); p != nil {
		g.finish(p, nil, &UnknownOutcomeError{Err: ErrStopped})
	}
	for p := range g.run.underway {
		g.finish(p, nil, &UnknownOutcomeError{Err: ErrStopped})
	}
}

// awaitFor waits until c is closed, at most d, and says whether it was.
func awaitFor(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// openFiles opens log and snapshots, and makes sure that they belong together.
func (g *Group) openFiles(logger hclog.Logger) error {
	p := &g.run
	var err error
	p.store, err = logstore.Open(logstore.Config{
		FS: g.cfg.FS, Dir: filepath.Join(g.cfg.Dir, "log"), SegmentSize: g.cfg.SegmentSize, Logger: logger,
	})
	if err != nil {
		return &LogError{Group: g.cfg.Group, Err: err}
	}
	p.snapshots, err = snapshots.Open(snapshots.Config{FS: g.cfg.FS, Dir: filepath.Join(g.cfg.Dir, "snapshots"), Log: g.log})
	if err != nil {
		return fmt.Errorf("group %d: %w", g.cfg.Group, err)
	}
	if err := g.checkCoverage(); err != nil {
		return &LogError{Group: g.cfg.Group, Err: err}
	}
	p.log = newGroupLog(p.store, g.cfg.StoreBeside, func() bool {
		r := p.running.Load()
		return r != nil && len(r.GetConfiguration().Configuration().Servers) > 1
	}, func() bool {
		r := p.running.Load()
		return r != nil && r.State() == raft.Leader
	})
	p.fsm = &fsm{machine: g.cfg.Machine, seen: p.store.Bytes, await: p.log.beside.await, failed: func() bool { return p.store.Err() != nil }}
	if err := p.log.dropBehindSnapshot(p.snapshots); err != nil {
		return g.openError(err)
	}
	if p.expelled, err = loadExpelled(p.store); err != nil {
		return g.openError(err)
	}
	return nil
}

// open makes the parts.
func (g *Group) open() error {
	p := &g.run
	logger := newHCLog(g.log)
	if err := g.openFiles(logger); err != nil {
		return err
	}
	conf := g.raftConfig()
	conf.Logger = logger
	// raft waits for who reads it; the reader never waits, and the buffer covers its scheduling.
	p.notify = make(chan bool, 16)
	conf.NotifyCh = p.notify

	alone, err := g.bootstrap()
	if err != nil {
		return g.openError(err)
	}
	batch := g.cfg.BatchEntries
	if batch == 0 {
		batch = 256
	}
	if err := g.openTransport(logger); err != nil {
		return fmt.Errorf("start group %d: %w", g.cfg.Group, err)
	}
	conf.MaxAppendEntries = batch
	p.window = max(batch-8, 0) // less barriers, which need no count
	p.waiting = make(chan struct{}, 1)
	p.underway = make(chan *proposal, g.cfg.QueueEntries)
	p.raft, err = g.newRaft(conf, alone)
	if err != nil {
		if p.net != nil {
			_ = p.net.Close()
			_ = p.confirming.Close()
		}
		return g.openError(err)
	}
	p.running.Store(p.raft)
	return nil
}

// openTransport makes what reaches other nodes.
func (g *Group) openTransport(logger hclog.Logger) error {
	p := &g.run
	if g.cfg.Network == nil {
		p.transport = newNoTransport(g.cfg.Node, p.store.Running)
		return nil
	}
	p.diverged = make(chan struct{}, 1)
	p.links = newLinks(g.cfg.Network, g.cfg.Group, func() bool { return p.store.Err() != nil })
	listener, err := g.cfg.Network.Listen(g.cfg.Group, PurposeRaft)
	if err != nil {
		return err
	}
	if p.confirming, err = g.cfg.Network.Listen(g.cfg.Group, PurposeConfirm); err != nil {
		return errors.Join(err, listener.Close())
	}
	in := newInbox()
	in.raft = func() *raft.Raft { return p.raft }
	in.has = func(index, term uint64) (bool, error) { return p.log.has(p.snapshots, index, term) }
	in.refuse = g.refuseMessage
	in.settle = p.log.beside.settle
	in.diverged = func() {
		p.links.cut()
		wake(p.diverged)
	}
	p.net = newNetTransport(p.links, listener, g.cfg.Node, g.cfg.RPCTimeout, in, p.store.Running, g.log, logger)
	p.net.committed = p.log.beside.bound
	p.transport = p.net
	p.confirmers = newPeers(p.links, g.cfg.HeartbeatTimeout)
	p.askers = newPeers(p.links, 2*g.cfg.HeartbeatTimeout)
	p.reads = newRounds(g.confirmRound)
	p.remoteReads = newRounds(g.remoteRound)
	p.hints = newHints(g)
	return nil
}

// openError tells errors of the log's files from others.
func (g *Group) openError(err error) error {
	if failure := g.run.store.Err(); failure != nil {
		err = failure
	}
	if g.run.store.Err() != nil || errors.Is(err, logstore.ErrCorrupt) {
		return &LogError{Group: g.cfg.Group, Err: err}
	}
	return fmt.Errorf("start group %d: %w", g.cfg.Group, err)
}

// checkCoverage refuses a log that does not continue the newest snapshot that
// is whole, up to the newest of all: what lies between would be missing in silence.
func (g *Group) checkCoverage() error {
	list, err := g.run.snapshots.List()
	if err != nil {
		return err
	}
	covered := uint64(0)
	if len(list) > 0 {
		covered = list[0].Index
	}
	newest, err := g.run.snapshots.Newest()
	if err != nil {
		return err
	}
	first, err := g.run.store.FirstIndex()
	if err != nil {
		return err
	}
	last, err := g.run.store.LastIndex()
	if err != nil {
		return err
	}
	if first > covered+1 || covered < newest && last < newest {
		return fmt.Errorf("%w: the log has entries %d to %d, the newest whole snapshot ends with %d, the newest with %d",
			logstore.ErrCorrupt, first, last, covered, newest)
	}
	return nil
}

func (g *Group) raftConfig() *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(g.cfg.Node)
	conf.HeartbeatTimeout = g.cfg.HeartbeatTimeout
	conf.ElectionTimeout = g.cfg.ElectionTimeout
	conf.LeaderLeaseTimeout = g.cfg.LeaseTimeout
	conf.CommitTimeout = g.cfg.CommitTimeout
	conf.BatchApplyCh = true
	conf.ShutdownOnRemove = false
	conf.NoLegacyTelemetry = true
	// Snapshots are taken when Snapshot is called, never by a count of entries.
	conf.SnapshotThreshold = 1 << 62
	conf.SnapshotInterval = 365 * 24 * time.Hour
	return conf
}

// bootstrap makes a new group if there is none and one is wanted. It says
// whether this node is the only member of the group.
//
// The group is there when its first log entry is, which is the same on all
// initial voters. raft.BootstrapCluster takes a term for a group already, and
// would leave a group without members after a crash between the two.
func (g *Group) bootstrap() (alone bool, err error) {
	p := &g.run
	last, err := p.store.LastIndex()
	if err != nil {
		return false, err
	}
	newest, err := p.snapshots.Newest()
	if err != nil {
		return false, err
	}
	if last > 0 || newest > 0 {
		return g.isAlone()
	}
	if g.cfg.HasState {
		return false, fmt.Errorf("%w: there is state of the group, and neither a log nor a snapshot", logstore.ErrCorrupt)
	}
	if len(g.cfg.InitialVoters) == 0 {
		return false, nil
	}
	var conf raft.Configuration
	// In one order: the entry must be the same everywhere.
	for _, id := range slices.Compact(slices.Sorted(slices.Values(g.cfg.InitialVoters))) {
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	term, err := p.store.GetUint64([]byte("CurrentTerm"))
	if err != nil {
		return false, err
	}
	if term > 1 {
		return false, fmt.Errorf("%w: the group has come to term %d, and has neither a log nor a snapshot", logstore.ErrCorrupt, term)
	}
	if term == 0 {
		if err := p.store.SetUint64([]byte("CurrentTerm"), 1); err != nil {
			return false, err
		}
	}
	err = p.log.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)})
	return g.onlyMember(conf), err
}

func (g *Group) onlyMember(conf raft.Configuration) bool {
	return len(conf.Servers) == 1 && conf.Servers[0].ID == raft.ServerID(g.cfg.Node)
}

// isAlone says whether the newest configuration on disk has only this node.
func (g *Group) isAlone() (bool, error) {
	conf, err := g.configurationOnDisk()
	return g.onlyMember(conf), err
}

// configurationOnDisk is the newest configuration of the snapshots and the log.
func (g *Group) configurationOnDisk() (raft.Configuration, error) {
	var conf raft.Configuration
	list, err := g.run.snapshots.List()
	if err != nil {
		return conf, err
	}
	after := uint64(0)
	if len(list) > 0 {
		conf, after = list[0].Configuration, list[0].Index
	}
	last, err := g.run.store.LastIndex()
	if err != nil {
		return conf, err
	}
	for i := after + 1; i <= last; i++ {
		command, err := g.run.store.IsCommand(i)
		if err != nil {
			return conf, err
		}
		if command {
			continue
		}
		var entry raft.Log
		if err := g.run.store.GetLog(i, &entry); err != nil {
			return conf, err
		}
		if entry.Type == raft.LogConfiguration {
			conf = raft.DecodeConfiguration(entry.Data)
			g.run.log.noteConfiguration(i)
		}
	}
	return conf, nil
}

// newRaft starts raft, which panics when it can't read its log.
func (g *Group) newRaft(conf *raft.Config, alone bool) (r *raft.Raft, err error) {
	defer func() {
		if v := recover(); v != nil {
			if g.run.store.Err() == nil {
				panic(v)
			}
			err = fmt.Errorf("%v", v)
		}
	}()
	if alone {
		// No other could be primary: don't wait for a sign of one. raft looks at
		// its timers again when they get shorter.
		conf.HeartbeatTimeout++
		conf.ElectionTimeout++
	}
	p := &g.run
	r, err = raft.NewRaft(conf, p.fsm, p.log, p.store, p.snapshots, p.transport)
	if cause := p.fsm.unrestored(); err != nil && cause != nil {
		return nil, fmt.Errorf("restore the newest snapshot: %w", cause)
	}
	p.fsm.running.Store(err == nil)
	if err != nil || !alone {
		return r, err
	}
	rc := r.ReloadableConfig()
	rc.HeartbeatTimeout--
	rc.ElectionTimeout--
	return r, r.ReloadConfig(rc)
}

func (g *Group) closeFiles() error {
	if g.run.store == nil {
		return nil
	}
	if g.run.log != nil {
		g.run.log.beside.turn <- struct{}{} // for ever: nothing is stored any more
	}
	return g.run.store.Close()
}

// running returns ErrStopped before Run has opened the group, and after its end.
func (g *Group) running() error {
	select {
	case <-g.stopped:
		return ErrStopped
	default:
	}
	select {
	case <-g.started:
		return nil
	default:
		return ErrStopped
	}
}
