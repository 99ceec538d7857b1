package catalogue

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// The columns of each table, in the order in which its rows are read.
const (
	nodeColumns   = `id, incarnation, pop, region, labels, cluster_addr, public_url, state, joined, version`
	groupColumns  = `id, name, voters, pinned, target, region, founded, member_voters, member_learners, member_primary, member_term, member_index, created, changed, version`
	tenantColumns = `id, name, group_id, state, policy, placement, changed, version`
)

func readNode(c []wire.Value) (Node, error) {
	if len(c) != 10 {
		return Node{}, fmt.Errorf("row of a node with %d columns", len(c))
	}
	n := Node{ID: c[0].Str(), Incarnation: c[1].Str(), PoP: c[2].Str(), Region: c[3].Str(), ClusterAddr: c[5].Str(), PublicURL: c[6].Str(),
		State: NodeState(c[7].Str()), Joined: fromMillis(c[8]), Version: uint64(c[9].Int())}
	if n.State.earlier() == nil {
		return Node{}, fmt.Errorf("node %q has the unknown state %q", n.ID, n.State)
	}
	if err := json.Unmarshal([]byte(c[4].Str()), &n.Labels); err != nil {
		return Node{}, fmt.Errorf("labels of node %q: %w", n.ID, err)
	}
	return n, nil
}

func readGroup(c []wire.Value) (Group, error) {
	if len(c) != 15 {
		return Group{}, fmt.Errorf("row of a group with %d columns", len(c))
	}
	g := Group{ID: wire.GroupID(c[0].Int()), Name: c[1].Str(),
		Policy:  Policy{Pinned: c[3].Int() != 0, Target: int(c[4].Int()), Region: c[5].Str()},
		Founded: c[6].Int() != 0,
		Members: Members{Primary: c[9].Str(), Term: uint64(c[10].Int()), Index: uint64(c[11].Int())},
		Created: fromMillis(c[12]), Changed: fromMillis(c[13]), Version: uint64(c[14].Int())}
	for _, l := range []struct {
		into *[]string
		text string
	}{{&g.Voters, c[2].Str()}, {&g.Members.Voters, c[7].Str()}, {&g.Members.Learners, c[8].Str()}} {
		if err := json.Unmarshal([]byte(l.text), l.into); err != nil {
			return Group{}, fmt.Errorf("nodes of group %d: %w", g.ID, err)
		}
	}
	return g, nil
}

func readTenant(c []wire.Value) (*Tenant, error) {
	if len(c) != 8 {
		return nil, fmt.Errorf("row of a tenant with %d columns", len(c))
	}
	t := &Tenant{Name: tenant.Name(c[1].Str()), Group: wire.GroupID(c[2].Int()), Policy: uint32(c[4].Int()),
		Changed: fromMillis(c[6]), Version: uint64(c[7].Int())}
	if len(c[0].Str()) != len(t.ID) {
		return nil, fmt.Errorf("row of tenant %q has an id of %d bytes", string(t.Name), len(c[0].Str()))
	}
	copy(t.ID[:], c[0].Str())
	switch c[3].Str() {
	case stateLive:
		t.Live = true
	case stateGone:
	default:
		return nil, fmt.Errorf("tenant %s has the unknown state %q", t.ID, c[3].Str())
	}
	if text := c[5].Str(); text != "" {
		if err := json.Unmarshal([]byte(text), &t.Placement); err != nil {
			return nil, fmt.Errorf("placement of tenant %s: %w", t.ID, err)
		}
	}
	return t, nil
}

// placementText is a placement as it is in the table: the same has the same text.
func placementText(p tenant.Placement) (wire.Value, error) {
	if p == (tenant.Placement{}) {
		return wire.Text(""), nil
	}
	b, err := json.Marshal(p)
	if err != nil {
		return wire.Value{}, fmt.Errorf("placement: %w", err)
	}
	return wire.Text(string(b)), nil
}

// listText is a list of ids as it is in the tables. The ids are labels, in order: the same list has
// the same text, and an id is in it if it is there in quotation marks.
func listText(ids []string) wire.Value {
	if len(ids) == 0 {
		return wire.Text("[]")
	}
	b, err := json.Marshal(ids)
	if err != nil { // strings always have a JSON text
		return wire.Text("[]")
	}
	return wire.Text(string(b))
}

func idValue(id tenant.ID) wire.Value { return wire.Blob(id[:]) }

func millis(t time.Time) wire.Value { return wire.Integer(t.UnixMilli()) }

func fromMillis(v wire.Value) time.Time { return time.UnixMilli(v.Int()).UTC() }

func boolean(b bool) wire.Value {
	if b {
		return wire.Integer(1)
	}
	return wire.Integer(0)
}
