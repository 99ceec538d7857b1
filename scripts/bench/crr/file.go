package main

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// file is a file of conflict-free tables, or one with a plain table and all else alike.
type file struct {
	conn *sqlite.Conn
	site *crr.Site   // nil: plain
	read *crr.Reader // of site
	sql  map[string]prepared
}

// prepared is a statement with what a node keeps beside it.
type prepared struct {
	*sqlite.Stmt
	use crr.Classified
}

// table is the one that is measured: an integer key, three columns.
const table = "CREATE TABLE crr.t(id INTEGER PRIMARY KEY NOT NULL, a TEXT, b INTEGER, c TEXT)"

// The statements on it. Each parameter is the key.
const (
	insertRow  = "INSERT INTO t(id,a,b,c) VALUES(?1,'name-'||?1,?1,'some text value '||?1)"
	updateCell = "UPDATE t SET b=b+1 WHERE id=?1"
	deleteRow  = "DELETE FROM t WHERE id=?1"
	updateRow  = "UPDATE t SET a=a||'x',b=b+1,c=c||'x' WHERE id=?1"
)

// open makes a file: of a site with this number, or a plain one with number 0.
func open(path string, number crr.SiteID, sync string) (f *file, err error) {
	f = &file{sql: make(map[string]prepared)}
	if f.conn, err = sqlite.Open(":memory:", "", sqlite.ReadWrite|sqlite.Create|sqlite.URI); err != nil {
		return nil, err
	}
	vfs, err := pagestore.FileVFS()
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	uri := (&url.URL{Scheme: "file", Path: path, RawQuery: "vfs=" + vfs}).String()
	if err := f.conn.Exec("ATTACH '" + uri + "' AS crr"); err != nil {
		return nil, errors.Join(err, f.close())
	}
	if number == 0 {
		err = f.conn.Exec("PRAGMA crr.journal_mode=WAL; " + table)
	} else {
		err = f.makeSite(number)
	}
	if err == nil {
		err = f.conn.Exec("PRAGMA temp_store=FILE; PRAGMA crr.synchronous=" + sync + "; PRAGMA crr.cache_size=-65536") // as in package crrfiles
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *file) makeSite(number crr.SiteID) (err error) {
	c := crrfiles.Adapt(f.conn)
	if f.site, err = crr.Open(c, crr.Config{Tenant: "bench", TxRows: 1 << 30, BatchRows: 1 << 30}); err != nil {
		return err
	}
	f.read = f.site.NewReader(c)
	if err := f.site.Adopt(f.site.Identity().File, number); err != nil {
		return err
	}
	return f.site.ApplySchema(schema.Change{Version: 1, SQL: table})
}

func (f *file) close() error {
	for _, st := range f.sql {
		st.Finalize()
	}
	if f.site != nil {
		f.read.Close()
		f.site.Close()
	}
	return f.conn.Close()
}

func (f *file) begin() error {
	if f.site != nil {
		return f.site.Begin()
	}
	return f.conn.Exec("BEGIN IMMEDIATE")
}

func (f *file) commit() error {
	if f.site != nil {
		_, err := f.site.Commit()
		return err
	}
	return f.conn.Exec("COMMIT")
}

// write runs a statement for n keys from one on, in one transaction.
func (f *file) write(sql string, from, n int) error {
	st, ok := f.sql[sql]
	if !ok {
		s, _, err := f.conn.Prepare(sql, true)
		if err != nil {
			return err
		}
		st = prepared{s, crr.Classify(sql)}
		f.sql[sql] = st
	}
	if err := f.begin(); err != nil {
		return err
	}
	for i := range n {
		if f.site != nil {
			if err := f.site.Use(st.use); err != nil {
				return err
			}
		}
		if err := st.BindAll([]wire.Value{wire.Integer(int64(from + i))}); err != nil {
			return err
		}
		if more, err := st.Step(); err != nil || more {
			return fmt.Errorf("%s: %w", sql, errors.Join(err, st.Reset()))
		}
		if got := f.conn.Changes(); got != 1 {
			return fmt.Errorf("%s of key %d changed %d rows", sql, from+i, got)
		}
	}
	return f.commit()
}

// size is that of the file, in bytes.
func (f *file) size() (n int64, err error) {
	st, _, err := f.conn.Prepare("SELECT page_count*page_size FROM pragma_page_count('crr'), pragma_page_size('crr')", false)
	if err != nil {
		return 0, err
	}
	defer st.Finalize()
	if _, err := st.Step(); err != nil {
		return 0, err
	}
	return st.Column(0).Int(), nil
}
