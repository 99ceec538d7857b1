package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Format is how a whole database travels.
type Format string

// The formats.
const (
	SQLite Format = "sqlite" // a database file
	SQL    Format = "sql"    // a dump: statements that make it
)

// contentType is the media type of each format.
func (f Format) contentType() string {
	if f == SQLite {
		return "application/vnd.sqlite3"
	}
	return "application/sql"
}

func tenantPath(name, rest string) string { return "/v1/tenants/" + url.PathEscape(name) + rest }

type createBody struct {
	Name string `json:"name"`
	tenant.CreateOptions
	Group any `json:"group,omitempty"` // a number or a name, in place of that of CreateOptions
}

// groupJSON is a group as the API takes it: the name, or where that is "" the number.
func groupJSON(name string, id wire.GroupID) any {
	switch {
	case name != "":
		return name
	case id != 0:
		return id
	}
	return nil
}

// CreateTenant makes an empty tenant.
func (c *Client) CreateTenant(ctx context.Context, name string, o tenant.CreateOptions) (tenant.Tenant, error) {
	return c.CreateTenantIn(ctx, "", name, o)
}

// CreateTenantIn is CreateTenant in the group of that name, or of o if it is "".
func (c *Client) CreateTenantIn(ctx context.Context, group, name string, o tenant.CreateOptions) (tenant.Tenant, error) {
	var t tenant.Tenant
	err := c.json(ctx, http.MethodPost, "/v1/tenants", nil, createBody{name, o, groupJSON(group, o.Group)}, &t)
	return t, err
}

// TenantPage is one page of a list of tenants.
type TenantPage struct {
	Tenants []tenant.Tenant `json:"tenants"`
	Next    string          `json:"next"` // what to give as after for the next page; "" at the end
}

// ListTenants gives at most limit tenants by name, from the first above after. A
// limit of 0 leaves it to the node.
func (c *Client) ListTenants(ctx context.Context, after string, limit int) (TenantPage, error) {
	query := url.Values{}
	if after != "" {
		query.Set("after", after)
	}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	var page TenantPage
	err := c.json(ctx, http.MethodGet, "/v1/tenants", query, nil, &page)
	return page, err
}

// Tenant gives one tenant's record.
func (c *Client) Tenant(ctx context.Context, name string) (tenant.Tenant, error) {
	var t tenant.Tenant
	err := c.json(ctx, http.MethodGet, tenantPath(name, ""), nil, nil, &t)
	return t, err
}

// DeleteTenant deletes a tenant.
func (c *Client) DeleteTenant(ctx context.Context, name string) error {
	return c.json(ctx, http.MethodDelete, tenantPath(name, ""), nil, nil, nil)
}

// Import makes a tenant from a whole database that r gives. r is not held in memory.
func (c *Client) Import(ctx context.Context, name string, f Format, r io.Reader, o tenant.CreateOptions) (tenant.Tenant, error) {
	return c.ImportIn(ctx, "", name, f, r, o)
}

// ImportIn is Import into the group of that name, or of o if it is "".
func (c *Client) ImportIn(ctx context.Context, group, name string, f Format, r io.Reader, o tenant.CreateOptions) (tenant.Tenant, error) {
	var t tenant.Tenant
	query := url.Values{"format": {string(f)}}
	if o != (tenant.CreateOptions{}) || group != "" {
		text, err := json.Marshal(struct {
			tenant.CreateOptions
			Group any `json:"group,omitempty"`
		}{o, groupJSON(group, o.Group)})
		if err != nil {
			return t, fmt.Errorf("write the options of an import: %w", err)
		}
		query.Set("options", string(text))
	}
	header := http.Header{"Content-Type": {f.contentType()}, "Accept": {"application/json"}}
	resp, err := c.call(ctx, http.MethodPost, tenantPath(name, "/import"), query, header, r)
	if err != nil {
		return t, err
	}
	defer resp.Body.Close()
	b, err := readAll(resp.Body, maxControlAnswer)
	if err != nil {
		return t, c.bodyError(ctx, resp, err)
	}
	if err := t.UnmarshalJSON(b); err != nil {
		return t, &AnswerError{resp.StatusCode, "the body", err}
	}
	return t, nil
}

// Export gives a tenant's whole database, at one moment. The caller reads to
// io.EOF, and closes; any other end is an error and the copy is not whole.
func (c *Client) Export(ctx context.Context, name string, f Format) (io.ReadCloser, error) {
	resp, err := c.patiently(ctx, http.MethodGet, tenantPath(name, "/export"), url.Values{"format": {string(f)}},
		http.Header{"Accept": {f.contentType()}}, nil)
	if err != nil {
		return nil, fmt.Errorf("export %s: %w", name, err)
	}
	return resp.Body, nil
}
