package client

import (
	"context"
	"net/http"
	"time"
)

// Tables is how the conflict-free tables of a tenant stand on one node: httpapi.TablesInfo says what its parts mean.
type Tables struct {
	Node   string `json:"node"`
	Schema uint64 `json:"schema"`
	Site   int64  `json:"site"`
	Tables []struct {
		Name    string            `json:"name"`
		Columns map[string]string `json:"columns"`
	} `json:"tables"`
	Sites   []Site `json:"sites"`
	Problem string `json:"problem,omitempty"`
}

// Site is another site of a tenant's conflict-free tables, as the node that answered knows it.
type Site struct {
	Site      int64      `json:"site"`
	Node      string     `json:"node"`
	Connected bool       `json:"connected"`
	Newest    *time.Time `json:"newest"`
	LagMS     int64      `json:"lag_ms"`
	More      bool       `json:"more"`
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
