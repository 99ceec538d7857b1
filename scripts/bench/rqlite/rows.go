package main

import "strconv"

// The workload: a table with one index, rows of some 60 bytes, and a table that is read.
const (
	createTable = `CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT)`
	createIndex = `CREATE INDEX t_b ON t(b)`
	createRead  = `CREATE TABLE r(id INTEGER PRIMARY KEY, a TEXT, b TEXT)`
	createSeen  = `CREATE TABLE seen(id INTEGER PRIMARY KEY)`
	fillRead    = `INSERT INTO r WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < ?) SELECT i, '` + rowText + `', CAST(i*7919%100003 AS TEXT) FROM c`

	insertRow  = `INSERT INTO t(a, b) VALUES(?, ?)`
	insertSeen = `INSERT INTO seen VALUES(?)`
	selectRead = `SELECT a, b FROM r WHERE id = ?`
	selectSeen = `SELECT id FROM seen WHERE id = ?`
	// A read that goes through the table again and again; how often says its argument.
	selectSlow = `SELECT count(*) FROM r x, r y WHERE x.id <= ? AND x.b < y.b`

	rowText   = "hello world this is a row"
	readRows  = 20000
	batchRows = 100
)

// indexed is the indexed column of row i: rows fall all over the index.
func indexed(i int64) string { return strconv.FormatInt(i*7919%100003, 10) }

// readID is the key that the i-th read asks for: reads fall all over the table.
func readID(i int64) int64 { return i*7919%readRows + 1 }
