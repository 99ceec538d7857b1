package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
)

// The trickle of writes beside which a leader dies: one begins every trickleEvery, whatever became of those before.
const (
	trickleEvery = 5 * time.Millisecond
	trickleMax   = 2000 // under way at a time
	trickleWait  = 10 * time.Second
	gapMax       = 30 * time.Second // until writes are acknowledged again
)

// gaps measures how long no write through the other nodes is acknowledged when the leader dies.
func (b *bench) gaps() error {
	var kill, killTheirs, term []float64
	for range b.gapRounds {
		for _, c := range []struct {
			s    system
			kill bool
			list *[]float64
		}{{b.ours, true, &kill}, {b.theirs, true, &killTheirs}, {b.ours, false, &term}} {
			gap, err := b.gap(c.s, c.kill)
			if err != nil {
				return fmt.Errorf("%s: %w", c.s.name(), err)
			}
			*c.list = append(*c.list, figures.Milliseconds(gap))
		}
	}
	b.Say("gaps of acknowledged writes: nearsql killed %s ms, rqlite killed %s ms, nearsql told to stop %s ms", figures.Spread(kill), figures.Spread(killTheirs), figures.Spread(term))
	b.Figure("gap_kill", figures.Median(kill), "ms")
	b.Figure("gap_kill_rqlite", figures.Median(killTheirs), "ms")
	b.Figure("gap_term", figures.Median(term), "ms")
	return nil
}

// gap ends the leader and starts it again.
func (b *bench) gap(s system, kill bool) (time.Duration, error) {
	leader, err := s.leader(b.ctx)
	if err != nil {
		return 0, err
	}
	var others []int
	for n := range s.nodes() {
		if n != leader {
			others = append(others, n)
		}
	}
	t := newTrickle(b.ctx, s, others)
	defer t.end()
	if !t.await(b.gapBefore, gapMax) {
		return 0, fmt.Errorf("writes are not acknowledged before the death of the leader: %w", t.lastError())
	}
	died := time.Now()
	if kill {
		s.process(leader).Kill()
	} else if err := s.process(leader).Terminate(); err != nil {
		return 0, err
	}
	if !t.awaitAfter(died, b.gapAfter, gapMax) {
		return 0, fmt.Errorf("writes are not acknowledged %s after the death of the leader: %w", gapMax, t.lastError())
	}
	gap := t.gap(died)
	t.end()
	if err := s.process(leader).Stop(); err != nil && !kill {
		return 0, err
	}
	if err := s.start(b.ctx, leader); err != nil {
		return 0, err
	}
	return gap, b.caughtUp(s, leader)
}

// caughtUp waits until a node has what was written before.
func (b *bench) caughtUp(s system, node int) error {
	return await(b.ctx, gapMax, func(ctx context.Context) error {
		_, err := once(ctx, s, node, s.read(nil, node, strong, statement{selectRead, number(1)}))
		return err
	})
}

// trickle is writes that begin at a constant rate.
type trickle struct {
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu struct {
		sync.Mutex
		acks []ack
		err  error // of the newest write that failed
	}
}

// ack is a write that was acknowledged.
type ack struct{ begun, answered time.Time }

func newTrickle(ctx context.Context, s system, nodes []int) *trickle {
	ctx, cancel := context.WithCancel(ctx)
	t := &trickle{cancel: cancel}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.DisableCompression = trickleMax, true
	c := &http.Client{Transport: transport}
	under := make(chan struct{}, trickleMax)
	t.all.Go(func() {
		defer c.CloseIdleConnections()
		tick := time.NewTicker(trickleEvery)
		defer tick.Stop()
		var writes sync.WaitGroup
		defer writes.Wait()
		for i := int64(0); ; i++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			select {
			case under <- struct{}{}:
			default:
				continue
			}
			node := nodes[i%int64(len(nodes))]
			writes.Go(func() {
				defer func() { <-under }()
				begun := time.Now()
				late, cancel := context.WithTimeout(ctx, trickleWait)
				defer cancel()
				t.note(begun, send(late, c, s, s.write(nil, node, insertOf(i))))
			})
		}
	})
	return t
}

func (t *trickle) note(begun time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.mu.err = err
		return
	}
	t.mu.acks = append(t.mu.acks, ack{begun, time.Now()})
}

func (t *trickle) lastError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.err
}

// end stops it, and waits for its last goroutine.
func (t *trickle) end() {
	t.cancel()
	t.all.Wait()
}

// await waits until writes have been acknowledged for d; false if that takes longer than most.
func (t *trickle) await(d, most time.Duration) bool {
	return t.awaitAfter(time.Now(), d, most)
}

// awaitAfter waits until one that began after from has been acknowledged, and d longer; false if that takes longer than most.
func (t *trickle) awaitAfter(from time.Time, d, most time.Duration) bool {
	tick := time.NewTicker(trickleEvery)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < most; <-tick.C {
		t.mu.Lock()
		i := slices.IndexFunc(t.mu.acks, func(a ack) bool { return a.begun.After(from) })
		ok := i >= 0 && time.Since(t.mu.acks[i].answered) >= d
		t.mu.Unlock()
		if ok {
			return true
		}
	}
	return false
}

// gap is the longest time without an answer, of those that end after from.
func (t *trickle) gap(from time.Time) (longest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last time.Time
	for _, a := range t.mu.acks { // in the order of their answers
		if !last.IsZero() && a.answered.After(from) {
			longest = max(longest, a.answered.Sub(last))
		}
		last = a.answered
	}
	return longest
}

// send sends a request as load makes them by a client that does not mind failures.
func send(ctx context.Context, c *http.Client, s system, request []byte) error {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		return err
	}
	req.URL.Scheme, req.URL.Host, req.RequestURI = "http", req.Host, ""
	resp, err := c.Do(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	return s.check(resp.StatusCode, b)
}
