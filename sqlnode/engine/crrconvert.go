package engine

import (
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// A strong table becomes conflict-free in two transactions of the tenant with copies of its rows between them. The first declares a conflict-free table
// under a name of its own and lets nobody write the strong one any more; the second drops the strong table, and gives its name to
// the other. The way back is the same: the first transaction gives the conflict-free table another name, so that nobody writes it, and makes a strong table
// aside; the last drops the one and gives its name to the other. At every moment one of both has all rows, and the name of the table says which.

// Names of tables that are on their way. Tenants can't use them.
const (
	adoptingPrefix  = "nearsql_adopting_"  // conflict-free, to be filled; then a number, and the table's name
	releasingPrefix = "nearsql_releasing_" // conflict-free, with the rows; the same
	frozenPrefix    = "_nearsql_frozen_"   // triggers that keep a strong table from being written
	asidePrefix     = "_nearsql_aside_"    // strong, to be filled, or to be dropped
)

// IsMoving says whether a name is of a conflict-free table that is on its way.
func IsMoving(name string) bool {
	return hasPrefixFold(name, adoptingPrefix) || hasPrefixFold(name, releasingPrefix)
}

func movingReason(name string) string {
	if IsMoving(name) {
		return fmt.Sprintf("%s is a table that is being made conflict-free, or strong: nobody uses it under this name", name)
	}
	return ""
}

// Moving is a table on its way from one schema to the other.
type Moving struct {
	Table string // its name, as it was declared
	Via   string // the conflict-free table that has, or gets, its rows, while neither schema has it under its name
	// Version is the change of the conflict-free schema that all sites must have made before the rows are copied.
	Version uint64
	// Done: nothing is to be copied: the table is where it is to be.
	Done bool
	// Columns are copied, by name.
	Columns []string
	order   []string // what rows are copied in the order of, each of them once
	declare string   // of a strong table that is to be adopted: what it was when the conversion began; "" for one that is released
}

// mover works on one table: c is the tenant's writer, within a transaction.
type mover struct {
	c *sqlite.Conn
}

// AdoptBegin begins to make a strong table conflict-free. declare is its new CREATE TABLE, "" for its own. A conversion that was begun before begins anew.
func AdoptBegin(c *sqlite.Conn, table, declare string) (*Moving, error) {
	m := mover{c}
	state, err := m.state()
	if err != nil {
		return nil, err
	}
	name, sql, err := m.strong(table)
	if err != nil {
		return nil, err
	}
	if sql == "" {
		if t := state.Table(table); t != nil {
			return &Moving{Table: t.Name, Done: true, Version: state.Version}, nil
		}
		return nil, wire.NewError(wire.CodeNotFound, "the tenant has no strong table %s", table)
	}
	if declare == "" {
		declare = sql
	}
	if _, err := bodyOf(declare, name); err != nil { // virtual tables, too
		return nil, err
	}
	if err := m.adoptable(name); err != nil {
		return nil, err
	}
	if err := m.drop(state, adoptingPrefix, name); err != nil {
		return nil, err
	}
	if state, err = m.state(); err != nil {
		return nil, err
	}
	out := &Moving{Table: name, Via: fmt.Sprintf("%s%d_%s", adoptingPrefix, state.Version+1, name), declare: sql}
	body, err := bodyOf(declare, name)
	if err != nil {
		return nil, err
	}
	if state, err = m.declareChange("CREATE TABLE crr." + schema.Quote(out.Via) + body); err != nil {
		return nil, renamed(err, out.Via, name)
	}
	out.Version = state.Version
	if err := m.columns(out, state); err != nil {
		return nil, err
	}
	for verb := range strings.FieldsSeq("INSERT UPDATE DELETE") {
		err := c.Exec(fmt.Sprintf("CREATE TRIGGER IF NOT EXISTS main.%s BEFORE %s ON %s BEGIN SELECT RAISE(ABORT, %s); END",
			schema.Quote(frozenPrefix+strings.ToLower(verb)+"_"+name), verb, schema.Quote(name),
			quoteText("table "+name+" is being made conflict-free, and takes no writes meanwhile: ask again, or see nearsql crr adopt")))
		if err != nil {
			return nil, err
		}
	}
	// What would fail at the end fails now.
	return out, m.tried(func() error { return m.adoptEnd(out) })
}

// AdoptEnd gives the strong table's name to the conflict-free one that has its rows.
func AdoptEnd(c *sqlite.Conn, t *Moving) error { return mover{c}.adoptEnd(t) }

func (m mover) adoptEnd(t *Moving) error {
	name, sql, err := m.strong(t.Table)
	if err != nil {
		return err
	}
	if sql != t.declare || name != t.Table {
		return wire.NewError(wire.CodeConflict, "table %s was changed meanwhile", t.Table)
	}
	indexes, err := m.indexes("main", "crr", t.Table)
	if err != nil {
		return err
	}
	for verb := range strings.FieldsSeq("insert update delete") {
		if err := m.c.Exec("DROP TRIGGER IF EXISTS main." + schema.Quote(frozenPrefix+verb+"_"+t.Table)); err != nil {
			return err
		}
	}
	aside := asidePrefix + t.Table
	if err := m.c.Exec(fmt.Sprintf("ALTER TABLE main.%s RENAME TO %s", schema.Quote(t.Table), schema.Quote(aside))); err != nil {
		return err
	}
	if err := m.c.Exec("DROP TABLE main." + schema.Quote(aside)); err != nil {
		return err
	}
	if _, err := m.declareChange(fmt.Sprintf("ALTER TABLE crr.%s RENAME TO %s", schema.Quote(t.Via), schema.Quote(t.Table))); err != nil {
		return err
	}
	for _, x := range indexes {
		if _, err := m.declareChange(x); err != nil {
			return err
		}
	}
	return nil
}

// AdoptCancel undoes AdoptBegin. It says whether there was anything to undo.
func AdoptCancel(c *sqlite.Conn, table string) (bool, error) {
	m := mover{c}
	state, err := m.state()
	if err != nil {
		return false, err
	}
	name, sql, err := m.strong(table)
	if err != nil {
		return false, err
	}
	if sql == "" {
		name = table // it was dropped or renamed meanwhile: what closes it goes by its old name
	}
	for verb := range strings.FieldsSeq("insert update delete") {
		if err := c.Exec("DROP TRIGGER IF EXISTS main." + schema.Quote(frozenPrefix+verb+"_"+name)); err != nil {
			return false, err
		}
	}
	return len(moving(state, adoptingPrefix, name)) > 0, m.drop(state, adoptingPrefix, name)
}

// ReleaseBegin begins to make a conflict-free table strong. declare is its new CREATE TABLE, "" for its own. A conversion that was begun before goes on.
func ReleaseBegin(c *sqlite.Conn, table, declare string) (*Moving, error) {
	m := mover{c}
	state, err := m.state()
	if err != nil {
		return nil, err
	}
	t := state.Table(table)
	out := &Moving{Table: table}
	if t == nil {
		if list := moving(state, releasingPrefix, table); len(list) > 0 {
			t, out.Table, out.Via = list[0], movingName(list[0].Name, releasingPrefix), list[0].Name
		}
	} else {
		out.Table = t.Name
	}
	if t == nil {
		name, sql, err := m.strong(table)
		if err == nil && sql == "" {
			err = wire.NewError(wire.CodeNotFound, "the tenant has no conflict-free table %s", table)
		}
		return &Moving{Table: name, Done: true}, err
	}
	if declare == "" {
		if declare, err = m.declaredAs(t); err != nil {
			return nil, err
		}
	}
	body, err := bodyOf(declare, out.Table)
	if err != nil {
		return nil, err
	}
	if out.Via == "" {
		if err := m.unseen(t.Name); err != nil {
			return nil, err
		}
		out.Via = fmt.Sprintf("%s%d_%s", releasingPrefix, state.Version+1, t.Name)
		if state, err = m.declareChange(fmt.Sprintf("ALTER TABLE crr.%s RENAME TO %s", schema.Quote(t.Name), schema.Quote(out.Via))); err != nil {
			return nil, err
		}
	}
	out.Version = state.Version
	aside := schema.Quote(asidePrefix + out.Table)
	if err := c.Exec("DROP TABLE IF EXISTS main." + aside); err != nil {
		return nil, err
	}
	if err := c.Exec("CREATE TABLE main." + aside + body); err != nil {
		return nil, err
	}
	if err := m.columns(out, state); err != nil {
		return nil, err
	}
	return out, m.tried(func() error { return m.releaseEnd(out) })
}

// ReleaseEnd gives the conflict-free table's name to the strong one that has its rows.
func ReleaseEnd(c *sqlite.Conn, t *Moving) error { return mover{c}.releaseEnd(t) }

func (m mover) releaseEnd(t *Moving) error {
	indexes, err := m.indexes("crr", "main", t.Table, t.Via)
	if err != nil {
		return err
	}
	if _, err := m.declareChange("DROP TABLE crr." + schema.Quote(t.Via)); err != nil {
		return err
	}
	if err := m.c.Exec(fmt.Sprintf("ALTER TABLE main.%s RENAME TO %s", schema.Quote(asidePrefix+t.Table), schema.Quote(t.Table))); err != nil {
		return err
	}
	for _, x := range indexes {
		if err := m.c.Exec(x); err != nil {
			return err
		}
	}
	return nil
}

// ReleaseCancel undoes ReleaseBegin. It says whether there was anything to undo.
func ReleaseCancel(c *sqlite.Conn, table string) (bool, error) {
	m := mover{c}
	state, err := m.state()
	if err != nil {
		return false, err
	}
	list := moving(state, releasingPrefix, table)
	if len(list) == 0 {
		return false, nil
	}
	name := movingName(list[0].Name, releasingPrefix)
	if err := c.Exec("DROP TABLE IF EXISTS main." + schema.Quote(asidePrefix+name)); err != nil {
		return false, err
	}
	_, err = m.declareChange(fmt.Sprintf("ALTER TABLE crr.%s RENAME TO %s", schema.Quote(list[0].Name), schema.Quote(name)))
	return true, err
}
