package pagestore

import (
	"errors"
	"fmt"
	"io"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Snapshot is one committed state of a store, to be read page by page without SQLite.
// It is used by one goroutine at a time.
type Snapshot struct{ h *Handle }

// Snapshot pins the newest committed state until Close.
func (s *Store) Snapshot() (*Snapshot, error) {
	h := &Handle{store: s, now: func() int64 { return time.Now().UnixNano() }}
	s.mu.Lock()
	if err := s.mu.closed; err != nil {
		s.mu.Unlock()
		return nil, err
	}
	h.gen = s.gen.Load()
	s.mu.handles[h] = struct{}{}
	s.mu.Unlock()
	if rc := h.take(sqlite3.SQLITE_LOCK_SHARED); rc != sqlite3.SQLITE_OK {
		err := h.TakeErr()
		h.close()
		return nil, err
	}
	return &Snapshot{h}, nil
}

// State is what the snapshot shows.
func (p *Snapshot) State() State { return p.h.seen }

// ReadPage reads one whole page, from 1 to State().Pages.
func (p *Snapshot) ReadPage(dst []byte, pgno uint32) error {
	if pgno == 0 || pgno > p.h.seen.Pages || len(dst) != p.h.pageSize() {
		return fmt.Errorf("read page %d of %d into %d bytes", pgno, p.h.seen.Pages, len(dst))
	}
	_, err := p.h.read(dst, int64(pgno-1)*int64(p.h.pageSize()))
	var corrupt *CorruptError
	if errors.As(err, &corrupt) && p.h.store.onCorrupt != nil {
		p.h.store.onCorrupt(err)
	}
	return err
}

// WriteTo writes the whole database: an ordinary SQLite file.
func (p *Snapshot) WriteTo(w io.Writer) (n int64, err error) {
	buf := make([]byte, p.h.pageSize())
	for pgno := uint32(1); pgno <= p.h.seen.Pages; pgno++ {
		if err := p.ReadPage(buf, pgno); err != nil {
			return n, err
		}
		k, err := w.Write(buf)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Close gives the state up.
func (p *Snapshot) Close() { p.h.close() }
