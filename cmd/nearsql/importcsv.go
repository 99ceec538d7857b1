package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nearsql/nearsql/wire"
)

const (
	importRows   = 500     // of one request
	importParams = 32766   // SQLite's default bound of parameters
	importBytes  = 4 << 20 // of one request's values
)

// dotImport inserts the rows of a CSV file. Each request is atomic; an error in
// a later one leaves the rows of those before, and says how many.
func (sh *shell) dotImport(ctx context.Context, args []string) error {
	file, table := args[0], args[1]
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	rows := csv.NewReader(f)
	rows.ReuseRecord = true
	first, err := rows.Read()
	if err == io.EOF {
		return fmt.Errorf("%s is empty", file)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	first = append([]string(nil), first...)
	if len(first) > importParams {
		return fmt.Errorf("%s: %d columns are more than SQLite has", file, len(first))
	}
	made, err := sh.importTable(ctx, table, first)
	if err != nil {
		return err
	}
	b := csvBatch{table: table, width: len(first)}
	if !made {
		b.add(first)
	}
	inserted := 0
	flush := func() error {
		if b.rows == 0 {
			return nil
		}
		if _, err := sh.ask(ctx, b.sql(), b.values...); err != nil {
			return fmt.Errorf("%s: after %s: %w", file, count(int64(inserted), "row"), err)
		}
		inserted += b.rows
		b.reset()
		return nil
	}
	for {
		record, err := rows.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: after %s: %w", file, count(int64(inserted), "row"), err)
		}
		b.add(record)
		if b.full() {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if sh.interactive {
		fmt.Fprintf(sh.out, "(%s inserted into %s)\n", count(int64(inserted), "row"), printable(table))
	}
	return nil
}

// importTable makes the table with the names of the first line, unless it exists.
func (sh *shell) importTable(ctx context.Context, table string, names []string) (made bool, err error) {
	res, err := sh.ask(ctx, "SELECT * FROM "+quoteName(table)+" LIMIT 0")
	if err == nil {
		if len(res.Columns) != len(names) {
			return false, fmt.Errorf("the file has %d columns, table %s has %d", len(names), table, len(res.Columns))
		}
		return false, nil
	}
	var we *wire.Error
	if !errors.As(err, &we) || !strings.Contains(we.Message, "no such table") {
		return false, err
	}
	columns := make([]string, len(names))
	for i, name := range names {
		columns[i] = quoteName(name) + " TEXT"
	}
	_, err = sh.ask(ctx, "CREATE TABLE "+quoteName(table)+"("+strings.Join(columns, ", ")+")")
	return true, err
}

func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// csvBatch is the rows of one INSERT.
type csvBatch struct {
	table  string
	width  int
	values []wire.Value
	rows   int
	size   int
}

func (b *csvBatch) add(record []string) {
	for _, text := range record {
		b.values = append(b.values, wire.Text(text))
		b.size += len(text)
	}
	b.rows++
}

func (b *csvBatch) full() bool {
	return b.rows >= importRows || (b.rows+1)*b.width > importParams || b.size >= importBytes
}

func (b *csvBatch) reset() { b.values, b.rows, b.size = nil, 0, 0 }

func (b *csvBatch) sql() string {
	row := "(?" + strings.Repeat(",?", b.width-1) + ")"
	return "INSERT INTO " + quoteName(b.table) + " VALUES" + row + strings.Repeat(","+row, b.rows-1)
}
