package tenant

import (
	"fmt"
	"strings"
)

// Placement says where copies of a tenant may and should be, beside the voters
// of its group. The zero value is: anywhere, on demand.
type Placement struct {
	// Jurisdiction names the region that no copy may leave; "" means none.
	Jurisdiction string `json:"jurisdiction,omitempty"`
	// Replicas is where copies that don't vote are kept; "" means on-demand.
	Replicas Replicas `json:"replicas,omitempty"`
}

// Replicas is a spec of where replicas are kept: `none`, `all`, `on-demand`
// (a PoP fetches the tenant when reads recur there), or a list of
// `pop:NAME` and `region:NAME` with commas between.
type Replicas string

// The specs that are not lists.
const (
	ReplicasNone     Replicas = "none"
	ReplicasAll      Replicas = "all"
	ReplicasOnDemand Replicas = "on-demand"
)

// Bounds of a placement.
const (
	maxReplicaTerms = 64 // PoPs and regions named in one spec
	maxLabelLen     = 63 // bytes of the name of a PoP or region
)

// ParseReplicas checks a spec.
func ParseReplicas(s string) (Replicas, error) {
	switch r := Replicas(s); r {
	case "", ReplicasNone, ReplicasAll, ReplicasOnDemand:
		return r, nil
	}
	terms := strings.Split(s, ",")
	if len(terms) > maxReplicaTerms {
		return "", fmt.Errorf("replicas: names %d places, at most %d are allowed", len(terms), maxReplicaTerms)
	}
	seen := make(map[string]bool, len(terms))
	for _, term := range terms {
		kind, label, ok := strings.Cut(term, ":")
		if !ok || kind != "pop" && kind != "region" {
			return "", fmt.Errorf("replicas: %.80q: want none, all, on-demand, or a list of pop:NAME and region:NAME", term)
		}
		if err := CheckLabel(label); err != nil {
			return "", fmt.Errorf("replicas: %s: %w", kind, err)
		}
		if seen[term] {
			return "", fmt.Errorf("replicas: %s is named twice", term)
		}
		seen[term] = true
	}
	return Replicas(s), nil
}

// Standing says whether the spec keeps replicas at places of their own, used or not: `all`, or a list.
func (r Replicas) Standing() bool {
	switch r {
	case "", ReplicasNone, ReplicasOnDemand:
		return false
	}
	return true
}

// Standing says whether some nodes are to hold replicas whether they are used there or not: those of which Holds is true.
func (p Placement) Standing() bool { return p.Replicas.Standing() }

// Allows says whether a copy, of whatever kind, may be in a region: anywhere, unless a jurisdiction is set.
func (p Placement) Allows(region string) bool {
	return p.Jurisdiction == "" || region == p.Jurisdiction
}

// Holds says whether a node in that PoP and region is to hold a replica whether it is used there or not. Where Allows is false it is false.
func (p Placement) Holds(pop, region string) bool {
	switch {
	case !p.Standing() || !p.Allows(region):
		return false
	case p.Replicas == ReplicasAll:
		return true
	}
	for term := range strings.SplitSeq(string(p.Replicas), ",") {
		kind, label, _ := strings.Cut(term, ":")
		if label != "" && (kind == "pop" && label == pop || kind == "region" && label == region) {
			return true
		}
	}
	return false
}

// CheckLabel refuses what can't name a PoP or a region: 1 to 63 of a-z, 0-9, '-' and '_'.
func CheckLabel(s string) error {
	if s == "" || len(s) > maxLabelLen {
		return fmt.Errorf("name of %d bytes: want 1 to %d", len(s), maxLabelLen)
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return fmt.Errorf("name %q has %q: only a-z, 0-9, '-' and '_' are allowed", s, r)
		}
	}
	return nil
}

// Validate names the field that is wrong.
func (p Placement) Validate() error {
	if p.Jurisdiction != "" {
		if err := CheckLabel(p.Jurisdiction); err != nil {
			return fmt.Errorf("placement: jurisdiction: %w", err)
		}
	}
	if _, err := ParseReplicas(string(p.Replicas)); err != nil {
		return fmt.Errorf("placement: %w", err)
	}
	return nil
}
