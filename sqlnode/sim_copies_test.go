package sqlnode

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// simCopy is one node's copy of a tenant.
type simCopy struct {
	node string
	pos  wire.Pos
	sum  [32]byte
}

// compareSoon compares copies until they are all as far as each other: the catalogue is written to at any time.
func (w *simWorld) compareSoon() (wrong []string) {
	for range 20 {
		if wrong = w.compare(); len(wrong) == 0 {
			return nil
		}
		time.Sleep(2 * time.Second)
	}
	return wrong
}

// compare holds the copies of each tenant, on all nodes, against each other: position, checksum, bytes, and SQLite's own check.
func (w *simWorld) compare() (wrong []string) {
	first := map[tenant.ID]simCopy{}
	for _, n := range w.s.up() {
		for _, h := range n.groups.all() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			if err := (quorum{h: h, anywhere: true}).applied(ctx); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s, group %d: %v", n.id.Node, h.id, err))
				cancel()
				continue
			}
			for _, t := range h.pages.Tenants() {
				name := string(t.Record().Name)
				if t.Record().State == tenant.StateDeleted {
					continue
				}
				c, err := n.copyOf(ctx, newResident(t, h))
				if err != nil {
					wrong = append(wrong, fmt.Sprintf("%s: copy of tenant %s: %v", n.id.Node, name, err))
					continue
				}
				if f, ok := first[t.ID()]; !ok {
					first[t.ID()] = c
				} else if f.pos != c.pos || f.sum != c.sum {
					wrong = append(wrong, fmt.Sprintf("tenant %s: node %s has %v with bytes %x, node %s has %v with bytes %x",
						name, f.node, f.pos, f.sum[:4], c.node, c.pos, c.sum[:4]))
				}
				if h.id == systemGroup {
					continue
				}
				if why := n.integrity(name); why != "" {
					wrong = append(wrong, fmt.Sprintf("%s: tenant %s: %s", n.id.Node, name, why))
				}
			}
			cancel()
		}
	}
	return append(wrong, w.compareReplicas(first)...)
}

func (n *simNode) copyOf(ctx context.Context, r *resident) (simCopy, error) {
	c := simCopy{node: n.id.Node}
	if err := r.q.built(ctx); err != nil {
		return c, err
	}
	sum := sha256.New()
	c.pos = r.Position()
	if err := (tenantService{n.Node}).Export(ctx, string(r.Record().Name), sum, httpapi.FormatSQLite); err != nil {
		return c, err
	}
	sum.Sum(c.sum[:0])
	if c.pos != r.Position() {
		return c, fmt.Errorf("it is being written to")
	}
	return c, nil
}

// integrity is what SQLite says of the node's own copy, if it is not ok.
func (n *simNode) integrity(tenant string) string {
	status, text := n.do("POST", "/v1/tenants/"+tenant+"/sql?max_staleness=any&on_stale=fail", `{"sql":"PRAGMA integrity_check"}`)
	var a simAnswer
	if err := json.NewDecoder(bytes.NewReader([]byte(text))).Decode(&a); err != nil || status != 200 {
		return fmt.Sprintf("status %d: %s", status, text)
	}
	if a.Meta.Node != n.id.Node {
		return "node " + a.Meta.Node + " answers"
	}
	if got := fmt.Sprint(a.Results[0].Rows); got != "[[ok]]" {
		return "integrity_check: " + got
	}
	return ""
}
