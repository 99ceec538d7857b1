package sqlnode

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Conversions of tables between the strong and the conflict-free schema: package engine has the two transactions that begin and end one, here is what comes
// between them. One that fails is undone; one that was cut off by a crash leaves the table as it was, closed to writes, until it is asked for again or cancelled.

const (
	// copyRows is how many rows one transaction copies.
	copyRows = 2000
	// spreadWait bounds how long all sites may take to get what a conversion needs them to have.
	spreadWait = 2 * time.Minute
)

// conversions has one conversion of a tenant run on this node at a time.
type conversions struct {
	mu struct {
		sync.Mutex
		under map[tenant.ID]struct{}
	}
}

func (c *conversions) begin(id tenant.ID) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, busy := c.mu.under[id]; busy {
		return nil, wire.NewError(wire.CodeConflict, "another table of the tenant is being converted")
	}
	if c.mu.under == nil {
		c.mu.under = map[tenant.ID]struct{}{}
	}
	c.mu.under[id] = struct{}{}
	return func() {
		c.mu.Lock()
		delete(c.mu.under, id)
		c.mu.Unlock()
	}, nil
}

// conversion is one table on its way.
type conversion struct {
	s *sites
	r *resident
	o httpapi.ConvertOptions

	begin   func(c *sqlite.Conn, table, declare string) (*engine.Moving, error)
	end     func(c *sqlite.Conn, t *engine.Moving) error
	cancel  func(c *sqlite.Conn, table string) (bool, error)
	between func(ctx context.Context, t *engine.Moving) (rows int64, err error)
}

// Adopt implements httpapi.TableCommands.
func (s tenantService) Adopt(ctx context.Context, name string, o httpapi.ConvertOptions) (httpapi.Converted, error) {
	return s.convert(ctx, name, o, func(r *resident) *conversion {
		c := &conversion{s: s.n.sites, r: r, o: o, begin: engine.AdoptBegin, end: engine.AdoptEnd, cancel: engine.AdoptCancel}
		c.between = c.adopt
		return c
	})
}

// Release implements httpapi.TableCommands.
func (s tenantService) Release(ctx context.Context, name string, o httpapi.ConvertOptions) (httpapi.Converted, error) {
	return s.convert(ctx, name, o, func(r *resident) *conversion {
		c := &conversion{s: s.n.sites, r: r, o: o, begin: engine.ReleaseBegin, end: engine.ReleaseEnd, cancel: engine.ReleaseCancel}
		c.between = c.release
		return c
	})
}

func (s tenantService) convert(ctx context.Context, name string, o httpapi.ConvertOptions, of func(*resident) *conversion) (httpapi.Converted, error) {
	var none httpapi.Converted
	r, err := s.tablesPrimary(ctx, name)
	if err != nil {
		return none, err
	}
	if r.Record().State == tenant.StateFrozen {
		return none, wire.NewError(wire.CodeTenantFrozen, "tenant %q takes no writes until it is thawed", name)
	}
	end, err := s.n.sites.conversions.begin(r.ID())
	if err != nil {
		return none, err
	}
	defer end()
	c := of(r)
	if o.Cancel {
		return none, c.undo(ctx)
	}
	return c.run(ctx)
}

// run carries the conversion out.
func (c *conversion) run(ctx context.Context) (out httpapi.Converted, err error) {
	var t *engine.Moving
	if err := c.own(ctx, func(x *sqlite.Conn) (err error) { t, err = c.begin(x, c.o.Table, c.o.Declare); return err }); err != nil {
		return out, err
	}
	out.Table = t.Table
	if t.Done {
		return out, nil
	}
	c.log("table is being converted", t, 0)
	if out.Rows, err = c.copy(ctx, t); err == nil {
		err = c.own(ctx, func(x *sqlite.Conn) error { return c.end(x, t) })
	}
	if err != nil {
		if isCode(err, wire.CodeUnknownOutcome) {
			return httpapi.Converted{}, err // asked again, it is found to be done or goes on
		}
		late, stop := context.WithTimeout(context.WithoutCancel(ctx), bookmarkPatience)
		defer stop()
		if undo := c.undo(late); undo != nil {
			c.s.n.log.Warn("a table that was not converted takes no writes: ask for it again, or cancel it", "id", c.r.ID(), "table", t.Table, "error", undo)
		}
		return httpapi.Converted{}, err
	}
	c.log("table converted", t, out.Rows)
	c.settle(ctx)
	return out, nil
}

// settle waits a moment until all sites know the table by its schema: until then they send what names it to the primary.
func (c *conversion) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leavingWait)
	defer cancel()
	if f := c.s.files.Lookup(c.r.Tenant); f != nil && f.Schema() != nil {
		_, _ = c.s.atVersion(ctx, c.r, f.Schema().Version) // those that do not say so learn it later
	}
}

func (c *conversion) log(what string, t *engine.Moving, rows int64) {
	c.s.n.log.Info(what, "tenant", string(c.r.Record().Name), "id", c.r.ID(), "table", t.Table, "rows", rows)
}

// own runs a transaction of the tenant's strong schema that may change the conflict-free one, and tells all copies.
func (c *conversion) own(ctx context.Context, do func(*sqlite.Conn) error) error {
	if err := c.s.n.engine.Own(ctx, c.r.Tenant, c.r.q, do); err != nil {
		return err
	}
	f, err := c.s.files.Open(ctx, c.r.Tenant)
	if errors.Is(err, crrfiles.ErrNone) {
		return nil
	}
	if err != nil {
		return tablesError(err)
	}
	if st := f.Schema(); st != nil {
		c.s.declared(ctx, c.r, st.Version)
	}
	return nil
}

// undo makes the table again what it was.
func (c *conversion) undo(ctx context.Context) error {
	return c.own(ctx, func(x *sqlite.Conn) error {
		_, err := c.cancel(x, c.o.Table)
		return err
	})
}

func (c *conversion) copy(ctx context.Context, t *engine.Moving) (int64, error) {
	if err := c.s.lookNow(ctx, c.r); err != nil {
		return 0, err
	}
	return c.between(ctx, t)
}

// adopt copies a strong table's rows to this node's file, and returns when all sites have them: whoever writes the table then meets its rows.
func (c *conversion) adopt(ctx context.Context, t *engine.Moving) (int64, error) {
	f, err := c.s.files.Open(ctx, c.r.Tenant)
	if err != nil {
		return 0, tablesError(err)
	}
	if err := c.s.numbered(ctx, c.r, f); err != nil {
		return 0, err
	}
	var at engine.Copied
	var last crr.Stamp
	for !at.Done {
		stamp, err := c.s.n.engine.OwnLocal(ctx, f, func(w *crrfiles.Writer) (err error) {
			at, err = t.CopyRows(w.Conn.Conn, at, copyRows, func(sql string) error { return w.Site.Use(crr.Classify(sql)) })
			return err
		})
		if err != nil {
			return 0, err
		}
		if !stamp.Zero() {
			last = stamp
		}
	}
	if err := f.Write(ctx, func(w *crrfiles.Writer) error { return t.CheckRows(w.Conn.Conn) }); err != nil {
		return 0, tablesError(err)
	}
	return at.Rows, c.spread(ctx, last, t.Version)
}

// spread returns when all other sites have a transaction of this node's, and have made a change of the schema.
func (c *conversion) spread(ctx context.Context, done crr.Stamp, version uint64) error {
	if c.s.x == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, spreadWait)
	defer cancel()
	for {
		missing, err := c.s.x.PullAll(ctx, c.r.ID())
		if err != nil {
			return wire.NewError(wire.CodeUnreachable, "%w", err)
		}
		status, _ := c.s.x.Status(c.r.ID())
		behind := ""
		for _, p := range status.Sites {
			if p.Site != 0 && p.Vector[done.Site] < done.HLC {
				behind = p.Node
			}
		}
		if len(missing) == 0 && behind == "" {
			_, err := c.s.atVersion(ctx, c.r, version)
			return err
		}
		if pause(ctx, 100*time.Millisecond); ctx.Err() != nil {
			if len(missing) > 0 {
				return unreached(missing)
			}
			return wire.NewError(wire.CodeUnreachable, "the table's rows have not come to all sites in time: node %s lacks some", behind)
		}
	}
}

// release brings here what all sites wrote to a conflict-free table, once none of them writes it any more, and copies its rows.
func (c *conversion) release(ctx context.Context, t *engine.Moving) (int64, error) {
	waits, cancel := context.WithTimeout(ctx, spreadWait)
	defer cancel()
	least, err := c.s.atVersion(waits, c.r, t.Version)
	if err != nil {
		return 0, err
	}
	for {
		if _, err = c.s.gather(waits, c.r, nil, least); err == nil || waits.Err() != nil || !isCode(err, wire.CodeUnreachable) {
			break
		}
		pause(waits, 100*time.Millisecond)
	}
	if err != nil {
		return 0, err
	}
	var at engine.Copied
	for !at.Done {
		next := at
		err := c.s.n.engine.Own(ctx, c.r.Tenant, c.r.q, func(x *sqlite.Conn) (err error) {
			next, err = t.CopyRows(x, at, copyRows, nil)
			return err
		})
		if err != nil {
			return 0, err
		}
		at = next
	}
	return at.Rows, c.s.n.engine.Own(ctx, c.r.Tenant, c.r.q, t.CheckRows)
}

// numbered returns when this node's file has its site number.
func (s *sites) numbered(ctx context.Context, r *resident, f *crrfiles.File) error {
	ctx, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	for {
		head, err := f.Head(ctx)
		if err != nil {
			return tablesError(err)
		}
		if head.Site != 0 {
			return nil
		}
		if err := s.register(ctx, r.Tenant, head.File); err != nil {
			return err
		}
		if pause(ctx, 10*time.Millisecond); ctx.Err() != nil {
			return tablesError(crr.ErrNoSite)
		}
	}
}

// atVersion returns when all sites have made a change of the conflict-free schema, and how far each had got then at most.
func (s *sites) atVersion(ctx context.Context, r *resident, version uint64) (crr.Vector, error) {
	all, err := s.members(ctx, r)
	if err != nil {
		return nil, err
	}
	least := crr.Vector{}
	for _, m := range all {
		if m.State == crr.Retired {
			continue
		}
		final, err := s.askLeaving(ctx, r, m, version)
		if err != nil {
			return nil, wire.NewError(wire.CodeUnreachable, "node %s, site %d, does not say that it has made the change: %w", m.Node, m.Site, err)
		}
		least[m.Site] = final
	}
	return least, nil
}
