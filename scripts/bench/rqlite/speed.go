package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/scripts/bench/load"
)

// contender is one side of a comparison: it works for a time, and says how much it did per second.
type contender struct {
	name string
	run  func(time.Duration) (float64, error)
}

// compare lets contenders take turns, after a turn each that does not count, and returns the rates of each in each round.
func (b *bench) compare(list ...contender) (map[string][]float64, error) {
	rates := make(map[string][]float64)
	for round := range b.rounds + 1 {
		sum := make(map[string]float64)
		for range b.slices {
			for _, c := range list {
				rate, err := c.run(b.turn)
				if err != nil {
					return nil, errors.Join(errors.New(c.name), err)
				}
				sum[c.name] += rate / float64(b.slices)
			}
			if round == 0 {
				break
			}
		}
		for name, rate := range sum {
			if round > 0 {
				rates[name] = append(rates[name], rate)
			}
		}
	}
	return rates, nil
}

// loaded is a contender over HTTP; close closes its connections.
func (b *bench) loaded(name, addr string, conns int, request func(dst []byte, i int64) []byte, check func(status int, body []byte) error) (c contender, done func() error, err error) {
	pool, err := load.Dial(addr, conns)
	if err != nil {
		return c, nil, err
	}
	run := func(d time.Duration) (float64, error) {
		r, err := pool.Run(b.ctx, load.Run{Duration: d, Request: request, Check: func(_ int64, status int, body []byte) error { return check(status, body) }})
		if err != nil {
			return 0, err
		}
		return r.PerSecond(), nil
	}
	return contender{name, run}, pool.Close, nil
}

// workload is what both systems do in one comparison.
type workload struct {
	figure  string
	conns   int
	follow  bool // at a follower, not at the leader
	request func(s system, node int, dst []byte, i int64) []byte
	reads   bool
	echo    string // figure of ours to the echo; "" for none
	wal     bool   // compare with raft-wal too
}

// speed compares rates.
func (b *bench) speed() (err error) {
	insert := func(s system, node int, dst []byte, i int64) []byte { return s.write(dst, node, insertOf(i)) }
	batch := func(s system, node int, dst []byte, i int64) []byte {
		list := make([]statement, batchRows)
		for j := range list {
			list[j] = insertOf(i*batchRows + int64(j))
		}
		return s.write(dst, node, list...)
	}
	read := func(l level) func(s system, node int, dst []byte, i int64) []byte {
		return func(s system, node int, dst []byte, i int64) []byte {
			return s.read(dst, node, l, statement{selectRead, number(readID(i))})
		}
	}
	for _, w := range []workload{
		{figure: "insert1_vs_rqlite", conns: 1, request: insert},
		{figure: "insert16_vs_rqlite", conns: 16, request: insert},
		{figure: "insert64_vs_rqlite", conns: 64, request: insert, wal: true},
		{figure: "batch100_vs_rqlite", conns: 1, request: batch},
		{figure: "strong_read64_vs_rqlite", conns: 64, request: read(strong), reads: true, echo: "strong_read64_vs_echo"},
		{figure: "weak_read64_vs_rqlite", conns: 64, request: read(weak), reads: true, echo: "weak_read64_vs_echo"},
		{figure: "follower_read64_vs_rqlite", conns: 64, follow: true, request: read(follower), reads: true},
	} {
		if w.follow && b.nodes == 1 {
			continue
		}
		if err := b.measure(w); err != nil {
			return errors.Join(errors.New(w.figure), err)
		}
	}
	return nil
}

// measure does one comparison.
func (b *bench) measure(w workload) (err error) {
	var list []contender
	costs := make([]cost, len(b.systems()))
	for i, s := range b.systems() {
		node, err := s.leader(b.ctx)
		if err != nil {
			return err
		}
		if w.follow {
			node = (node + 1) % s.nodes()
		}
		check := s.check
		if w.reads {
			row := s.row(`"` + rowText)
			check = func(status int, body []byte) error {
				if !bytes.Contains(body, row) {
					return &load.StatusError{Status: status, Body: string(body)}
				}
				return s.check(status, body)
			}
		}
		c, done, err := b.loaded(s.name(), s.addr(node), w.conns, func(dst []byte, i int64) []byte { return w.request(s, node, dst, i) }, check)
		if err != nil {
			return err
		}
		defer done()
		list = append(list, costs[i].measured(s, c))
	}
	if w.echo != "" {
		e, err := startEcho(b.ctx, b.benchBin, b.dir)
		if err != nil {
			return err
		}
		defer e.Kill()
		c, done, err := b.loaded("echo", e.addr, w.conns, e.post, b.ours.check)
		if err != nil {
			return err
		}
		defer done()
		list = append(list, c)
	}
	if w.wal {
		l, err := openRaftWAL(filepath.Join(b.dir, "wal"))
		if err != nil {
			return err
		}
		defer l.close()
		list = append(list, contender{"raft-wal", func(d time.Duration) (float64, error) { return l.run(d, w.conns) }},
			contender{"raft-wal, each synced", func(d time.Duration) (float64, error) { return l.run(d, 1) }})
	}
	rates, err := b.compare(list...)
	if err != nil {
		return err
	}
	for _, c := range list {
		b.Say("%s: %s %s per second, %d connections", w.figure, c.name, figures.Spread(rates[c.name]), w.conns)
	}
	b.Figure(w.figure, figures.Median(figures.Ratios(rates["nearsql"], rates["rqlite"])), "x")
	ours, ok := costs[0].each()
	if theirs, ok2 := costs[1].each(); ok && ok2 {
		b.Say("%s: CPU time of all nodes for each request: nearsql %s, rqlite %s", w.figure, ours.Round(time.Microsecond), theirs.Round(time.Microsecond))
		b.Figure(strings.Replace(w.figure, "_vs_", "_cpu_vs_", 1), float64(theirs)/float64(ours), "x")
	}
	if w.echo != "" {
		b.Figure(w.echo, figures.Median(figures.Ratios(rates["nearsql"], rates["echo"])), "x")
	}
	if w.wal {
		b.Figure("insert64_vs_raftwal", figures.Median(figures.Ratios(rates["nearsql"], rates["raft-wal"])), "x")
		b.Figure("insert64_vs_raftwal_each", figures.Median(figures.Ratios(rates["nearsql"], rates["raft-wal, each synced"])), "x")
	}
	return nil
}
