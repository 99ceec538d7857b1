package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/tenant"
)

// Tables is how the conflict-free tables of a tenant stand on one node: httpapi.TablesInfo says what its parts mean.
type Tables struct {
	Node    string       `json:"node"`
	Schema  uint64       `json:"schema"`
	Site    int64        `json:"site"`
	Tables  []Table      `json:"tables"`
	Sites   []Site       `json:"sites"`
	Members []SiteMember `json:"members"`
	Care    string       `json:"care,omitempty"`
	Problem string       `json:"problem,omitempty"`
}

// Table is one conflict-free table.
type Table struct {
	Name    string            `json:"name"`
	Columns map[string]string `json:"columns"` // kind by name: key, lww, counter
}

// SiteMember is a site in its life: active, leaving or retired.
type SiteMember struct {
	Site  int64      `json:"site"`
	Node  string     `json:"node"`
	State string     `json:"state"`
	Final *time.Time `json:"final,omitempty"`
}

// Site is another site of a tenant's conflict-free tables, as the node that answered knows it.
type Site struct {
	Site      int64      `json:"site"`
	Node      string     `json:"node"`
	Connected bool       `json:"connected"`
	Newest    *time.Time `json:"newest"`
	LagMS     int64      `json:"lag_ms"`
	More      bool       `json:"more"`
	SilentMS  int64      `json:"silent_ms"`
	Held      string     `json:"held,omitempty"`
	TripMS    *float64   `json:"round_trip_ms"`
	OffsetMS  *float64   `json:"clock_offset_ms"`
	Failures  int        `json:"failures,omitempty"`
	Backup    bool       `json:"backup,omitempty"`
}

// Tables says how a tenant's conflict-free tables stand on the node that answers.
func (c *Client) Tables(ctx context.Context, name string) (Tables, error) {
	var t Tables
	err := c.json(ctx, http.MethodGet, tenantPath(name, "/crr"), nil, nil, &t)
	return t, err
}

// TenantInfo is a tenant's record, and its conflict-free tables.
type TenantInfo struct {
	tenant.Tenant
	Tables []Table
}

// MarshalJSON gives the form that the API has.
func (t TenantInfo) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(t.Tenant)
	if err != nil || len(t.Tables) == 0 {
		return b, err
	}
	list, err := json.Marshal(t.Tables)
	if err != nil {
		return nil, err
	}
	b = append(b[:len(b)-1], `,"conflict_free":`...)
	return append(append(b, list...), '}'), nil
}

// UnmarshalJSON reads what the API answers.
func (t *TenantInfo) UnmarshalJSON(b []byte) error {
	var more struct {
		Tables []Table `json:"conflict_free"`
	}
	if err := json.Unmarshal(b, &more); err != nil {
		return err
	}
	t.Tables = more.Tables
	return json.Unmarshal(b, &t.Tenant)
}

// TenantInfo gives one tenant's record with its conflict-free tables.
func (c *Client) TenantInfo(ctx context.Context, name string) (TenantInfo, error) {
	var t TenantInfo
	err := c.json(ctx, http.MethodGet, tenantPath(name, ""), nil, nil, &t)
	return t, err
}

// RetireSites says which sites are to be retired: those with the numbers, and those of the nodes.
type RetireSites struct {
	Sites []int64  `json:"sites,omitempty"`
	Nodes []string `json:"nodes,omitempty"`
	Force bool     `json:"force,omitempty"`
}

// RetiredSite is a site that has been retired.
type RetiredSite struct {
	Site  int64     `json:"site"`
	Node  string    `json:"node"`
	Final time.Time `json:"final"`
}

// RetireSites ends sites of a tenant's conflict-free tables for ever.
func (c *Client) RetireSites(ctx context.Context, name string, o RetireSites) ([]RetiredSite, error) {
	var a struct {
		Retired []RetiredSite `json:"retired"`
	}
	err := c.json(ctx, http.MethodPost, tenantPath(name, "/crr/retire"), nil, o, &a)
	return a.Retired, err
}

// Restamped is what became of what a node wrote while its clock was ahead.
type Restamped struct {
	Node    string `json:"node"`
	Site    int64  `json:"site"`
	Pending bool   `json:"pending"`
}

// Restamp has a node write anew what it wrote while its clock was ahead; node is "" for the one that is asked.
func (c *Client) Restamp(ctx context.Context, name, node string) (Restamped, error) {
	var a Restamped
	err := c.json(ctx, http.MethodPost, tenantPath(name, "/crr/restamp"), nil, struct {
		Node string `json:"node,omitempty"`
	}{node}, &a)
	return a, err
}

// Rebuilt is what became of a damaged file of conflict-free tables.
type Rebuilt struct {
	Node      string `json:"node"`
	Site      int64  `json:"site"`
	Aside     string `json:"aside"`
	Salvaging bool   `json:"salvaging"`
	Pending   bool   `json:"pending"`
}

// Rebuild has a node put a copy of another site's file in the place of its damaged one; node is "" for the one that is asked.
func (c *Client) Rebuild(ctx context.Context, name, node string) (Rebuilt, error) {
	var a Rebuilt
	err := c.json(ctx, http.MethodPost, tenantPath(name, "/crr/rebuild"), nil, struct {
		Node string `json:"node,omitempty"`
	}{node}, &a)
	return a, err
}

// ConvertTable is a table that is to change its schema.
type ConvertTable struct {
	Table   string `json:"table"`
	Declare string `json:"declare,omitempty"`
	Cancel  bool   `json:"cancel,omitempty"`
}

// Converted is a table that has changed its schema.
type Converted struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
}

// AdoptTable makes a strong table conflict-free.
func (c *Client) AdoptTable(ctx context.Context, name string, o ConvertTable) (Converted, error) {
	return c.convertTable(ctx, name, "/crr/adopt", o)
}

// ReleaseTable makes a conflict-free table strong.
func (c *Client) ReleaseTable(ctx context.Context, name string, o ConvertTable) (Converted, error) {
	return c.convertTable(ctx, name, "/crr/release", o)
}

func (c *Client) convertTable(ctx context.Context, name, route string, o ConvertTable) (Converted, error) {
	var a Converted
	err := c.json(ctx, http.MethodPost, tenantPath(name, route), nil, o, &a)
	return a, err
}
