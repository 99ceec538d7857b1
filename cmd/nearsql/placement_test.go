package main

import (
	"encoding/json"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/httpapi"
)

func TestPlacementCommands(t *testing.T) {
	n, nearsql := against(t)
	nearsql("", "tenant", "create", "acme", "--replicas", "pop:ams,region:us").want(t, 0, "created tenant acme", "")
	nearsql("", "tenant", "show", "acme").want(t, 0, "replicas                pop:ams,region:us\npolicy                  1\n", "")
	nearsql("", "tenant", "create", "beta", "--replicas", "everywhere").want(t, 2, "", "want none, all, on-demand")
	nearsql("", "tenant", "create", "beta").want(t, 0, "created tenant beta", "")
	nearsql("", "tenant", "show", "beta").want(t, 0, "replicas                on-demand\n", "")
	nearsql("", "tenant", "place", "acme", "--replicas", "all").want(t, 0, "tenant acme: replicas all\n", "")
	nearsql("", "tenant", "place", "acme", "--replicas", "").want(t, 0, "tenant acme: replicas on-demand\n", "")
	nearsql("", "tenant", "place", "acme", "--replicas", "none", "--json").want(t, 0, `"policy":4,"placement":{"replicas":"none"}`, "")
	nearsql("", "tenant", "place", "acme").want(t, 2, "", "--replicas")
	nearsql("", "tenant", "place", "acme", "--replicas", "pop:A").want(t, 2, "", "--replicas: pop")
	nearsql("", "tenant", "place", "--replicas", "all").want(t, 2, "", "takes 1 argument (NAME)")
	nearsql("", "tenant", "place", "nobody", "--replicas", "all").want(t, 3, "", "NO_SUCH_TENANT")

	nearsql("", "tenant", "copies", "nobody").want(t, 3, "", "NO_SUCH_TENANT")
	nearsql("", "tenant", "copies", "acme").want(t, 0, "test-1  lab          primary  in service  1", "")
	behind, stale := uint64(3), int64(1250)
	n.SetCopies([]httpapi.CopyInfo{
		{Node: "ams-1", PoP: "ams", Region: "eu", Role: httpapi.CopyPrimary, State: httpapi.CopyInService, Epoch: "1", TXID: "000000000000002a"},
		{Node: "nrt-1", PoP: "nrt", Region: "ap", Role: httpapi.CopyReplica, State: httpapi.CopyFailed, Epoch: "1", TXID: "0000000000000027",
			Behind: &behind, StalenessMS: &stale, Feeder: "ams-1", Error: "rot\x1b[1m"},
	})
	const line = "nrt-1  nrt  ap      replica  failed      1      0000000000000027  3       1.25s     ams-1    rot\\u001b[1m\n"
	nearsql("", "tenant", "copies", "acme").want(t, 0, line, "")
	nearsql("", "tenant", "show", "acme").want(t, 0, line, "")
	var list []map[string]any
	if r := nearsql("", "tenant", "copies", "acme", "--json"); json.Unmarshal([]byte(r.out), &list) != nil || len(list) != 2 || list[1]["behind"] != 3.0 || list[0]["behind"] != nil {
		t.Errorf("got %q", r.out)
	}
}
