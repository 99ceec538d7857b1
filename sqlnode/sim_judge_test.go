package sqlnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// judge waits until all is well again, and returns what was wrong.
func (w *simWorld) judge() []string {
	if w.plant.unsynced && len(w.h.mu.wrong) > 0 {
		return w.h.mu.wrong // that was quick
	}
	if w.plant.torn || w.plant.forgetful {
		return w.tables.mu.wrong
	}
	w.s.net.HealAll()
	for _, n := range w.s.up() {
		if n.faults != nil {
			n.faults.Heal()
		}
	}
	if why := w.settle(2 * time.Minute); why != "" {
		return append(w.h.mu.wrong, "the cluster does not come to rest: "+why)
	}
	final, err := w.final()
	if err != nil {
		return append(w.h.mu.wrong, err.Error())
	}
	wrong := w.h.check(final)
	if len(wrong) == 0 {
		if why := w.settle(2 * time.Minute); why != "" {
			wrong = append(wrong, "the cluster does not come to rest: "+why)
		}
		wrong = append(wrong, w.compareSoon()...)
	}
	if w.tables != nil {
		wrong = append(wrong, w.tables.judge(10*time.Minute)...)
	}
	return wrong
}

// settle waits until all nodes are ready, those that were to go are gone, and groups have the voters that they are to have.
func (w *simWorld) settle(max time.Duration) (why string) {
	for end := time.Now().Add(max); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if why = w.restless(); why == "" {
			return ""
		}
	}
	return why
}

func (w *simWorld) restless() string {
	for _, n := range w.s.up() {
		w.tend(n)
	}
	for _, id := range w.ids() {
		n := w.s.node(id)
		if n == nil {
			return id + " is down"
		}
		if w.mu.removing[id] {
			var other *simNode
			for _, o := range w.s.up() {
				if !w.mu.removing[o.id.Node] {
					other = o
				}
			}
			status, text := other.do("GET", "/v1/nodes/"+id, "")
			if status != 404 {
				return id + " is not removed: " + text
			}
			if err := w.s.halt(id); err != nil && !errors.Is(err, errRemoved) {
				w.h.complain("node %s, which was removed, ended with %v", id, err)
			}
			w.forget(id)
			continue
		}
		if why := ready(n); why != "" {
			return id + ": " + why
		}
	}
	for _, group := range []string{"system", "default"} {
		status, text := w.s.up()[0].do("GET", "/v1/groups/"+group, "")
		var g struct{ Declared, Voters []string }
		if err := json.Unmarshal([]byte(text), &g); status != 200 || err != nil {
			return text
		}
		slices.Sort(g.Declared)
		slices.Sort(g.Voters)
		if !slices.Equal(g.Declared, g.Voters) || len(g.Voters) != 3 {
			return text
		}
	}
	for _, n := range w.s.up() {
		for _, h := range n.groups.all() {
			if err := h.whole(); err != nil {
				return n.id.Node + ": " + err.Error()
			}
		}
	}
	return w.placedCopies()
}

// final reads what each key has at the end.
func (w *simWorld) final() (map[simKey]string, error) {
	final := map[simKey]string{}
	rows := map[string]string{}
	n := w.s.up()[0]
	query := func(tenant, sql string) ([][]any, error) {
		body, _ := json.Marshal(map[string]string{"sql": sql})
		status, text := n.do("POST", "/v1/tenants/"+tenant+"/sql?consistency=strong", string(body))
		var a simAnswer
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			return nil, err
		}
		if status != 200 {
			return nil, fmt.Errorf("%s: %s", a.Code, a.Message)
		}
		return a.Results[0].Rows, nil
	}
	for i := range simTenants {
		name := fmt.Sprintf("t%d", i)
		got, err := query(name, `SELECT 'list', k, v FROM list UNION ALL SELECT 'counter', k, CAST(n AS TEXT) FROM counter UNION ALL SELECT 'row', k, v FROM row`)
		if err != nil {
			return nil, err
		}
		for _, r := range got {
			rows[fmt.Sprintf("%s %s %s", name, r[0], r[1])] = r[2].(string)
		}
	}
	for _, k := range w.h.keys() {
		if k.kind == simTenant {
			got, err := query(k.tenant, `SELECT v FROM list`)
			switch {
			case err == nil:
				final[k] = ""
				if len(got) > 0 {
					final[k] = got[0][0].(string)
				}
			case strings.Contains(err.Error(), "no such table"):
				final[k] = ""
			case strings.HasPrefix(err.Error(), "NO_SUCH_TENANT") || strings.HasPrefix(err.Error(), "TENANT_DELETED"):
				final[k] = simNothing
			default:
				return nil, err
			}
			continue
		}
		row := k.kind.String() + " " + k.name()
		if k.kind == simPair {
			row = "list " + k.name() + ".a"
		}
		final[k] = simNothing
		if v, ok := rows[k.tenant+" "+row]; ok {
			final[k] = v
		}
	}
	return final, nil
}

// tally says what the run was made of.
func (w *simWorld) tally() string {
	var b strings.Builder
	for _, m := range []map[string]int{w.mu.done, w.h.mu.count} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(&b, "%s %d, ", k, m[k])
		}
		b.WriteString("\n    ")
	}
	if w.tables != nil {
		b.WriteString("conflict-free tables: " + w.tables.tally() + "\n    ")
	}
	if r := &w.mu.relays; r.hops > 0 {
		fmt.Fprintf(&b, "relays (%v): up to %d hops from voters, copies seen behind relays %d times, other feeders %d times\n    ", w.shape, r.hops, r.relayed, r.changes)
	}
	fmt.Fprintf(&b, "longest time between acknowledged writes %v, copies seen missing %d times", w.h.mu.gap, w.mu.hollow)
	return b.String()
}
