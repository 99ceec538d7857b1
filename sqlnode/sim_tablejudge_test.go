package sqlnode

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
)

// judge waits until all sites have the same, and returns what is wrong. All is well again otherwise.
func (x *simTables) judge(most time.Duration) []string {
	began := time.Now()
	var why string
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(time.Second) {
		if why = x.differ(); why == "" {
			break
		}
	}
	x.mu.Lock()
	x.mu.count["seconds until all had the same"] = int(time.Since(began).Seconds())
	x.mu.Unlock()
	wrong := slices.Clone(x.mu.wrong)
	if why != "" {
		for _, n := range x.w.s.up() {
			_, text := n.do("GET", "/v1/tenants/"+x.tenant+"/crr", "")
			why += "\n    " + n.id.Node + " says: " + text
		}
		return append(wrong, fmt.Sprintf("conflict-free tables do not come to the same in %v: %s", most, why))
	}
	for _, n := range x.w.s.up() {
		wrong = append(wrong, x.faults(n)...)
	}
	return append(wrong, x.account(x.w.s.up()[0])...)
}

// differ says how two nodes differ, in rows or metadata.
func (x *simTables) differ() string {
	first, by := "", ""
	for _, n := range x.w.s.up() {
		all, err := x.dump(n)
		switch {
		case err != nil:
			return fmt.Sprintf("%s: %v", n.id.Node, err)
		case first == "":
			first, by = all, n.id.Node
		case first != all:
			a, b := strings.Split(first, "\n"), strings.Split(all, "\n")
			only := func(a, b []string) []string {
				return slices.DeleteFunc(slices.Clone(a), func(l string) bool { return slices.Contains(b, l) })
			}
			return fmt.Sprintf("only %s has %.600q, only %s has %.600q", by, only(a, b), n.id.Node, only(b, a))
		}
	}
	return ""
}

// dump is all rows of a node's file and what their metadata say of rows that are there, as text.
func (x *simTables) dump(n *simNode) (string, error) {
	var b strings.Builder
	for _, sql := range []string{`SELECT k, n FROM hits ORDER BY k`, `SELECT k, v FROM pair ORDER BY k`, `SELECT k, v FROM note ORDER BY k`, `SELECT k, a, b FROM row ORDER BY k`} {
		a, text, outcome := x.ask(n, "any", simStatement{sql, []any{}})
		if outcome != "ok" || a.Meta.Node != n.id.Node {
			return "", fmt.Errorf("it does not answer by itself: %s", text)
		}
		for _, r := range a.Results[0].Rows {
			fmt.Fprintf(&b, "%s: %v\n", strings.Fields(sql)[4], r)
		}
	}
	err := x.metadata(n, func(table, key string, r *crr.Row) {
		if r.Live() {
			r.Del = crr.Stamp{} // may be forgotten once all know of it
			fmt.Fprintf(&b, "%s of %s: %x\n", table, key, sha256.Sum256(fmt.Appendf(nil, "%+v", *r)))
		}
	})
	return b.String(), err
}

// metadata gives what a node's file keeps of each row.
func (x *simTables) metadata(n *simNode, each func(table, key string, r *crr.Row)) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := n.locate(ctx, x.tenant)
	if err != nil {
		return err
	}
	f, err := n.sites.files.Open(ctx, r.Tenant)
	if err != nil {
		return err
	}
	store, err := r.Acquire()
	if err != nil {
		return err
	}
	defer r.Release()
	c, err := store.OpenReader(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := crrfiles.Attach(c, f.Path()); err != nil {
		return err
	}
	for _, table := range []string{"__crr_m1", "__crr_m2", "__crr_m3", "__crr_m4"} {
		st, err := crrfiles.Adapt(c.Conn).Prepare("SELECT k, st FROM crr." + table + " ORDER BY k")
		if err != nil {
			return err
		}
		for {
			more, err := st.Step()
			if err != nil || !more {
				if err = errors.Join(err, st.Finalize()); err != nil {
					return err
				}
				break
			}
			row, err := crr.DecodeRow(st.ColumnBytes(1))
			if err != nil {
				return errors.Join(err, st.Finalize())
			}
			slices.SortFunc(row.Cells, func(a, b crr.Cell) int { return int(a.Col) - int(b.Col) })
			each(table, st.Column(0).Str(), &row)
		}
	}
	return nil
}

// faults is what does not fit together in a node's file.
func (x *simTables) faults(n *simNode) (wrong []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := n.locate(ctx, x.tenant)
	if err != nil {
		return []string{err.Error()}
	}
	f, err := n.sites.files.Open(ctx, r.Tenant)
	if err != nil {
		return []string{err.Error()}
	}
	reader, err := f.NewReader(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	defer reader.Close()
	tables, err := reader.Check()
	if err != nil {
		return []string{err.Error()}
	}
	for _, t := range tables {
		for _, f := range t.Faults {
			wrong = append(wrong, fmt.Sprintf("%s, table %s: %s", n.id.Node, t.Name, f))
		}
	}
	return wrong
}

// account compares what is there with what was acknowledged.
func (x *simTables) account(n *simNode) (wrong []string) {
	a, _, _ := x.ask(n, "any", simStatement{`SELECT k, n FROM hits`, []any{}}, simStatement{`SELECT k FROM note`, []any{}})
	x.mu.Lock()
	defer x.mu.Unlock()
	got := map[string]int{}
	for _, r := range a.Results[0].Rows {
		got[r[0].(string)], _ = strconv.Atoi(fmt.Sprint(r[1]))
	}
	for key, adds := range x.mu.adds {
		if n := got[key]; n < adds.acked || n > adds.acked+adds.unknown {
			wrong = append(wrong, fmt.Sprintf("counter %s is %d: %d increments were acknowledged, %d have an unknown outcome", key, n, adds.acked, adds.unknown))
		}
	}
	there := map[string]bool{}
	for _, r := range a.Results[1].Rows {
		there[r[0].(string)] = true
	}
	for key, outcome := range x.mu.notes {
		switch {
		case outcome == "ok" && !there[key]:
			wrong = append(wrong, "row "+key+" was acknowledged and is lost")
		case outcome == "refused" && there[key]:
			wrong = append(wrong, "row "+key+" was refused and is there")
		}
	}
	return wrong
}

// tally says what clients did.
func (x *simTables) tally() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(x.mu.count)) {
		fmt.Fprintf(&b, "%s %d, ", k, x.mu.count[k])
	}
	return b.String()
}
