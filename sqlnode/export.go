package sqlnode

import (
	"bufio"
	"context"
	"io"

	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
)

// Export implements httpapi.Tenants.
func (s tenantService) Export(ctx context.Context, name string, w io.Writer, f httpapi.Format) error {
	r, err := s.n.locate(ctx, name)
	if err == nil {
		_, err = s.n.home(r)
	}
	if err != nil {
		return err
	}
	q := r.q
	q.anywhere = true
	if s.n.net != nil && r.Failed() != nil {
		return s.n.elsewhere(r.h, wire.NewError(wire.CodeStale, "this node's copy is being fetched: %w", r.Failed()))
	}
	if err := q.Confirm(ctx); err != nil {
		return s.n.elsewhere(r.h, err)
	}
	store, err := r.Acquire()
	if err != nil {
		return err
	}
	defer r.Release()
	if f == httpapi.FormatSQL {
		c, err := store.OpenReader(nil)
		if err != nil {
			return err
		}
		defer c.Close()
		return dump(ctx, c, w)
	}
	snap, err := store.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Close()
	out := bufio.NewWriterSize(&contextWriter{ctx, w}, 256<<10)
	if _, err := snap.WriteTo(out); err != nil {
		return err
	}
	return out.Flush()
}

// contextWriter ends with its context.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (w *contextWriter) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, wire.AsError(err)
	}
	return w.w.Write(b)
}
