package crr

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// CopyError is a copy of another site's file that is not taken: it came damaged, or is none.
type CopyError struct{ Reason string }

func (e *CopyError) Error() string {
	return "crr: a copy of another site's file is not taken: " + e.Reason
}

// NewFileID makes an id for a file that is to be made, or replaced.
func NewFileID() (FileID, error) { return newFileID(nil) }

// Head returns what the file says of itself.
func (r *Reader) Head() (h Head, err error) {
	err = r.snapshot(func(v Vector) error { h = r.headOf(v); return nil })
	return h, err
}

func (r *Reader) headOf(v Vector) Head {
	return Head{Identity: r.me.Identity, Schema: r.me.schema, Vector: v, Hash: v.Hash(), Seq: r.me.lseq}
}

// CheckCopy reads a copy of another site's file, all of it, and says what it has. It fails with a *CopyError when the copy
// contradicts itself, or is not what Snapshot makes for the tenant. It takes about a second for a million rows.
func (r *Reader) CheckCopy(tenant string) (h Head, err error) {
	damage := ""
	err = query(r.conn, "PRAGMA crr.integrity_check(1)", func(s Stmt) error { damage = s.Column(0).Str(); return nil })
	if err != nil {
		return h, fmt.Errorf("check a copy of another site's file: %w", err)
	}
	if damage != "ok" {
		return h, &CopyError{damage}
	}
	ours := false
	err = query(r.conn, "SELECT 1 FROM crr.sqlite_schema WHERE type='table' AND name='__crr_self'", func(Stmt) error { ours = true; return nil })
	if err == nil && !ours {
		return h, &CopyError{ErrNotCRR.Error()}
	}
	if err != nil {
		return h, fmt.Errorf("check a copy of another site's file: %w", err)
	}
	if h, err = r.Head(); err != nil {
		return h, fmt.Errorf("check a copy of another site's file: %w", err)
	}
	switch {
	case h.Tenant != tenant:
		return h, &CopyError{fmt.Sprintf("it is of tenant %q, not %q", h.Tenant, tenant)}
	case h.Site != 0:
		return h, &CopyError{fmt.Sprintf("it has the number of site %d", h.Site)}
	}
	tables, err := r.Check()
	if err != nil {
		return h, fmt.Errorf("check a copy of another site's file: %w", err)
	}
	for _, t := range tables {
		if len(t.Faults) > 0 {
			return h, &CopyError{fmt.Sprintf("table %s: %s", t.Name, t.Faults[0])}
		}
	}
	return h, nil
}

// Accepts says whether what a copy has may take the place of what this file has: its schema is this one's, its sites are members, it has nothing
// of retired ones that does not count, and nothing from the future. It fails with *SchemaError, *MemberError or *SkewError; later it may be taken.
func (s *Site) Accepts(copied Head) error {
	if copied.Tenant != s.me.Tenant {
		return &CopyError{fmt.Sprintf("it is of tenant %q, not %q", copied.Tenant, s.me.Tenant)}
	}
	if copied.Schema != s.state.Version {
		return &SchemaError{s.state.Version, copied.Schema}
	}
	for site, at := range copied.Vector {
		if m, ok := s.members[site]; s.members != nil && (!ok || m.State == Retired && at > m.Final) {
			return &MemberError{site, fmt.Sprintf("its transactions up to %s are in a copy, and not all count", at)}
		}
		if err := s.clock.check(Stamp{at, site}); err != nil {
			return err
		}
	}
	return nil
}

// Tainted returns a retired site of which the file has transactions that do not count: others took fewer when it was
// retired, and refuse what comes from here for that. 0: there is none.
func (s *Site) Tainted() SiteID {
	for _, site := range s.vv.sites() {
		if m, ok := s.members[site]; ok && m.State == Retired && s.vv[site] > m.Final {
			return site
		}
	}
	return 0
}

// Replace makes the file hold what a copy of another site's file holds (Snapshot made it, CheckCopy and Accepts passed it), in one transaction:
// after a crash it holds the one or the other. The file gives up its number, and has the id as from then on. What it alone
// had is gone from it: the caller keeps a copy for Salvage. uri is what ATTACH takes.
//
// Only rows are taken: what else the copy may hold, as triggers, is not looked at.
func (s *Site) Replace(uri string, as FileID) (err error) {
	if s.track.open {
		return errors.New("crr: a local transaction is open")
	}
	if err := s.conn.Exec("ATTACH '" + strings.ReplaceAll(uri, "'", "''") + "' AS crr_copy"); err != nil {
		return fmt.Errorf("replace the file by a copy: %w", err)
	}
	defer func() {
		if derr := s.conn.Exec("DETACH crr_copy"); derr != nil {
			err = errors.Join(err, fmt.Errorf("replace the file by a copy: %w", derr))
		}
	}()
	if err := s.inTx(func() error { return s.replace(as) }); err != nil {
		return fmt.Errorf("replace the file by a copy: %w", err)
	}
	s.peers, s.sweep = make(map[SiteID]*peer), sweep{}
	if err := s.load(); err != nil {
		return fmt.Errorf("replace the file by a copy: %w", err)
	}
	return nil
}

func (s *Site) replace(as FileID) error {
	var version uint64
	var lseq int64
	err := query(s.conn, "SELECT format, tenant, schema, lseq, site FROM crr_copy.__crr_self", func(st Stmt) error {
		if f := st.Column(0).Int(); f != fileFormat {
			return &FormatError{f}
		}
		if st.Column(1).Str() != s.me.Tenant || !st.Column(4).IsNull() {
			return &CopyError{"it was not made for this"}
		}
		version, lseq = uint64(st.Column(2).Int()), st.Column(3).Int()
		return nil
	})
	if err != nil {
		return err
	}
	if version != s.state.Version {
		return &SchemaError{s.state.Version, version}
	}
	for _, t := range s.byID() {
		cols := names(t.def.Key, keyName, "%", ",")
		if len(t.cols) > 0 {
			cols += "," + names(t.cols, columnName, "%", ",")
		}
		if err := s.take(t.def.Name, cols); err != nil {
			return err
		}
		if err := s.take(t.meta(), "k,lseq,st"); err != nil {
			return err
		}
	}
	if err := s.take("__crr_vv", "site,hlc"); err != nil {
		return err
	}
	if err := s.conn.Exec("DELETE FROM crr.__crr_peer; DELETE FROM crr.__crr_inbox"); err != nil {
		return err
	}
	// The number of the newest transaction never goes back: what names one of this file would mean another.
	return query(s.conn, `UPDATE crr.__crr_self SET site=NULL, hlc=0, file=?, lseq=?, collected=(SELECT collected FROM crr_copy.__crr_self)`, nil,
		wire.Blob(as[:]), wire.Integer(max(lseq, s.ring.newest())))
}

// take replaces the rows of a table by those of the copy's.
func (s *Site) take(name, cols string) error {
	is := false // no view: whoever made the copy may have put one there
	if err := query(s.conn, "SELECT 1 FROM crr_copy.sqlite_schema WHERE type='table' AND name=? COLLATE NOCASE", func(Stmt) error { is = true; return nil }, wire.Text(name)); err != nil {
		return err
	}
	if !is {
		return &CopyError{"it has no table " + name}
	}
	q := schema.Quote(name)
	if err := s.conn.Exec("DELETE FROM crr." + q + "; INSERT INTO crr." + q + "(" + cols + ") SELECT " + cols + " FROM crr_copy." + q); err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	return nil
}
