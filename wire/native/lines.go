package native

import (
	"io"

	"github.com/nearsql/nearsql/wire"
)

// linesBuffer is how many bytes Lines gathers before it writes.
const linesBuffer = 32 << 10

// Lines is a wire.Sink that writes an answer as lines of JSON (NDJSON), row by row.
// It may be used again after Reset.
type Lines struct {
	w       io.Writer
	opts    Options
	buf     []byte
	columns columnSet
	written int64
	rows    bool // the statement has had a row
}

// Reset starts an answer to w. It keeps the buffer.
func (l *Lines) Reset(w io.Writer, o Options) {
	l.w, l.opts, l.buf, l.written, l.rows = w, o, l.buf[:0], 0, false
	l.columns.columns = nil
}

// Cap is the size of the buffer that Reset keeps, in bytes.
func (l *Lines) Cap() int { return cap(l.buf) }

// Written is the number of bytes that went to the writer. While it is 0 the answer may still
// be another one.
func (l *Lines) Written() int64 { return l.written }

// Begin starts the result of a statement.
func (l *Lines) Begin(_ int, columns []wire.Column) error {
	l.rows = false
	l.columns.begin(columns, l.opts)
	return nil
}

// Row adds a row.
func (l *Lines) Row(row []wire.Value) error {
	if !l.rows {
		l.header(row)
	}
	if l.opts.Objects {
		l.buf = append(l.buf, `{"row":`...)
		l.buf = l.columns.appendRow(l.buf, row)
		l.buf = append(l.buf, "}\n"...)
	} else {
		l.buf = l.columns.appendRow(l.buf, row)
		l.buf = append(l.buf, '\n')
	}
	return l.full()
}

// End ends the result of a statement.
func (l *Lines) End(s wire.Summary) error {
	if !l.rows {
		l.header(nil)
	}
	l.buf = append(l.buf, `{"end":{`...)
	l.buf = appendSummary(l.buf, s, l.opts)
	l.buf = append(l.buf, "}}\n"...)
	return l.full()
}

func (l *Lines) header(row []wire.Value) {
	l.rows = true
	l.buf = append(l.buf, '{')
	l.buf = l.columns.appendHeader(l.buf, row)
	l.buf = append(l.buf, "}\n"...)
}

// Fail ends the answer with an error.
func (l *Lines) Fail(e *wire.Error) error {
	l.buf = append(l.buf, `{"error":`...)
	l.buf = AppendError(l.buf, e)
	l.buf = append(l.buf, "}\n"...)
	return l.Flush()
}

// Finish ends the answer.
func (l *Lines) Finish(m *wire.Meta) error {
	l.buf = append(l.buf, '{')
	l.buf = appendMeta(l.buf, m)
	l.buf = append(l.buf, "}\n"...)
	return l.Flush()
}

func (l *Lines) full() error {
	if len(l.buf) < linesBuffer {
		return nil
	}
	return l.Flush()
}

// Flush writes what was gathered.
func (l *Lines) Flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	n, err := l.w.Write(l.buf)
	l.written += int64(n)
	l.buf = l.buf[:0]
	return err
}
