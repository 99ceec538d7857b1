package pagestore

import "sync"

// Commit is one transaction of this node's writer, on its way through the log.
type Commit struct {
	Prev, Next State
	Entries    [][]byte // in this order: parts if any, then the transaction
	Bytes      int      // of all entries

	one [1][]byte // room for Entries: most transactions have one

	mu struct {
		sync.Mutex
		over  bool
		err   error
		first func(error)   // who asked first; most often the only one
		then  []func(error) // the others
	}
}

// Then calls f once the commit's fate is known: with nil when it is committed and visible
// here, else with the reason: *RefusedError and what the log's leader calls "not primary" mean
// surely not applied. f runs in the goroutine that brings the news and must be quick.
func (c *Commit) Then(f func(error)) {
	c.mu.Lock()
	if !c.mu.over {
		if c.mu.first == nil {
			c.mu.first = f
		} else {
			c.mu.then = append(c.mu.then, f)
		}
		c.mu.Unlock()
		return
	}
	err := c.mu.err
	c.mu.Unlock()
	f(err)
}

func (c *Commit) finish(err error) {
	c.mu.Lock()
	if c.mu.over {
		c.mu.Unlock()
		return
	}
	c.mu.over, c.mu.err = true, err
	first, then := c.mu.first, c.mu.then
	c.mu.first, c.mu.then = nil, nil
	c.mu.Unlock()
	if first != nil {
		first(err)
	}
	for _, f := range then {
		f(err)
	}
}
