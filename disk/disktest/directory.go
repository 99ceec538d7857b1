package disktest

import (
	"maps"
	"math/rand/v2"
)

// directory is names: now, and after a power loss.
type directory struct {
	now     map[string]*node
	durable map[string]*node
	pending []*naming // since the last SyncDir, in order
}

// naming is one change of a directory: a name that got a node, or lost its own.
type naming struct {
	remove string // "" for none
	add    string // "" for none
	node   *node  // of add
	// after is the other half of a rename between two directories: the old
	// name goes only if the new one has come, or the file would be lost, which
	// no file system does.
	after   *naming
	durable bool
}

func newDirectory() *directory {
	return &directory{now: make(map[string]*node), durable: make(map[string]*node)}
}

func (d *directory) apply(n *naming) {
	n.applyTo(d.now)
	d.pending = append(d.pending, n)
}

func (n *naming) applyTo(names map[string]*node) {
	if n.remove != "" {
		delete(names, n.remove)
	}
	if n.add != "" {
		names[n.add] = n.node
	}
}

func (d *directory) sync() {
	var wait []*naming
	for _, n := range d.pending {
		if n.after != nil && !n.after.durable {
			wait = append(wait, n)
			continue
		}
		n.durable = true
		n.applyTo(d.durable)
	}
	d.pending = wait
}

// chosen is what of the pending changes of all directories survives a crash.
type chosen map[*naming]bool

// choose picks, for one directory, a prefix or any part of what is pending.
func (c chosen) choose(d *directory, rng *rand.Rand) {
	if rng == nil || len(d.pending) == 0 {
		return
	}
	if rng.IntN(2) == 0 {
		for _, n := range d.pending[:rng.IntN(len(d.pending)+1)] {
			c[n] = true
		}
		return
	}
	for _, n := range d.pending {
		c[n] = rng.IntN(2) == 0
	}
}

func (c chosen) survives(n *naming) bool {
	return c[n] && (n.after == nil || n.after.durable || c[n.after])
}

// crash returns the names after a power loss.
func (d *directory) crash(c chosen) map[string]*node {
	names := maps.Clone(d.durable)
	for _, n := range d.pending {
		if c.survives(n) {
			n.applyTo(names)
		}
	}
	return names
}
