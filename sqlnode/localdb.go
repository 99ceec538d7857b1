package sqlnode

import (
	"context"
	"slices"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// localDB is catalogue.DB over this node's copy of the tenant `system`. Exec wants this node to be its primary.
type localDB struct{ n *Node }

// system finds this node's copy of the catalogue.
func (n *Node) system() (*resident, error) {
	h := n.groups.get(systemGroup)
	t, err := h.pages.Tenant(tenant.SystemID())
	if err != nil {
		return nil, wire.NewError(wire.CodeNotReady, "this node does not have the cluster's catalogue yet")
	}
	return newResident(t, h), nil
}

// Exec implements catalogue.DB.
func (d localDB) Exec(ctx context.Context, stmts []wire.Statement) ([]wire.Result, error) {
	r, err := d.n.system()
	if err != nil {
		return nil, err
	}
	var got collector
	_, err = d.n.engine.Execute(ctx, r.Tenant, r.q, &wire.Request{Statements: stmts, Batch: true, Subject: "catalogue"}, &got)
	return got.results, err
}

// Query implements catalogue.DB.
func (d localDB) Query(ctx context.Context, sql string, args []wire.Value, row func([]wire.Value) error) error {
	r, err := d.n.system()
	if err != nil {
		return err
	}
	req := &wire.Request{Statements: []wire.Statement{{SQL: sql, Args: args}}, Stream: true, Consistency: wire.Weak,
		MaxStaleness: wire.AnyStaleness, Subject: "catalogue"}
	_, err = d.n.engine.Execute(ctx, r.Tenant, r.q, req, rowSink(row))
	return err
}

// rowSink gives the rows of a request with one statement to a function.
type rowSink func([]wire.Value) error

func (rowSink) Begin(int, []wire.Column) error { return nil }

func (f rowSink) Row(row []wire.Value) error { return f(row) }

func (rowSink) End(wire.Summary) error { return nil }

// collector keeps the results of a request. An engine that runs a request again begins it again.
type collector struct{ results []wire.Result }

// Begin implements wire.Sink.
func (c *collector) Begin(statement int, columns []wire.Column) error {
	c.results = append(c.results[:min(statement, len(c.results))], wire.Result{Columns: columns})
	return nil
}

// Row implements wire.Sink.
func (c *collector) Row(row []wire.Value) error {
	r := &c.results[len(c.results)-1]
	r.Rows = append(r.Rows, slices.Clone(row))
	return nil
}

// End implements wire.Sink.
func (c *collector) End(s wire.Summary) error {
	c.results[len(c.results)-1].Summary = s
	return nil
}
