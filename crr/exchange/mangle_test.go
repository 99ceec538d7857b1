package exchange_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"

	"github.com/nearsql/nearsql/crr/exchange/frame"
)

// mangled is a connection, of the end that dials, on which pushes get lost, come twice, and overtake each other, both ways.
type mangled struct {
	net.Conn
	mu       sync.Mutex
	rand     *rand.Rand
	out, in  mangler
	buffered bytes.Buffer // read and mangled
}

// mangler is one way.
type mangler struct {
	part []byte // of a frame
	late []byte // a push that the next overtakes
}

// mangle takes bytes of the stream and returns what comes out at the other end.
func (m *mangler) mangle(r *rand.Rand, b []byte) (out []byte) {
	m.part = append(m.part, b...)
	for len(m.part) >= 4 {
		n := 8 + (int(m.part[1])<<16 | int(m.part[2])<<8 | int(m.part[3]))
		if len(m.part) < n {
			break
		}
		f := append([]byte(nil), m.part[:n]...)
		m.part = m.part[n:]
		if frame.Type(f[0]) != frame.TypePush {
			out = append(out, f...)
			continue
		}
		switch k := r.IntN(10); {
		case k < 2:
			continue
		case k < 4:
			out = append(append(out, f...), f...)
		case k < 6 && m.late == nil:
			m.late = f
			continue
		default:
			out = append(out, f...)
		}
		out = append(out, m.late...)
		m.late = nil
	}
	return out
}

func (c *mangled) Write(b []byte) (int, error) {
	c.mu.Lock()
	out := c.out.mangle(c.rand, b)
	c.mu.Unlock()
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *mangled) Read(b []byte) (int, error) {
	for c.buffered.Len() == 0 {
		raw := make([]byte, 4096)
		n, err := c.Conn.Read(raw)
		if err != nil {
			if err == io.EOF && len(c.in.part) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		c.mu.Lock()
		c.buffered.Write(c.in.mangle(c.rand, raw[:n]))
		c.mu.Unlock()
	}
	return c.buffered.Read(b)
}
