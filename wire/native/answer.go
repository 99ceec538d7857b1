package native

import (
	"strconv"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Answer is a wire.Sink that makes the whole answer to a request in memory. It may
// be used again after Reset.
type Answer struct {
	opts    Options
	limit   int // bytes; 0 means none
	buf     []byte
	columns columnSet
	results int
	rows    int // of the statement
	total   int // rows of those before
}

// Reset starts an answer of at most limit bytes (0 means no limit), beyond which Row returns
// ANSWER_TOO_LARGE. It keeps the buffer.
func (a *Answer) Reset(o Options, limit int) {
	a.opts, a.limit = o, limit
	a.results, a.rows, a.total = 0, 0, 0
	a.columns.columns = nil
	a.buf = append(a.buf[:0], `{"results":[`...)
}

// Cap is the size of the buffer that Reset keeps, in bytes.
func (a *Answer) Cap() int { return cap(a.buf) }

// Rows is the number of rows of all statements.
func (a *Answer) Rows() int { return a.total + a.rows }

// Begin starts the result of a statement.
func (a *Answer) Begin(_ int, columns []wire.Column) error {
	if a.results > 0 {
		a.buf = append(a.buf, ',')
	}
	a.results++
	a.total += a.rows
	a.rows = 0
	a.columns.begin(columns, a.opts)
	a.buf = append(a.buf, '{')
	return nil
}

// Row adds a row.
func (a *Answer) Row(row []wire.Value) error {
	if a.rows == 0 {
		a.buf = a.columns.appendHeader(a.buf, row)
		a.buf = append(a.buf, `,"rows":[`...)
	} else {
		a.buf = append(a.buf, ',')
	}
	a.rows++
	a.buf = a.columns.appendRow(a.buf, row)
	if a.limit > 0 && len(a.buf) > a.limit {
		return wire.NewError(wire.CodeAnswerTooLarge, "the answer is larger than %d bytes; ask for less, or for application/x-ndjson", a.limit)
	}
	return nil
}

// End ends the result of a statement.
func (a *Answer) End(s wire.Summary) error {
	if a.rows == 0 {
		a.buf = a.columns.appendHeader(a.buf, nil)
		a.buf = append(a.buf, `,"rows":[`...)
	}
	a.buf = append(a.buf, `],`...)
	a.buf = appendSummary(a.buf, s, a.opts)
	a.buf = append(a.buf, '}')
	return nil
}

// Finish ends the answer and returns it. It is valid until Reset.
func (a *Answer) Finish(m *wire.Meta) []byte {
	a.buf = append(a.buf, `],`...)
	a.buf = appendMeta(a.buf, m)
	a.buf = append(a.buf, "}\n"...)
	return a.buf
}

// appendMeta appends "bookmark" and "meta".
func appendMeta(dst []byte, m *wire.Meta) []byte {
	dst = append(dst, `"bookmark":`...)
	if m.Bookmark == "" {
		dst = append(dst, "null"...)
	} else {
		dst = AppendString(dst, m.Bookmark)
	}
	dst = append(dst, `,"meta":{"consistency":"`...)
	switch m.Consistency {
	case wire.Strong:
		dst = append(dst, "strong"...)
	case wire.Weak:
		dst = append(dst, "weak"...)
	case wire.Local:
		dst = append(dst, "local"...)
	default:
		dst = append(dst, "default"...)
	}
	dst = append(dst, `","staleness_ms":`...)
	dst = appendAge(dst, m.Staleness)
	if m.Tables {
		dst = append(dst, `,"crr_staleness_ms":`...)
		if m.TablesStaleness == wire.AnyStaleness {
			dst = append(dst, "null"...)
		} else {
			dst = appendAge(dst, m.TablesStaleness)
		}
	}
	dst = append(dst, `,"node":`...)
	dst = AppendString(dst, m.Node)
	dst = append(dst, `,"pop":`...)
	dst = AppendString(dst, m.PoP)
	dst = append(dst, `,"role":`...)
	dst = AppendString(dst, m.Role)
	dst = append(dst, `,"duration_ms":`...)
	dst = appendMillis(dst, m.Duration)
	if m.Replayed {
		dst = append(dst, `,"replayed":true`...)
	}
	return append(dst, '}')
}

// appendAge appends an age in milliseconds, rounded up: it is a bound.
func appendAge(dst []byte, d time.Duration) []byte {
	return strconv.AppendInt(dst, int64((d+time.Millisecond-1)/time.Millisecond), 10)
}

// appendMillis appends d in milliseconds, to the microsecond.
func appendMillis(dst []byte, d time.Duration) []byte {
	us := max(0, d.Microseconds())
	dst = strconv.AppendInt(dst, us/1000, 10)
	frac := us % 1000
	return append(dst, '.', '0'+byte(frac/100), '0'+byte(frac/10%10), '0'+byte(frac%10))
}

// AppendError appends the body that tells of e, for any status.
func AppendError(dst []byte, e *wire.Error) []byte {
	dst = append(dst, `{"error":`...)
	dst = AppendString(dst, e.Message)
	dst = append(dst, `,"message":`...)
	dst = AppendString(dst, e.Message)
	dst = append(dst, `,"code":`...)
	dst = AppendString(dst, string(e.Code))
	dst = append(dst, `,"statement":`...)
	if e.Statement > 0 {
		dst = strconv.AppendInt(dst, int64(e.Statement), 10)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"retryable":`...)
	dst = strconv.AppendBool(dst, e.Retryable)
	if e.RetryAfter > 0 {
		dst = append(dst, `,"retry_after_ms":`...)
		dst = strconv.AppendInt(dst, int64((e.RetryAfter+time.Millisecond-1)/time.Millisecond), 10)
	}
	return append(dst, '}')
}
