package crr

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/nearsql/nearsql/wire"
)

// inbox holds the frames of one large batch in the file until the last has come, so that a batch needs no
// more memory than a frame. An unfinished one is dropped when another begins, or the file is opened.
type inbox struct {
	id   uint64
	next uint64 // part that comes next; 0: none is held
}

// ErrOutOfOrder is a frame that doesn't follow the one before; the batch is asked for again.
var ErrOutOfOrder = errors.New("crr: a frame of a batch out of its order")

// maxParts bounds what a batch can take in the file: 16 GiB.
const maxParts = 4096

// take keeps a frame, and returns the batch when it was the last.
func (in *inbox) take(s *Site, f *frame) (source, error) {
	if f.part == 0 {
		if err := in.empty(s); err != nil {
			return nil, err
		}
		if f.last {
			return bytes.NewReader(f.body), nil
		}
		in.id = f.id
	}
	if f.id != in.id || f.part != in.next || f.part >= maxParts {
		return nil, errors.Join(ErrOutOfOrder, in.empty(s))
	}
	err := s.inTx(func() error {
		return s.exec("INSERT INTO crr.__crr_inbox(part,body) VALUES(?,?)", wire.Integer(int64(f.part)), wire.Blob(f.body))
	})
	if err != nil {
		return nil, fmt.Errorf("keep a frame: %w", err)
	}
	in.next++
	if !f.last {
		return nil, nil
	}
	return bufio.NewReader(&parts{s: s, count: int64(in.next)}), nil
}

// empty drops what is held.
func (in *inbox) empty(s *Site) error {
	if in.next == 0 {
		return nil
	}
	if err := s.inTx(func() error { return s.exec("DELETE FROM crr.__crr_inbox") }); err != nil {
		return fmt.Errorf("drop frames: %w", err)
	}
	in.next = 0
	return nil
}

// parts reads the frames that are held, one after the other.
type parts struct {
	s     *Site
	count int64
	part  int64
	body  []byte
}

func (p *parts) Read(b []byte) (int, error) {
	for len(p.body) == 0 {
		if p.part == p.count {
			return 0, io.EOF
		}
		st, err := p.s.stmts.get(p.s.conn, "SELECT body FROM crr.__crr_inbox WHERE part=?")
		if err != nil {
			return 0, err
		}
		if err := run(st, func(st Stmt) error { p.body = append([]byte(nil), st.ColumnBytes(0)...); return nil }, wire.Integer(p.part)); err != nil {
			return 0, err
		}
		p.part++
	}
	n := copy(b, p.body)
	p.body = p.body[n:]
	return n, nil
}
