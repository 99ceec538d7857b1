package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nearsql/nearsql/scripts/localcluster"
)

// nodeStartMax bounds how long a node may take until it serves.
const nodeStartMax = time.Minute

// injector does to a cluster what a plan says.
type injector struct {
	c   *localcluster.Cluster
	at  *roster
	h   *history
	say func(format string, args ...any)
	// poke sends reads to a place whose node is paused, until a time.
	poke     func(ctx context.Context, place int, until time.Time)
	startMax time.Duration // of one node

	// Starts, stops and kills in one place exclude each other.
	nodes []sync.Mutex

	mu struct {
		sync.Mutex
		cuts    map[[2]string]int // ways that are cut, by how many faults
		done    [faults]int
		skipped int
	}
}

func newInjector(c *localcluster.Cluster, at *roster, h *history, say func(string, ...any), poke func(context.Context, int, time.Time), startMax time.Duration) *injector {
	j := &injector{c: c, at: at, h: h, say: say, poke: poke, startMax: startMax, nodes: make([]sync.Mutex, at.size)}
	j.mu.cuts = make(map[[2]string]int)
	return j
}

// run does the plan until its end or that of ctx, and then undoes what is not undone.
func (j *injector) run(ctx context.Context, list []fault) {
	var all sync.WaitGroup
	defer all.Wait()
	began := time.Now()
	for _, f := range list {
		if !sleep(ctx, time.Until(began.Add(f.at))) {
			return
		}
		all.Go(func() { j.inject(ctx, f, began.Add(f.until)) })
	}
}

// sleep says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// inject does one fault and undoes it.
func (j *injector) inject(ctx context.Context, f fault, until time.Time) {
	if f.a == thePrimary {
		p, err := j.c.Primary(ctx)
		if err != nil {
			j.mu.Lock()
			j.mu.skipped++
			j.mu.Unlock()
			return
		}
		if f.a = j.at.place(p.ID); f.a < 0 {
			return // it was replaced meanwhile
		}
		if f.b == f.a {
			f.b = (f.b + 1) % j.at.size
		}
	}
	j.say("%s", f)
	j.mu.Lock()
	j.mu.done[f.what]++
	j.mu.Unlock()
	wait := func() { sleep(ctx, time.Until(until)) }
	switch f.what {
	case kill:
		j.down(f.a, wait, (*localcluster.Node).Kill)
	case killAll:
		var all sync.WaitGroup
		for i := range j.at.size {
			all.Go(func() { j.down(i, wait, (*localcluster.Node).Kill) })
		}
		all.Wait()
	case killApart:
		j.apart(ctx, f.a, wait)
	case restart:
		j.down(f.a, wait, func(n *localcluster.Node) {
			if err := n.Stop(); err != nil {
				j.h.complain("process", "node %s, told to stop: %v", n.ID, err)
			}
		})
	case pause:
		// Not locked: a node that is paused may be killed too.
		n := j.at.at(f.a)
		n.Pause()
		var reads sync.WaitGroup
		reads.Go(func() { j.poke(ctx, f.a, until) })
		wait()
		n.Resume()
		reads.Wait()
	case move:
		n := j.at.at(f.a)
		for _, at := range j.at.all() { // any of them passes it on
			if at.Running() && !at.Paused() {
				_, _ = j.c.Do(ctx, at.Node, "POST", "/v1/groups/2/move-leader", fmt.Sprintf(`{"to":%q}`, n.ID)) // may be refused, as where it is no voter
				break
			}
		}
	case cut, cutOneWay, isolate, deafen:
		ways := j.ways(f)
		for _, w := range ways {
			j.sever(w, 1)
		}
		wait()
		for _, w := range ways {
			j.sever(w, -1)
		}
	}
}

// apart cuts a node off from all others, kills it while what it was told is nowhere else, and lets it start again before it hears of them.
func (j *injector) apart(ctx context.Context, i int, wait func()) {
	ways := j.ways(fault{what: isolate, a: i})
	for _, w := range ways {
		j.sever(w, 1)
	}
	sleep(ctx, apartTime)
	j.down(i, wait, (*localcluster.Node).Kill)
	for _, w := range ways {
		j.sever(w, -1)
	}
}

// apartTime is how long a node that is cut off goes on before it is killed.
const apartTime = 1500 * time.Millisecond

// down ends a node, waits, and starts it again.
func (j *injector) down(i int, wait func(), end func(*localcluster.Node)) {
	j.nodes[i].Lock()
	defer j.nodes[i].Unlock()
	n := j.at.at(i).Node
	j.alive(n)
	end(n)
	wait()
	ctx, cancel := context.WithTimeout(context.Background(), j.startMax)
	defer cancel()
	if err := n.Start(ctx); err != nil {
		j.h.complain("process", "start node %s again: %v", n.ID, err)
	}
}

// alive complains of a node that ended by itself.
func (j *injector) alive(n *localcluster.Node) {
	if !n.Running() {
		j.h.complain("process", "node %s ended by itself; its log ends with:\n%s", n.ID, n.LogTail(3000))
	}
}

// allAlive complains of nodes that have ended. It is for when there are no more faults.
func (j *injector) allAlive() {
	for i, n := range j.at.all() {
		j.nodes[i].Lock()
		j.alive(n.Node)
		j.nodes[i].Unlock()
	}
}

// ways are those that a fault cuts.
func (j *injector) ways(f fault) (list [][2]string) {
	id := func(i int) string { return j.at.at(i).ID }
	switch f.what {
	case cut:
		return [][2]string{{id(f.a), id(f.b)}, {id(f.b), id(f.a)}}
	case cutOneWay:
		return [][2]string{{id(f.a), id(f.b)}}
	}
	for i := range j.at.size {
		if i == f.a {
			continue
		}
		list = append(list, [2]string{id(i), id(f.a)})
		if f.what == isolate || f.what == killApart {
			list = append(list, [2]string{id(f.a), id(i)})
		}
	}
	return list
}

// sever adds to how many faults cut a way.
func (j *injector) sever(w [2]string, by int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.cuts[w] += by
	if j.mu.cuts[w] > 0 {
		j.c.Links.Cut(w[0], w[1])
	} else {
		j.c.Links.Heal(w[0], w[1])
	}
}

// tally says what was done.
func (j *injector) tally() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := ""
	for w, n := range j.mu.done {
		if n > 0 {
			text += fmt.Sprintf("%s %d, ", what(w), n)
		}
	}
	return text + fmt.Sprintf("skipped for want of a primary %d", j.mu.skipped)
}
