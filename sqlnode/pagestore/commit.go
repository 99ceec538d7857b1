package pagestore

import "sync"

// Commit is one transaction of this node's writer, on its way through the log.
type Commit struct {
	Prev, Next State
	Entries    [][]byte // in this order: parts if any, then the transaction
	Bytes      int      // of all entries

	mu struct {
		sync.Mutex
		over bool
		err  error
		then []func(error)
	}
}

// Then calls f once the commit's fate is known: with nil when it is committed and visible
// here, else with the reason: *RefusedError and what the log's leader calls "not primary" mean
// surely not applied. f runs in the goroutine that brings the news and must be quick.
func (c *Commit) Then(f func(error)) {
	c.mu.Lock()
	if !c.mu.over {
		c.mu.then = append(c.mu.then, f)
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
	then := c.mu.then
	c.mu.then = nil
	c.mu.Unlock()
	for _, f := range then {
		f(err)
	}
}
