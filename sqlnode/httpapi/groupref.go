package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// createOptions is tenant.CreateOptions with a group that may be named.
type createOptions struct {
	tenant.CreateOptions
	Group groupRef `json:"group"` // in place of that of CreateOptions
}

// groupRef is a group by its number or its name.
type groupRef struct {
	id   wire.GroupID
	name string // "" where there is a number
}

// UnmarshalJSON takes a number or a string.
func (g *groupRef) UnmarshalJSON(b []byte) error {
	*g = groupRef{}
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &g.name); err != nil {
			return err
		}
		if n, err := strconv.ParseUint(g.name, 10, 32); err == nil {
			*g = groupRef{id: wire.GroupID(n)}
		} else if !plainName(g.name) {
			return errGroupRef
		}
		return nil
	}
	if json.Unmarshal(b, &g.id) != nil {
		return errGroupRef
	}
	return nil
}

var errGroupRef = errors.New("group: want the name or the number of a group")

// resolve finds the number of a group that is named.
func (h *Handler) resolve(ctx context.Context, o *createOptions) (tenant.CreateOptions, error) {
	out := o.CreateOptions
	out.Group = o.Group.id
	if o.Group.name == "" {
		return out, nil
	}
	if h.cluster == nil {
		return out, errNoCluster()
	}
	g, err := h.cluster.Group(ctx, o.Group.name)
	if err != nil {
		return out, err
	}
	out.Group = g.ID
	return out, nil
}
