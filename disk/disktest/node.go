package disktest

import (
	"io/fs"
	"math/rand/v2"
	"time"
)

// node is a file or a directory. All nodes of a MemFS are guarded by its mutex.
type node struct {
	mode    fs.FileMode
	modTime time.Time
	dir     *directory // nil for a file
	file    contents
	gone    bool // it has no name any more: what it holds does not count as used
}

// contents is what a file holds: now, and after a power loss.
type contents struct {
	now     content
	durable content
	pending []change // what durable lacks, in order
}

// change is a write, or a new size when data is nil.
type change struct {
	off  int64 // of a write; the size otherwise
	data []byte
	lost bool // a Sync failed: no later one makes it durable
	kept bool // it is durable, but comes after one that is lost
}

func (c *contents) apply(ch change) {
	ch.applyTo(&c.now)
	c.pending = append(c.pending, ch)
}

func (ch change) applyTo(c *content) {
	if ch.data == nil {
		c.truncate(ch.off)
		return
	}
	c.writeAt(ch.data, ch.off)
}

func (c *contents) sync() {
	var rest []change
	for _, ch := range c.pending {
		if ch.lost || len(rest) > 0 {
			ch.kept = !ch.lost
			rest = append(rest, ch)
			continue
		}
		ch.applyTo(&c.durable)
	}
	c.pending = rest
}

func (c *contents) failSync() {
	for i := range c.pending {
		c.pending[i].lost = !c.pending[i].kept
	}
}

func (c *contents) clone() contents {
	return contents{now: c.now.clone(), durable: c.durable.clone(), pending: append([]change(nil), c.pending...)}
}

// crash returns what the file holds after a power loss: what is durable, and
// of each pending change all, nothing, its first sectors, or any of them. A
// nil rng keeps nothing that is pending.
func (c *contents) crash(rng *rand.Rand) content {
	after := c.durable.clone()
	// Half of all crashes treat each change for itself; the others show the two
	// ends: nothing was written back, or everything was but for the last change.
	mode := 0
	if rng != nil {
		mode = rng.IntN(4)
	}
	for i, ch := range c.pending {
		last := i == len(c.pending)-1
		switch {
		case ch.kept:
			ch.applyTo(&after)
		case mode == 0:
		case mode == 1 && !last:
			ch.applyTo(&after)
		default:
			ch.crashOnto(&after, rng)
		}
	}
	return after
}

func (ch change) crashOnto(c *content, rng *rand.Rand) {
	how := rng.IntN(4)
	if ch.data == nil {
		if how < 2 {
			ch.applyTo(c)
		}
		return
	}
	switch how {
	case 0:
	case 1:
		c.writeAt(ch.data, ch.off)
	case 2: // the first sectors
		sectors := ch.sectors()
		for _, s := range sectors[:rng.IntN(len(sectors)+1)] {
			c.writeAt(s.data, s.off)
		}
	case 3: // any sectors
		for _, s := range ch.sectors() {
			if rng.IntN(2) == 0 {
				c.writeAt(s.data, s.off)
			}
		}
	}
}

// sectors splits a write where sectors of the disk meet.
func (ch change) sectors() []change {
	var parts []change
	for off, data := ch.off, ch.data; len(data) > 0; {
		n := min(len(data), int(sectorSize-off%sectorSize))
		parts = append(parts, change{off: off, data: data[:n]})
		off, data = off+int64(n), data[n:]
	}
	return parts
}
