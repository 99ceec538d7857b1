package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// contender is a database that is compared with another. It has the tables of rows.go.
type contender interface {
	// client returns one that inserts and reads; each is used by one goroutine.
	client() (client, error)
	close() error
}

// client is one user of a contender.
type client interface {
	insert(i int) error // row i into t
	read(i int) error   // a row of r by its key; fails if it is not there
}

// crew are clients of one contender that work at the same time.
type crew struct {
	clients []client
	next    atomic.Int64 // number of the next row or read
}

func (c *crew) grow(from contender, n int) error {
	for len(c.clients) < n {
		cl, err := from.client()
		if err != nil {
			return err
		}
		c.clients = append(c.clients, cl)
	}
	return nil
}

// work does n operations by the first clients of the crew, and says how long they took.
func (c *crew) work(clients, n int, do func(client, int) error) (time.Duration, error) {
	var (
		wg    sync.WaitGroup
		left  atomic.Int64
		fault atomic.Pointer[error]
	)
	left.Store(int64(n))
	began := time.Now()
	for _, cl := range c.clients[:clients] {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(cl, int(c.next.Add(1))); err != nil {
					fault.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := fault.Load(); err != nil {
		return 0, *err
	}
	return took, nil
}

// openContender opens the contender of a name in an empty directory.
func openContender(name, dir string) (contender, error) {
	switch name {
	case "nearsql":
		return openEngine(dir, false)
	case "nearsql-apart":
		return openEngine(dir, true)
	case "sqlite-off", "sqlite-normal", "sqlite-full":
		return openSQLite(dir, name[len("sqlite-"):])
	}
	return nil, fmt.Errorf("there is no contender %q", name)
}
