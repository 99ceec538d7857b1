package crr

import (
	"errors"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// A local transaction: Begin, then for each statement Use and its steps on the
// connection, then Commit or Rollback. Savepoints inside it are the caller's business.

// Errors of local transactions.
var (
	// ErrNoSite is a write at a file that has no site number (yet, or any more).
	ErrNoSite = errors.New("crr: this copy has no site number yet: it takes writes, and is asked by others, when the tenant's log has given it one")
	// ErrLeaving is a write at a site that is leaving, or has been retired.
	ErrLeaving = errors.New("crr: this site is leaving and takes no writes")
	// ErrRolledBack is a transaction that SQLite has ended by itself (OR ROLLBACK, RAISE(ROLLBACK), an interrupt, a full disk).
	ErrRolledBack = errors.New("crr: SQLite has rolled the transaction back")
)

// Begin opens a local transaction: it locks the file's only writer slot. Everything that the site writes until Commit has one
// stamp, and wins or loses whole.
func (s *Site) Begin() error {
	if err := s.writable(); err != nil {
		return err
	}
	if s.track.open {
		return errors.New("crr: a local transaction is open")
	}
	if err := s.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	s.track.tx, s.track.use, s.track.open = txState{}, Classified{}, true
	return nil
}

// writable says why the site takes no local writes.
func (s *Site) writable() error {
	if s.me.Site == 0 {
		return ErrNoSite
	}
	if m, ok := s.members[s.me.Site]; s.members != nil && (!ok || m.State != Active || m.File != s.me.File) {
		return ErrLeaving
	}
	if s.offset > s.cfg.MaxSkew || s.offset < -s.cfg.MaxSkew {
		return &ClockError{s.offset}
	}
	// What this site would write now, the others would hold back.
	if ahead := s.clock.last.Time().Sub(s.cfg.Now()); ahead > s.cfg.MaxSkew {
		return &ClockError{-ahead}
	}
	return nil
}

// SetOffset says how far the local clock is ahead of the median of its peers'.
// Beyond the limit of skew local writes are refused.
func (s *Site) SetOffset(ahead time.Duration) { s.offset = ahead }

// Use says which statement runs next on the connection. It fails with
// ErrRolledBack when SQLite has ended the transaction since Begin: what ran then would be in none.
func (s *Site) Use(c Classified) error {
	if !s.track.open {
		return errOutside
	}
	if s.conn.Autocommit() {
		return ErrRolledBack
	}
	s.track.use = c
	return nil
}

// Committed is a local transaction that is durable in the file.
type Committed struct {
	Stamp Stamp // zero when no row of a conflict-free table was written
	Prev  HLC   // the site's transaction before
	Seq   int64 // its number in the file
	Rows  int   // changes of rows
}

// Commit makes the transaction durable. After an error it is rolled back.
func (s *Site) Commit() (Committed, error) {
	if !s.track.open {
		return Committed{}, errOutside
	}
	if s.conn.Autocommit() {
		s.track.open = false
		return Committed{}, ErrRolledBack
	}
	tx := s.track.tx
	c := Committed{Stamp: tx.stamp, Prev: s.me.hlc, Seq: tx.lseq, Rows: tx.count}
	var err error
	if !tx.stamp.Zero() {
		err = s.exec("UPDATE crr.__crr_self SET hlc=?, lseq=?", wire.Integer(int64(tx.stamp.HLC)), wire.Integer(tx.lseq))
	}
	if err == nil {
		err = s.conn.Exec("COMMIT")
	}
	if err != nil {
		return Committed{}, errors.Join(fmt.Errorf("commit of conflict-free tables: %w", err), s.Rollback())
	}
	s.track.open = false
	if !tx.stamp.Zero() {
		s.me.hlc, s.me.lseq = tx.stamp.HLC, tx.lseq
		s.vv[s.me.Site] = tx.stamp.HLC
		s.publish()
	}
	return c, nil
}

// Rollback ends the transaction without a trace. It does nothing when none is open.
func (s *Site) Rollback() error {
	s.track.open = false
	if s.conn.Autocommit() {
		return nil
	}
	return s.conn.Exec("ROLLBACK")
}

// Changed returns the rows of conflict-free tables that transactions after a
// number and up to another touched, merges too, each once; a row may be named whose change was rolled back. ok is
// false when that is too long ago to be remembered. It may be called from any goroutine.
func (s *Site) Changed(after, upto int64) (rows []ChangedRow, ok bool) {
	ids, ok := s.ring.since(after, upto)
	for _, id := range ids {
		rows = append(rows, ChangedRow{Table: id.table, Key: id.key})
	}
	return rows, ok
}

// ChangedRow names a row: its table's id, and its key, packed when it has several columns.
type ChangedRow struct {
	Table uint32
	Key   wire.Value
}
