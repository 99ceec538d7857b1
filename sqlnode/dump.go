package sqlnode

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// dump writes the database as SQL that makes it again: tables and rows first, then what
// hangs on them. Rows of a virtual table are written through it, so that its shadow tables
// are its own business.
func dump(ctx context.Context, c *pagestore.Conn, to io.Writer) error {
	if err := c.Exec("BEGIN"); err != nil {
		return err
	}
	defer c.Exec("ROLLBACK")
	d := dumper{ctx: ctx, c: c, w: bufio.NewWriterSize(to, 64<<10)}
	if err := d.run(); err != nil {
		return err
	}
	return d.w.Flush()
}

type dumper struct {
	ctx context.Context
	c   *pagestore.Conn
	w   *bufio.Writer
}

func (d *dumper) run() error {
	d.w.WriteString("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")
	shadow := map[string]bool{}
	virtual := map[string]bool{}
	err := d.each(`SELECT name, type FROM pragma_table_list WHERE schema='main'`, func(v []wire.Value) error {
		switch v[1].Str() {
		case "shadow":
			shadow[v[0].Str()] = true
		case "virtual":
			virtual[v[0].Str()] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	internal := func(name string) bool {
		return strings.HasPrefix(name, "_nearsql_") || strings.HasPrefix(name, "__crr_") || shadow[name]
	}
	var tables []string
	err = d.each(`SELECT name, sql FROM sqlite_schema WHERE type='table' ORDER BY rowid`, func(v []wire.Value) error {
		name := v[0].Str()
		if internal(name) {
			return nil
		}
		switch {
		case name == "sqlite_sequence":
			return nil
		case strings.HasPrefix(name, "sqlite_stat"):
			return nil // ANALYZE makes them
		}
		tables = append(tables, name)
		fmt.Fprintf(d.w, "%s;\n", v[1].Str())
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := d.rows(t, virtual[t]); err != nil {
			return err
		}
	}
	if err := d.sequences(); err != nil {
		return err
	}
	err = d.each(`SELECT name, tbl_name, sql FROM sqlite_schema WHERE type IN ('index','trigger','view') AND sql IS NOT NULL ORDER BY CASE type WHEN 'index' THEN 0 WHEN 'view' THEN 1 ELSE 2 END, rowid`,
		func(v []wire.Value) error {
			if !internal(v[0].Str()) && !internal(v[1].Str()) {
				fmt.Fprintf(d.w, "%s;\n", v[2].Str())
			}
			return nil
		})
	if err != nil {
		return err
	}
	for _, p := range []string{"user_version", "application_id"} {
		if err := d.each("PRAGMA "+p, func(v []wire.Value) error {
			if v[0].Int() != 0 {
				fmt.Fprintf(d.w, "PRAGMA %s=%d;\n", p, v[0].Int())
			}
			return nil
		}); err != nil {
			return err
		}
	}
	_, err = d.w.WriteString("COMMIT;\n")
	return err
}

// rows writes the rows of one table.
func (d *dumper) rows(table string, virtual bool) error {
	if virtual {
		done, err := d.fts(table)
		if done || err != nil {
			return err
		}
	}
	var cols []string
	rowid := ""
	err := d.each("SELECT name, hidden FROM pragma_table_xinfo("+quoteText(table)+")", func(v []wire.Value) error {
		if v[1].Int() == 0 {
			cols = append(cols, quoteName(v[0].Str()))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if virtual {
		rowid = "rowid"
	} else {
		var err error
		if rowid, err = d.rowidName(table, cols); err != nil {
			return err
		}
	}
	list := cols
	if rowid != "" {
		list = append([]string{rowid}, cols...)
	}
	names := strings.Join(list, ",")
	head := fmt.Sprintf("INSERT INTO %s(%s) VALUES(", quoteName(table), names)
	return d.each("SELECT "+names+" FROM "+quoteName(table), func(v []wire.Value) error {
		d.w.WriteString(head)
		for i, x := range v {
			if i > 0 {
				d.w.WriteByte(',')
			}
			d.value(x)
		}
		_, err := d.w.WriteString(");\n")
		return err
	})
}

// rowidName returns a name of the rowid of a table whose rowid is not one of its columns, so that
// what refers to it stays right; "" when there is none to write.
func (d *dumper) rowidName(table string, cols []string) (string, error) {
	without, aliased := false, false
	err := d.each("SELECT wr FROM pragma_table_list WHERE schema='main' AND name="+quoteText(table), func(v []wire.Value) error {
		without = v[0].Int() != 0
		return nil
	})
	if err != nil || without {
		return "", err
	}
	err = d.each("SELECT count(*) FROM pragma_table_info("+quoteText(table)+") WHERE pk>0 AND upper(type)='INTEGER' HAVING count(*)=1 AND (SELECT count(*) FROM pragma_table_info("+quoteText(table)+") WHERE pk>0)=1",
		func(v []wire.Value) error { aliased = true; return nil })
	if err != nil || aliased {
		return "", err
	}
	for _, name := range []string{"rowid", "_rowid_", "oid"} {
		taken := false
		for _, c := range cols {
			taken = taken || strings.EqualFold(c, quoteName(name))
		}
		if !taken {
			return name, nil
		}
	}
	return "", nil
}

// fts writes what an FTS5 table without content of its own needs.
func (d *dumper) fts(table string) (done bool, err error) {
	var sql string
	if err := d.each("SELECT sql FROM sqlite_schema WHERE type='table' AND name="+quoteText(table), func(v []wire.Value) error { sql = v[0].Str(); return nil }); err != nil {
		return false, err
	}
	flat := strings.ToLower(strings.Join(strings.Fields(sql), ""))
	if !strings.Contains(flat, "usingfts5(") || !strings.Contains(flat, "content=") {
		return false, nil
	}
	if strings.Contains(flat, "content=''") || strings.Contains(flat, `content=""`) {
		return false, wire.NewError(wire.CodeBadRequest, "table %q is an FTS5 table without content: its text is not in the database, so it can't be written as SQL; export as sqlite", table)
	}
	_, err = fmt.Fprintf(d.w, "INSERT INTO %s(%s) VALUES('rebuild');\n", quoteName(table), quoteName(table))
	return true, err
}

func (d *dumper) sequences() error {
	found := false
	if err := d.each("SELECT 1 FROM sqlite_schema WHERE name='sqlite_sequence'", func([]wire.Value) error { found = true; return nil }); err != nil || !found {
		return err
	}
	return d.each("SELECT name, seq FROM sqlite_sequence", func(v []wire.Value) error {
		fmt.Fprintf(d.w, "DELETE FROM sqlite_sequence WHERE name=%s;\nINSERT INTO sqlite_sequence VALUES(%s,%d);\n", quoteText(v[0].Str()), quoteText(v[0].Str()), v[1].Int())
		return nil
	})
}

func (d *dumper) value(v wire.Value) {
	switch v.Kind() {
	case wire.KindInteger:
		d.w.WriteString(strconv.FormatInt(v.Int(), 10))
	case wire.KindFloat:
		s := strconv.FormatFloat(v.Float64(), 'g', 17, 64)
		switch {
		case strings.Contains(s, "+Inf"):
			s = "9e999"
		case strings.Contains(s, "-Inf"):
			s = "-9e999"
		case !strings.ContainsAny(s, ".e"):
			s += ".0"
		}
		d.w.WriteString(s)
	case wire.KindText:
		if strings.IndexByte(v.Str(), 0) >= 0 {
			fmt.Fprintf(d.w, "CAST(x'%x' AS TEXT)", v.Str())
			return
		}
		d.w.WriteString(quoteText(v.Str()))
	case wire.KindBlob:
		fmt.Fprintf(d.w, "x'%x'", v.Str())
	default:
		d.w.WriteString("NULL")
	}
}

// each runs one statement and calls f for every row.
func (d *dumper) each(sql string, f func([]wire.Value) error) error {
	s, _, err := d.c.Prepare(sql, false)
	if err != nil {
		return d.cause(err)
	}
	defer s.Finalize()
	row := make([]wire.Value, s.ColumnCount())
	for n := 0; ; n++ {
		ok, err := s.Step()
		if err != nil {
			return d.cause(err)
		}
		if !ok {
			return nil
		}
		for i := range row {
			row[i] = s.Column(i)
		}
		if err := f(row); err != nil {
			return err
		}
		if n%256 == 255 && d.ctx.Err() != nil {
			return wire.AsError(d.ctx.Err())
		}
	}
}

// cause prefers the page store's word.
func (d *dumper) cause(err error) error {
	if c := d.c.TakeErr(); c != nil {
		return c
	}
	return wire.NewError(wire.CodeForSQLite(sqlite.ErrorCode(err)), "%w", err)
}

func quoteName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
