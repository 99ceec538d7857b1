package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Tables tells of conflict-free tables; Tenants that know some implement it.
type Tables interface {
	// Tables says how a tenant's conflict-free tables stand on the node that answers. Like all of Tenants it may return an *ElsewhereError.
	Tables(ctx context.Context, name string) (TablesInfo, error)
}

// TablesInfo is how the conflict-free tables of a tenant stand on one node.
type TablesInfo struct {
	Node   string      `json:"node"`
	Schema uint64      `json:"schema"` // number of the newest change that the file here has made
	Site   int64       `json:"site"`   // number of this node; 0: it has none yet
	Tables []TableInfo `json:"tables"`
	Sites  []SiteInfo  `json:"sites"`
	// Members are all sites that ever were, this node's too.
	Members []SiteMember `json:"members"`
	Care    string       `json:"care,omitempty"`    // what is being done about the file here
	Problem string       `json:"problem,omitempty"` // why the file here is out of service
}

// SiteMember is a site in its life: active, leaving (it takes no writes any more) or retired, for ever.
type SiteMember struct {
	Site  int64      `json:"site"`
	Node  string     `json:"node"`
	State string     `json:"state"`
	Final *time.Time `json:"final,omitempty"` // of a retired one: its newest transaction that counts
}

// TableInfo is one conflict-free table.
type TableInfo struct {
	Name    string            `json:"name"`
	Columns map[string]string `json:"columns"` // kind by name: key, lww, counter
}

// SiteInfo is another site, as far as this one knows.
type SiteInfo struct {
	Site      int64      `json:"site"`
	Node      string     `json:"node"`
	Connected bool       `json:"connected"`
	Newest    *time.Time `json:"newest"`          // of its transactions that are here; nil: none
	LagMS     int64      `json:"lag_ms"`          // between its newest transaction that is known of and the newest that is here
	More      bool       `json:"more"`            // it has, or may have, what is not here
	SilentMS  int64      `json:"silent_ms"`       // for how long the node that answers has heard nothing of it; 0 while they are connected
	Held      string     `json:"held,omitempty"`  // what is held back, since its clock runs ahead
	TripMS    *float64   `json:"round_trip_ms"`   // nil: not measured
	OffsetMS  *float64   `json:"clock_offset_ms"` // of its clock, ahead of the one here
	Failures  int        `json:"failures,omitempty"`
	Backup    bool       `json:"backup,omitempty"` // it keeps a copy for the others' sake
}

// showTables answers how a tenant's conflict-free tables stand.
func (h *Handler) showTables(w http.ResponseWriter, r *http.Request) error {
	name, err := h.adminOf(r)
	if err != nil {
		return err
	}
	known, ok := h.tenants.(Tables)
	if !ok {
		return wire.NewError(wire.CodeNotFound, "this node has no conflict-free tables")
	}
	return show(h, w, r, http.StatusOK, &errand{}, func(ctx context.Context) (TablesInfo, error) { return known.Tables(ctx, name) })
}

// tenantInfo is a tenant's record as the API shows it: with its conflict-free tables, if it has some.
type tenantInfo struct {
	tenant.Tenant
	tables []TableInfo
}

// MarshalJSON gives the record's form, with "conflict_free" behind.
func (t tenantInfo) MarshalJSON() ([]byte, error) {
	b, err := t.Tenant.MarshalJSON()
	if err != nil || len(t.tables) == 0 {
		return b, err
	}
	list, err := json.Marshal(t.tables)
	if err != nil {
		return nil, err
	}
	b = append(b[:len(b)-1], `,"conflict_free":`...)
	return append(append(b, list...), '}'), nil
}

// withTables adds a tenant's conflict-free tables to its record, if they are known here.
func (h *Handler) withTables(ctx context.Context, t tenant.Tenant) tenantInfo {
	out := tenantInfo{Tenant: t}
	if known, ok := h.tenants.(Tables); ok && t.Tables > 0 {
		if info, err := known.Tables(ctx, string(t.Name)); err == nil {
			out.tables = info.Tables
		}
	}
	return out
}
