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
