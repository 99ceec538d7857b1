package crrfiles

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// site is a site in memory, for what needs no node.
type site struct {
	*crr.Site
	c *sqlite.Conn
	r *crr.Reader
}

func newSite(t *testing.T, number crr.SiteID, now func() time.Time, ddl string) *site {
	t.Helper()
	c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite|sqlite.Create)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, configure(c))
	must(t, c.Exec("ATTACH ':memory:' AS crr"))
	s, err := crr.Open(Adapt(c), crr.Config{Tenant: "t", Now: now})
	must(t, err)
	t.Cleanup(s.Close)
	must(t, s.ApplySchema(schema.Change{Version: 1, SQL: ddl}))
	must(t, s.Adopt(s.Identity().File, number))
	r := s.NewReader(Adapt(c))
	t.Cleanup(r.Close)
	return &site{s, c, r}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) run(t *testing.T, sql string) {
	t.Helper()
	if sql == "–" {
		return
	}
	must(t, s.Begin())
	for one := range strings.SplitSeq(sql, "; ") {
		must(t, s.Use(crr.Classify(one)))
		if err := s.c.Exec(one); err != nil {
			t.Fatalf("%s: %v", one, err)
		}
	}
	_, err := s.Commit()
	must(t, err)
}

func (s *site) pull(t *testing.T, from *site) {
	t.Helper()
	me := from.Identity()
	must(t, from.r.Answer(s.Request(me.Site, me.File), func(b []byte) error {
		_, err := s.Receive(b)
		return err
	}))
}

func (s *site) rows(t *testing.T) string {
	t.Helper()
	var out []string
	must(t, each(s.c, "SELECT * FROM crr.t ORDER BY k", func(st *sqlite.Stmt) error {
		var line []string
		for i := range st.ColumnCount() {
			if v := st.Column(i); v.IsNull() {
				line = append(line, "NULL")
			} else {
				line = append(line, strings.Trim(v.String(), `"`))
			}
		}
		out = append(out, strings.Join(line, " "))
		return nil
	}))
	if len(out) == 0 {
		return "–"
	}
	return strings.Join(out, "; ")
}

// Every line of the document's table is as two sites have it.
func TestDocumentedMeaning(t *testing.T) {
	text, err := os.ReadFile("../../docs/conflict-free.md")
	must(t, err)
	_, rest, ok := strings.Cut(string(text), "the table being `")
	ddl, rest, ok2 := strings.Cut(rest, "`")
	_, rest, ok3 := strings.Cut(rest, "|---|---|---|---|---|\n")
	table, _, ok4 := strings.Cut(rest, "\n\n")
	if !ok || !ok2 || !ok3 || !ok4 {
		t.Fatal("the document has no table of meanings")
	}
	lines := strings.Split(table, "\n")
	for _, line := range lines {
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if len(cells) != 5 {
			t.Fatalf("%d cells: %s", len(cells), line)
		}
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		t.Run(cells[0], func(t *testing.T) {
			for _, order := range []string{"here first", "there first"} {
				at := time.UnixMilli(1_700_000_000_000)
				now := func() time.Time { return at }
				here, there := newSite(t, 1, now, ddl), newSite(t, 2, now, ddl)
				here.run(t, cells[1])
				there.pull(t, here)
				at = at.Add(time.Second)
				here.run(t, cells[2])
				at = at.Add(time.Second)
				there.run(t, cells[3])
				if order == "here first" {
					here.pull(t, there)
					there.pull(t, here)
				} else {
					there.pull(t, here)
					here.pull(t, there)
				}
				for name, s := range map[string]*site{"here": here, "there": there} {
					if got := s.rows(t); got != cells[4] {
						t.Errorf("%s, %s: got %s, the document says %s", order, name, got, cells[4])
					}
				}
			}
		})
	}
	if len(lines) < 15 {
		t.Errorf("%d lines", len(lines))
	}
}
