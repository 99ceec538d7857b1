package crrfiles

import (
	"context"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// Reader makes batches of a file over a connection of its own. It is used by one goroutine at a time, and keeps the file's writer open
// until Close.
type Reader struct {
	*crr.Reader
	f    *File
	conn *pagestore.Conn
}

// NewReader opens a reader.
func (f *File) NewReader(ctx context.Context) (*Reader, error) {
	var r *Reader
	err := f.Write(ctx, func(w *Writer) error {
		c, err := w.store.OpenReader(nil)
		if err != nil {
			return err
		}
		if err := Attach(c, f.path); err != nil {
			c.Close()
			return err
		}
		r = &Reader{Reader: w.Site.NewReader(Adapt(c.Conn)), f: f, conn: c}
		f.readers.Add(1)
		return nil
	})
	return r, err
}

// Close ends the reader.
func (r *Reader) Close() {
	r.Reader.Close()
	r.conn.Close()
	r.f.readers.Add(-1)
}

// Attach attaches a file read-only to a connection of its tenant's store.
func Attach(c *pagestore.Conn, path string) error {
	if err := c.Exec(fmt.Sprintf("PRAGMA busy_timeout=%d", busyMillis)); err != nil {
		return err
	}
	return c.AttachCRR(path)
}

// Head returns the newest committed state of the file.
func (f *File) Head(ctx context.Context) (h crr.Head, err error) {
	err = f.Write(ctx, func(w *Writer) error { h = w.Site.Head(); return nil })
	return h, err
}

// Snapshot writes a copy of one committed state of the file, without its identity, to a new file at path.
func (f *File) Snapshot(ctx context.Context, path string) error {
	var c *pagestore.Conn
	err := f.Write(ctx, func(w *Writer) (err error) {
		c, err = w.store.OpenCRRWriter(f.path, nil)
		return err
	})
	if err != nil {
		return err
	}
	f.readers.Add(1)
	defer f.readers.Add(-1)
	uri := sqlite.FileURI(path, "vfs=unix")
	return errors.Join(f.judge(crr.Snapshot(Adapt(c.Conn), uri)), c.Close())
}

// Renounce gives up the file's number and id: for a file that is or may be a copy of another one's state, or older than what it sent.
func (f *File) Renounce(ctx context.Context) error {
	return f.Write(ctx, func(w *Writer) error { return w.Site.Renounce() })
}
