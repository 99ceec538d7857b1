package httpapi

import (
	"context"
	"net/http"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// CopyInfo is what is known of one copy of a tenant: that of a member of its group, or a replica.
type CopyInfo struct {
	Node   string    `json:"node"`
	PoP    string    `json:"pop"`
	Region string    `json:"region"`
	Role   CopyRole  `json:"role"`
	State  CopyState `json:"state"`
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

// CopyRole is what a copy is for.
type CopyRole string

// The roles.
const (
	CopyPrimary  CopyRole = "primary"
	CopyVoter    CopyRole = "voter"
	CopyLearner  CopyRole = "learner"   // of a member of the group that has no vote, or none yet
	CopyReplica  CopyRole = "replica"   // where the tenant is placed
	CopyOnDemand CopyRole = "on-demand" // while it is used there
)

// CopyState is whether a copy answers.
type CopyState string

// The states.
const (
	CopyInService   CopyState = "in service"
	CopyFetching    CopyState = "fetching" // its pages, from another node
	CopyFailed      CopyState = "failed"
	CopyUnreachable CopyState = "unreachable" // its node does not answer
)

// placeTenant says where replicas are to be. To say it again changes nothing.
func (h *Handler) placeTenant(w http.ResponseWriter, r *http.Request) error {
	name, err := h.adminOf(r)
	if err != nil {
		return err
	}
	var in struct {
		Replicas     *tenant.Replicas `json:"replicas"`
		Jurisdiction *string          `json:"jurisdiction"`
	}
	body, err := h.jsonBody(w, r, &in)
	if err != nil {
		return err
	}
	if in.Replicas == nil {
		return wire.NewError(wire.CodeBadRequest, `the body has no "replicas"`)
	}
	p := tenant.Placement{Replicas: *in.Replicas}
	if in.Jurisdiction != nil {
		if p.Jurisdiction = *in.Jurisdiction; p.Jurisdiction == "" {
			return wire.NewError(wire.CodeBadRequest, "jurisdiction: want the name of a region; without the key it stays as it is")
		}
	}
	if err := p.Validate(); err != nil {
		return wire.NewError(wire.CodeBadRequest, "%w", err)
	}
	return show(h, w, r, http.StatusOK, &errand{repeats: true, body: body}, func(ctx context.Context) (tenant.Tenant, error) {
		return h.tenants.Place(ctx, name, p)
	})
}

func (h *Handler) listCopies(w http.ResponseWriter, r *http.Request) error {
	name, err := h.adminOf(r)
	if err != nil {
		return err
	}
	type list struct {
		Copies []CopyInfo `json:"copies"`
	}
	return show(h, w, r, http.StatusOK, &errand{}, func(ctx context.Context) (list, error) {
		copies, err := h.tenants.Copies(ctx, name)
		if copies == nil {
			copies = []CopyInfo{}
		}
		return list{copies}, err
	})
}
