package sqlnode

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"
)

// simFault is one thing that befalls a node. It lasts until until, and undoes itself.
type simFault struct {
	name   string
	weight int
	do     func(w *simWorld, id string, wait func())
}

// simFaults is what may happen.
func simFaults() []simFault {
	return []simFault{
		{"kill", 4, func(w *simWorld, id string, wait func()) { w.down(id, wait, func() { w.s.kill(id, nil) }) }},
		{"power loss", 4, func(w *simWorld, id string, wait func()) { w.down(id, wait, func() { w.s.kill(id, w.chance()) }) }},
		{"power loss of all", 1, (*simWorld).allDown},
		{"restart in order", 3, func(w *simWorld, id string, wait func()) {
			w.down(id, wait, func() {
				n := w.s.node(id)
				if err := w.s.halt(id); err != nil && !n.ailing.Load() {
					w.h.complain("node %s, told to stop, ended with %v", id, err)
				}
			})
		}},
		{"cut", 3, func(w *simWorld, id string, wait func()) { w.cut([][2]string{{id, w.other(id)}}, true, wait) }},
		{"cut from voters", 3, (*simWorld).cutFromVoters},
		{"one-way cut", 4, func(w *simWorld, id string, wait func()) { w.cut([][2]string{{id, w.other(id)}}, false, wait) }},
		{"isolation", 4, func(w *simWorld, id string, wait func()) { w.cut(w.ways(id), true, wait) }},
		{"deafness", 4, func(w *simWorld, id string, wait func()) { w.cut(w.waysTo(id), false, wait) }},
		{"muteness", 3, func(w *simWorld, id string, wait func()) { w.cut(w.ways(id), false, wait) }},
		{"freeze", 6, (*simWorld).freeze},
		{"pause", 4, func(w *simWorld, id string, wait func()) { w.standStill(id, false, wait) }},
		{"suspension", 4, func(w *simWorld, id string, wait func()) { w.standStill(id, true, wait) }},
		{"delays", 2, (*simWorld).delay},
		{"resets", 2, func(w *simWorld, id string, _ func()) { w.s.net.Reset(id, w.other(id)) }},
		{"leadership moved", 8, (*simWorld).move},
		{"slow disk", 3, (*simWorld).slow},
		{"failing sync of the log", 2, func(w *simWorld, id string, _ func()) { w.fail(id, "log.sync") }},
		{"failing write of a checkpoint", 2, func(w *simWorld, id string, _ func()) {
			w.fail(id, []string{"segment.write", "segment.create", "base.sync", "manifest.write", "snapshot.write", "progress.write"}[w.pick(6)])
		}},
		{"clock jump", 2, (*simWorld).jump},
		{"drain", 2, (*simWorld).drain},
		{"replacement", 1, (*simWorld).replace},
		{"placement", 3, (*simWorld).place},
		{"streams held", 3, (*simWorld).holdStreams},
		{"other relays", 3, (*simWorld).reshape},
		{"replicas apart", 2, (*simWorld).replicasApart},
	}
}

// nemesis lets things happen until ctx ends, and returns when all are undone.
func (w *simWorld) nemesis(ctx context.Context) {
	defer w.faulty.Wait()
	list := simFaults()
	if w.sites { // what only a removed node has is gone
		list = slices.DeleteFunc(list, func(f simFault) bool { return f.name == "replacement" })
	}
	if w.only != nil {
		list = slices.DeleteFunc(list, func(f simFault) bool { return !slices.Contains(w.only, f.name) })
	}
	total := 0
	for _, f := range list {
		total += f.weight
	}
	for pause(ctx, time.Duration(w.pick(3000))*time.Millisecond); ctx.Err() == nil; pause(ctx, time.Duration(300+w.pick(3500))*time.Millisecond) {
		n := w.pick(total)
		i := 0
		for ; n >= list[i].weight; i++ {
			n -= list[i].weight
		}
		f := list[i]
		ids := w.ids()
		id := ids[w.pick(len(ids))]
		if w.pick(2) == 0 { // something happens to a primary
			id = w.leads(id)
		}
		if w.aim != "" && w.pick(4) > 0 {
			if id = w.aim; id == "feeder" {
				id = w.feeder()
			}
		}
		lasts := time.Duration(50+w.pick(1+w.pick(5000))) * time.Millisecond
		if w.only != nil {
			lasts = time.Duration(1000+w.pick(4000)) * time.Millisecond
		}
		w.note(f.name)
		w.say("%s of %s for %v", f.name, id, lasts)
		w.faulty.Go(func() { f.do(w, id, func() { pause(ctx, lasts) }) })
	}
}

func (w *simWorld) pick(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.rng.IntN(n)
}

// chance is a source of its own, for one goroutine.
func (w *simWorld) chance() *rand.Rand {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rand.New(rand.NewPCG(w.mu.rng.Uint64(), 0))
}

func (w *simWorld) other(id string) string {
	ids := w.ids()
	for {
		if o := ids[w.pick(len(ids))]; o != id {
			return o
		}
	}
}

// leads is who believes to be primary of the tenants' group, or id.
func (w *simWorld) leads(id string) string {
	for _, n := range w.s.up() {
		if h := n.groups.get(defaultGroup); h != nil && h.log().Primary() == nil {
			return n.id.Node
		}
	}
	return id
}

func (w *simWorld) ways(id string) (list [][2]string) {
	for _, o := range w.ids() {
		if o != id {
			list = append(list, [2]string{id, o})
		}
	}
	return list
}

func (w *simWorld) waysTo(id string) (list [][2]string) {
	for _, o := range w.ids() {
		if o != id {
			list = append(list, [2]string{o, id})
		}
	}
	return list
}

// cut cuts ways for a while. Faults overlap: a way is open again when all that cut it are over.
func (w *simWorld) cut(list [][2]string, both bool, wait func()) {
	if both {
		for _, l := range list[:len(list):len(list)] {
			list = append(list, [2]string{l[1], l[0]})
		}
	}
	w.sever(list, +1)
	wait()
	w.sever(list, -1)
}

// cutFromVoters leaves a node the company of replicas alone.
func (w *simWorld) cutFromVoters(id string, wait func()) {
	w.cut(slices.DeleteFunc(w.ways(id), func(l [2]string) bool { return isReplica(l[1]) }), true, wait)
}

func (w *simWorld) sever(list [][2]string, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range list {
		if w.mu.cuts[l] += by; w.mu.cuts[l] > 0 {
			w.s.net.Cut(l[0], l[1])
		} else {
			w.s.net.Heal(l[0], l[1])
		}
	}
}

// freeze holds back all that a node sends and hears, as if its process were stopped: then all arrives at once.
func (w *simWorld) freeze(id string, wait func()) {
	both := append(w.ways(id), w.waysTo(id)...)
	w.hold(both, +1)
	wait()
	// One way is open before the other: what lies in buffers is heard late.
	if w.pick(2) == 0 {
		both = append(w.waysTo(id), w.ways(id)...)
	}
	for i, l := range both {
		if i == len(both)/2 {
			time.Sleep(time.Duration(w.pick(1500)) * time.Millisecond)
		}
		w.hold([][2]string{l}, -1)
	}
}

func (w *simWorld) delay(id string, wait func()) {
	for _, l := range append(w.ways(id), w.waysTo(id)...) {
		w.s.net.SetDelay(l[0], l[1], time.Duration(w.pick(120))*time.Millisecond)
	}
	wait()
	w.distances(id)
}

// down ends a node, waits, and starts it again.
func (w *simWorld) down(id string, wait func(), end func()) {
	if !w.take(id) {
		return
	}
	defer w.leave(id)
	if w.s.node(id) == nil {
		return
	}
	end()
	wait()
	w.up(id)
}

func (w *simWorld) allDown(_ string, wait func()) {
	var mine []string
	for _, id := range w.ids() {
		if w.take(id) {
			mine = append(mine, id)
		}
	}
	for _, id := range mine {
		w.s.kill(id, w.chance())
	}
	wait()
	for _, id := range mine {
		w.up(id)
		w.leave(id)
	}
}

func (w *simWorld) slow(id string, wait func()) {
	n := w.s.node(id)
	if n == nil || !w.take(id) {
		return
	}
	n.faults.Delay("log.sync", time.Duration(5+w.pick(200))*time.Millisecond)
	wait()
	n.faults.Heal()
	w.leave(id)
}

// fail lets one operation of a node's disk fail. If that is one of its log the node ends, and watch starts it again.
func (w *simWorld) fail(id, op string) {
	if n := w.s.node(id); n != nil && !n.dead.Load() {
		n.ailing.Store(strings.HasPrefix(op, "log"))
		n.faults.Fail(op, 1, syscall.EIO)
	}
}

// clocks makes those of a machine other than those of others.
func (w *simWorld) clocks(c *simClock) {
	if c.boot = w.pick(3) > 0; c.boot {
		c.drifts = float64(w.pick(200)-100) / 1e4
	}
	if w.plant.theirs { // less than what a node notices by itself
		c.boot, c.drifts = true, 0
		c.jumped.Store(int64(time.Duration(w.pick(1900)) * time.Millisecond))
	}
}

// jump sets a node's wall clock to another time.
func (w *simWorld) jump(id string, wait func()) {
	c := w.s.clock(id)
	if !c.boot {
		return // one of its clocks must be right
	}
	by := time.Duration(w.pick(7200)-3600) * time.Second
	if w.sites { // what is stamped an hour ahead is held back for an hour
		by = min(by, time.Duration(w.pick(4000))*time.Millisecond)
	}
	c.jumped.Store(int64(by))
	wait()
	c.jumped.Store(0)
}

// standStill stops a node as SIGSTOP does, or suspends its machine: nothing that it would send or be asked gets on, and its clocks
// show no time between.
func (w *simWorld) standStill(id string, suspended bool, wait func()) {
	c := w.s.clock(id)
	both := append(w.ways(id), w.waysTo(id)...)
	w.hold(both, +1)
	if c.stop() {
		wait()
		c.goOn(suspended)
	}
	w.hold(both, -1)
}

// hold holds back bytes. Faults overlap, as with sever.
func (w *simWorld) hold(list [][2]string, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range list {
		if w.mu.held[l] += by; w.mu.held[l] > 0 {
			w.s.net.Hold(l[0], l[1])
		} else {
			w.s.net.Release(l[0], l[1])
		}
	}
}
