package crr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/schema"
)

// metadata and triggers of one table, as SQL.
//
// The triggers are written by an upsert, not by OR REPLACE: an OR clause of the
// statement that fires a trigger overrides those in it.

// metaTable makes the metadata table. Its key column has the type of the key: with
// another one SQLite could not use the index to find the row.
func (t *table) metaTable() string {
	const rest = ", lseq INTEGER NOT NULL, st BLOB NOT NULL)"
	switch {
	case len(t.def.Key) > 1:
		return fmt.Sprintf("CREATE TABLE crr.%s(k BLOB PRIMARY KEY NOT NULL%s WITHOUT ROWID", t.meta(), rest)
	case t.def.Key[0].Class == schema.KeyInteger:
		return fmt.Sprintf("CREATE TABLE crr.%s(k INTEGER PRIMARY KEY%s", t.meta(), rest)
	}
	return fmt.Sprintf("CREATE TABLE crr.%s(k %s PRIMARY KEY NOT NULL%s WITHOUT ROWID", t.meta(), t.def.Key[0].Class, rest)
}

// triggerNames are the names of all triggers that a table may have.
func (t *table) triggerNames() []string {
	var out []string
	for _, kind := range []string{"i", "u", "k", "d", "g"} {
		out = append(out, fmt.Sprintf("__crr_%s%d", kind, t.def.ID))
	}
	return out
}

// key is the key of the row that NEW or OLD is.
func (t *table) key(row string) string {
	k := t.keyNames(row+".%", ", ")
	if len(t.def.Key) > 1 {
		return "crr_key(" + k + ")"
	}
	return k
}

// changed asks whether a local UPDATE is a write of the row. Floats are compared by SQL, and only where there are some.
func (t *table) changed() string {
	return fmt.Sprintf("coalesce(crr_changed(%d%s),crr_floats(%s))", t.def.ID, names(t.cols, columnName, ",OLD.%,NEW.%", ""),
		names(t.cols, columnName, "OLD.% IS NOT NEW.%", ","))
}

// counters lists each counter column by a format in which % is its name.
func (t *table) counters(format string) string {
	var b strings.Builder
	for _, c := range t.cols {
		if c.Kind == schema.Counter {
			b.WriteString(strings.ReplaceAll(format, "%", schema.Quote(c.Name)))
		}
	}
	return b.String()
}

// upsert writes the metadata of a row: what st says for a row without, what again says for one with some.
func (t *table) upsert(key, st, again string) string {
	return fmt.Sprintf("INSERT INTO %s(k,lseq,st) VALUES(%s,crr_lseq(),%s) ON CONFLICT(k) DO UPDATE SET lseq=excluded.lseq,st=%s;", t.meta(), key, st, again)
}

func (t *table) onInsert() string {
	k, n := t.key("NEW"), t.counters(",NEW.%")
	return t.upsert(k, fmt.Sprintf("crr_ins(%d,%s,NULL%s)", t.def.ID, k, n), fmt.Sprintf("crr_ins(%d,k,st%s)", t.def.ID, n))
}

func (t *table) onDelete() string {
	k := t.key("OLD")
	return t.upsert(k, fmt.Sprintf("crr_del(%d,%s)", t.def.ID, k), "excluded.st")
}

// triggers are the statements that make the table's tracking.
func (t *table) triggers() []string {
	id, name := t.def.ID, schema.Quote(t.def.Name)
	same := t.keyNames("OLD.% IS NEW.%", " AND ")
	make := func(kind, when, cond, body string) string {
		return fmt.Sprintf("CREATE TRIGGER crr.__crr_%s%d %s ON %s WHEN %s BEGIN %s END", kind, id, when, name, cond, body)
	}
	out := []string{
		make("i", "AFTER INSERT", "crr_local()", t.onInsert()),
		make("k", "AFTER UPDATE OF "+t.keyNames("%", ", "), "crr_local() AND NOT ("+same+")", t.onDelete()+" "+t.onInsert()),
		make("d", "AFTER DELETE", "crr_local()", t.onDelete()),
	}
	if len(t.cols) > 0 {
		out = append(out, make("u", "AFTER UPDATE", same+" AND "+t.changed(),
			fmt.Sprintf("UPDATE %s SET lseq=crr_lseq(),st=crr_upd(%d,k,st) WHERE k=%s;", t.meta(), id, t.key("NEW"))))
	}
	if t.def.RowIDKey {
		// Before the insert, a rowid that SQLite is to number reads as -1.
		out = append(out, make("g", "BEFORE INSERT", "NEW."+schema.Quote(t.def.Key[0].Name)+"=-1 AND crr_local()",
			"SELECT RAISE(ABORT,'crr: give the primary key a value: sites cannot number the rows of a conflict-free table');"))
	}
	return out
}

// renewTriggers makes the triggers of a file that another version of this package wrote those of this one.
func (s *Site) renewTriggers() error {
	have := make(map[string]bool)
	err := query(s.conn, "SELECT sql FROM crr.sqlite_schema WHERE type='trigger'", func(st Stmt) error {
		have[st.Column(0).Str()] = true
		return nil
	})
	if err != nil {
		return err
	}
	var stale []*table
	for _, t := range s.track.tables {
		// SQLite keeps the statement without the name of the schema.
		if slices.ContainsFunc(t.triggers(), func(sql string) bool { return !have[strings.Replace(sql, " crr.", " ", 1)] }) {
			stale = append(stale, t)
		}
	}
	if stale == nil {
		return nil
	}
	return s.inTx(func() error {
		for _, t := range stale {
			for _, n := range t.triggerNames() {
				if err := s.conn.Exec("DROP TRIGGER IF EXISTS crr." + n); err != nil {
					return err
				}
			}
			for _, sql := range t.triggers() {
				if err := s.conn.Exec(sql); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
