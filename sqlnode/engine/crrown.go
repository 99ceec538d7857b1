package engine

import (
	"context"
	"errors"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// CRRError converts an error of the packages crr, schema and crrfiles to one for clients.
func CRRError(err error) error { return crrError(err) }

// Own runs the node's own statements as one transaction of a tenant's strong schema, which this node must be the primary of: what do does happens
// all or not at all, and has happened, durably, when Own returns nil. The connection has the conflict-free tables attached as crr, to read. do may
// be called again after it has failed, or when its transaction has to be made anew.
func (e *Engine) Own(ctx context.Context, t *pagestore.Tenant, q Quorum, do func(c *sqlite.Conn) error) error {
	return e.within(ctx, t, q, func(c *conn) *wire.Error {
		err := c.internally(func() error { return do(c.Conn.Conn) })
		if err == nil {
			return nil
		}
		var told *wire.Error
		if errors.As(err, &told) {
			return told
		}
		if e := c.fail(err); e.Code != wire.CodeInternal {
			return e
		}
		return crrError(err)
	})
}

// SetLeaving has sites of a tenant take no more writes, once their nodes see it: c is the tenant's writer, within a transaction.
func SetLeaving(c *sqlite.Conn, of wire.TenantID, sites []crr.SiteID) error {
	for _, site := range sites {
		if err := runOwn(c, "UPDATE main.__crr_site SET state='leaving' WHERE tenant=? AND number=? AND state='active'",
			wire.Blob(of[:]), wire.Integer(int64(site))); err != nil {
			return err
		}
	}
	return nil
}

// SetRetired ends a site of a tenant: what it wrote up to final counts, whatever is above is refused for ever. A site that was retired before keeps the
// later of both. c is the tenant's writer, within a transaction.
func SetRetired(c *sqlite.Conn, of wire.TenantID, site crr.SiteID, final crr.HLC) error {
	return runOwn(c, "UPDATE main.__crr_site SET state='retired', final=max(coalesce(final,0),?) WHERE tenant=? AND number=?",
		wire.Integer(int64(final)), wire.Blob(of[:]), wire.Integer(int64(site)))
}

func runOwn(c *sqlite.Conn, sql string, args ...wire.Value) error {
	return eachOwn(c, sql, nil, args...)
}

// eachOwn runs one statement with arguments, and row for each of its rows.
func eachOwn(c *sqlite.Conn, sql string, row func(s *sqlite.Stmt) error, args ...wire.Value) error {
	st, _, err := c.Prepare(sql, false)
	if err != nil {
		return err
	}
	defer st.Finalize()
	if err := st.BindAll(args); err != nil {
		return err
	}
	for {
		more, err := st.Step()
		if err != nil || !more {
			return err
		}
		if row != nil {
			if err := row(st); err != nil {
				return err
			}
		}
	}
}

// OwnLocal runs the node's own statements as one transaction on its file of a tenant's conflict-free tables, tracked as a local write. Main is
// attached, to read. The transaction's stamp is zero if do wrote nothing.
func (e *Engine) OwnLocal(ctx context.Context, f *crrfiles.File, do func(w *crrfiles.Writer) error) (crr.Stamp, error) {
	var stamp crr.Stamp
	err := f.Write(ctx, func(w *crrfiles.Writer) error {
		if err := w.Site.Begin(); err != nil {
			return err
		}
		if d, ok := w.Keep.(*crrDress); ok { // at rest its policy lets all pass
			defer func(was bool) { d.c.pol.internal = was }(d.c.pol.internal)
			d.c.pol.internal = true
		}
		if err := do(w); err != nil {
			return err
		}
		done, err := w.Site.Commit()
		stamp = done.Stamp
		return err
	})
	if err != nil {
		return stamp, crrError(err)
	}
	return stamp, nil
}
