package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

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
