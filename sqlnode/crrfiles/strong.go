package crrfiles

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// What the strong schema of a tenant says of its conflict-free tables. Both tables are nearsql's own: tenants' SQL
// can't reach them.
const (
	// Changes of the schema, in the order in which every site makes them. Rows are never changed, and numbers leave none out.
	makeDDL = `CREATE TABLE IF NOT EXISTS main.__crr_ddl(v INTEGER PRIMARY KEY, sql TEXT NOT NULL)`
	// Sites, all that ever were: a number is never used twice, so no row is ever deleted. tenant is whose they are:
	// a copy of the tenant has its rows, too, and heeds only the numbers in them. file is the id of the site's file,
	// final the newest transaction of a retired site that counts.
	makeSite = `CREATE TABLE IF NOT EXISTS main.__crr_site(number INTEGER PRIMARY KEY, tenant BLOB NOT NULL, node TEXT NOT NULL, file BLOB NOT NULL,
 state TEXT NOT NULL CHECK(state IN ('active','leaving','retired')), final INTEGER, UNIQUE(tenant, file))`
)

// has says whether the strong schema has a table or anything else of a name.
func has(c *sqlite.Conn, name string) (bool, error) {
	found := false
	err := each(c, "SELECT 1 FROM main.sqlite_schema WHERE name=? COLLATE NOCASE LIMIT 1", func(*sqlite.Stmt) error { found = true; return nil }, wire.Text(name))
	return found, err
}

// Declared says whether the strong schema that c sees has ever named a conflict-free table.
func Declared(c *sqlite.Conn) (bool, error) { return has(c, "__crr_ddl") }

// Changes returns the changes of the conflict-free schema with numbers above after, ascending, as c sees the strong schema.
func Changes(c *sqlite.Conn, after uint64) ([]schema.Change, error) {
	if ok, err := has(c, "__crr_ddl"); err != nil || !ok {
		return nil, err
	}
	var out []schema.Change
	err := each(c, "SELECT v, sql FROM main.__crr_ddl WHERE v>? ORDER BY v", func(s *sqlite.Stmt) error {
		out = append(out, schema.Change{Version: uint64(s.ColumnInt64(0)), SQL: s.Column(1).Str()})
		return nil
	}, wire.Integer(int64(after)))
	return out, err
}

// newest returns the number of the newest change of the schema; 0 where main has come to none yet, as a copy that begins anew.
func newest(c *sqlite.Conn) (v uint64, err error) {
	if ok, err := has(c, "__crr_ddl"); err != nil || !ok {
		return 0, err
	}
	err = each(c, "SELECT max(v) FROM main.__crr_ddl", func(s *sqlite.Stmt) error { v = uint64(s.ColumnInt64(0)); return nil })
	return v, err
}

// Declare numbers a change of the conflict-free schema: c is the tenant's writer, within a transaction. What sites could not keep is
// a *schema.Refusal or *schema.SyntaxError, what SQLite would refuse at each of them its error. It returns the schema after the change, and false when the
// change changes nothing (IF NOT EXISTS).
func Declare(c *sqlite.Conn, sql string) (*schema.State, bool, error) {
	done, err := Changes(c, 0)
	if err != nil {
		return nil, false, err
	}
	state, err := schema.Replay(done)
	if err != nil {
		return nil, false, fmt.Errorf("conflict-free schema: %w", err)
	}
	next := schema.Change{Version: state.Version + 1, SQL: sql}
	var lookErr error
	strong := func(name string) bool {
		ok, err := has(c, name)
		lookErr = errors.Join(lookErr, err)
		return ok
	}
	p, err := state.Plan(next, strong)
	if err = errors.Join(lookErr, err); err != nil {
		return nil, false, err
	}
	if len(p.SQL) == 0 {
		return state, false, nil
	}
	if err := try(done, sql); err != nil {
		return nil, false, err
	}
	if err := c.Exec(makeDDL); err != nil {
		return nil, false, err
	}
	if err := c.Exec(makeSite); err != nil {
		return nil, false, err
	}
	err = each(c, "INSERT INTO main.__crr_ddl(v, sql) VALUES(?,?)", nil, wire.Integer(int64(next.Version)), wire.Text(sql))
	return p.Next, true, err
}

// try makes a change in an empty file in memory that has made all before: what fails here would fail at every site.
func try(done []schema.Change, sql string) (err error) {
	c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite|sqlite.Create)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := configure(c); err != nil {
		return err
	}
	if err := c.Exec("ATTACH ':memory:' AS " + schema.SchemaName); err != nil {
		return err
	}
	s, err := crr.Open(Adapt(c), crr.Config{})
	if err != nil {
		return err
	}
	defer s.Close()
	for _, ch := range done {
		if err := s.ApplySchema(ch); err != nil {
			return err
		}
	}
	return s.CheckSchema(sql, nil)
}

// configure sets what every connection that makes or writes conflict-free tables has: the same as tenants' connections.
func configure(c *sqlite.Conn) error {
	for _, s := range []struct {
		op sqlite.ConfigOp
		on bool
	}{{sqlite.Defensive, true}, {sqlite.TrustedSchema, false}, {sqlite.EnableLoadExtension, false}, {sqlite.DQSInDDL, false}} {
		if err := c.Config(s.op, s.on); err != nil {
			return fmt.Errorf("configure connection: %w", err)
		}
	}
	return nil
}

// Register gives the file of a node its site number, or finds the one it has; a file that has been registered before keeps its number. c is the
// tenant's writer, within a transaction.
func Register(c *sqlite.Conn, of wire.TenantID, node string, file crr.FileID) (crr.SiteID, error) {
	if err := c.Exec(makeSite); err != nil {
		return 0, err
	}
	var site int64
	got := func(s *sqlite.Stmt) error { site = s.ColumnInt64(0); return nil }
	const find = "SELECT number FROM main.__crr_site WHERE tenant=? AND file=?"
	if err := each(c, find, got, wire.Blob(of[:]), wire.Blob(file[:])); err != nil || site != 0 {
		return crr.SiteID(site), err
	}
	err := each(c, `INSERT INTO main.__crr_site(number, tenant, node, file, state)
		SELECT coalesce(max(number),0)+1, ?, ?, ?, 'active' FROM main.__crr_site RETURNING number`, got, wire.Blob(of[:]), wire.Text(node), wire.Blob(file[:]))
	return crr.SiteID(site), err
}

// Members returns the tenant's sites, all that ever were, as c sees the strong schema.
func Members(c *sqlite.Conn, of wire.TenantID) ([]crr.Member, error) {
	if ok, err := has(c, "__crr_site"); err != nil || !ok {
		return nil, err
	}
	var out []crr.Member
	err := each(c, "SELECT number, tenant, file, state, final FROM main.__crr_site ORDER BY number", func(s *sqlite.Stmt) error {
		m := crr.Member{Site: crr.SiteID(s.ColumnInt64(0)), Final: crr.HLC(s.ColumnInt64(4))}
		if !bytes.Equal(s.ColumnBytes(1), of[:]) {
			// The number belongs to the tenant that this one is a copy of: nobody here has it.
			m.State, m.Final = crr.Retired, 0
			out = append(out, m)
			return nil
		}
		if copy(m.File[:], s.ColumnBytes(2)) != len(m.File) {
			return fmt.Errorf("site %d: its file's id has %d bytes", m.Site, len(s.ColumnBytes(2)))
		}
		switch state := s.Column(3).Str(); state {
		case "active":
			m.State = crr.Active
		case "leaving":
			m.State = crr.Leaving
		case "retired":
			m.State = crr.Retired
		default:
			return fmt.Errorf("site %d: state %q is not known here", m.Site, state)
		}
		out = append(out, m)
		return nil
	})
	return out, err
}
