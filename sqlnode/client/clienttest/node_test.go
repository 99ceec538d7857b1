package clienttest

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func dial(t *testing.T, token string) *client.Client {
	t.Helper()
	c, err := client.New(Start(t).URL, client.Options{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

// TestClientAgreesWithTheAPI sends what package client has through the API's own handler.
func TestClientAgreesWithTheAPI(t *testing.T) {
	c, ctx := dial(t, Token), t.Context()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Status(ctx); err != nil || !strings.Contains(string(b), "test-1") {
		t.Fatalf("status: %s, %v", b, err)
	}
	if _, err := c.CreateTenant(ctx, "acme", tenant.CreateOptions{PageSize: 8192, Limits: tenant.Limits{Readers: 3}}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Tenant(ctx, "acme")
	if err != nil || got.PageSize != 8192 || got.Limits.Readers != 3 {
		t.Fatalf("got %+v, %v", got, err)
	}
	values := []wire.Value{wire.Null, wire.Integer(math.MaxInt64), wire.Integer(math.MinInt64), wire.Integer(1<<53 + 1),
		wire.Float(1), wire.Float(-1.5e-300), wire.Float(math.Inf(1)), wire.Float(math.Inf(-1)), wire.Float(math.MaxFloat64),
		wire.Text(""), wire.Text("ü\x00\"\\\u2028<"), wire.Blob(nil), wire.Blob([]byte{0, 255, 1})}
	for _, v := range values {
		res, meta, err := c.Query(ctx, "acme", "select ? as v", v)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		if len(res.Rows) != 1 || res.Rows[0][0] != v || res.Columns[0].Name != "v" || res.Columns[0].Type != v.Kind().String() {
			t.Errorf("got %+v, want %v", res, v)
		}
		if meta.Node != "test-1" || meta.Bookmark != "bookmark-1" || meta.Consistency != wire.Strong {
			t.Errorf("got %+v", meta)
		}
	}
	results, _, err := c.Batch(ctx, "acme", wire.Statement{SQL: "create table t(a integer primary key, b)"},
		wire.Statement{SQL: "insert into t values(9223372036854775807, ?)", Args: []wire.Value{wire.Text("x")}},
		wire.Statement{SQL: "select * from t"})
	if err != nil || len(results) != 3 {
		t.Fatalf("got %+v, %v", results, err)
	}
	if r := results[1]; r.RowsAffected != 1 || !r.Inserted || r.LastInsertRowID != math.MaxInt64 {
		t.Errorf("got %+v", r)
	}
	_, _, err = c.Batch(ctx, "acme", wire.Statement{SQL: "delete from t"}, wire.Statement{SQL: "select nothere from t"})
	var we *wire.Error
	if !errors.As(err, &we) || we.Code != wire.CodeSQLiteError || we.Statement != 2 || !strings.Contains(we.Message, "nothere") {
		t.Errorf("got %#v", err)
	}
	if res, _, err := c.Query(ctx, "acme", "select count(*) from t"); err != nil || res.Rows[0][0] != wire.Integer(1) {
		t.Errorf("a batch that failed left something: %+v, %v", res, err)
	}
	// An error after the first rows have gone.
	res, _, err := c.Query(ctx, "acme", "with recursive n(x) as (select 1 union all select x+1 from n where x < 20000) select abs(case when x < 19999 then x else -9223372036854775808 end) from n")
	if !errors.As(err, &we) || !strings.Contains(we.Message, "integer overflow") {
		t.Errorf("got %d rows, %v", len(res.Rows), err)
	}
	_, _, err = c.Exec(ctx, "acme", &wire.Request{Statements: []wire.Statement{{SQL: "select 1; select 2"}}})
	if !errors.As(err, &we) || we.Code != wire.CodeMultipleStatements {
		t.Errorf("got %v", err)
	}
	_, _, err = c.Query(ctx, "nobody", "select 1")
	if !errors.As(err, &we) || we.Code != wire.CodeNoSuchTenant {
		t.Errorf("got %v", err)
	}
	if _, err := c.CreateTenant(ctx, "acme", tenant.CreateOptions{}); !errors.As(err, &we) || we.Code != wire.CodeTenantExists {
		t.Errorf("got %v", err)
	}
	if _, err := c.CreateTenant(ctx, "Bad", tenant.CreateOptions{}); !errors.As(err, &we) || we.Code != wire.CodeBadName {
		t.Errorf("got %v", err)
	}
	for _, f := range []client.Format{client.SQLite, client.SQL} {
		r, err := c.Export(ctx, "acme", f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		name := "copy-" + string(f)
		if _, err := c.Import(ctx, name, f, bytes.NewReader(b), tenant.CreateOptions{Limits: tenant.Limits{Readers: 2}}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Query(ctx, name, "select * from t"); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Import(ctx, "bad", client.SQLite, strings.NewReader("no"), tenant.CreateOptions{}); !errors.As(err, &we) || we.Code != wire.CodeBadDatabase {
		t.Errorf("got %v", err)
	}
	var names []string
	for after := ""; ; {
		page, err := c.ListTenants(ctx, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range page.Tenants {
			names = append(names, string(one.Name))
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if strings.Join(names, " ") != "acme copy-sql copy-sqlite" {
		t.Errorf("got %q", names)
	}
	if err := c.DeleteTenant(ctx, "acme"); err != nil {
		t.Error(err)
	}
	if _, err := c.Tenant(ctx, "acme"); !errors.As(err, &we) || we.Code != wire.CodeTenantDeleted {
		t.Errorf("got %v", err)
	}
}

func TestToken(t *testing.T) {
	_, err := dial(t, "wrong").ListTenants(t.Context(), "", 0)
	var we *wire.Error
	if !errors.As(err, &we) || we.Code != wire.CodeUnauthenticated {
		t.Errorf("got %v", err)
	}
}
