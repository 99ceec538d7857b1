package sqlnode

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Bounds of clients.
const (
	simOpMax   = 4 * time.Second // of one request
	simKeyed   = 30 * time.Second
	simTenants = 2 // that live as long as the run
	simNames   = 2 // of tenants that come and go
	simKeys    = 2 // of each kind, tenant and round
)

// simAnswer is an answer to SQL, or an error.
type simAnswer struct {
	Results []struct {
		Rows         [][]any
		RowsAffected int `json:"rows_affected"`
	}
	Bookmark string
	Meta     struct{ Node, Role string }

	Code, Message string
	Retryable     bool
}

// simSession is a client: what it sends, and what it has seen.
type simSession struct {
	s    *simulation
	h    *simHistory
	w    *simWorld
	id   int
	rng  *rand.Rand
	rest time.Duration // most, between requests
	seen map[simKey]string
	mark map[string]string // newest bookmark of each tenant
	next int
}

func (c *simSession) run(ctx context.Context) {
	c.seen, c.mark = map[simKey]string{}, map[string]string{}
	round := 0
	for ctx.Err() == nil {
		if r := c.h.round(); r != round {
			round = r
			clear(c.seen)
		}
		o := c.choose()
		c.op(o)
		if o.verb == simAppend && o.key.kind != simTenant && !o.unknown && !o.refused && c.rng.IntN(3) == 0 {
			// At once, anywhere, what it wrote must be seen.
			c.op(&simOp{key: o.key, verb: simBookmark, marked: true, least: o.seen, client: c.id})
		}
		pause(ctx, time.Duration(c.rng.Int64N(int64(c.rest))))
	}
}

// choose makes up the next op.
func (c *simSession) choose() *simOp {
	k := simKey{tenant: fmt.Sprintf("t%d", c.rng.IntN(simTenants)), kind: simKind(c.rng.IntN(int(simTenant))), round: c.h.round(), n: c.rng.IntN(simKeys)}
	if c.rng.IntN(12) == 0 {
		k = simKey{tenant: fmt.Sprintf("name%d", c.rng.IntN(simNames)), kind: simTenant}
	}
	if c.w.weak > 0 { // few, so that much is missing of what is old
		k = simKey{tenant: "t0", kind: simKind(c.rng.IntN(int(simRow))), round: c.h.round()}
	}
	c.next++
	o := &simOp{key: k, client: c.id, value: fmt.Sprintf("%d.%d", c.id, c.next)}
	n := c.rng.IntN(10)
	if n < 5 {
		switch k.kind {
		case simCounter:
			o.verb, o.value = simAdd, ""
		case simRow:
			o.verb, o.old = []simVerb{simCreate, simCreate, simSwap, simSwap, simSwap, simRemove}[c.rng.IntN(6)], c.seen[k]
		case simTenant:
			o.verb = []simVerb{simAppend, simAppend, simAppend, simCreate, simRemove}[c.rng.IntN(5)]
		default:
			o.verb = simAppend
		}
		return o
	}
	o.value = ""
	switch {
	case n >= 8 || c.w.weak > 0:
		o.verb, o.bound = simWeak, 20*time.Millisecond<<c.rng.IntN(9)
		if c.w.weak > 0 {
			o.bound = c.w.weak/2 + time.Duration(c.rng.Int64N(int64(c.w.weak/2)))
		}
		if k.kind == simTenant {
			o.bound = min(o.bound, time.Second)
		}
		o.marked = c.mark[k.tenant] != "" && k.kind < simRow && c.rng.IntN(2) == 0
		o.fails = c.rng.IntN(4) == 0
	case n >= 6 && k.kind != simRow && c.mark[k.tenant] != "":
		o.verb, o.marked = simBookmark, true
	}
	if o.marked {
		if o.least = c.seen[k]; o.least == "" {
			o.least = simNothing
		}
	}
	return o
}

// op does an op: at one node, or, if it has a key, at one after another until it is answered.
func (c *simSession) op(o *simOp) {
	up := c.s.up()
	if len(up) == 0 {
		return
	}
	n := up[c.rng.IntN(len(up))]
	if c.rng.IntN(2) == 0 { // mostly the same one
		n = up[c.id%len(up)]
	}
	if near := c.s.replicas(); len(near) > 0 && (c.id%2 == 1 && c.w.weak == 0 || c.w.weak > 0 && o.verb == simWeak) && c.rng.IntN(4) > 0 {
		n = near[c.id/2%len(near)]
	}
	o.node = n.id.Node
	header := map[string]string{}
	patience := simOpMax
	if (o.verb == simAppend || o.verb == simAdd) && o.key.kind != simTenant && c.rng.IntN(3) == 0 {
		patience = simKeyed
		if !c.w.plant.unkeyed {
			header["Idempotency-Key"] = fmt.Sprintf("%d.%d", c.id, c.next)
		}
	}
	c.h.begin(o)
	defer c.h.end(o)
	for {
		o.tries++
		o.unknown, o.refused, o.code = false, false, ""
		ctx, cancel := context.WithTimeout(context.Background(), simOpMax)
		c.send(ctx, n, o, header)
		cancel()
		if !o.unknown && !o.refused || patience == simOpMax {
			return
		}
		// Another node is asked. Once an outcome was unknown, a later refusal says nothing of the first.
		if time.Since(c.h.began)-o.at > patience {
			o.unknown, o.refused = true, false
			return
		}
		time.Sleep(time.Duration(20+c.rng.IntN(200)) * time.Millisecond)
		if up := c.s.up(); len(up) > 0 {
			n = up[c.rng.IntN(len(up))]
		}
	}
}

// send sends an op once, and fills in what is heard of it.
func (c *simSession) send(ctx context.Context, n *simNode, o *simOp, header map[string]string) {
	method, path, body := "POST", "/v1/tenants/"+o.key.tenant+"/sql?consistency=strong", []byte(nil)
	switch {
	case o.key.kind == simTenant && o.verb == simCreate:
		path, body = "/v1/tenants", []byte(`{"name":"`+o.key.tenant+`"}`)
	case o.key.kind == simTenant && o.verb == simRemove:
		method, path = "DELETE", "/v1/tenants/"+o.key.tenant
	default:
		body, _ = json.Marshal(map[string]any{"statements": simStatements(o)})
		switch o.verb {
		case simRead:
			if c.w.plant.weak {
				path = strings.Replace(path, "consistency=strong", "max_staleness=any", 1)
			}
		case simWeak:
			path = strings.Replace(path, "consistency=strong", "max_staleness="+o.bound.String(), 1)
		case simBookmark:
			path = strings.Replace(path, "consistency=strong", "max_staleness=any", 1)
		}
		if o.marked && !c.w.plant.unmarked {
			path += "&bookmark=" + c.mark[o.key.tenant]
		}
		if o.fails {
			path += "&on_stale=fail"
		}
	}
	status, text := n.ask(ctx, method, path, string(body), header)
	if status == 0 {
		o.unknown, o.code = true, "no answer"
		return
	}
	var a simAnswer
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if err := d.Decode(&a); err != nil && len(text) > 0 {
		c.h.complain("%s: an answer that is no JSON: %q", o, text)
	}
	o.by, o.role = a.Meta.Node, a.Meta.Role
	c.learn(o, &a)
	if o.verb != simRead && o.verb < simWeak && a.Code == "" && o.key.kind != simTenant && a.Bookmark == "" {
		c.h.complain("%s: no bookmark", o)
	}
	if a.Bookmark != "" && (o.verb != simWeak || o.marked) { // others may be older than the last
		c.mark[o.key.tenant] = a.Bookmark
		if o.seen != "" || o.key.kind == simTenant {
			c.seen[o.key] = o.seen
		}
	}
	if o.key.kind != simTenant && (a.Code == "NO_SUCH_TENANT" || a.Code == "TENANT_DELETED") {
		c.h.complain("%s: %s: %s", o, a.Code, a.Message)
	}
	if o.code == "BOOKMARK_LOST" || o.code == "BAD_BOOKMARK" && !o.refused || o.code == "CORRUPT" || o.code == "INTERNAL" || o.code == "IDEMPOTENCY_MISMATCH" {
		c.h.complain("%s: %s", o, a.Message)
	}
}

// learn fills in what an answer says.
func (c *simSession) learn(o *simOp, a *simAnswer) {
	gone := a.Code == "NO_SUCH_TENANT" || a.Code == "TENANT_DELETED"
	switch {
	case o.key.kind == simTenant && a.Code == "BAD_BOOKMARK" && o.marked, gone && o.verb == simBookmark && o.key.kind == simTenant:
		o.code, o.refused = a.Code, true // it is of the tenant that had the name before
	case o.key.kind == simTenant && gone && o.verb == simRemove:
		o.yes, o.code = false, a.Code
	case o.key.kind == simTenant && gone:
		o.code = a.Code + " to " + o.verb.String()
		o.value, o.seen = "", simNothing
		if o.verb != simWeak {
			o.verb = simRead // it says that there is none, and has done nothing
		}
	case o.key.kind == simTenant && (o.verb == simRead || o.verb >= simWeak) && strings.Contains(a.Message, "no such table"):
		o.seen = ""
	case o.key.kind == simTenant && a.Code == "TENANT_EXISTS":
		o.refused, o.code = true, a.Code // somebody has the name, or has asked for it
	case o.verb == simCreate && strings.HasPrefix(a.Code, "SQLITE_CONSTRAINT"):
		o.yes = false
	case a.Code != "":
		o.code, o.refused, o.unknown = a.Code, a.Retryable, !a.Retryable
	case o.key.kind == simTenant && (o.verb == simCreate || o.verb == simRemove):
		o.yes = true
	case o.verb == simCreate || o.verb == simSwap || o.verb == simRemove:
		o.yes = a.Results[0].RowsAffected == 1
		if o.yes && o.verb != simRemove {
			o.seen = o.value
		}
	default:
		c.rows(o, a)
	}
}

// rows fills in the rows of an answer.
func (c *simSession) rows(o *simOp, a *simAnswer) {
	if o.key.kind == simTenant && o.verb == simAppend {
		a.Results = a.Results[1:]
	}
	for i, r := range a.Results {
		seen := simNothing
		if o.key.kind == simTenant {
			seen = ""
		}
		if len(r.Rows) > 0 {
			seen = fmt.Sprint(r.Rows[0][0])
		}
		if i > 0 && seen != o.seen {
			c.h.complain("half of a batch: %q and %q\n    %s", o.seen, seen, o)
		}
		o.seen = seen
	}
}
