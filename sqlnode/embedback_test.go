package sqlnode

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// What waits on a line is told apart from what it is used for, and a byte that is neither ends it, at both ends.
func TestLineBytes(t *testing.T) {
	for sent, ok := range map[string]bool{"\x00\x00\x01": true, "\x01": true, "\x02": false, "\x00n": false, "": false} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			l := &backLine{conn: near, begun: make(chan struct{}), ended: make(chan struct{})}
			go func() {
				_, _ = far.Write([]byte(sent))
				if !ok {
					_ = far.Close()
				}
			}()
			if err := l.listen(); (err == nil) != ok {
				t.Errorf("the end that uses the line hears %q: %v", sent, err)
			}
			_, _ = near.Close(), far.Close()
			near, far = net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, far) }() // the answers
			go func() {
				_, _ = far.Write([]byte(sent))
				if !ok {
					_ = far.Close()
				}
			}()
			if err := (&outward{}).wait(t.Context(), near); (err == nil) != ok {
				t.Errorf("the end that opened the line hears %q: %v", sent, err)
			}
			_, _ = near.Close(), far.Close()
			synctest.Wait()
		})
	}
}

// A line on which nothing is heard is given up, and so is waiting for one that does not come.
func TestDeadLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		l := &backLine{conn: near, begun: make(chan struct{}), ended: make(chan struct{})}
		began := time.Now()
		if err := l.listen(); err == nil || time.Since(began) != lineDead {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		began = time.Now()
		if err := (&outward{}).wait(t.Context(), far); err == nil || time.Since(began) != lineDead {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		b := newBackLines()
		began = time.Now()
		dial := b.dialer(func(context.Context, string) (net.Conn, error) { t.Error("it was dialled"); return nil, io.EOF })
		if c, err := dial(t.Context(), backPrefix+"w1"); err == nil || time.Since(began) != lineWait {
			t.Errorf("%v, %v after %v", c, err, time.Since(began))
		}
		for range linesPerNode + 1 { // more than a node may have waiting
			b.add("w1", &backLine{})
		}
		if n := len(b.mu.waiting["w1"]); n != linesPerNode || b.mu.all != n {
			t.Errorf("%d lines wait, %d in all", n, b.mu.all)
		}
		_, _ = near.Close(), far.Close()
	})
}
