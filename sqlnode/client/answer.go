package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/nearsql/nearsql/wire"
)

// maxLine bounds one line of an answer, in bytes: a row of SQLite's greatest
// size here (16 MiB), with each byte escaped.
const maxLine = 128 << 20

// Column is one column of an answer.
type Column struct {
	Name string
	Type string // as declared, in lower case, else of the first row's value; "" when not known
}

// Answer is what a request gives, read as it comes:
//
//	for a.NextStatement() {
//		for a.NextRow() {
//			use(a.Columns(), a.Row())
//		}
//		use(a.Summary())
//	}
//	use(a.Meta(), a.Err())
type Answer struct {
	c    *Client
	ctx  context.Context // of the request, to tell its end from the node's
	resp *http.Response
	in   *bufio.Reader

	columns []Column
	row     []wire.Value
	summary wire.Summary
	meta    wire.Meta
	err     error

	number int  // of the statement, from 1
	open   bool // within a statement
	whole  bool // the last line has come
}

// Do sends a request and gives its answer, which the caller closes. r.Subject
// and r.ReadOnly are not sent; r.ReadOnly says that the request may be sent again, within
// Options.Patience, as one with an IdempotencyKey.
func (c *Client) Do(ctx context.Context, tenant string, r *wire.Request) (*Answer, error) {
	body, err := appendRequest(nil, r)
	if err != nil {
		return nil, err
	}
	query, header := requestQuery(r)
	path := tenantPath(tenant, "/sql")
	var resp *http.Response
	if r.ReadOnly || r.IdempotencyKey != "" {
		resp, err = c.patiently(ctx, http.MethodPost, path, query, header, body)
	} else {
		resp, err = c.call(ctx, http.MethodPost, path, query, header, bytes.NewReader(body))
	}
	if err != nil {
		return nil, err
	}
	return &Answer{c: c, ctx: ctx, resp: resp, in: bufio.NewReaderSize(resp.Body, 64<<10)}, nil
}

// NextStatement goes to the next statement's answer, past rows that were not
// read. It is false at the end, and on an error.
func (a *Answer) NextStatement() bool {
	for a.open && a.NextRow() {
	}
	line, ok := a.read()
	if !ok {
		return false
	}
	switch {
	case line.row != nil:
		return a.fail("a row before the columns", nil)
	case line.Columns != nil:
		a.number++
		a.columns = a.columns[:0:0]
		for i, name := range line.Columns {
			col := Column{Name: name}
			if i < len(line.Types) {
				col.Type = line.Types[i]
			}
			a.columns = append(a.columns, col)
		}
		a.summary, a.open = wire.Summary{}, true
		return true
	case line.Meta != nil:
		a.meta = line.meta()
		a.whole = true
		return false
	}
	return a.fail("a line of no known kind", nil)
}

// NextRow goes to the next row. It is false at the statement's end, and on an error.
func (a *Answer) NextRow() bool {
	if !a.open {
		return false
	}
	line, ok := a.read()
	if !ok {
		return false
	}
	switch {
	case line.row != nil:
		if len(line.row) != len(a.columns) {
			return a.fail(fmt.Sprintf("a row of %d values for %d columns", len(line.row), len(a.columns)), nil)
		}
		a.row = a.row[:0]
		for i, raw := range line.row {
			v, err := decodeValue(raw)
			if err != nil {
				return a.fail(fmt.Sprintf("column %d", i+1), err)
			}
			a.row = append(a.row, v)
		}
		return true
	case line.End != nil:
		a.summary.RowsAffected = line.End.RowsAffected
		if id := line.End.LastInsertRowID; id != nil {
			a.summary.LastInsertRowID, a.summary.Inserted = int64(*id), true
		}
		a.open = false
		return false
	}
	return a.fail("a statement without an end", nil)
}

// Statement is the number of the statement that is being read, from 1.
func (a *Answer) Statement() int { return a.number }

// Columns are those of the statement that is being read.
func (a *Answer) Columns() []Column { return a.columns }

// Row is the row that is being read; it is valid until the next.
func (a *Answer) Row() []wire.Value { return a.row }

// Summary is known when the statement's rows have been read.
func (a *Answer) Summary() wire.Summary { return a.summary }

// Meta is known when the whole answer has been read.
func (a *Answer) Meta() wire.Meta { return a.meta }

// Err is why the answer ended early; nil when it is whole, or has not ended.
func (a *Answer) Err() error { return a.err }

// Close lets go of the answer, and stops the request when it was not read to its end.
func (a *Answer) Close() error { return a.resp.Body.Close() }

// read gives the next line. It is false at the end and on an error.
func (a *Answer) read() (*answerLine, bool) {
	if a.err != nil || a.whole {
		return nil, false
	}
	text, err := readLine(a.in)
	if err == io.EOF {
		return nil, a.failWith(&UnreachableError{a.c.base, fmt.Errorf("the answer ends early: %w", io.ErrUnexpectedEOF)})
	}
	if err != nil {
		var long *tooLongError
		if errors.As(err, &long) {
			return nil, a.fail("a line", err)
		}
		return nil, a.failWith(a.c.unreachable(a.ctx, err))
	}
	line := &answerLine{}
	if len(text) > 0 && text[0] == '[' {
		line.row = []json.RawMessage{}
		err = json.Unmarshal(text, &line.row)
	} else {
		err = json.Unmarshal(text, line)
	}
	if err != nil {
		return nil, a.fail("a line", err)
	}
	if line.Error != nil {
		e, err := decodeError(line.Error, a.resp.Header)
		if err != nil {
			return nil, a.fail("an error", err)
		}
		return nil, a.failWith(e)
	}
	return line, true
}

func (a *Answer) fail(what string, err error) bool {
	return a.failWith(&AnswerError{a.resp.StatusCode, what, err})
}

func (a *Answer) failWith(err error) bool {
	if a.err == nil {
		a.err = err
	}
	a.open = false
	return false
}

// readLine gives the next line that is not empty, without its end. The bytes are valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	for {
		text, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long := append([]byte(nil), text...)
			for errors.Is(err, bufio.ErrBufferFull) {
				text, err = r.ReadSlice('\n')
				if len(long)+len(text) > maxLine {
					return nil, &tooLongError{maxLine}
				}
				long = append(long, text...)
			}
			text = long
		}
		if err != nil && (err != io.EOF || len(bytes.TrimSpace(text)) == 0) {
			return nil, err
		}
		if err == io.EOF {
			return nil, io.ErrUnexpectedEOF // a line that was cut
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			return text, nil
		}
	}
}

// Exec runs a request and collects the answer.
func (c *Client) Exec(ctx context.Context, tenant string, r *wire.Request) ([]Result, wire.Meta, error) {
	a, err := c.Do(ctx, tenant, r)
	if err != nil {
		return nil, wire.Meta{}, err
	}
	defer a.Close()
	var results []Result
	size := 0
	for a.NextStatement() {
		res := Result{Columns: a.Columns()}
		for a.NextRow() {
			row := append([]wire.Value(nil), a.Row()...)
			for _, v := range row {
				size += v.Size()
			}
			if size > c.maxAnswer {
				return nil, wire.Meta{}, fmt.Errorf("the answer to statement %d: %w; read it row by row", a.Statement(), &tooLongError{c.maxAnswer})
			}
			res.Rows = append(res.Rows, row)
		}
		res.Summary = a.Summary()
		results = append(results, res)
	}
	if err := a.Err(); err != nil {
		return nil, wire.Meta{}, err
	}
	return results, a.Meta(), nil
}

// Result is the answer to one statement, collected.
type Result struct {
	Columns []Column
	Rows    [][]wire.Value
	wire.Summary
}

// Query is Exec of one statement with arguments by position.
func (c *Client) Query(ctx context.Context, tenant, sql string, args ...wire.Value) (Result, wire.Meta, error) {
	results, meta, err := c.Exec(ctx, tenant, &wire.Request{Statements: []wire.Statement{{SQL: sql, Args: args}}})
	if err != nil {
		return Result{}, meta, err
	}
	if len(results) != 1 {
		return Result{}, meta, &AnswerError{http.StatusOK, fmt.Sprintf("%d results for one statement", len(results)), nil}
	}
	return results[0], meta, nil
}

// Batch runs statements that happen all or not at all.
func (c *Client) Batch(ctx context.Context, tenant string, statements ...wire.Statement) ([]Result, wire.Meta, error) {
	return c.Exec(ctx, tenant, &wire.Request{Statements: statements, Batch: true})
}
