package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// TableCommands changes what nodes do with conflict-free tables; Tenants that know some implement it. To ask for
// something again does no harm.
type TableCommands interface {
	Tables
	// RetireSites ends sites of a tenant for ever.
	RetireSites(ctx context.Context, name string, o RetireOptions) ([]RetiredSite, error)
	// Restamp has a node write anew, with its clock as it is now, what it wrote while that was ahead. node is "" for the one that is asked.
	Restamp(ctx context.Context, name, node string) (Restamped, error)
	// Adopt makes a strong table conflict-free, Release a conflict-free one strong.
	Adopt(ctx context.Context, name string, o ConvertOptions) (Converted, error)
	Release(ctx context.Context, name string, o ConvertOptions) (Converted, error)
}

// RetireOptions says which sites are meant: those with the numbers, and those of the nodes that are not retired.
type RetireOptions struct {
	Sites []int64  `json:"sites"`
	Nodes []string `json:"nodes"`
	// Force retires a site that is in use, and does not wait for what it has not sent.
	Force bool `json:"force"`
}

// RetiredSite is a site that has been retired.
type RetiredSite struct {
	Site  int64     `json:"site"`
	Node  string    `json:"node"`
	Final time.Time `json:"final"` // of its newest transaction that counts
}

// Restamped is what became of what was written under a clock that was ahead.
type Restamped struct {
	Node string `json:"node"`
	Site int64  `json:"site"` // the node's new number; 0 while it has none yet
	// Pending: it is not all written anew yet; that goes on by itself.
	Pending bool `json:"pending"`
}

// Rebuilder rebuilds damaged files of conflict-free tables; Tenants that have some implement it.
type Rebuilder interface {
	// Rebuild has a node fetch another site's copy of a tenant's file in the place of its own, which is damaged. node is "" for the one that is asked.
	Rebuild(ctx context.Context, name, node string) (Rebuilt, error)
}

// Rebuilt is what became of a damaged file.
type Rebuilt struct {
	Node  string `json:"node"`
	Site  int64  `json:"site"`  // the node's new number; 0 while it has none yet
	Aside string `json:"aside"` // where the damaged file is on the node
	// Salvaging: the damaged file can be opened, and what can be read of it and only it has is written anew. The rest is lost; without it all is.
	Salvaging bool `json:"salvaging"`
	// Pending: that is not done yet; it goes on by itself.
	Pending bool `json:"pending"`
}

// ConvertOptions is a table that is to change its schema.
type ConvertOptions struct {
	Table string `json:"table"`
	// Declare is the CREATE TABLE of what it is to be; "" has it made of what it is.
	Declare string `json:"declare"`
	// Cancel undoes a conversion that has not come to its end.
	Cancel bool `json:"cancel"`
}

// Converted is a table that has changed its schema.
type Converted struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
}

// command reads a body and has a command carried out where that can be.
func command[In, Out any](h *Handler, w http.ResponseWriter, r *http.Request, check func(in *In) error, do func(ctx context.Context, c TableCommands, name string, in In) (Out, error)) error {
	name, err := h.adminOf(r)
	if err != nil {
		return err
	}
	known, ok := h.tenants.(TableCommands)
	if !ok {
		return wire.NewError(wire.CodeNotFound, "this node has no conflict-free tables")
	}
	var in In
	body, err := h.jsonBody(w, r, &in)
	if err != nil {
		return err
	}
	if err := check(&in); err != nil {
		return err
	}
	return show(h, w, r, http.StatusOK, &errand{repeats: true, body: body}, func(ctx context.Context) (Out, error) {
		return do(ctx, known, name, in)
	})
}

func (h *Handler) retireSites(w http.ResponseWriter, r *http.Request) error {
	type list struct {
		Retired []RetiredSite `json:"retired"`
	}
	check := func(in *RetireOptions) error {
		if len(in.Sites)+len(in.Nodes) == 0 {
			return wire.NewError(wire.CodeBadRequest, `the body has neither "sites" nor "nodes"`)
		}
		return nil
	}
	return command(h, w, r, check, func(ctx context.Context, c TableCommands, name string, in RetireOptions) (list, error) {
		out, err := c.RetireSites(ctx, name, in)
		return list{out}, err
	})
}

func (h *Handler) restampSite(w http.ResponseWriter, r *http.Request) error {
	type target struct {
		Node string `json:"node"`
	}
	check := func(*target) error { return nil }
	return command(h, w, r, check, func(ctx context.Context, c TableCommands, name string, in target) (Restamped, error) {
		return c.Restamp(ctx, name, in.Node)
	})
}

func (h *Handler) rebuildSite(w http.ResponseWriter, r *http.Request) error {
	type target struct {
		Node string `json:"node"`
	}
	check := func(*target) error { return nil }
	return command(h, w, r, check, func(ctx context.Context, c TableCommands, name string, in target) (Rebuilt, error) {
		b, ok := c.(Rebuilder)
		if !ok {
			return Rebuilt{}, wire.NewError(wire.CodeNotFound, "this node has no conflict-free tables")
		}
		return b.Rebuild(ctx, name, in.Node)
	})
}

// convertTable is the route that changes the schema of a table.
func (h *Handler) convertTable(do func(TableCommands, context.Context, string, ConvertOptions) (Converted, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		check := func(in *ConvertOptions) error {
			if in.Table == "" {
				return wire.NewError(wire.CodeBadRequest, `the body has no "table"`)
			}
			return nil
		}
		return command(h, w, r, check, func(ctx context.Context, c TableCommands, name string, in ConvertOptions) (Converted, error) {
			return do(c, ctx, name, in)
		})
	}
}
