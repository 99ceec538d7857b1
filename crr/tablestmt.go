package crr

import (
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// tableStmts are the prepared statements on one table, made when they are first used.
type tableStmts struct {
	meta, store, renew, drop, delete Stmt
	writes                           map[writeKind]Stmt
	args                             []wire.Value
	state                            []byte // of the row that was read last
}

// writeKind is one statement that writes a row: of a set of columns, to a row that is there or not.
type writeKind struct {
	mask   uint64
	update bool
}

// maxWrites bounds the statements kept for one table.
const maxWrites = 64

func (p *tableStmts) close() {
	for _, st := range []Stmt{p.meta, p.store, p.renew, p.drop, p.delete} {
		if st != nil {
			st.Finalize()
		}
	}
	for _, st := range p.writes {
		st.Finalize()
	}
	*p = tableStmts{}
}

// prepared makes a statement when it is first used.
func prepared(c Conn, st *Stmt, text func() string) (err error) {
	if *st == nil {
		*st, err = c.Prepare(text())
	}
	return err
}

// get reads a row's state into r and returns its bytes, good until the next get; nil when there is none.
func (p *tableStmts) get(c Conn, t *table, key wire.Value, r *Row) (st []byte, err error) {
	if err := prepared(c, &p.meta, func() string { return "SELECT st FROM crr." + t.meta() + " WHERE k=?" }); err != nil {
		return nil, err
	}
	r.reset()
	p.args = append(p.args[:0], key)
	err = run(p.meta, func(s Stmt) error {
		p.state = append(p.state[:0], s.ColumnBytes(0)...)
		if st = p.state; st == nil {
			st = []byte{}
		}
		return r.decode(st)
	}, p.args...)
	if err != nil {
		err = fmt.Errorf("table %s, key %s: %w", t.def.Name, key, err)
	}
	return st, err
}

// put writes a row's state, where there is one or not.
func (p *tableStmts) put(c Conn, t *table, key wire.Value, seq int64, st []byte, again bool) error {
	if again {
		if err := prepared(c, &p.renew, func() string { return "UPDATE crr." + t.meta() + " SET lseq=?2,st=?3 WHERE k=?1" }); err != nil {
			return err
		}
		return p.putBy(p.renew, key, seq, st)
	}
	if err := prepared(c, &p.store, func() string { return "INSERT INTO crr." + t.meta() + "(k,lseq,st) VALUES(?,?,?)" }); err != nil {
		return err
	}
	return p.putBy(p.store, key, seq, st)
}

func (p *tableStmts) putBy(s Stmt, key wire.Value, seq int64, st []byte) error {
	p.args = append(p.args[:0], key, wire.Integer(seq), wire.Blob(st))
	return run(s, nil, p.args...)
}

// write gives a row of the tenant's table the values of a set of columns.
func (p *tableStmts) write(c Conn, t *table, key wire.Value, values []wire.Value, mask uint64, update bool) error {
	if update && mask == 0 {
		return nil
	}
	st, err := p.writer(c, t, writeKind{mask, update})
	if err != nil {
		return err
	}
	p.args = p.args[:0]
	for i, v := range values {
		if mask>>i&1 == 1 {
			p.args = append(p.args, v)
		}
	}
	keys, err := t.keyArgs(key)
	if err != nil {
		return err
	}
	p.args = append(p.args, keys...)
	if err := run(st, nil, p.args...); err != nil {
		return fmt.Errorf("table %s, key %s: %w", t.def.Name, key, err)
	}
	if c.Changes() != 1 {
		return fmt.Errorf("%w: table %s, key %s: there is metadata of a live row, and no row", ErrCorrupt, t.def.Name, key)
	}
	return nil
}

func (p *tableStmts) writer(c Conn, t *table, kind writeKind) (Stmt, error) {
	if st := p.writes[kind]; st != nil {
		return st, nil
	}
	var cols []schema.Column
	for i, col := range t.cols {
		if kind.mask>>i&1 == 1 {
			cols = append(cols, col)
		}
	}
	var sql string
	if kind.update {
		sql = fmt.Sprintf("UPDATE crr.%s SET %s WHERE %s", schema.Quote(t.def.Name), names(cols, columnName, "%=?", ","), t.keyNames("%=?", " AND "))
	} else {
		all := t.keyNames("%", ",")
		if len(cols) > 0 {
			all = names(cols, columnName, "%", ",") + "," + all
		}
		sql = fmt.Sprintf("INSERT INTO crr.%s(%s) VALUES(?%s)", schema.Quote(t.def.Name), all, strings.Repeat(",?", len(cols)+len(t.def.Key)-1))
	}
	st, err := c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	if len(p.writes) >= maxWrites {
		for k, old := range p.writes {
			old.Finalize()
			delete(p.writes, k)
		}
	}
	if p.writes == nil {
		p.writes = make(map[writeKind]Stmt)
	}
	p.writes[kind] = st
	return st, nil
}

// remove deletes a row of the tenant's table.
func (p *tableStmts) remove(c Conn, t *table, key wire.Value) error {
	err := prepared(c, &p.delete, func() string {
		return fmt.Sprintf("DELETE FROM crr.%s WHERE %s", schema.Quote(t.def.Name), t.keyNames("%=?", " AND "))
	})
	if err != nil {
		return err
	}
	keys, err := t.keyArgs(key)
	if err != nil {
		return err
	}
	return run(p.delete, nil, keys...)
}

// forget drops a row's state.
func (p *tableStmts) forget(c Conn, t *table, key wire.Value) error {
	if err := prepared(c, &p.drop, func() string { return "DELETE FROM crr." + t.meta() + " WHERE k=?" }); err != nil {
		return err
	}
	return run(p.drop, nil, key)
}
