package catalogue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nearsql/nearsql/wire"
)

// pageRows is how many rows a follower asks for at a time.
const pageRows = 1000

// ErrWentBack is the error of a Refresh under which the copy that it read was
// replaced by an older one. The View is as it was.
var ErrWentBack = errors.New("the copy of the catalogue was replaced by an older one while it was read")

// Directory is the catalogue in memory, as of the last Refresh.
type Directory struct {
	refresh chan struct{}             // holds one while a refresh is under way
	now     atomic.Pointer[published] // changed by who holds refresh
}

// published is a View, and what is closed when it is not the newest any more.
type published struct {
	view   *View
	passed chan struct{}
}

// NewDirectory returns a Directory that is empty.
func NewDirectory() *Directory {
	d := &Directory{refresh: make(chan struct{}, 1)}
	d.now.Store(&published{newView(), make(chan struct{})})
	return d
}

// View returns the newest View; it is empty, with Version 0, before the first Refresh.
func (d *Directory) View() *View { return d.now.Load().view }

// Watch returns the newest View, and a channel that is closed when there is a newer one.
func (d *Directory) Watch() (*View, <-chan struct{}) {
	p := d.now.Load()
	return p.view, p.passed
}

// Refresh loads what changed since the last time from a copy of the catalogue, or all of it if the copy is older than what was loaded.
// It says whether there is a new View. When it returns without error, the View has all that the copy had when it was called. One runs
// at a time; others wait. Its error is a *SchemaError when the tables are of a version that is not known. After an error the
// View is as it was.
func (d *Directory) Refresh(ctx context.Context, db DB) (changed bool, err error) {
	return d.load(ctx, db, false)
}

// Reload loads the whole: for a copy whose history is another than that of the last (another epoch).
func (d *Directory) Reload(ctx context.Context, db DB) error {
	_, err := d.load(ctx, db, true)
	return err
}

func (d *Directory) load(ctx context.Context, db DB, whole bool) (bool, error) {
	select {
	case d.refresh <- struct{}{}:
		defer func() { <-d.refresh }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	last := d.now.Load()
	for {
		m, err := readMeta(ctx, db)
		if err != nil {
			return false, err
		}
		old := last.view
		switch {
		case whole, m.version < old.Version, m.trimmed > old.Version: // rows may be gone that nothing tells of
			old = newView()
		case m.version == old.Version && m.trimmed == old.trimmed && m.cluster == old.Cluster:
			return false, nil
		}
		c, err := readChange(ctx, db, m, old.Version)
		if err != nil {
			return false, err
		}
		// Rows are read after the version was, each query in a snapshot of its own: none can be missing, unless the
		// copy went back in between, or rows that tell of tenants gone since old were trimmed.
		again, err := readMeta(ctx, db)
		switch {
		case err != nil:
			return false, err
		case again.version < m.version:
			return false, ErrWentBack
		case old.Version > 0 && again.trimmed > old.Version:
			whole = true
			continue
		}
		d.now.Store(&published{old.with(c), make(chan struct{})})
		close(last.passed)
		return true, nil
	}
}

// readChange reads the rows with a version above since. What refers to others is read before them: so a View that has
// a tenant has its group, and one that has a group its nodes.
func readChange(ctx context.Context, db DB, m meta, since uint64) (change, error) {
	c := change{meta: m}
	err := readPages(ctx, db, "tenants", tenantColumns, since, func(row []wire.Value) error {
		t, err := readTenant(row)
		if err == nil {
			c.tenants = append(c.tenants, t)
		}
		return err
	})
	if err != nil {
		return change{}, err
	}
	err = readPages(ctx, db, "groups", groupColumns, since, func(row []wire.Value) error {
		g, err := readGroup(row)
		if err == nil {
			c.groups = append(c.groups, g)
		}
		return err
	})
	if err != nil {
		return change{}, err
	}
	err = readPages(ctx, db, "nodes", nodeColumns, since, func(row []wire.Value) error {
		n, err := readNode(row)
		if err == nil {
			c.nodes = append(c.nodes, n)
		}
		return err
	})
	if err != nil {
		return change{}, err
	}
	c.tenants = newestOf(c.tenants)
	return c, nil
}

// readPages reads the rows of a table with a version above since, by version and id, in
// pages: a row that changes meanwhile is read again with its higher version.
func readPages(ctx context.Context, db DB, table, columns string, since uint64, row func([]wire.Value) error) error {
	sql := fmt.Sprintf(`SELECT %s FROM %s WHERE (version, id) > (?1, ?2) ORDER BY version, id LIMIT %d`, columns, table, pageRows)
	version, id := wire.Integer(int64(since)), wire.Blob([]byte{0xff}) // a blob is above all texts and numbers
	if table == "tenants" {
		id = wire.BlobString("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff") // and longer than all ids
	}
	for {
		n := 0
		err := db.Query(ctx, sql, []wire.Value{version, id}, func(c []wire.Value) error {
			n++
			version, id = c[len(c)-1], c[0]
			return row(c)
		})
		if err != nil {
			return fmt.Errorf("read the catalogue's %s: %w", table, err)
		}
		if n < pageRows {
			return nil
		}
	}
}

// newestOf keeps the last of those with one id: the one with the highest version.
func newestOf(all []*Tenant) []*Tenant {
	last := make(map[[16]byte]*Tenant, len(all))
	for _, t := range all {
		last[t.ID] = t
	}
	if len(last) == len(all) {
		return all
	}
	kept := all[:0]
	for _, t := range all {
		if last[t.ID] == t {
			kept = append(kept, t)
		}
	}
	return kept
}
