package client

import (
	"context"
	"net/http"

	"github.com/nearsql/nearsql/tenant"
)

// Copy is what is known of one copy of a tenant.
type Copy struct {
	Node   string `json:"node"`
	PoP    string `json:"pop"`
	Region string `json:"region"`
	Role   string `json:"role"`  // primary, voter, learner, replica, on-demand
	State  string `json:"state"` // in service, fetching, failed, unreachable
	// Where the copy stands: epoch in decimal, txid and checksum in 16 hexadecimal digits. "" where that is not known.
	Epoch    string `json:"epoch"`
	TXID     string `json:"txid"`
	Checksum string `json:"checksum"`
	// Behind is how many transactions of the primary the copy lacks; nil where that is not known.
	Behind *uint64 `json:"behind"`
	// StalenessMS is for how long, at most, the copy may lack something, in milliseconds; nil where that is not known.
	StalenessMS *int64 `json:"staleness_ms"`
	Feeder      string `json:"feeder,omitempty"` // the node that a replica follows
	Error       string `json:"error,omitempty"`  // why the copy is not in service
}

// Place says where replicas of a tenant are to be, and returns its record. It returns when that is decided; that the
// nodes follow takes longer, and is seen in Copies. An empty jurisdiction stays as it is.
func (c *Client) Place(ctx context.Context, name string, p tenant.Placement) (tenant.Tenant, error) {
	body := struct {
		Replicas     tenant.Replicas `json:"replicas"`
		Jurisdiction string          `json:"jurisdiction,omitempty"`
	}{p.Replicas, p.Jurisdiction}
	var t tenant.Tenant
	err := c.json(ctx, http.MethodPut, tenantPath(name, "/placement"), nil, body, &t)
	return t, err
}

// Copies gives the copies of a tenant that are, or are to be, on any node: the primary's first.
func (c *Client) Copies(ctx context.Context, name string) ([]Copy, error) {
	var list struct {
		Copies []Copy `json:"copies"`
	}
	err := c.json(ctx, http.MethodGet, tenantPath(name, "/copies"), nil, nil, &list)
	return list.Copies, err
}
