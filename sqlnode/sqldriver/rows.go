package sqldriver

import (
	"context"
	"database/sql/driver"
	"io"
	"strings"

	"github.com/nearsql/nearsql/wire"
)

// pieceBytes is how much of an answer is gathered before it is handed over. An answer of less holds nothing of the
// node while its rows are read.
const pieceBytes = 1 << 20

// piece is a part of an answer.
type piece struct {
	rows []wire.Value // of all its rows, one after another
	n    int          // rows
	last bool
	err  error // if last
}

// rows is the answer to a query. What is more than a piece is fetched while it is read.
type rows struct {
	c       *Connector
	columns []wire.Column
	times   []bool // columns whose texts may be times
	cancel  context.CancelFunc
	pieces  <-chan piece

	now  piece
	next int // row of now
}

var _ driver.RowsColumnTypeDatabaseTypeName = (*rows)(nil)

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, sql string, args []driver.NamedValue) (driver.Rows, error) {
	st, err := statement(sql, args)
	if err != nil {
		return nil, err
	}
	req, m, s := c.c.request(ctx, []wire.Statement{st})
	req.Stream = true
	if c.queries == nil {
		c.queries, c.pieces = make(chan query), make(chan piece)
		go c.c.serve(c.queries, c.pieces)
	}
	ctx, cancel := context.WithCancel(ctx)
	sink := &pieceSink{ctx: ctx, out: c.pieces}
	c.queries <- query{ctx, req, m, s, sink}
	r := &rows{c: c.c, cancel: cancel, pieces: c.pieces, now: <-c.pieces}
	if r.now.last && r.now.err != nil && r.now.n == 0 {
		cancel()
		return nil, r.now.err
	}
	r.columns = sink.columns
	r.times = make([]bool, len(r.columns))
	for i, col := range r.columns {
		r.times[i] = !s.timesAsText && timed(col.DeclType)
	}
	if r.now.last {
		cancel()
	}
	return r, nil
}

// query is a request whose rows are wanted.
type query struct {
	ctx      context.Context
	req      *wire.Request
	mark     mark
	settings *settings
	sink     *pieceSink
}

// serve runs the queries of a connection. It is a goroutine of its own so that rows can wait for their reader, and the same for all since
// SQLite needs a deep stack, which costs more to grow than a short query takes.
func (c *Connector) serve(queries <-chan query, pieces chan<- piece) {
	for q := range queries {
		q.sink.piece.err = c.execute(q.ctx, q.req, q.mark, q.settings, q.sink)
		q.sink.piece.last = true
		pieces <- q.sink.piece // whoever reads the rows takes all, or closes them and takes all
	}
}

// timed says whether a column is declared to have times.
func timed(decl string) bool {
	switch len(decl) {
	case len("date"), len("datetime"), len("timestamp"):
		return strings.EqualFold(decl, "date") || strings.EqualFold(decl, "datetime") || strings.EqualFold(decl, "timestamp")
	}
	return false
}

// Columns implements driver.Rows.
func (r *rows) Columns() []string {
	names := make([]string, len(r.columns))
	for i, c := range r.columns {
		names[i] = c.Name
	}
	return names
}

// ColumnTypeDatabaseTypeName implements driver.RowsColumnTypeDatabaseTypeName: the type as declared; "" for an expression,
// or what its first row has when another node answered.
func (r *rows) ColumnTypeDatabaseTypeName(i int) string {
	return strings.ToUpper(r.columns[i].DeclType)
}

// Next implements driver.Rows.
func (r *rows) Next(dest []driver.Value) error {
	for r.next == r.now.n {
		if r.now.last {
			if r.now.err != nil {
				return r.now.err
			}
			return io.EOF
		}
		r.now, r.next = <-r.pieces, 0
	}
	w := len(r.columns)
	for i, v := range r.now.rows[r.next*w : (r.next+1)*w] {
		dest[i] = result(v, r.times[i])
	}
	r.next++
	return nil
}

// Close implements driver.Rows. It returns when the node has done with the request.
func (r *rows) Close() error {
	r.cancel()
	if !r.now.last {
		for p := range r.pieces {
			if p.last {
				break
			}
		}
		r.now, r.next = piece{last: true}, 0
		r.c.session.left()
	}
	return nil
}

// pieceSink is the wire.Sink that makes pieces.
type pieceSink struct {
	ctx     context.Context // of the request; ends when the rows are closed
	out     chan<- piece
	columns []wire.Column
	piece   piece
	bytes   int
}

// Begin implements wire.Sink.
func (s *pieceSink) Begin(_ int, columns []wire.Column) error {
	s.columns = columns
	return nil
}

// Row implements wire.Sink.
func (s *pieceSink) Row(row []wire.Value) error {
	s.piece.rows = append(s.piece.rows, row...)
	s.piece.n++
	for _, v := range row {
		s.bytes += v.Size()
	}
	if s.bytes < pieceBytes {
		return nil
	}
	select {
	case s.out <- s.piece:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	s.piece, s.bytes = piece{}, 0
	return nil
}

// End implements wire.Sink.
func (s *pieceSink) End(wire.Summary) error { return nil }
