package crr

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// Outcome says what became of a batch.
type Outcome uint8

// The outcomes.
const (
	Applied   Outcome = iota + 1 // merged, and durable
	Duplicate                    // nothing in it is new
	Early                        // a push that follows what is not here: it may be kept for a moment, else pull
	Partial                      // more frames of the batch are to come
)

func (o Outcome) String() string {
	return [...]string{"none", "applied", "duplicate", "early", "partial"}[min(o, 4)]
}

// Received is what became of a frame.
type Received struct {
	Outcome Outcome
	Header  *Header // nil while Partial
	Rows    int     // rows that changed here
	Seq     int64   // number of the merge in this file, for Changed; 0 when nothing was merged
}

// SchemaError is a batch of a schema that this file is not at yet. It can be
// taken when the change has come through the tenant's log.
type SchemaError struct{ Have, Need uint64 }

func (e *SchemaError) Error() string {
	return fmt.Sprintf("crr: a batch of schema version %d; this site is at %d", e.Need, e.Have)
}

// ErrTooMany is a batch of more rows than one merge takes.
var ErrTooMany = errors.New("crr: more rows in a batch than are merged at once")

// Receive takes one frame of a batch; frames of one batch come in order, one batch at a time. The last one merges the
// batch, in one transaction: a reader sees all of it or nothing. Besides faults it fails with *SkewError, *SchemaError and *MemberError, after which the
// batch may be tried again later, and with *RewoundError.
func (s *Site) Receive(b []byte) (Received, error) {
	f, err := parseFrame(b)
	if err != nil {
		return Received{}, err
	}
	src, err := s.inbox.take(s, &f)
	if err != nil || src == nil {
		return Received{Outcome: Partial}, err
	}
	r := &batchReader{src: src}
	h, err := r.header()
	if err != nil {
		return Received{}, err
	}
	out := Received{Header: h}
	if out.Outcome, err = s.fits(h); err != nil || out.Outcome != Applied {
		return out, err
	}
	out.Rows, out.Seq, err = s.merge(h, r)
	return out, errors.Join(err, s.inbox.empty(s))
}

// fits says whether a batch may be merged now.
func (s *Site) fits(h *Header) (Outcome, error) {
	if h.Tenant != s.me.Tenant {
		return 0, fmt.Errorf("crr: a batch of tenant %q came to %q", h.Tenant, s.me.Tenant)
	}
	if err := s.admit(h.Site, h.File); err != nil {
		return 0, err
	}
	for _, v := range []Vector{h.After, h.Deps} {
		if err := s.rewound(v); err != nil {
			return 0, err
		}
	}
	if err := s.counts(h.After); err != nil {
		return 0, err
	}
	if h.Schema > s.state.Version {
		return 0, &SchemaError{s.state.Version, h.Schema}
	}
	for site, at := range h.After {
		if at > s.vv[site] {
			if err := s.clock.check(Stamp{at, site}); err != nil {
				return 0, err
			}
		}
	}
	switch {
	case h.Kind == Push && s.vv.Covers(h.After):
		return Duplicate, nil
	case h.Kind == Push && (s.vv[h.Site] < h.Prev || !s.vv.Covers(h.Deps)):
		return Early, nil
	case h.Kind == Pull && s.vv.Covers(h.After) && s.me.collected.Covers(h.Collected):
		p := s.peer(h.Site, h.File) // the cursor is written with the next merge
		p.cursor = h.Cursor
		p.acked.Join(h.After)
		return Duplicate, nil
	}
	return Applied, nil
}

// merge joins a batch into the file.
func (s *Site) merge(h *Header, r *batchReader) (rows int, seq int64, err error) {
	seq = s.ring.next()
	p := s.peer(h.Site, h.File)
	covered := h.After.Clone()
	covered.Join(h.Deps)
	collected := s.me.collected.Clone()
	collected.Join(h.Collected)
	err = s.inTx(func() error {
		for n := 0; ; n++ {
			var c RowChange
			more, err := r.next(&c)
			if err != nil || !more {
				return errors.Join(err, s.mergeVector(h, seq, collected))
			}
			if n == s.cfg.BatchRows {
				return ErrTooMany
			}
			changed, err := s.mergeRow(&c, covered, seq)
			if err != nil {
				return err
			}
			if changed {
				rows++
			}
		}
	})
	if err != nil {
		return 0, 0, fmt.Errorf("merge of a batch of site %d: %w", h.Site, err)
	}
	for _, at := range h.After {
		s.clock.observe(at)
	}
	s.vv.Join(h.After)
	s.me.lseq, s.me.collected = seq, collected
	if h.Kind == Pull {
		p.cursor = h.Cursor
	}
	p.acked.Join(covered)
	for site, o := range s.peers {
		o.settle(site, s.vv)
	}
	s.publish()
	return rows, seq, nil
}

// mergeVector writes what the file has after the batch.
func (s *Site) mergeVector(h *Header, seq int64, collected Vector) error {
	for site, at := range h.After {
		if at > s.vv[site] {
			if err := s.storeVector(site, at); err != nil {
				return err
			}
		}
	}
	if h.Kind == Pull {
		p := *s.peers[h.Site]
		p.acked = p.acked.Clone()
		p.acked.Join(h.After)
		p.cursor = h.Cursor
		if err := s.storePeer(h.Site, &p); err != nil {
			return err
		}
	}
	return s.exec("UPDATE crr.__crr_self SET lseq=?, collected=?", wire.Integer(seq), wire.Blob(collected.Append(nil)))
}

// mergeRow joins one row.
func (s *Site) mergeRow(c *RowChange, covered Vector, seq int64) (changed bool, err error) {
	t := s.track.tables[c.Table]
	if t == nil {
		if s.state.ByID(c.Table) != nil {
			return false, nil // dropped since
		}
		return false, fmt.Errorf("%w: table %d in a batch", ErrCorrupt, c.Table)
	}
	if err := t.checkChange(c, covered); err != nil {
		return false, err
	}
	row := &s.track.row
	old, err := t.stmts.get(s.conn, t, c.Key, row)
	if err != nil {
		return false, err
	}
	row.forget(t.gone)
	c.unknown(s.vv, row)
	was, birth := row.Live(), row.Ins
	before := t.counterValues(row)
	won, err := row.Merge(&c.Delta)
	if err != nil {
		return false, fmt.Errorf("table %s, key %s: %w", t.def.Name, c.Key, err)
	}
	st := row.append(s.track.buf[:0])
	s.track.buf = st
	if len(st) == 0 || bytes.Equal(st, old) {
		return false, nil
	}
	switch live := row.Live(); {
	case live:
		values, mask, err := t.written(row, won, before, was, birth)
		if err != nil {
			return false, err
		}
		if err := t.stmts.write(s.conn, t, c.Key, values, mask, was); err != nil {
			return false, err
		}
	case was:
		if err := t.stmts.remove(s.conn, t, c.Key); err != nil {
			return false, err
		}
	}
	s.ring.add(seq, c.Table, c.Key)
	return true, t.stmts.put(s.conn, t, c.Key, seq, st, old != nil)
}

// checkChange refuses what no site of the same schema can have sent, and drops what is of columns that are gone.
func (t *table) checkChange(c *RowChange, covered Vector) error {
	if err := t.checkKey(c.Key); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	ok := covered.Has(c.Ins) && covered.Has(c.Del)
	cells := c.Cells[:0]
	for _, x := range c.Cells {
		ok = ok && covered.Has(x.At)
		if p := t.place(x.Col); p >= 0 {
			ok = ok && t.cols[p].Kind == schema.LWW
			cells = append(cells, x)
		}
	}
	c.Cells = cells
	counters := c.Counters[:0]
	for _, x := range c.Counters {
		ok = ok && (x.Base == nil || covered.Has(x.Base.At))
		for _, e := range x.Entries {
			ok = ok && covered.Has(Stamp{e.HLC, e.Site})
		}
		if p := t.place(x.Col); p >= 0 {
			ok = ok && t.cols[p].Kind == schema.Counter
			counters = append(counters, x)
		}
	}
	if c.Counters = counters; !ok {
		return fmt.Errorf("%w: row %s of table %s in a batch", ErrCorrupt, c.Key, t.def.Name)
	}
	return nil
}

// counterValues returns the values of counters, by place; nil when the table has none.
func (t *table) counterValues(r *Row) (out []int64) {
	for p, c := range t.cols {
		if c.Kind == schema.Counter {
			if out == nil {
				out = make([]int64, len(t.cols))
			}
			out[p] = r.Value(c.ID)
		}
	}
	return out
}

// written returns the values, by place, that the tenant's table is to be given, and which.
func (t *table) written(r *Row, won []CellValue, before []int64, was bool, birth Stamp) (values []wire.Value, mask uint64, err error) {
	values = make([]wire.Value, len(t.cols))
	for _, w := range won {
		p := t.place(w.Col)
		values[p], mask = w.Value, mask|1<<p
	}
	after := t.counterValues(r)
	for p, c := range t.cols {
		switch {
		case mask>>p&1 == 1:
		case c.Kind == schema.Counter:
			if !was || after[p] != before[p] {
				values[p], mask = wire.Integer(after[p]), mask|1<<p
			}
		case birth != r.Ins:
			// A new row of a site that had not added the column yet.
			if c.Default == "" {
				return nil, 0, fmt.Errorf("%w: a new row of %s without column %s", ErrCorrupt, t.def.Name, c.Name)
			}
			values[p], mask = t.defaults[p], mask|1<<p
		}
	}
	return values, mask, nil
}
