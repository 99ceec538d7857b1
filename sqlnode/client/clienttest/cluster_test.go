package clienttest

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// TestClusterAgreesWithTheAPI sends all that package client has of nodes and groups through the API's own handler.
func TestClusterAgreesWithTheAPI(t *testing.T) {
	node := Start(t)
	c, err := client.New(node.URL, client.Options{Token: Token})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	ctx := t.Context()
	seen, ms := time.Unix(2e9, 0).UTC(), int64(31)
	full := httpapi.NodeInfo{ID: "n1", PoP: "ams", Region: "eu", Labels: map[string]string{"disk": "nvme"}, State: "active", ClusterAddr: "n1:7601",
		PublicURL: "https://n1", Joined: time.Unix(1e9, 0).UTC(), Self: true, Connected: true, LastContact: &seen, Groups: []string{"system:voter"}}
	group := httpapi.GroupInfo{ID: 7, Name: "eu", Declared: []string{"n1", "n2"}, Voters: []string{"n1"}, Learners: []string{"n2"}, Primary: "n1", Term: 4, Pinned: true,
		Target: 3, Region: "eu", Tenants: 9, Members: []httpapi.MemberInfo{{ID: "n2", Voter: true, Applied: 8, Behind: 2, LastContactMS: &ms}}}
	node.Cluster.Set([]httpapi.NodeInfo{full, {ID: "n2", State: "active", Groups: []string{"eu:voter"}}}, []httpapi.GroupInfo{group})

	nodes, err := c.Nodes(ctx)
	if err != nil || len(nodes) != 2 {
		t.Fatalf("got %+v, %v", nodes, err)
	}
	same(t, nodes[0], full)
	got, err := c.Group(ctx, "7")
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, group)
	if groups, err := c.Groups(ctx); err != nil || len(groups) != 1 || groups[0].Name != "eu" {
		t.Errorf("got %+v, %v", groups, err)
	}
	if err := c.Drain(ctx, "n2"); err != nil {
		t.Error(err)
	}
	if n, err := c.Node(ctx, "n2"); err != nil || n.State != "draining" {
		t.Errorf("got %+v, %v", n, err)
	}
	if err := errors.Join(c.Undrain(ctx, "n2"), c.RemoveNode(ctx, "n2"), c.MoveLeader(ctx, "eu", "n1")); err != nil {
		t.Error(err)
	}
	if g, err := c.CreateGroup(ctx, client.GroupOptions{Name: "us", Voters: []string{"n1"}, Target: 1, Region: "us"}); err != nil || g.Name != "us" || !g.Pinned || g.Target != 1 || g.Region != "us" {
		t.Errorf("got %+v, %v", g, err)
	}
	if _, err := c.Node(ctx, "n9"); !errors.Is(err, &wire.Error{Code: wire.CodeNoSuchNode}) {
		t.Errorf("got %v", err)
	}
	if r, err := c.CreateTenantIn(ctx, "eu", "acme", tenant.CreateOptions{}); err != nil || r.Group != 7 {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err := c.CreateTenant(ctx, "beta", tenant.CreateOptions{Group: 5}); err != nil || r.Group != 5 {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := c.CreateTenantIn(ctx, "nowhere", "gamma", tenant.CreateOptions{}); !errors.Is(err, &wire.Error{Code: wire.CodeNoSuchGroup}) {
		t.Errorf("got %v", err)
	}
}

// same compares what the client has with what the node said, in JSON.
func same(t *testing.T, got, want any) {
	t.Helper()
	var a, b any
	for v, into := range map[*any]*any{&got: &a, &want: &b} {
		text, err := json.Marshal(*v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got  %v\nwant %v", a, b)
	}
}
