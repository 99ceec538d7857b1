package script

import (
	"errors"
	"fmt"
	"io"
)

// TooLongError says that a statement is longer than a Reader takes.
type TooLongError struct {
	Line int // on which it begins
	Max  int // bytes
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("line %d: the statement is longer than %d bytes", e.Line, e.Max)
}

// OpenError says that the input ends within a statement.
type OpenError struct{ Line int }

func (e *OpenError) Error() string {
	return fmt.Sprintf("line %d: the input ends within this statement: a quote, a comment or a trigger is not closed", e.Line)
}

// Reader reads statements from a stream, holding little more than one.
type Reader struct {
	r     io.Reader
	max   int
	split Splitter
	chunk []byte
	err   error // of the stream; io.EOF at its end
}

// NewReader reads from r. No statement may be longer than max bytes.
func NewReader(r io.Reader, max int) *Reader {
	return &Reader{r: r, max: max, chunk: make([]byte, 32<<10)}
}

// Next gives the next statement; io.EOF says that there are no more.
func (r *Reader) Next() (Statement, error) {
	for {
		if st, ok := r.split.Next(); ok {
			if len(st.Text) > r.max {
				return Statement{}, &TooLongError{st.Line, r.max}
			}
			return st, nil
		}
		if r.split.PendingSize() > r.max {
			return Statement{}, &TooLongError{r.split.began, r.max}
		}
		if errors.Is(r.err, io.EOF) {
			st, ok, whole := r.split.Rest()
			switch {
			case !whole:
				return Statement{}, &OpenError{max(st.Line, 1)}
			case !ok:
				return Statement{}, io.EOF
			}
			return st, nil
		}
		if r.err != nil {
			return Statement{}, fmt.Errorf("read SQL text near line %d: %w", r.split.line+1, r.err)
		}
		var n int
		n, r.err = r.r.Read(r.chunk)
		r.split.Feed(r.chunk[:n])
	}
}
