package sqlnode

import (
	"fmt"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// How a node shares out the file descriptors that the system lets it have.
const (
	spareDescriptors = 16 // held for the logs
	ownDescriptors   = 96 // for logs, listeners, connections to other nodes, and what runs in the background
	tenantUses       = 8  // of an open tenant: base, sums, and connections to the file of its conflict-free tables
	publicShare      = 2  // one in so many is for connections of clients
	openTenantsLeast = 16
)

// share is what came of that.
type share struct {
	Limit   int // descriptors
	Tenants int // that are kept open
	Public  int // connections of clients at a time
}

// shareDescriptors divides limit descriptors; tenants is how many are to be kept open if there are enough.
func shareDescriptors(limit, tenants int) share {
	s := share{Limit: limit, Public: max(limit/publicShare, 1)}
	s.Tenants = min(tenants, max((limit-ownDescriptors-s.Public)/tenantUses, openTenantsLeast))
	return s
}

// maxDescriptors bounds what is counted with, where the system has no limit.
const maxDescriptors = 1 << 20

// descriptorLimit makes the soft limit of this process the hard one, and returns it.
func descriptorLimit() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("limit of file descriptors: %w", err)
	}
	if l.Cur < l.Max {
		raised := l
		raised.Cur = raised.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil {
			l = raised
		}
	}
	return int(min(l.Cur, maxDescriptors)), nil
}

// fitDescriptors lets the configuration fit the descriptors that there are.
func (c *Config) fitDescriptors() error {
	limit, err := descriptorLimit()
	if err != nil {
		return err
	}
	s := shareDescriptors(limit, c.OpenTenants)
	if s.Tenants < c.OpenTenants {
		c.Log.Warn("few file descriptors: fewer tenants are kept open", "descriptors", limit, "open_tenants", s.Tenants, "wanted", c.OpenTenants)
		c.OpenTenants = s.Tenants
	}
	c.publicConns = s.Public
	return nil
}

// boundedListener takes no more than a number of connections at a time; others wait in the system's queue until one has ended.
type boundedListener struct {
	net.Listener
	room chan struct{} // holds one for each connection
	log  *slog.Logger
	end  chan struct{}
	once sync.Once
}

func boundListener(l net.Listener, conns int, log *slog.Logger) net.Listener {
	return &boundedListener{Listener: l, room: make(chan struct{}, conns), log: log, end: make(chan struct{})}
}

// Accept implements net.Listener.
func (b *boundedListener) Accept() (net.Conn, error) {
	select {
	case b.room <- struct{}{}:
	default:
		b.log.Warn("connections of clients wait: there are as many as this node's file descriptors allow", "connections", cap(b.room))
		select {
		case b.room <- struct{}{}:
		case <-b.end:
			return nil, net.ErrClosed
		}
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &boundedConn{Conn: c, free: func() { <-b.room }}, nil
}

// Close implements net.Listener.
func (b *boundedListener) Close() error {
	b.once.Do(func() { close(b.end) })
	return b.Listener.Close()
}

type boundedConn struct {
	net.Conn
	once sync.Once
	free func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.free)
	return err
}
