package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Tables tells of conflict-free tables; Tenants that know some implement it.
type Tables interface {
	// Tables says how a tenant's conflict-free tables stand on the node that answers. Like all of Tenants it may return an *ElsewhereError.
	Tables(ctx context.Context, name string) (TablesInfo, error)
}

// TablesInfo is how the conflict-free tables of a tenant stand on one node.
type TablesInfo struct {
	Node    string      `json:"node"`
	Schema  uint64      `json:"schema"` // number of the newest change that the file here has made
	Site    int64       `json:"site"`   // number of this node; 0: it has none yet
	Tables  []TableInfo `json:"tables"`
	Sites   []SiteInfo  `json:"sites"`
	Problem string      `json:"problem,omitempty"` // why the file here is out of service
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
