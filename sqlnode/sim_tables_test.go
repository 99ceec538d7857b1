package sqlnode

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// simTables is a tenant with conflict-free tables, and what its clients were told.
type simTables struct {
	w      *simWorld
	tenant string

	mu struct {
		sync.Mutex
		next  int
		adds  map[string]*simAdds
		notes map[string]string   // outcome of each row that was to be added once, by key
		here  map[string][]string // keys of notes that were acknowledged by a node
		seen  map[string]int      // the most that a node has shown of a counter, by both
		count map[string]int
		wrong []string
	}
}

// simAdds is what became of increments of a counter.
type simAdds struct {
	acked, unknown int
	here           map[string]int // acknowledged, by node
}

var simTableSchema = []string{
	`CREATE TABLE crr.hits(k TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0)`,
	`CREATE TABLE crr.pair(k TEXT PRIMARY KEY NOT NULL, v TEXT)`,
	`CREATE TABLE crr.note(k TEXT PRIMARY KEY NOT NULL, v TEXT)`,
	`CREATE TABLE crr.row(k TEXT PRIMARY KEY NOT NULL, a TEXT, b TEXT)`,
}

const simPairs = 2

// beginTables makes the tenant, on all nodes.
func (w *simWorld) beginTables(on *simNode, name string) *simTables {
	x := &simTables{w: w, tenant: name}
	x.mu.adds, x.mu.notes, x.mu.here = map[string]*simAdds{}, map[string]string{}, map[string][]string{}
	x.mu.seen, x.mu.count = map[string]int{}, map[string]int{}
	on.want(w.t, "POST", "/v1/tenants", `{"name":"`+name+`","replicas":"all"}`, 201)
	for _, sql := range simTableSchema {
		on.sql(w.t, name, "", sql)
	}
	for _, n := range w.s.up() {
		w.s.await(2*time.Minute, func() string {
			n.do("POST", "/v1/tenants/"+name+"/sql?max_staleness=any", `{"sql":"SELECT count(*) FROM crr.note"}`) // it may not know of them yet
			status, text := n.do("POST", "/v1/tenants/"+name+"/sql?max_staleness=any", `{"sql":"INSERT INTO crr.note(k) VALUES('first `+n.id.Node+`') ON CONFLICT DO NOTHING"}`)
			if status != 200 || !strings.Contains(text, `"node":"`+n.id.Node+`"`) {
				return fmt.Sprintf("%s is no site yet: %d %s", n.id.Node, status, text)
			}
			return ""
		})
		x.mu.notes["first "+n.id.Node] = "ok"
	}
	return x
}

// client writes and reads at any node until ctx ends.
func (x *simTables) client(ctx context.Context, rng *rand.Rand, rest time.Duration) {
	for ctx.Err() == nil {
		if up := x.w.s.up(); len(up) > 0 {
			x.op(up[rng.IntN(len(up))], rng)
		}
		pause(ctx, time.Duration(rng.Int64N(int64(rest))))
	}
}

// op does one thing at a node.
func (x *simTables) op(n *simNode, rng *rand.Rand) {
	x.mu.Lock()
	x.mu.next++
	id := fmt.Sprintf("v%d", x.mu.next)
	x.mu.Unlock()
	switch rng.IntN(10) {
	case 0, 1, 2:
		x.add(n, fmt.Sprintf("h%d", rng.IntN(3)))
	case 3, 4:
		_, _, outcome := x.ask(n, "any", simStatement{`INSERT INTO crr.note(k, v) VALUES(?1, 'x')`, []any{id}})
		x.noted(id, outcome)
	case 5:
		p := fmt.Sprintf("p%d", rng.IntN(simPairs))
		const set = `INSERT INTO pair(k, v) VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = excluded.v`
		a, b := simStatement{set, []any{p + ".a", id}}, simStatement{set, []any{p + ".b", id}}
		if x.w.plant.torn {
			x.ask(n, "any", a)
			time.Sleep(20 * time.Millisecond)
			x.ask(n, "any", b)
		} else {
			x.ask(n, "any", a, b)
		}
	case 6:
		k := fmt.Sprintf("r%d", rng.IntN(4))
		x.ask(n, "any", []simStatement{
			{`INSERT OR REPLACE INTO row(k, a) VALUES(?1, ?2)`, []any{k, id}},
			{`UPDATE row SET b = ?2 WHERE k = ?1`, []any{k, id}},
			{`DELETE FROM row WHERE k = ?1`, []any{k}},
		}[rng.IntN(3)])
	case 7:
		x.read(n, rng, true)
	default:
		x.read(n, rng, false)
	}
}

func (x *simTables) add(n *simNode, key string) {
	a, _, outcome := x.ask(n, "any", simStatement{`INSERT INTO crr.hits(k, n) VALUES(?1, 1) ON CONFLICT(k) DO UPDATE SET n = n + 1`, []any{key}})
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.mu.adds[key]
	if k == nil {
		k = &simAdds{here: map[string]int{}}
		x.mu.adds[key] = k
	}
	switch outcome {
	case "ok":
		k.acked++
		k.here[a.Meta.Node]++
	case "unknown":
		k.unknown++
	}
}

// noted keeps the outcome of a row; outcome is followed by the node if there was an answer.
func (x *simTables) noted(key, outcome string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mu.notes[key] = outcome
}

// read looks at all, and at nothing that may be half.
func (x *simTables) read(n *simNode, rng *rand.Rand, strong bool) {
	// What had been acknowledged before: here, or anywhere.
	x.mu.Lock()
	least := map[string]map[string]int{}
	all := map[string]int{}
	for key, a := range x.mu.adds {
		all[key], least[key] = a.acked, maps.Clone(a.here)
	}
	seen := maps.Clone(x.mu.seen)
	x.mu.Unlock()
	level := "any"
	if strong {
		level = "strong"
	}
	pair := fmt.Sprintf("p%d", rng.IntN(simPairs))
	a, text, outcome := x.ask(n, level, simStatement{`SELECT k, n FROM hits`, []any{}},
		simStatement{`SELECT (SELECT v FROM pair WHERE k = ?1), (SELECT v FROM pair WHERE k = ?2)`, []any{pair + ".a", pair + ".b"}})
	if outcome != "ok" {
		return
	}
	if p := a.Results[1].Rows[0]; fmt.Sprint(p[0]) != fmt.Sprint(p[1]) {
		x.complain("half of a transaction at %s: %s", a.Meta.Node, text)
	}
	got := map[string]int{}
	for _, r := range a.Results[0].Rows {
		got[r[0].(string)], _ = strconv.Atoi(fmt.Sprint(r[1]))
	}
	for key := range all {
		switch at := a.Meta.Node; {
		case strong && got[key] < all[key]:
			x.complain("a strong read at %s shows %d of %s, %d were acknowledged", at, got[key], key, all[key])
		case got[key] < least[key][at]:
			x.complain("%s shows %d of %s, it has acknowledged %d", at, got[key], key, least[key][at])
		case got[key] < seen[at+" "+key]:
			x.complain("%s shows %d of %s, it has shown %d", at, got[key], key, seen[at+" "+key])
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, v := range got {
		at := a.Meta.Node + " " + key
		x.mu.seen[at] = max(x.mu.seen[at], v)
	}
}

// ask sends one request. The outcome is ok, unknown or refused.
func (x *simTables) ask(n *simNode, level string, list ...simStatement) (a simAnswer, text, outcome string) {
	body, _ := json.Marshal(map[string]any{"statements": list})
	path := "/v1/tenants/" + x.tenant + "/sql?max_staleness=any"
	if level == "strong" {
		path = "/v1/tenants/" + x.tenant + "/sql?consistency=strong"
	}
	ctx, cancel := context.WithTimeout(context.Background(), simOpMax)
	defer cancel()
	status, text := n.ask(ctx, "POST", path, string(body), nil)
	outcome = "unknown"
	if status != 0 {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.UseNumber()
		if err := d.Decode(&a); err != nil {
			x.complain("an answer that is no JSON: %q", text)
		}
	}
	switch {
	case status == 200:
		outcome = "ok"
	case a.Retryable:
		outcome = "refused"
	case a.Code == "INTERNAL" || a.Code == "CORRUPT" || a.Code == "NO_SUCH_TENANT" || a.Code == "SQLITE_ERROR":
		x.complain("%s at %s: %s %s", list[0].SQL, n.id.Node, a.Code, a.Message)
	}
	x.mu.Lock()
	x.mu.count[strings.TrimSpace(strings.ToLower(strings.Fields(list[0].SQL)[0])+" "+level+" "+outcome+" "+a.Code)]++
	if outcome == "ok" && len(list) == 1 && strings.HasPrefix(list[0].SQL, "INSERT INTO crr.note") {
		x.mu.here[a.Meta.Node] = append(x.mu.here[a.Meta.Node], list[0].Args[0].(string))
	}
	x.mu.Unlock()
	return a, text, outcome
}

func (x *simTables) complain(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.mu.wrong) < 50 {
		x.mu.wrong = append(x.mu.wrong, fmt.Sprintf(format, args...))
	}
}

// returned holds that a node which has started again shows what it has acknowledged, as soon as it answers.
func (x *simTables) returned(n *simNode) {
	for range 500 {
		if n.life.Err() != nil {
			return
		}
		why := x.has(n)
		if why == "" {
			return
		}
		if strings.Contains(why, "it has acknowledged") {
			x.complain("%s", why)
			return
		}
		pause(n.life, 10*time.Millisecond)
	}
}

// has says which row that a node has acknowledged it does not show.
func (x *simTables) has(n *simNode) string {
	x.mu.Lock()
	want := slices.Clone(x.mu.here[n.id.Node])
	x.mu.Unlock()
	a, text, outcome := x.ask(n, "any", simStatement{`SELECT k FROM note`, []any{}})
	if outcome != "ok" || a.Meta.Node != n.id.Node {
		return fmt.Sprintf("%s does not answer by itself: %s", n.id.Node, text)
	}
	there := map[string]bool{}
	for _, r := range a.Results[0].Rows {
		there[r[0].(string)] = true
	}
	for _, k := range want {
		if !there[k] {
			return fmt.Sprintf("%s does not show row %s, it has acknowledged that", n.id.Node, k)
		}
	}
	return ""
}
