package clienttest

import (
	"errors"
	"reflect"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// TestClientPlaces sends placements through the API's own handler.
func TestClientPlaces(t *testing.T) {
	n := Start(t)
	c, err := client.New(n.URL, client.Options{Token: Token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	ctx := t.Context()
	made, err := c.CreateTenant(ctx, "acme", tenant.CreateOptions{Replicas: "region:eu", Jurisdiction: "eu"})
	if err != nil || made.Placement != (tenant.Placement{Jurisdiction: "eu", Replicas: "region:eu"}) || made.Policy != 1 {
		t.Fatalf("got %+v, %v", made, err)
	}
	for i, p := range []tenant.Placement{{Replicas: "all"}, {Replicas: "none", Jurisdiction: "eu"}, {}} {
		got, err := c.Place(ctx, "acme", p)
		if want := (tenant.Placement{Jurisdiction: "eu", Replicas: p.Replicas}); err != nil || got.Placement != want || got.Policy != uint32(i+2) {
			t.Errorf("%+v: got %+v, %v", p, got, err)
		}
	}
	if _, err := c.Place(ctx, "acme", tenant.Placement{Replicas: "everywhere"}); !errors.Is(err, &wire.Error{Code: wire.CodeBadRequest}) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Place(ctx, "nobody", tenant.Placement{}); !errors.Is(err, &wire.Error{Code: wire.CodeNoSuchTenant}) {
		t.Errorf("got %v", err)
	}
	if copies, err := c.Copies(ctx, "acme"); err != nil || len(copies) != 1 || copies[0].Role != "primary" || copies[0].Behind != nil {
		t.Errorf("got %+v, %v", copies, err)
	}
	behind, stale := uint64(3), int64(250)
	n.SetCopies([]httpapi.CopyInfo{{Node: "n2", PoP: "ams", Region: "eu", Role: httpapi.CopyReplica, State: httpapi.CopyFailed, Epoch: "2", TXID: "a", Checksum: "b",
		Behind: &behind, StalenessMS: &stale, Feeder: "n1", Error: "rot"}})
	want := []client.Copy{{Node: "n2", PoP: "ams", Region: "eu", Role: "replica", State: "failed", Epoch: "2", TXID: "a", Checksum: "b",
		Behind: &behind, StalenessMS: &stale, Feeder: "n1", Error: "rot"}}
	if copies, err := c.Copies(ctx, "acme"); err != nil || !reflect.DeepEqual(copies, want) {
		t.Errorf("got %+v, %v", copies, err)
	}
	if _, err := c.Copies(ctx, "nobody"); !errors.Is(err, &wire.Error{Code: wire.CodeNoSuchTenant}) {
		t.Errorf("got %v", err)
	}
}
