package engine

import "github.com/nearsql/nearsql/wire"

// recorder holds the answers of a request that writes until they may leave.
type recorder struct {
	rows, bytes int64 // limits; 0 means none

	results []wire.Result
	one     [1]wire.Result // room for results: most requests have one
	rowN    int64
	byteN   int64
	changed int64
}

func (r *recorder) reset() {
	if r.results == nil {
		r.results = r.one[:0]
	}
	r.results = r.results[:0]
	r.rowN, r.byteN, r.changed = 0, 0, 0
}

// Begin implements wire.Sink.
func (r *recorder) Begin(_ int, columns []wire.Column) error {
	r.results = append(r.results, wire.Result{Columns: columns})
	return nil
}

// Row implements wire.Sink.
func (r *recorder) Row(row []wire.Value) error {
	r.rowN++
	for _, v := range row {
		r.byteN += int64(v.Size())
	}
	if r.rows > 0 && r.rowN > r.rows {
		return wire.NewError(wire.CodeRowsTooLarge, "the answer has more than %d rows, which is the limit of an answer of a request that writes", r.rows)
	}
	if r.bytes > 0 && r.byteN > r.bytes {
		return wire.NewError(wire.CodeAnswerTooLarge, "the answer takes more than %d bytes, which is the limit of an answer of a request that writes", r.bytes)
	}
	res := &r.results[len(r.results)-1]
	res.Rows = append(res.Rows, append([]wire.Value(nil), row...))
	return nil
}

// End implements wire.Sink.
func (r *recorder) End(s wire.Summary) error {
	r.results[len(r.results)-1].Summary = s
	r.changed += s.RowsAffected
	return nil
}

// play gives all answers to sink.
func (r *recorder) play(sink wire.Sink) error {
	for i := range r.results {
		res := &r.results[i]
		if err := sink.Begin(i, res.Columns); err != nil {
			return err
		}
		for _, row := range res.Rows {
			if err := sink.Row(row); err != nil {
				return err
			}
		}
		if err := sink.End(res.Summary); err != nil {
			return err
		}
	}
	return nil
}
