package main

import "strconv"

// The workload of all comparisons: a table with one index, rows of some 60 bytes.
const (
	createTable = `CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT)`
	createIndex = `CREATE INDEX t_b ON t(b)`
	insertRow   = `INSERT INTO t(a, b) VALUES(?, ?)`
	updateRow   = `UPDATE t SET b = ? WHERE id = ?`
	selectRow   = `SELECT a, b FROM t WHERE id = ?`

	// The table that is read, so that inserts between reads do not change it.
	createRead     = `CREATE TABLE r(id INTEGER PRIMARY KEY, a TEXT, b TEXT)`
	selectRead     = `SELECT a, b FROM r WHERE id = ?`
	fillRead       = `INSERT INTO r WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < ?) SELECT i, '` + rowText + `', CAST(i*7919%100003 AS TEXT) FROM c`
	rowText        = "hello world this is a row"
	readRows       = 20000
	scatter        = 7919 // prime to readRows, and to what follows
	scatterModulus = 100003
)

// indexed is the indexed column of row i: rows fall all over the index.
func indexed(i int) string { return strconv.Itoa(i * scatter % scatterModulus) }

// readID is the key that the i-th read asks for: reads fall all over the table.
func readID(i int) int64 { return int64(i*scatter%readRows) + 1 }
