package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// AnswerTimeout bounds the wait for one answer.
const AnswerTimeout = 30 * time.Second

// bodyMax bounds a body that is read, in bytes.
const bodyMax = 64 << 20

// conn is one connection.
type conn struct {
	c    net.Conn
	r    *bufio.Reader
	out  []byte
	body []byte
}

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, r: bufio.NewReaderSize(c, 16<<10)}, nil
}

// do sends what is in out, and reads the answer; body is valid until the next.
func (c *conn) do() (status int, body []byte, err error) {
	if err := c.c.SetDeadline(time.Now().Add(AnswerTimeout)); err != nil {
		return 0, nil, err
	}
	if _, err := c.c.Write(c.out); err != nil {
		return 0, nil, err
	}
	line, err := c.line()
	if err != nil {
		return 0, nil, err
	}
	// HTTP/1.1 200 OK
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, nil, fmt.Errorf("no status line: %.60q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("no status line: %.60q", line)
	}
	length, chunked := -1, false
	for {
		if line, err = c.line(); err != nil {
			return 0, nil, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == 14 && bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 || length > bodyMax {
				return 0, nil, fmt.Errorf("header %.60q", line)
			}
		case len(name) == 17 && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
	switch {
	case chunked:
		err = c.chunks()
	case length >= 0:
		err = c.fill(0, length)
	case status != 204:
		err = errors.New("the answer does not say how long it is")
	}
	return status, c.body, err
}

// line reads a line without its end.
func (c *conn) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// fill reads n bytes into the body, from at on.
func (c *conn) fill(at, n int) error {
	if at+n > bodyMax {
		return fmt.Errorf("the answer is larger than %d bytes", bodyMax)
	}
	if cap(c.body) < at+n {
		c.body = append(make([]byte, 0, 2*(at+n)), c.body[:at]...)
	}
	c.body = c.body[:at+n]
	_, err := io.ReadFull(c.r, c.body[at:])
	return err
}

func (c *conn) chunks() error {
	at := 0
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 31)
		if err != nil {
			return fmt.Errorf("length of a chunk: %w", err)
		}
		if n > 0 {
			if err := c.fill(at, int(n)); err != nil {
				return err
			}
			at += int(n)
		}
		if line, err = c.line(); err != nil {
			return err
		}
		if len(line) > 0 {
			return fmt.Errorf("after a chunk: %.60q", line)
		}
		if n == 0 {
			c.body = c.body[:at]
			return nil
		}
	}
}
