package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
)

// A node that listens nowhere is reached by lines that it opens: connections on which nothing is said until the other end has something to
// say. One byte of that end begins such a line, the same byte is the answer, and from then on it is what a connection would be that
// the other end had dialled: with a hello, TLS and all. Until then the end that waits sends another byte now and then, which is answered by
// the same, so that both know that the line is alive.
const (
	lineAlive byte = 0
	lineBegin byte = 1
)

// Bounds and times of lines.
const (
	linesPerNode = 8    // that one node may have waiting here
	linesMax     = 4096 // that may wait here in all
	lineBeat     = 15 * time.Second
	lineDead     = 3 * lineBeat
	lineSend     = 5 * time.Second // for a byte on its way
	lineWait     = 2 * time.Second // for a line of a node that has none just now
)

// backPrefix is before the id of a node that is reached by a line of its own, where others have an address.
const backPrefix = "line:"

// backLines are the lines by which nodes can be reached from here that listen nowhere.
type backLines struct {
	mu struct {
		sync.Mutex
		waiting map[string][]*backLine // the oldest first
		all     int
		changed chan struct{} // closed and replaced when there is another
	}
}

// backLine is one line, from the end that uses it.
type backLine struct {
	conn  net.Conn
	begun chan struct{} // closed when the other end has answered
	ended chan struct{} // closed when it is over
	once  sync.Once

	mu struct {
		sync.Mutex
		taken bool
	}
}

func newBackLines() *backLines {
	b := &backLines{}
	b.mu.waiting = map[string][]*backLine{}
	b.mu.changed = make(chan struct{})
	return b
}

// resolve gives nodes that listen nowhere an address that dialer knows.
func (b *backLines) resolve(resolve func(string) (string, error)) func(string) (string, error) {
	return func(node string) (string, error) {
		addr, err := resolve(node)
		if err == nil && addr == catalogue.OutgoingOnly {
			return backPrefix + node, nil
		}
		return addr, err
	}
}

// dialer takes a line for nodes that listen nowhere.
func (b *backLines) dialer(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		if node, ok := strings.CutPrefix(addr, backPrefix); ok {
			return b.take(ctx, node)
		}
		return dial(ctx, addr)
	}
}

// serve keeps a line that another node has opened until it is over. It is for cluster.Net.Handle.
func (b *backLines) serve(ctx context.Context, c *cluster.Conn) {
	l := &backLine{conn: c, begun: make(chan struct{}), ended: make(chan struct{})}
	if !b.add(c.From(), l) {
		return
	}
	defer b.remove(c.From(), l)
	defer l.end()
	var beats sync.WaitGroup
	defer beats.Wait()
	defer l.end()
	beats.Go(func() { l.beat(ctx) })
	if l.listen() == nil {
		select {
		case <-l.ended:
		case <-ctx.Done():
		}
	}
}

// listen reads until the other end has answered that the line begins.
func (l *backLine) listen() error {
	var b [1]byte
	for {
		if err := l.conn.SetReadDeadline(time.Now().Add(lineDead)); err != nil {
			return err
		}
		if _, err := l.conn.Read(b[:]); err != nil {
			return err
		}
		switch b[0] {
		case lineAlive:
		case lineBegin:
			if err := l.conn.SetDeadline(time.Time{}); err != nil {
				return err
			}
			close(l.begun)
			return nil
		default:
			return fmt.Errorf("byte %d on a line that waits", b[0])
		}
	}
}

// beat says that this end is there, until the line is taken.
func (l *backLine) beat(ctx context.Context) {
	tick := time.NewTicker(lineBeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.ended:
			return
		case <-tick.C:
		}
		l.mu.Lock()
		err := errTaken
		if !l.mu.taken {
			err = l.say(lineAlive)
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

var errTaken = errors.New("the line is taken")

func (l *backLine) say(b byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(lineSend)); err != nil {
		return err
	}
	_, err := l.conn.Write([]byte{b})
	return err
}

// end lets serve return, which closes the connection.
func (l *backLine) end() { l.once.Do(func() { close(l.ended) }) }

func (b *backLines) add(node string, l *backLine) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mu.waiting[node]) >= linesPerNode || b.mu.all >= linesMax {
		return false
	}
	b.mu.waiting[node] = append(b.mu.waiting[node], l)
	b.mu.all++
	close(b.mu.changed)
	b.mu.changed = make(chan struct{})
	return true
}

func (b *backLines) remove(node string, l *backLine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.mu.waiting[node]
	i := slices.Index(list, l)
	if i < 0 {
		return
	}
	b.mu.all--
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(b.mu.waiting, node)
		return
	}
	b.mu.waiting[node] = list
}

// take begins a line of a node.
func (b *backLines) take(ctx context.Context, node string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, lineWait)
	defer cancel()
	for {
		b.mu.Lock()
		var l *backLine
		if list := b.mu.waiting[node]; len(list) > 0 {
			l = list[0]
		}
		changed := b.mu.changed
		b.mu.Unlock()
		if l == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("node %s listens nowhere, and has no line to this node: %w", node, ctx.Err())
			}
		}
		b.remove(node, l)
		if c := l.begin(ctx); c != nil {
			return c, nil
		}
		l.end()
	}
}

// begin makes the line a connection; nil if it is dead, or somebody else has it.
func (l *backLine) begin(ctx context.Context) net.Conn {
	l.mu.Lock()
	taken := l.mu.taken
	l.mu.taken = true
	err := errTaken
	if !taken {
		err = l.say(lineBegin)
	}
	l.mu.Unlock()
	if err != nil {
		return nil
	}
	select {
	case <-l.begun:
		return &lineConn{l.conn, l}
	case <-l.ended:
	case <-ctx.Done():
	}
	return nil
}

// lineConn is a line that has begun.
type lineConn struct {
	net.Conn
	l *backLine
}

// Close implements net.Conn.
func (c *lineConn) Close() error {
	c.l.end()
	return c.Conn.Close()
}
