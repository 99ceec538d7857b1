package replica

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/wire"
)

// FeederConfig is what a Feeder needs. Zero numbers mean the defaults.
type FeederConfig struct {
	Source Source
	Log    *slog.Logger // nil for none
	Timing Timing

	// ConnsMax is how many receivers may be connected. 256.
	ConnsMax int
	// SlotsMax is how many tenants one receiver may follow. 100,000.
	SlotsMax int
	// BacklogBytes is how much is kept for one receiver of what its tenants miss while they catch up. 8 MiB.
	BacklogBytes int64
	// Copies is how many copies and LTX files are read at a time, for all receivers. 8.
	Copies int
}

// FeederStats counts what a Feeder did; for metrics.
type FeederStats struct {
	Conns    atomic.Int64 // open
	Slots    atomic.Int64 // open
	Txns     atomic.Int64
	TxnBytes atomic.Int64 // of entries
	Copies   atomic.Int64 // begun
	LTX      atomic.Int64 // begun
	Lost     atomic.Int64 // receivers that fell behind a Tail
}

// Feeder serves streams to receivers.
type Feeder struct {
	Stats FeederStats

	cfg    FeederConfig
	log    *slog.Logger
	copies chan struct{} // holds one for each copy that is being read

	goroutines sync.WaitGroup
	mu         struct {
		sync.Mutex
		ended  bool
		conns  map[*feedConn]struct{}
		rounds map[wire.GroupID]*readpath.Rounds
	}
}

// NewFeeder returns a Feeder. It serves connections before and while Run runs.
func NewFeeder(cfg FeederConfig) (*Feeder, error) {
	if cfg.Source == nil {
		return nil, errors.New("replica: FeederConfig.Source is missing")
	}
	if cfg.ConnsMax <= 0 {
		cfg.ConnsMax = 256
	}
	if cfg.SlotsMax <= 0 {
		cfg.SlotsMax = 100_000
	}
	if cfg.BacklogBytes <= 0 {
		cfg.BacklogBytes = 8 << 20
	}
	if cfg.Copies <= 0 {
		cfg.Copies = 8
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Timing.setDefaults()
	f := &Feeder{cfg: cfg, log: cfg.Log, copies: make(chan struct{}, cfg.Copies)}
	f.mu.conns = make(map[*feedConn]struct{})
	f.mu.rounds = make(map[wire.GroupID]*readpath.Rounds)
	return f, nil
}

// Run waits until ctx ends, ends all streams, and returns nil after the last goroutine.
func (f *Feeder) Run(ctx context.Context) error {
	<-ctx.Done()
	f.mu.Lock()
	f.mu.ended = true
	for c := range f.mu.conns {
		c.cancel()
		_ = c.conn.Close()
	}
	f.mu.Unlock()
	f.goroutines.Wait()
	for _, r := range f.mu.rounds { // no more are made
		r.End()
	}
	return nil
}

// Serve feeds the receiver at the other end of a connection until that ends, or ctx does. node is its id. It is for
// cluster.Net.Handle, with cluster.PurposeStream.
func (f *Feeder) Serve(ctx context.Context, node string, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	full := len(f.mu.conns) >= f.cfg.ConnsMax
	if f.mu.ended || full {
		f.mu.Unlock()
		if full {
			f.log.Warn("a receiver was refused: there are too many", "node", node)
		}
		_ = conn.Close()
		return
	}
	c := newFeedConn(f, node, conn)
	c.cancel = cancel
	f.mu.conns[c] = struct{}{}
	f.goroutines.Add(1)
	f.mu.Unlock()
	f.Stats.Conns.Add(1)
	defer func() {
		f.Stats.Conns.Add(-1)
		f.mu.Lock()
		delete(f.mu.conns, c)
		f.mu.Unlock()
		f.goroutines.Done()
	}()
	err := c.run(ctx)
	if ctx.Err() == nil && err != nil {
		f.log.Info("stream to a receiver ended", "node", node, "error", err)
	}
}

// Receiver is how far one receiver is; for metrics and people.
type Receiver struct {
	Node    string
	Tenants int64  // that it follows, as of a heartbeat ago
	Behind  uint64 // entries of the group that it has not said to have applied, of the lane where that is most
}

// Receivers lists those that are connected, in no order.
func (f *Feeder) Receivers() []Receiver {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]Receiver, 0, len(f.mu.conns))
	for c := range f.mu.conns {
		list = append(list, Receiver{c.node, c.open.Load(), uint64(c.behind.Load())})
	}
	return list
}

// readIndex asks the Source; receivers that ask at the same time share an answer.
func (f *Feeder) readIndex(ctx context.Context, group wire.GroupID) (uint64, error) {
	f.mu.Lock()
	r := f.mu.rounds[group]
	if r == nil {
		if f.mu.ended {
			f.mu.Unlock()
			return 0, readpath.ErrEnded
		}
		r = readpath.NewRounds(func(ctx context.Context) (uint64, error) {
			ctx, cancel := context.WithTimeout(ctx, f.cfg.Timing.Answer)
			defer cancel()
			return f.cfg.Source.ReadIndex(ctx, group)
		})
		f.mu.rounds[group] = r
	}
	f.mu.Unlock()
	return r.Join(ctx)
}
