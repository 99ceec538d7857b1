package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/scripts/bench/load"
)

// visibility measures how long after its answer a write at the primary is seen by a weak read of any age at another voter, in a cluster
// that does nothing else.
func (b *bench) visibility() error {
	for _, s := range b.systems() {
		list, err := b.seen(s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		var h load.Histogram
		for _, d := range list {
			h.Add(d)
		}
		b.Say("%s: %d writes seen at a follower: p50 %.2f ms, p99 %.2f ms", s.name(), len(list), figures.Milliseconds(h.Quantile(0.5)), figures.Milliseconds(h.Quantile(0.99)))
		figure := "visible_voter"
		if s.name() != "nearsql" {
			figure = s.name() + "_" + figure
		}
		b.Figure(figure+"_p50", figures.Milliseconds(h.Quantile(0.5)), "ms")
		b.Figure(figure+"_p99", figures.Milliseconds(h.Quantile(0.99)), "ms")
	}
	return nil
}

func (b *bench) seen(s system) ([]time.Duration, error) {
	leader, err := s.leader(b.ctx)
	if err != nil {
		return nil, err
	}
	other := (leader + 1) % s.nodes()
	writer, err := load.Dial(s.addr(leader), 1)
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	reader, err := load.Dial(s.addr(other), 1)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var list []time.Duration
	for id := int64(1); id <= int64(b.visible); id++ {
		_, err := writer.Run(b.ctx, load.Run{Requests: 1,
			Request: func(dst []byte, _ int64) []byte { return s.write(dst, leader, statement{insertSeen, number(id)}) },
			Check:   func(_ int64, status int, body []byte) error { return s.check(status, body) }})
		if err != nil {
			return nil, err
		}
		answered, there := time.Now(), false
		row := s.row(fmt.Sprint(id))
		for !there {
			_, err := reader.Run(b.ctx, load.Run{Requests: 1,
				Request: func(dst []byte, _ int64) []byte {
					return s.read(dst, other, whatever, statement{selectSeen, number(id)})
				},
				Check: func(_ int64, status int, body []byte) error {
					there = bytes.Contains(body, row)
					return s.check(status, body)
				}})
			if err != nil {
				return nil, err
			}
			if time.Since(answered) > load.AnswerTimeout {
				return nil, fmt.Errorf("write %d is not seen after %s", id, load.AnswerTimeout)
			}
		}
		list = append(list, time.Since(answered))
		// Idle, as the figure is meant: whatever the write has set off has ended.
		if id%10 == 0 {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-b.ctx.Done():
				return nil, b.ctx.Err()
			}
		}
	}
	return list, nil
}

// sent is how many bytes of Raft a node has sent to others.
func (s *nearsql) sent(ctx context.Context, node int) (float64, error) {
	return s.Metric(ctx, s.Nodes[node], "nearsql_cluster_bytes_total", `purpose="raft"`, `direction="written"`)
}

// streamBytes counts what the primary sends to one follower for an insert of one row by one client.
func (b *bench) streamBytes() error {
	s := b.ours
	leader, err := s.leader(b.ctx)
	if err != nil {
		return err
	}
	pool, err := load.Dial(s.addr(leader), 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	before, err := s.sent(b.ctx, leader)
	if err != nil {
		return err
	}
	_, err = pool.Run(b.ctx, load.Run{Requests: int64(b.bytesRows), Request: func(dst []byte, i int64) []byte { return s.write(dst, leader, insertOf(i)) }})
	if err != nil {
		return err
	}
	after, err := s.sent(b.ctx, leader)
	if err != nil {
		return err
	}
	b.Figure("stream_bytes_insert", (after-before)/float64(b.bytesRows)/float64(s.nodes()-1), "B")
	return nil
}
