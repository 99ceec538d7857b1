package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/client/clienttest"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
)

func threeNodes() ([]httpapi.NodeInfo, []httpapi.GroupInfo) {
	seen := time.Now().Add(-90 * time.Second)
	ms := int64(31)
	return []httpapi.NodeInfo{
			{ID: "ams-1", PoP: "ams", Region: "eu", State: "active", ClusterAddr: "10.0.0.1:7601", PublicURL: "https://a.example", Self: true, Groups: []string{"system:voter"},
				Labels: map[string]string{"rack": "b2", "disk": "nvme"}},
			{ID: "fra-1", PoP: "fra", Region: "eu", State: "active", ClusterAddr: "10.0.0.2:7601", Connected: true, Groups: []string{"system:voter", "default:voter"}},
			{ID: "lon-1", PoP: "lon", Region: "eu", State: "active", LastContact: &seen, Groups: []string{"system:voter"}},
		}, []httpapi.GroupInfo{
			{ID: 1, Name: "system", Primary: "ams-1", Voters: []string{"ams-1", "fra-1"}, Target: 3},
			{ID: 2, Name: "default", Primary: "fra-1", Term: 7, Voters: []string{"fra-1"}, Declared: []string{"fra-1"}, Pinned: true, Target: 1, Tenants: 12,
				Members: []httpapi.MemberInfo{{ID: "fra-1", Voter: true, Applied: 4711, Behind: 3, LastContactMS: &ms}}},
		}
}

func TestNodeCommands(t *testing.T) {
	n, nearsql := against(t)
	n.Cluster.Set(threeNodes())
	nearsql("", "node", "list").want(t, 0, "ams-1  ams  eu      active  this one   system:voter                10.0.0.1:7601\n", "")
	nearsql("", "node", "list").want(t, 0, "1m30s ago", "")
	var list []map[string]any
	if r := nearsql("", "node", "list", "--json"); json.Unmarshal([]byte(r.out), &list) != nil || len(list) != 3 || list[1]["cluster_addr"] != "10.0.0.2:7601" {
		t.Errorf("got %q", r.out)
	}
	nearsql("", "node", "show", "ams-1").want(t, 0, "labels           disk=nvme rack=b2\n", "")
	nearsql("", "node", "show", "fra-1", "--json").want(t, 0, `"connected":true`, "")
	nearsql("", "node", "show", "par-1").want(t, 3, "", "NO_SUCH_NODE")
	nearsql("", "node", "show").want(t, 2, "", "takes 1 argument (NODE)")

	nearsql("", "node", "drain", "fra-1", "--wait=false").want(t, 0, "draining node fra-1\n", "")
	nearsql("", "node", "undrain", "fra-1").want(t, 0, "node fra-1 is active\n", "")
	nearsql("", "node", "drain", "fra-1", "--timeout", "1ms").want(t, 1, "", "still a voter of system, default")
	nearsql("", "node", "drain", "fra-1", "--json").want(t, 0, `{"id":"fra-1","state":"drained"}`, "")
	nearsql("", "node", "drain", "par-1").want(t, 3, "", "NO_SUCH_NODE")

	nearsql("fra-1\n", "node", "remove", "fra-1").want(t, 2, "", "--yes")
	nearsql("", "node", "show", "fra-1").want(t, 0, "draining", "")
	nearsql("", "node", "remove", "fra-1", "--yes", "--wait=false").want(t, 0, "removing node fra-1\n", "")
	nearsql("", "node", "remove", "lon-1", "--timeout", "1ms").want(t, 1, "", "still a voter of system") // not alive: nobody is asked
	nearsql("", "node", "remove", "par-1", "--yes").want(t, 3, "", "NO_SUCH_NODE")

	// A node is removed when the cluster does not know it any more, and not before.
	n.Cluster.Set([]httpapi.NodeInfo{{ID: "lon-1", State: "removing", Groups: []string{"system:learner"}}}, nil)
	c, err := client.New(n.URL, client.Options{Token: clienttest.Token})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	for i := range 3 {
		done, stands, err := removed(c, "lon-1")(t.Context())
		if err != nil || done != (i == 2) || !done && stands != "still a member of system:learner" {
			t.Errorf("look %d: %v, %q, %v", i, done, stands, err)
		}
	}
}

func TestGroupCommands(t *testing.T) {
	n, nearsql := against(t)
	n.Cluster.Set(threeNodes())
	nearsql("", "group", "list").want(t, 0, "2   default  fra-1    fra-1                  1               12\n", "")
	nearsql("", "group", "list", "--json").want(t, 0, `"name":"system"`, "")
	nearsql("", "group", "show", "default").want(t, 0, "to be voters  fra-1 (chosen by an administrator)\n", "")
	nearsql("", "group", "show", "2").want(t, 0, "fra-1   voter  4711     3       31ms ago\n", "")
	nearsql("", "group", "show", "2", "--json").want(t, 0, `"last_contact_ms":31`, "")
	nearsql("", "group", "show", "us").want(t, 3, "", "NO_SUCH_GROUP")
	nearsql("", "group", "create", "eu", "--voter", "ams-1", "--voter", "fra-1", "--target", "2", "--region", "eu").want(t, 0, "created group eu (number 3), to be voters: ams-1 fra-1\n", "")
	nearsql("", "group", "create", "eu").want(t, 1, "", "CONFLICT")
	nearsql("", "group", "create", "E U").want(t, 1, "", "BAD_NAME")
	nearsql("", "group", "move-leader", "system", "--to", "fra-1").want(t, 0, "the primary of group system is node fra-1\n", "")
	nearsql("", "group", "move-leader", "system", "--to", "lon-1").want(t, 1, "", "no voter")
	nearsql("", "group", "move-leader", "system").want(t, 2, "", "--to")
	nearsql("", "tenant", "create", "acme", "--group", "eu", "--json").want(t, 0, `"group":3`, "")
	nearsql("", "tenant", "create", "beta", "--group", "2", "--json").want(t, 0, `"group":2`, "")
	nearsql("", "tenant", "create", "gamma", "--group", "us").want(t, 3, "", "NO_SUCH_GROUP")
	nearsql("CREATE TABLE t(a);", "tenant", "import", "delta", "-", "--group", "eu", "--json").want(t, 0, `"group":3`, "")
	nearsql("", "status").want(t, 0, "node  test-1\n", "")
	nearsql("", "status", "--json").want(t, 0, `{"node":"test-1"}`, "")
}

func TestShowObject(t *testing.T) {
	var out bytes.Buffer
	err := showObject(&out, []byte(`{"node":"n1","labels":{"a":"b","c":1},"open_tenants":3,"ready":true,"list":["x","y"],"none":[],
		"groups":[{"id":1,"primary_of":true,"name":"system"},{"id":2,"name":"eu\u001b[1m"}],"last":null}`))
	const want = "node          n1\nlabels        a=b c=1\nopen tenants  3\nready         true\nlist          x, y\nnone\nlast\n" +
		"\ngroups\n\nid  primary of  name\n--  ----------  -----------\n1   true        system\n2               eu\\u001b[1m\n"
	if err != nil || out.String() != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, out.String(), want)
	}
}

func TestWaitUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		began := time.Now()
		stands := func(ctx context.Context) (bool, string, error) {
			s := int(time.Since(began).Seconds())
			return s >= 20, "stage " + string(rune('a'+s/10)), nil
		}
		if err := waitUntil(t.Context(), &out, time.Minute, stands); err != nil || out.String() != "stage a\nstage b\n" || time.Since(began) > 21*time.Second {
			t.Errorf("%v after %v, printed %q", err, time.Since(began), out.String())
		}
		began = time.Now()
		if err := waitUntil(t.Context(), &out, 15*time.Second, stands); err == nil || !strings.Contains(err.Error(), "stage b") || time.Since(began) > 15*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		broken := errors.New("broken")
		if err := waitUntil(t.Context(), &out, time.Minute, func(context.Context) (bool, string, error) { return false, "", broken }); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := waitUntil(ctx, &out, time.Minute, func(context.Context) (bool, string, error) { return false, "x", nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
