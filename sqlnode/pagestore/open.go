package pagestore

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// Conn is a SQLite connection on a store, and its view of it.
type Conn struct {
	*sqlite.Conn
	*Handle
	temp *TempSpace
}

// connections numbers the names under which connections are opened: SQLite knows files by name
// alone, and each connection opens a name of its own.
var connections atomic.Uint64

// OpenReader opens a connection that reads committed states.
func (s *Store) OpenReader(temp *TempSpace) (*Conn, error) {
	return s.openConn(nil, temp, sqlite.ReadOnly|sqlite.URI)
}

// OpenWriter opens a connection that reads from the head and commits through gate. A store
// takes one writer at a time; more than one may be open.
func (s *Store) OpenWriter(gate Gate, temp *TempSpace) (*Conn, error) {
	return s.openConn(gate, temp, sqlite.ReadWrite|sqlite.Create|sqlite.URI)
}

func (s *Store) openConn(gate Gate, temp *TempSpace, flags sqlite.OpenFlags) (*Conn, error) {
	if temp == nil {
		temp = &TempSpace{}
	}
	h := &Handle{store: s, writer: gate != nil, gate: gate, now: func() int64 { return time.Now().UnixNano() }}
	s.mu.Lock()
	if err := s.mu.closed; err != nil {
		s.mu.Unlock()
		return nil, err
	}
	h.gen = s.gen.Load()
	s.mu.handles[h] = struct{}{}
	s.mu.Unlock()
	name := fmt.Sprintf("/%s/%d", s.id, connections.Add(1))
	vfs.opening.Store(name, h)
	c, err := sqlite.Open(name, vfsName, flags)
	if err != nil {
		if _, unopened := vfs.opening.LoadAndDelete(name); unopened {
			h.close()
		}
		return nil, h.because(fmt.Errorf("tenant %s: open connection: %w", s.id, err))
	}
	vfs.temps.Store(c.TLS(), temp)
	conn := &Conn{Conn: c, Handle: h, temp: temp}
	// The rollback journal is never needed after a crash: it is a temporary file, in memory while it is not large. SQLite's own
	// journal_mode=MEMORY takes pieces of 1 KiB, which are allocated and freed with each transaction, and has no bound.
	setup := fmt.Sprintf("PRAGMA page_size=%d; PRAGMA journal_mode=TRUNCATE; PRAGMA locking_mode=NORMAL; PRAGMA temp_store=FILE;", s.pageSize)
	if err := c.Exec(setup); err != nil {
		conn.Close()
		return nil, h.because(fmt.Errorf("tenant %s: prepare connection: %w", s.id, err))
	}
	return conn, nil
}

// Temp is the connection's temporary space.
func (c *Conn) Temp() *TempSpace { return c.temp }

// Close closes the connection and gives up its snapshot.
func (c *Conn) Close() error {
	tls := c.TLS()
	err := c.Conn.Close()
	vfs.temps.Delete(tls)
	return err
}

// OpenWriter opens the tenant's writer, whose commits go to the group's log.
func (t *Tenant) OpenWriter(s *Store, temp *TempSpace) (*Conn, error) {
	return s.OpenWriter(tenantGate{t}, temp)
}

// WaitVisible returns when the tenant's transactions up to tx are visible in s.
func WaitVisible(done <-chan struct{}, s *Store, tx wire.TXID) error { return s.wait(done, tx) }
