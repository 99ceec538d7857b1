package importer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nearsql/nearsql/sqlnode/importer/script"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// DefaultMaxBytes bounds the database that a dump may make: a tenant's default size.
const DefaultMaxBytes = 10 << 30

// FromSQL runs a dump in this process, and leaves the database that it makes in
// out, which must not exist. A statement that fails gives an *SQLError.
func FromSQL(ctx context.Context, r io.Reader, out string) error {
	return fromSQL(ctx, r, out, DefaultMaxBytes)
}

func fromSQL(ctx context.Context, r io.Reader, out string, maxBytes int64) (err error) {
	f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("import SQL: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("import SQL: %w", cerr)
		}
		if err != nil {
			os.Remove(out)
		}
	}()
	if err := runDump(ctx, r, out, maxBytes); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("import SQL: %w", err)
	}
	return nil
}

func runDump(ctx context.Context, r io.Reader, out string, maxBytes int64) (err error) {
	c, err := sqlite.Open(out, "", sqlite.ReadWrite)
	if err != nil {
		return fmt.Errorf("import SQL: %w", err)
	}
	defer func() {
		if cerr := c.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("import SQL: %w", cerr)
		}
	}()
	endWith(ctx, c)
	if err := careful(c); err != nil {
		return err
	}
	// Nobody else sees the file before it is whole, so it needs neither locks
	// nor syncs; the journal in memory is for statements that fail.
	if err := c.Exec("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE"); err != nil {
		return fmt.Errorf("import SQL: %w", err)
	}
	guard := &guard{}
	c.SetAuthorizer(guard.ask)
	d := dump{c: c, guard: guard, maxBytes: maxBytes}
	if err := d.run(ctx, script.NewReader(skipBOM(r), maxLength)); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	c.SetAuthorizer(nil)
	return ensurePage(ctx, c)
}

// skipBOM passes over the mark that some editors put before UTF-8.
func skipBOM(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if head, err := b.Peek(3); err == nil && string(head) == "\xef\xbb\xbf" {
		b.Discard(3)
	}
	return b
}

// dump runs the statements of one dump.
type dump struct {
	c        *sqlite.Conn
	guard    *guard
	maxBytes int64

	bounded uint32 // page size for which the bound has been set; 0 before
	began   int    // line of the BEGIN that no COMMIT has followed
}

func (d *dump) run(ctx context.Context, r *script.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		st, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return sourceError(err)
		}
		if err := d.bound(ctx); err != nil {
			return err
		}
		if err := d.exec(st); err != nil {
			return err
		}
		switch {
		case d.c.Autocommit():
			d.began = 0
		case d.began == 0:
			d.began = st.Line
		}
	}
	if !d.c.Autocommit() {
		return &SQLError{Line: d.began, Message: "the dump ends within the transaction that begins here: it was not written whole"}
	}
	return nil
}

// bound keeps the database from growing beyond maxBytes. SQLite counts pages,
// and the dump may choose their size as long as there are none.
func (d *dump) bound(ctx context.Context) error {
	if d.bounded != 0 && !d.guard.pageSize {
		return nil
	}
	d.guard.pageSize = false
	d.guard.open = true
	defer func() { d.guard.open = false }()
	var size uint32
	if err := each(ctx, d.c, "PRAGMA page_size", func(s *sqlite.Stmt) { size = uint32(s.ColumnInt64(0)) }); err != nil {
		return err
	}
	if size == 0 || size == d.bounded {
		return nil
	}
	d.bounded = size
	return d.c.Exec(fmt.Sprintf("PRAGMA max_page_count=%d", min(max(d.maxBytes/int64(size), 1), 1<<32-2)))
}

// exec runs a statement and drops its rows.
func (d *dump) exec(st script.Statement) error {
	d.guard.refusal = ""
	err := d.c.Exec(st.Text)
	if err == nil {
		return nil
	}
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return err
	}
	switch se.Primary() {
	case sqlite.CodeNoMem, sqlite.CodeIOErr, sqlite.CodeCantOpen, sqlite.CodeInterrupt:
		return fmt.Errorf("line %d: %w", st.Line, err)
	case sqlite.CodeFull:
		if d.maxBytes > 0 {
			return &SQLError{st.Line, fmt.Sprintf("the database would be larger than %d bytes, or the disk is full", d.maxBytes), excerpt(st.Text)}
		}
	}
	message := se.Message
	if d.guard.refusal != "" {
		message = d.guard.refusal
	}
	return &SQLError{st.LineAt(se.Offset), message, excerpt(st.Text)}
}

// sourceError is the form of an error of script.Reader that a user is told.
func sourceError(err error) error {
	var long *script.TooLongError
	var open *script.OpenError
	switch {
	case errors.As(err, &long):
		return &SQLError{Line: long.Line, Message: fmt.Sprintf("the statement is longer than %d bytes", long.Max)}
	case errors.As(err, &open):
		return &SQLError{Line: open.Line, Message: "the dump ends within this statement: a quote, a comment or a trigger is not closed"}
	}
	return err
}

// excerpt is the beginning of a statement on one line, for messages.
func excerpt(sql string) string {
	const most = 60
	cut := false
	if len(sql) > 4*most {
		sql, cut = sql[:4*most], true
	}
	runes := []rune(strings.Join(strings.Fields(strings.ToValidUTF8(sql, "?")), " "))
	if len(runes) > most {
		runes, cut = runes[:most], true
	}
	if cut {
		return string(runes) + "…"
	}
	return string(runes)
}

// ensurePage makes the database of a dump without content one of a page: a
// file of no bytes has no header.
func ensurePage(ctx context.Context, c *sqlite.Conn) error {
	var pages int64
	if err := each(ctx, c, "PRAGMA page_count", func(s *sqlite.Stmt) { pages = s.ColumnInt64(0) }); err != nil {
		return err
	}
	if pages > 0 {
		return nil
	}
	return c.Exec("CREATE TABLE t(a); DROP TABLE t")
}
