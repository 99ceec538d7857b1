package importer

import (
	"context"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

const (
	// maxLength bounds a value or row, in bytes: what the engine allows.
	maxLength = 16 << 20
	// maxProblems bounds the lines of integrity_check that are kept.
	maxProblems = 10
	// cacheKiB bounds the page cache of a check or an import.
	cacheKiB = 64 << 10
)

// CheckFile looks at a database file, in this process. A file that is no sound
// database gives a *BadDatabaseError.
func CheckFile(ctx context.Context, path string) (Info, error) {
	info, err := readHeader(path)
	if err != nil {
		return Info{}, err
	}
	// immutable: no journal beside the file is looked for, nothing is locked or written.
	c, err := sqlite.Open(sqlite.FileURI(path, "immutable=1"), "", sqlite.ReadOnly|sqlite.URI)
	if err != nil {
		return Info{}, fmt.Errorf("check %s: %w", path, err)
	}
	defer c.Close()
	endWith(ctx, c)
	if err = careful(c); err == nil {
		err = info.read(ctx, c)
	}
	if err != nil {
		return Info{}, verdictOf(ctx, err)
	}
	return info, nil
}

// endWith makes what runs on c end soon after ctx does. An interrupt would not
// do: one that comes between two statements is lost.
func endWith(ctx context.Context, c *sqlite.Conn) {
	const operations = 10_000 // of SQLite's machine; some 100 µs
	c.SetProgress(operations, func() (stop bool) { return ctx.Err() != nil })
}

// careful sets what holds for every connection to a file from outside.
func careful(c *sqlite.Conn) error {
	c.Limit(sqlite.LimitLength, maxLength)
	c.Limit(sqlite.LimitSQLLength, maxLength)
	for _, set := range []struct {
		op sqlite.ConfigOp
		on bool
	}{
		{sqlite.TrustedSchema, false},
		{sqlite.EnableLoadExtension, false},
	} {
		if err := c.Config(set.op, set.on); err != nil {
			return err
		}
	}
	return c.Exec(fmt.Sprintf("PRAGMA cell_size_check=ON; PRAGMA mmap_size=0; PRAGMA cache_size=-%d", cacheKiB))
}

// verdictOf tells a fault of the file from one of the surroundings.
func verdictOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return err
	}
	switch se.Primary() {
	case sqlite.CodeNoMem, sqlite.CodeIOErr, sqlite.CodeCantOpen, sqlite.CodeInterrupt, sqlite.CodeFull:
		return err
	}
	return &BadDatabaseError{What: "SQLite can't read the database: " + se.Message}
}

func (info *Info) read(ctx context.Context, c *sqlite.Conn) error {
	// The first statement that reads makes SQLite parse the schema.
	if err := c.Exec("SELECT count(*) FROM sqlite_schema"); err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		set  func(s *sqlite.Stmt)
	}{
		{"page_size", func(s *sqlite.Stmt) { info.PageSize = uint32(s.ColumnInt64(0)) }},
		{"page_count", func(s *sqlite.Stmt) { info.Pages = uint32(s.ColumnInt64(0)) }},
		{"encoding", func(s *sqlite.Stmt) { info.Encoding = s.Column(0).Str() }},
		{"user_version", func(s *sqlite.Stmt) { info.UserVersion = int32(s.ColumnInt64(0)) }},
		{"application_id", func(s *sqlite.Stmt) { info.ApplicationID = int32(s.ColumnInt64(0)) }},
	} {
		if err := each(ctx, c, "PRAGMA "+p.name, func(s *sqlite.Stmt) { p.set(s) }); err != nil {
			return err
		}
	}
	if err := checkInternal(ctx, c); err != nil {
		return err
	}
	var problems []string
	if err := each(ctx, c, fmt.Sprintf("PRAGMA integrity_check(%d)", maxProblems), func(s *sqlite.Stmt) {
		if line := s.Column(0).Str(); line != "ok" && len(problems) < maxProblems {
			problems = append(problems, fmt.Sprintf("%.200s", line))
		}
	}); err != nil {
		return err
	}
	if len(problems) > 0 {
		return &BadDatabaseError{What: "integrity_check finds the database damaged", Problems: problems}
	}
	err := each(ctx, c, "PRAGMA foreign_key_check", func(*sqlite.Stmt) { info.ForeignKeyViolations++ })
	var se *sqlite.Error
	if errors.As(err, &se) && se.Primary() == sqlite.CodeError {
		info.ForeignKeyFault = se.Message // a foreign key that fits no index of its parent
		return nil
	}
	return err
}

// each runs one statement and calls f for every row.
func each(ctx context.Context, c *sqlite.Conn, sql string, f func(s *sqlite.Stmt)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, _, err := c.Prepare(sql, false)
	if err != nil {
		return err
	}
	defer s.Finalize()
	for {
		row, err := s.Step()
		if err != nil || !row {
			return err
		}
		f(s)
	}
}
