package main

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqliteContender is plain SQLite of the same make, through database/sql, with a WAL file.
type sqliteContender struct {
	db     *sql.DB // one connection, for inserts
	reads  *sql.DB
	insert *sql.Stmt
	read   *sql.Stmt
}

// sqliteReaders is how many connections read at a time.
const sqliteReaders = 16

// openSQLite opens a database with PRAGMA synchronous = level.
func openSQLite(dir, level string) (_ *sqliteContender, err error) {
	x := &sqliteContender{}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	dsn := fmt.Sprintf("file:%s?_pragma=journal_mode(wal)&_pragma=synchronous(%s)&_pragma=busy_timeout(10000)", filepath.Join(dir, "t.db"), level)
	if x.db, err = sql.Open("sqlite", dsn); err != nil {
		return nil, err
	}
	x.db.SetMaxOpenConns(1)
	if x.reads, err = sql.Open("sqlite", dsn); err != nil {
		return nil, err
	}
	x.reads.SetMaxOpenConns(sqliteReaders)
	x.reads.SetMaxIdleConns(sqliteReaders)
	for _, s := range []string{createTable, createIndex, createRead} {
		if _, err := x.db.Exec(s); err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
	}
	if _, err := x.db.Exec(fillRead, readRows); err != nil {
		return nil, fmt.Errorf("%s: %w", fillRead, err)
	}
	// As a node does with what is not written for a while; else reads would search the whole WAL.
	if _, err := x.db.Exec("PRAGMA wal_checkpoint(truncate)"); err != nil {
		return nil, err
	}
	if x.insert, err = x.db.Prepare(insertRow); err != nil {
		return nil, err
	}
	x.read, err = x.reads.Prepare(selectRead)
	return x, err
}

func (x *sqliteContender) close() (err error) {
	for _, s := range []*sql.Stmt{x.insert, x.read} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	for _, db := range []*sql.DB{x.db, x.reads} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}

func (x *sqliteContender) client() (client, error) { return &sqliteClient{x: x}, nil }

type sqliteClient struct {
	x    *sqliteContender
	a, b string
}

func (c *sqliteClient) insert(i int) error {
	_, err := c.x.insert.Exec(rowText, indexed(i))
	return err
}

func (c *sqliteClient) read(i int) error {
	id := readID(i)
	if err := c.x.read.QueryRow(id).Scan(&c.a, &c.b); err != nil {
		return fmt.Errorf("key %d: %w", id, err)
	}
	if c.a != rowText {
		return fmt.Errorf("key %d: %q", id, c.a)
	}
	return nil
}
