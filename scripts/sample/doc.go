// Package sample is a small library's database: authors, books, copies, members
// and loans, some 10,000 rows, made up by package gen from a fixed seed. People
// and books are invented; the data is in the public domain (CC0).
//
// library.sql is the database as a dump, queries.sql has ten queries on it.
package sample

import (
	_ "embed" // for the two files
	"errors"
	"io"
	"strings"

	"github.com/nearsql/nearsql/sqlnode/importer/script"
)

//go:embed library.sql
var library string // constant

//go:embed queries.sql
var queries string // constant

// Library is the dump.
func Library() string { return library }

// Query is one query with the comment before it.
type Query struct{ Title, SQL string }

// Queries are those of queries.sql.
func Queries() ([]Query, error) {
	var all []Query
	lines := strings.Split(queries, "\n")
	r := script.NewReader(strings.NewReader(queries), len(queries))
	for {
		st, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		title := ""
		if st.Line > 1 {
			title = strings.TrimPrefix(lines[st.Line-2], "-- ")
		}
		all = append(all, Query{title, st.Text})
	}
}
