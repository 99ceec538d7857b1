package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
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

// state is the conflict-free schema as main has it now.
func (m mover) state() (*schema.State, error) {
	done, err := crrfiles.Changes(m.c, 0)
	if err != nil {
		return nil, err
	}
	return schema.Replay(done)
}

func (m mover) declareChange(sql string) (*schema.State, error) {
	state, _, err := crrfiles.Declare(m.c, sql)
	return state, err
}

// strong finds a table of main, whatever the case of its name; sql is "" if there is none.
func (m mover) strong(table string) (name, sql string, err error) {
	err = eachOwn(m.c, "SELECT name, sql FROM main.sqlite_schema WHERE type='table' AND name=? COLLATE NOCASE", func(s *sqlite.Stmt) error {
		name, sql = s.Column(0).Str(), s.Column(1).Str()
		return nil
	}, wire.Text(table))
	if err == nil && (isInternal(name) || hasPrefixFold(name, "sqlite_")) {
		err = wire.NewError(wire.CodeSQLNotAllowed, "%s is not the tenant's own", name)
	}
	return name, sql, err
}

// adoptable refuses a table that others in main depend on: what is in crr they could not name.
func (m mover) adoptable(name string) error {
	var with []string
	err := m.tried(func() error {
		probe := asidePrefix + "probe_" + name
		if err := m.c.Exec(fmt.Sprintf("ALTER TABLE main.%s RENAME TO %s", schema.Quote(name), schema.Quote(probe))); err != nil {
			return err
		}
		return eachOwn(m.c, "SELECT type, name FROM main.sqlite_schema WHERE name<>?1 AND instr(lower(sql), lower(?1))>0 AND (type='view' OR type='table' OR type='trigger')",
			func(s *sqlite.Stmt) error {
				if n := s.Column(1).Str(); !hasPrefixFold(n, frozenPrefix) {
					with = append(with, s.Column(0).Str()+" "+n)
				}
				return nil
			}, wire.Text(probe))
	})
	if err == nil && len(with) > 0 {
		err = wire.NewError(wire.CodeSQLNotAllowed, "table %s can't leave the strong schema while this depends on it: %s; drop it first", name, strings.Join(with, ", "))
	}
	return err
}

// unseen refuses a conflict-free table that a view names.
func (m mover) unseen(name string) error {
	var with []string
	err := eachOwn(m.c, "SELECT name, sql FROM crr.sqlite_schema WHERE type='view'", func(s *sqlite.Stmt) error {
		ts, err := schema.Lex(s.Column(1).Str())
		if err == nil && slices.ContainsFunc(ts, func(t schema.Token) bool { return t.IsName() && strings.EqualFold(t.Text, name) }) {
			with = append(with, s.Column(0).Str())
		}
		return err
	})
	if err == nil && len(with) > 0 {
		err = wire.NewError(wire.CodeSQLNotAllowed, "table %s can't leave the conflict-free schema while views name it: %s; drop them first", name, strings.Join(with, ", "))
	}
	return err
}

// tried does something and undoes it.
func (m mover) tried(do func() error) error {
	if err := m.c.Exec("SAVEPOINT nearsql_try"); err != nil {
		return err
	}
	err := do()
	if m.c.Autocommit() {
		return err
	}
	if undo := m.c.Exec("ROLLBACK TO nearsql_try; RELEASE nearsql_try"); err == nil {
		err = undo
	}
	return err
}

// drop declares that the tables which an earlier try left are dropped.
func (m mover) drop(state *schema.State, prefix, name string) error {
	for _, t := range moving(state, prefix, name) {
		if _, err := m.declareChange("DROP TABLE crr." + schema.Quote(t.Name)); err != nil {
			return err
		}
	}
	return nil
}

// moving are the tables on their way that are to have, or had, the name.
func moving(state *schema.State, prefix, name string) (out []*schema.Table) {
	for _, t := range state.Tables {
		if t.Gone == 0 && hasPrefixFold(t.Name, prefix) && strings.EqualFold(movingName(t.Name, prefix), name) {
			out = append(out, t)
		}
	}
	return out
}

// movingName is the name that a table on its way is to have, or had.
func movingName(via, prefix string) string {
	_, name, _ := strings.Cut(via[len(prefix):], "_")
	return name
}

// bodyOf is what follows the name in a CREATE TABLE of the table.
func bodyOf(create, name string) (string, error) {
	ts, err := schema.Lex(create)
	if err != nil {
		return "", err
	}
	refused := wire.NewError(wire.CodeSQLNotAllowed, "the declaration has to be CREATE TABLE %s(…)", name)
	i := 2
	if len(ts) < 4 || !ts[0].Is("CREATE") || !ts[1].Is("TABLE") {
		return "", refused
	}
	if len(ts) > i+2 && ts[i+1].IsSymbol(".") {
		i += 2
	}
	if len(ts) < i+2 || !strings.EqualFold(ts[i].Text, name) || !ts[i+1].IsSymbol("(") {
		return "", refused
	}
	body := create[ts[i+1].Start:]
	return strings.TrimRight(body, "; \t\r\n"), nil
}

// declaredAs is the CREATE TABLE of a conflict-free table as its file has it.
func (m mover) declaredAs(t *schema.Table) (sql string, err error) {
	err = eachOwn(m.c, "SELECT sql FROM crr.sqlite_schema WHERE type='table' AND name=? COLLATE NOCASE", func(s *sqlite.Stmt) error {
		sql = s.Column(0).Str()
		return nil
	}, wire.Text(t.Name))
	if err != nil || sql == "" {
		return "", wire.NewError(wire.CodeNotReady, "this node's file does not have table %s yet", t.Name)
	}
	if !hasPrefixFold(t.Name, releasingPrefix) {
		return sql, nil
	}
	body, err := bodyOf(sql, t.Name) // the text has the name that it goes by now
	return "CREATE TABLE " + schema.Quote(movingName(t.Name, releasingPrefix)) + body, err
}

// indexes are the declarations of a table's indexes, for the schema to. As are other names that the table may have in the schema in.
func (m mover) indexes(in, to, name string, as ...string) (out []string, err error) {
	for _, tbl := range append([]string{name}, as...) {
		err = eachOwn(m.c, "SELECT name, sql FROM "+in+".sqlite_schema WHERE type='index' AND sql IS NOT NULL AND tbl_name=? COLLATE NOCASE", func(s *sqlite.Stmt) error {
			ts, err := schema.Lex(s.Column(1).Str())
			if err != nil {
				return err
			}
			on := slices.IndexFunc(ts, func(t schema.Token) bool { return t.Is("ON") })
			if on < 0 || on+2 >= len(ts) {
				return wire.NewError(wire.CodeInternal, "index %s can't be read", s.Column(0).Str())
			}
			unique := ""
			if ts[1].Is("UNIQUE") {
				unique = "UNIQUE "
			}
			out = append(out, fmt.Sprintf("CREATE %sINDEX %s.%s ON %s%s", unique, to, schema.Quote(s.Column(0).Str()), schema.Quote(name), s.Column(1).Str()[ts[on+2].Start:]))
			return nil
		}, wire.Text(tbl))
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// columns finds what is to be copied: all columns that the table has where it comes from, which it has to have where it goes.
func (m mover) columns(t *Moving, state *schema.State) error {
	strong := t.Table
	if t.declare == "" {
		strong = asidePrefix + t.Table
	}
	have := map[string]bool{} // in crr
	def := state.Table(t.Via)
	if def == nil {
		return wire.NewError(wire.CodeInternal, "table %s is not declared", t.Via)
	}
	for _, k := range def.Key {
		have[strings.ToLower(k.Name)] = true
		t.order = append(t.order, k.Name)
	}
	for _, c := range def.Live() {
		have[strings.ToLower(c.Name)] = true
	}
	there := map[string]bool{} // in main
	generated := map[string]bool{}
	err := eachOwn(m.c, "SELECT name, hidden FROM pragma_table_xinfo(?, 'main')", func(s *sqlite.Stmt) error {
		name := s.Column(0).Str()
		if s.ColumnInt64(1) != 0 {
			generated[strings.ToLower(name)] = true
			return nil
		}
		there[strings.ToLower(name)] = true
		t.Columns = append(t.Columns, name)
		return nil
	}, wire.Text(strong))
	if err != nil {
		return err
	}
	from, to := there, have
	if t.declare == "" {
		from, to = have, there
	}
	for name := range from {
		if !to[name] && !generated[name] {
			return wire.NewError(wire.CodeSQLNotAllowed, "column %s of table %s has no place in the declaration: its values would be lost", name, t.Table)
		}
	}
	if t.declare != "" {
		if t.order, err = m.strongOrder(strong, there, t.order); err != nil {
			return err
		}
	}
	t.Columns = slices.DeleteFunc(t.Columns, func(name string) bool { return !have[strings.ToLower(name)] })
	return nil
}

// strongOrder is what names a row of a strong table: its rowid or, if it has none, its key.
func (m mover) strongOrder(table string, columns map[string]bool, key []string) ([]string, error) {
	rowids := true
	err := eachOwn(m.c, "SELECT wr FROM pragma_table_list WHERE schema='main' AND name=?", func(s *sqlite.Stmt) error {
		rowids = s.ColumnInt64(0) == 0
		return nil
	}, wire.Text(table))
	if err != nil {
		return nil, err
	}
	for alias := range strings.FieldsSeq("rowid _rowid_ oid") {
		if rowids && !columns[alias] {
			return []string{alias}, nil
		}
	}
	return key, nil
}

// Copied is how far the copying of rows has come.
type Copied struct {
	Rows  int64
	after []wire.Value // what names the last row; nil before the first
	Done  bool
}

// CopyRows copies at most n further rows to where they are to be: to the conflict-free table or, when that is released, to the strong one. use, if not nil, is
// told of the statement before it runs.
func (t *Moving) CopyRows(c *sqlite.Conn, at Copied, n int, use func(sql string) error) (Copied, error) {
	from, to := "main."+schema.Quote(t.Table), "crr."+schema.Quote(t.Via)
	if t.declare == "" {
		from, to = to, "main."+schema.Quote(asidePrefix+t.Table)
	}
	order := quoteList(t.order)
	marks := strings.TrimSuffix(strings.Repeat("?,", len(t.order)), ",")
	where, args := "1", at.after
	if len(args) > 0 {
		where = fmt.Sprintf("(%s)>(%s)", order, marks)
	}
	var last []wire.Value
	err := eachOwn(c, fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT 1 OFFSET %d", order, from, where, order, n-1), func(s *sqlite.Stmt) error {
		for i := range t.order {
			last = append(last, s.Column(i))
		}
		return nil
	}, args...)
	if err != nil {
		return at, err
	}
	if len(last) > 0 {
		where += fmt.Sprintf(" AND (%s)<=(%s)", order, marks)
		args = slices.Concat(args, last)
	}
	columns := quoteList(t.Columns)
	sql := fmt.Sprintf("INSERT INTO %s(%s) SELECT %s FROM %s WHERE %s", to, columns, columns, from, where)
	if use != nil {
		if err := use(sql); err != nil {
			return at, err
		}
	}
	if err := runOwn(c, sql, args...); err != nil {
		return at, err
	}
	at.Rows += c.Changes()
	at.after, at.Done = last, len(last) == 0
	return at, nil
}

// CheckRows says whether both tables have as many rows.
func (t *Moving) CheckRows(c *sqlite.Conn) error {
	strong := t.Table
	if t.declare == "" {
		strong = asidePrefix + t.Table
	}
	var a, b int64
	err := eachOwn(c, fmt.Sprintf("SELECT (SELECT count(*) FROM main.%s), (SELECT count(*) FROM crr.%s)", schema.Quote(strong), schema.Quote(t.Via)), func(s *sqlite.Stmt) error {
		a, b = s.ColumnInt64(0), s.ColumnInt64(1)
		return nil
	})
	if err == nil && a != b {
		err = wire.NewError(wire.CodeConflict, "table %s has %d rows in the strong schema and %d in the conflict-free one: it was changed meanwhile", t.Table, a, b)
	}
	return err
}

func quoteList(names []string) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		if n == "rowid" || n == "_rowid_" || n == "oid" {
			b.WriteString(n)
		} else {
			b.WriteString(schema.Quote(n))
		}
	}
	return b.String()
}

// renamed has a refusal speak of the table by its own name.
func renamed(err error, via, name string) error {
	if e := crrError(err); e.Code == wire.CodeSQLNotAllowed || e.Code == wire.CodeSQLiteError {
		return wire.NewError(e.Code, "%s", strings.ReplaceAll(e.Message, via, name))
	}
	return err
}

func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
