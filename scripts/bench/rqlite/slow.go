package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/scripts/bench/load"
)

// slow has one client insert at the leader while another's read takes seconds there. The longest time
// without an acknowledged insert is the figure.
func (b *bench) slow() error {
	for _, s := range b.systems() {
		r, err := b.besideSlowRead(s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		b.Say("%s: a read of %.1f s, beside it %d inserts by one client", s.name(), r.took.Seconds(), r.inserts)
		figure := "slow_read_insert_gap"
		if s.name() != "nearsql" {
			figure += "_" + s.name()
		}
		b.Figure(figure, figures.Milliseconds(r.gap), "ms")
	}
	return nil
}

// besides is how inserts did beside a slow read.
type besides struct {
	took    time.Duration // by the read
	inserts int
	gap     time.Duration // the longest without an acknowledged insert
}

// besideSlowRead makes the read longer until it is long enough.
func (b *bench) besideSlowRead(s system) (r besides, err error) {
	at, err := s.leader(b.ctx)
	if err != nil {
		return r, err
	}
	const tries = 5
	rows := int64(40)
	for range tries {
		if r, err = b.besideRead(s, at, rows); err != nil {
			return r, err
		}
		if r.took >= b.slowRead*2/3 {
			break
		}
		rows = max(rows+1, min(10*rows, rows*int64(b.slowRead)/max(1, int64(r.took))))
	}
	return r, nil
}

// besideRead inserts while one read of so many rows runs.
func (b *bench) besideRead(s system, at int, rows int64) (r besides, err error) {
	pool, err := load.Dial(s.addr(at), 1)
	if err != nil {
		return r, err
	}
	defer pool.Close()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		last := time.Now()
		_, err := pool.Run(ctx, load.Run{Duration: time.Minute,
			Request: func(dst []byte, i int64) []byte { return s.write(dst, at, insertOf(i)) },
			Check: func(_ int64, status int, body []byte) error {
				r.gap, last = max(r.gap, time.Since(last)), time.Now()
				r.inserts++
				return s.check(status, body)
			}})
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		ended <- err
	}()
	began := time.Now()
	_, err = once(b.ctx, s, at, s.read(nil, at, weak, statement{selectSlow, number(rows)}))
	r.took = time.Since(began)
	cancel()
	return r, errors.Join(err, <-ended)
}
