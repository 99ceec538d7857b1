package readpath

import (
	"context"
	"fmt"
	"time"
)

// Voter is what a Prober asks of a group that this node votes in. *leader.Group is one.
type Voter interface {
	// ReadIndexAt returns an index such that a state with it contains all that anybody was answered before the call. It must have
	// been confirmed by a majority of the voters after the call.
	ReadIndexAt(ctx context.Context) (uint64, error)
	// WaitApplied returns when the entry at index has been given to the copies of this node.
	WaitApplied(ctx context.Context, index uint64) error
	// Applied is the index of the last entry that they have been given.
	Applied() uint64
}

// ProberConfig is what a Prober needs. Zero durations mean the defaults.
type ProberConfig struct {
	Voter Voter
	Ticks *Ticks
	// Interval is how long after an answer the next question is asked. Who turns it: a cluster with groups that are far from each other and
	// bounds that are short. 500 ms.
	Interval time.Duration
	// Timeout is how long an answer may take. 3 s.
	Timeout time.Duration
}

// Prober knows how fresh the copies of one group are on one of its voters, primary or not.
type Prober struct {
	cfg   ProberConfig
	pairs *Pairs
}

// NewProber returns a Prober that knows nothing before Run.
func NewProber(cfg ProberConfig) *Prober {
	if cfg.Interval <= 0 {
		cfg.Interval = 500 * time.Millisecond
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 3 * time.Second
	}
	return &Prober{cfg: cfg, pairs: NewPairs(cfg.Ticks)}
}

// Run asks from time to time until ctx ends, and returns nil.
func (p *Prober) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		_, _ = p.probe(ctx) // what can't be had is not known, and copies age
		select {
		case <-ctx.Done():
		case <-time.After(p.cfg.Interval):
		}
	}
	return nil
}

func (p *Prober) probe(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	asked := p.pairs.Ask()
	index, err := p.cfg.Voter.ReadIndexAt(ctx)
	if err != nil {
		return 0, fmt.Errorf("read index: %w", err)
	}
	p.pairs.Confirm(asked, index)
	return index, nil
}

// Fresh says how fresh the group's copies are on this node. Their positions in the log are to be read after it.
func (p *Prober) Fresh() Freshness { return p.pairs.Fresh(p.cfg.Voter.Applied()) }

// Confirm asks now, and returns when the copies have been given all that anybody was answered before the call.
func (p *Prober) Confirm(ctx context.Context) error {
	index, err := p.probe(ctx)
	if err != nil {
		return err
	}
	return p.cfg.Voter.WaitApplied(ctx, index)
}
