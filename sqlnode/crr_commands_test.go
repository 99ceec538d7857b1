package sqlnode

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// sitesOf starts a cluster of three voters with a tenant, acme, that has a conflict-free table, likes, of which all are sites.
func sitesOf(t *testing.T, s *simulation) []*simNode {
	t.Helper()
	a := s.start("n1")
	s.await(time.Minute, func() string { return ready(a) })
	b, c := s.start("n2", "n1"), s.start("n3", "n1")
	s.awaitVoters("n1", "default", 3)
	s.await(time.Minute, func() string { return ready(b) + ready(c) })
	all := []*simNode{a, b, c}
	a.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 201)
	a.sql(t, "acme", "", "create table crr.likes(post text primary key not null, n counter not null default 0, title text)")
	for _, n := range all {
		s.await(time.Minute, func() string {
			status, text := n.do("POST", "/v1/tenants/acme/sql", `{"sql":"insert into crr.likes(post, n) values('hello', 1) on conflict(post) do update set n = n + 1"}`)
			if status != 200 {
				return text
			}
			return ""
		})
	}
	for _, n := range all {
		s.awaitRows(n, "acme", "select n from likes", "[[3]]")
	}
	return all
}

// awaitRows waits until a read of any age has the rows.
func (s *simulation) awaitRows(n *simNode, tenant, sql, want string) {
	s.t.Helper()
	s.await(time.Minute, func() string {
		b, _ := json.Marshal(map[string]string{"sql": sql})
		_, text := n.do("POST", "/v1/tenants/"+tenant+"/sql?max_staleness=any", string(b))
		if !strings.Contains(text, `"rows":`+want) {
			return fmt.Sprintf("%s: want %s: %s", n.id.Node, want, text)
		}
		return ""
	})
}

// meta is what an answer says of itself.
type simMeta struct {
	Bookmark string
	Meta     struct {
		Consistency string
		Node        string
		Tables      *int64 `json:"crr_staleness_ms"`
	}
	Results []struct{ Rows rawRows }
}

// rawRows are rows as they came.
type rawRows string

func (r *rawRows) UnmarshalJSON(b []byte) error { *r = rawRows(b); return nil }

func (n *simNode) meta(t *testing.T, tenant, query, sql string) simMeta {
	t.Helper()
	b, _ := json.Marshal(map[string]string{"sql": sql})
	var m simMeta
	if err := json.Unmarshal([]byte(n.want(t, "POST", "/v1/tenants/"+tenant+"/sql"+query, string(b), 200)), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// A table becomes conflict-free, and strong again, with all of its rows, while all nodes use it.
func TestTablesAreConverted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		all := sitesOf(t, s)
		a, b, c := all[0], all[1], all[2]
		a.sql(t, "acme", "", "create table visits(page text not null, day integer not null, n integer not null default 0, note text, primary key(day, page))")
		a.sql(t, "acme", "", "create index visits_note on visits(note)")
		a.sql(t, "acme", "", "with recursive k(i) as (select 1 union all select i+1 from k where i<5000) insert into visits select 'p'||(i%50), i/50, i, 'x' from k")
		const declare = `"declare":"create table visits(page text not null, day integer not null, n counter not null default 0, note text, primary key(day, page))"`
		if got := b.want(t, "POST", "/v1/tenants/acme/crr/adopt", `{"table":"visits",`+declare+`}`, 200); !strings.Contains(got, `"rows":5000`) {
			t.Fatal(got)
		}
		for _, n := range all { // all have all rows when it is answered
			if got := n.sql(t, "acme", "?max_staleness=any", "select count(*), sum(n) from visits"); got != "[[5000,12502500]]" {
				t.Fatalf("%s: %s", n.id.Node, got)
			}
		}
		s.net.Isolate("n3")
		for i, n := range all {
			n.sql(t, "acme", "?max_staleness=any", fmt.Sprintf("update visits set n = n + %d where day = 1", i+1))
		}
		// Not all sites can be asked: it stays what it is, and takes writes.
		if got := code(a.want(t, "POST", "/v1/tenants/acme/crr/release", `{"table":"visits"}`, 503)); got != "UNREACHABLE" {
			t.Fatal(got)
		}
		b.sql(t, "acme", "?max_staleness=any", "update visits set n = n + 1 where day = 1")
		s.net.HealAll()
		s.net.Rejoin("n3")
		s.awaitRows(c, "acme", "select sum(n)-12502500 from visits", "[[350]]")
		s.await(3*time.Minute, func() string {
			status, text := b.do("POST", "/v1/tenants/acme/crr/release", `{"table":"visits"}`)
			if status != 200 {
				return text
			}
			return ""
		})
		for _, n := range all {
			if got := n.sql(t, "acme", "?consistency=strong", "select count(*), sum(n) from main.visits"); got != "[[5000,12502850]]" {
				t.Fatalf("%s: %s", n.id.Node, got)
			}
		}
		if got := a.sql(t, "acme", "", "select name from main.sqlite_schema where tbl_name='visits' and sql is not null order by 1"); got != `[["visits"],["visits_note"]]` {
			t.Fatal(got)
		}
		a.sql(t, "acme", "", "insert into visits values('new', 1, 1, null)")
		// A node says that it has made a change, or writes no more, when that is so.
		r, err := b.locate(context.Background(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		f := b.sites.files.Known(r.ID())
		for version, made := range map[uint64]bool{f.Schema().Version: true, f.Schema().Version + 100: false, 0: false} {
			if final, err := b.sites.leftHere(context.Background(), r.ID(), f.Number(), version); (err == nil) != made || (final > 0) != made || !made && !isCode(err, wire.CodeStale) {
				t.Errorf("change %d: %v, %v", version, final, err)
			}
		}
	})
}

// What a node wrote while its clock was years ahead is written anew; nothing is lost, and all others take it.
func TestSiteIsRestamped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		all := sitesOf(t, s)
		c := all[2]
		if got := code(c.want(t, "POST", "/v1/tenants/acme/crr/restamp", `{}`, 409)); got != "CONFLICT" {
			t.Fatal(got) // there is nothing
		}
		s.net.Isolate("n3")
		time.Sleep(10 * time.Second)
		c.clock.jumped.Store(int64(10 * 365 * 24 * time.Hour))
		c.sql(t, "acme", "?max_staleness=any", "update likes set n = n + 10, title = 'early'")
		c.sql(t, "acme", "?max_staleness=any", "insert into likes(post, n) values('other', 5)")
		c.clock.jumped.Store(0)
		s.net.HealAll()
		s.net.Rejoin("n3")
		if status, text := c.do("POST", "/v1/tenants/acme/sql?max_staleness=any", `{"sql":"update likes set n = n + 1"}`); status != 503 || code(text) != "NOT_READY" {
			t.Fatal(status, text)
		}
		time.Sleep(30 * time.Second)
		s.awaitRows(all[0], "acme", "select post, n, title from likes", `[["hello",3,null]]`)
		all[1].sql(t, "acme", "?max_staleness=any", "update likes set n = n + 1")
		if got := all[0].want(t, "POST", "/v1/tenants/acme/crr/restamp", `{"node":"n3"}`, 200); !strings.Contains(got, `"pending":false`) {
			t.Fatal(got)
		}
		for _, n := range all {
			s.awaitRows(n, "acme", "select post, n, title from likes order by 1", `[["hello",14,"early"],["other",5,null]]`)
		}
		c.sql(t, "acme", "?max_staleness=any", "update likes set n = n + 1 where post = 'hello'")
		s.awaitRows(all[0], "acme", "select n from likes where post = 'hello'", `[[15]]`)
	})
}

// The same on a node on its own.
func TestOnlySiteIsRestamped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		a.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 201)
		a.sql(t, "acme", "", "create table crr.likes(post text primary key not null, n counter not null default 0)")
		a.sql(t, "acme", "", "insert into likes values('old', 1)")
		a.clock.jumped.Store(int64(10 * 365 * 24 * time.Hour))
		a.sql(t, "acme", "", "insert into likes values('new', 1)")
		a.sql(t, "acme", "", "update likes set n = n + 1")
		a.clock.jumped.Store(0)
		if status, text := a.do("POST", "/v1/tenants/acme/sql", `{"sql":"update likes set n = n + 1"}`); status != 503 || code(text) != "NOT_READY" {
			t.Fatal(status, text)
		}
		if got := a.want(t, "POST", "/v1/tenants/acme/crr/restamp", `{}`, 200); !strings.Contains(got, `"pending":false`) {
			t.Fatal(got)
		}
		a.sql(t, "acme", "", "update likes set n = n + 1")
		if got := a.sql(t, "acme", "", "select * from likes order by post desc"); got != `[["old",3],["new",3]]` {
			t.Fatal(got)
		}
	})
}

// A session that writes at one node reads its writes at any other, and never goes back.
func TestBookmarksOfConflictFreeTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		all := sitesOf(t, s)
		a, b, c := all[0], all[1], all[2]
		for _, x := range []string{"n1", "n2", "n3"} {
			for _, y := range []string{"n1", "n2", "n3"} {
				if x != y {
					s.net.SetDelayBoth(x, y, 60*time.Millisecond)
				}
			}
		}
		mark := ""
		for i := range 20 {
			m := all[i%3].meta(t, "acme", "?max_staleness=any&bookmark="+mark, "update likes set n = n + 1 returning n")
			if m.Meta.Consistency != "local" || m.Bookmark == mark {
				t.Fatal(m)
			}
			if i%2 == 0 { // a read of strong tables alone does not lose what the session saw
				m = all[(i+1)%3].meta(t, "acme", "?max_staleness=any&bookmark="+m.Bookmark, "select 1")
			}
			for j := range 3 {
				m = all[(i+j+1)%3].meta(t, "acme", "?max_staleness=any&bookmark="+m.Bookmark, "select n from likes")
				if got := string(m.Results[0].Rows); got != fmt.Sprintf("[[%d]]", 4+i) {
					t.Fatalf("write %d is not seen at %s: %s", i, m.Meta.Node, got)
				}
			}
			mark = m.Bookmark
		}
		// What is not here, and can't come, is not answered; another node that has it is asked.
		s.net.CutBoth("n1", "n2")
		time.Sleep(8 * time.Second)
		s.net.CutBoth("n1", "n3")
		mark = a.meta(t, "acme", "?max_staleness=any", "update likes set n = n + 100").Bookmark
		if got := code(b.want(t, "POST", "/v1/tenants/acme/sql?max_staleness=any&on_stale=fail&timeout=5s&bookmark="+mark, `{"sql":"select n from likes"}`, 503)); got != "STALE" {
			t.Fatal(got)
		}
		b.want(t, "POST", "/v1/tenants/acme/sql?max_staleness=any&bookmark="+mark, `{"sql":"select 1"}`, 200)
		s.net.HealAll()
		if m := b.meta(t, "acme", "?max_staleness=any&bookmark="+mark, "select n from likes"); string(m.Results[0].Rows) != "[[123]]" {
			t.Fatal(m)
		}
		// Forged ones are refused.
		s.awaitRows(c, "acme", "select n from likes", "[[123]]")
		forge := func(site uint32, ahead time.Duration) string {
			b, err := wire.ParseBookmark(mark)
			if err != nil {
				t.Fatal(err)
			}
			b.Sites = wire.SiteMarks{Marks: []wire.SiteMark{{Site: site, Clock: uint64(time.Now().Add(ahead).UnixMilli()) << 16}}}
			return b.String()
		}
		for what, bad := range map[string]struct{ mark, code string }{
			"a site that is none":              {forge(99, 0), "BAD_BOOKMARK"},
			"a transaction that is none":       {forge(1, time.Hour), "BOOKMARK_LOST"},
			"one of another site that is none": {forge(3, time.Hour), "BOOKMARK_LOST"},
		} {
			status, text := a.do("POST", "/v1/tenants/acme/sql?max_staleness=any&timeout=8s&bookmark="+bad.mark, `{"sql":"select n from likes"}`)
			if status == 200 || code(text) != bad.code {
				t.Errorf("%s: %d %s", what, status, text)
			}
		}
		// The age of what is read is known when it was asked for, and kept.
		m := c.meta(t, "acme", "?max_staleness=500ms", "select n from likes")
		if m.Meta.Consistency != "weak" || m.Meta.Tables == nil || *m.Meta.Tables > 500 {
			t.Fatalf("%+v", m)
		}
		s.net.CutBoth("n1", "n3")
		s.net.CutBoth("n1", "n2")
		a.sql(t, "acme", "?max_staleness=any", "update likes set n = n + 1")
		time.Sleep(12 * time.Second) // longer than the bound, which is longer than the question that has no answer takes
		status, text := c.do("POST", "/v1/tenants/acme/sql?max_staleness=10s", `{"sql":"select n from likes"}`)
		if status != 503 || code(text) != "UNREACHABLE" || !strings.Contains(text, "n1") {
			t.Fatal(status, text)
		}
		if m = c.meta(t, "acme", "", "select n from likes"); m.Meta.Consistency != "local" {
			t.Fatalf("%+v", m)
		}
		c.meta(t, "acme", "?max_staleness=1h", "select n from likes")
		s.net.HealAll()
		s.await(time.Minute, func() string {
			status, text := c.do("POST", "/v1/tenants/acme/sql?max_staleness=1s", `{"sql":"select n from likes"}`)
			if status != 200 || !strings.Contains(text, "[[124]]") {
				return text
			}
			return ""
		})
	})
}

// siteStates are the tenant's sites as a node sees them: node and state, by number.
func siteStates(n *simNode, tenant string) string {
	r, err := n.locate(context.Background(), tenant)
	if err != nil {
		return err.Error()
	}
	all, err := n.sites.members(context.Background(), r)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, m := range all {
		out = append(out, fmt.Sprintf("%s %s", m.Node, map[crr.MemberState]string{crr.Active: "active", crr.Leaving: "leaving", crr.Retired: "retired"}[m.State]))
	}
	return strings.Join(out, ", ")
}

// A site that is in use is not retired but by force; one whose node was removed is, and what the others have of it counts.
func TestSitesAreRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		all := sitesOf(t, s)
		a, b, c := all[0], all[1], all[2]
		if got := siteStates(a, "acme"); strings.Count(got, "active") != 3 {
			t.Fatal(got)
		}
		if got := code(a.want(t, "POST", "/v1/tenants/acme/crr/retire", `{"nodes":["n3"]}`, 409)); got != "CONFLICT" {
			t.Fatal(got)
		}
		if got := code(b.want(t, "POST", "/v1/tenants/acme/crr/retire", `{"sites":[77]}`, 404)); got != "NOT_FOUND" {
			t.Fatal(got)
		}
		// By force while it is away with a write that nobody has: it comes back as another site, and has written that anew.
		s.net.Isolate("n3")
		time.Sleep(10 * time.Second)
		c.sql(t, "acme", "?max_staleness=any", "update likes set n = n + 10")
		s.await(time.Minute, func() string { // the group may need another primary first
			status, text := a.do("POST", "/v1/tenants/acme/crr/retire", `{"nodes":["n3"],"force":true}`)
			if status != 200 {
				return text
			}
			if !strings.Contains(text, `"final":"2000-`) {
				t.Errorf("what the others have of it does not count: %s", text)
			}
			return ""
		})
		mark := c.meta(t, "acme", "?max_staleness=any", "update likes set n = n + 10").Bookmark
		s.net.HealAll()
		s.net.Rejoin("n3")
		for _, n := range all {
			s.awaitRows(n, "acme", "select n from likes", "[[23]]")
		}
		if got := siteStates(a, "acme"); strings.Count(got, "n3 retired") != 1 || strings.Count(got, "n3 active") != 1 {
			t.Fatal(got)
		}
		if got := code(b.want(t, "POST", "/v1/tenants/acme/sql?max_staleness=any&bookmark="+mark, `{"sql":"select n from likes"}`, 409)); got != "BOOKMARK_LOST" {
			t.Fatal(got)
		}
		// A node that is removed takes its site with it.
		d := s.start("n4", "n1")
		s.await(time.Minute, func() string { return ready(d) })
		s.kill("n3", nil)
		a.want(t, "DELETE", "/v1/nodes/n3", "", 202)
		s.await(5*time.Minute, func() string {
			if got := siteStates(a, "acme"); strings.Count(got, "n3 retired") != 2 || strings.Count(got, "n4 active") != 1 {
				return got
			}
			return ""
		})
		for i, n := range []*simNode{a, b, d} {
			n.sql(t, "acme", "?max_staleness=any", "update likes set n = n + 1")
			if i == 2 {
				s.awaitRows(a, "acme", "select n from likes", "[[26]]")
			}
		}
	})
}

// A node that a tenant is taken from stays a site until the others have all that it wrote. One without a site of its own sends requests to the nearest.
func TestSitesComeAndGoWithPlacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		s.tune = func(c *Config) { c.Region = map[string]string{"n2": "far", "n4": "far"}[c.NodeID] }
		all := sitesOf(t, s)
		a := all[0]
		d := s.start("n4", "n1")
		s.await(time.Minute, func() string { return ready(d) })
		// As long as it has no copy for good it reads and writes at the nearest site, n2.
		for range 30 {
			m := d.meta(t, "acme", "?max_staleness=any", "update crr.likes set n = n + 1 returning n")
			if m.Meta.Node != "n2" {
				t.Fatalf("%+v", m)
			}
			r := d.meta(t, "acme", "", "select n from crr.likes")
			if r.Meta.Node != "n2" || r.Results[0].Rows != m.Results[0].Rows {
				t.Fatalf("%+v after %+v", r, m)
			}
			d.meta(t, "acme", "?max_staleness=any", "select 1") // has a copy come on demand, some time
			time.Sleep(time.Second)
		}
		if d.repl.set.Tenants() == nil {
			t.Fatal("no copy came on demand")
		}
		// With the copy it knows the names.
		if m := d.meta(t, "acme", "?max_staleness=any", "update likes set n = n + 1"); m.Meta.Node != "n2" {
			t.Fatalf("%+v", m)
		}
		if m := d.meta(t, "acme", "?max_staleness=any", "select n from likes"); m.Meta.Node != "n2" {
			t.Fatalf("%+v", m)
		}
		s.net.CutBoth("n2", "n4")
		time.Sleep(2 * contactKeeps) // until then a write may be on its way there
		if m := d.meta(t, "acme", "?max_staleness=any", "update likes set n = n + 1"); m.Meta.Node == "n2" {
			t.Fatalf("%+v", m)
		}
		s.net.HealAll()
		a.want(t, "PUT", "/v1/tenants/acme/placement", `{"replicas":"pop:pop-n4"}`, 200)
		s.await(time.Minute, func() string {
			status, text := d.do("POST", "/v1/tenants/acme/sql?max_staleness=any", `{"sql":"update likes set n = n + 1"}`)
			if status != 200 || !strings.Contains(text, `"node":"n4"`) {
				return text
			}
			return ""
		})
		s.awaitRows(d, "acme", "select n >= 35 from likes", "[[1]]")
		before := d.sql(t, "acme", "?consistency=strong", "select n from likes")
		s.net.Isolate("n4")
		time.Sleep(10 * time.Second)
		d.sql(t, "acme", "?max_staleness=any", "update likes set n = n + 1000")
		a.want(t, "PUT", "/v1/tenants/acme/placement", `{"replicas":"none"}`, 200)
		time.Sleep(time.Minute)
		if got := siteStates(a, "acme"); !strings.Contains(got, "n4 leaving") {
			t.Fatal(got)
		}
		s.net.HealAll()
		s.net.Rejoin("n4")
		for _, n := range all {
			s.awaitRows(n, "acme", "select n - 1000 from likes", before)
		}
		s.await(3*time.Minute, func() string {
			if got := siteStates(a, "acme"); !strings.Contains(got, "n4 retired") {
				return got
			}
			if n := len(d.repl.set.Tenants()); n > 0 {
				return fmt.Sprintf("n4 has %d copies", n)
			}
			return ""
		})
		if names, _ := os.ReadDir(filepath.Join(s.dir, "n4", "crr")); len(names) > 0 {
			t.Fatalf("n4 keeps %v", names)
		}
	})
}

// When too little of a retired site was found to count, what another site has of it counts after all: nothing that came to a second node is lost, and
// sites that have it are not shut out.
func TestMoreOfRetiredSiteCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		all := sitesOf(t, s)
		for _, n := range all { // each writes itself: its first write may have been another's, until it had a number
			s.await(time.Minute, func() string {
				status, text := n.do("POST", "/v1/tenants/acme/sql?max_staleness=any", `{"sql":"insert into likes(post) values('`+n.id.Node+`') on conflict do nothing"}`)
				if status != 200 || !strings.Contains(text, `"node":"`+n.id.Node+`"`) {
					return text
				}
				return ""
			})
		}
		for _, n := range all {
			s.awaitRows(n, "acme", "select count(*) from likes where n = 0", "[[3]]")
		}
		var primary *simNode
		var r *resident
		for _, n := range all {
			var err error
			if r, err = n.locate(context.Background(), "acme"); err != nil {
				t.Fatal(err)
			}
			if r.h.log().Primary() == nil {
				primary = n
				break
			}
		}
		members, err := primary.sites.members(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		site := crr.SiteID(0)
		for _, m := range members {
			if m.Node != primary.id.Node {
				site = m.Site
			}
		}
		if err := primary.engine.Own(context.Background(), r.Tenant, r.q, func(c *sqlite.Conn) error { return engine.SetRetired(c, r.ID(), site, 1) }); err != nil {
			t.Fatal(err)
		}
		s.await(time.Minute, func() string {
			members, err := primary.sites.members(context.Background(), r)
			if err != nil {
				return err.Error()
			}
			for _, m := range members {
				if m.Site == site && m.Final <= 1 {
					return fmt.Sprintf("%+v", m)
				}
			}
			return ""
		})
		for _, n := range all {
			s.await(time.Minute, func() string {
				if status, text := n.do("POST", "/v1/tenants/acme/sql?max_staleness=any", `{"sql":"update likes set n = n + 1 where post = 'hello'"}`); status != 200 {
					return text
				}
				return ""
			})
		}
		for _, n := range all {
			s.awaitRows(n, "acme", "select n from likes where post = 'hello'", "[[6]]")
			if got := n.sql(t, "acme", "?consistency=strong", "select n from likes where post = 'hello'"); got != "[[6]]" {
				t.Fatal(got)
			}
		}
	})
}

// What is due is decided by what main and the catalogue say.
func TestSitesThatAreDue(t *testing.T) {
	site := func(n crr.SiteID, node string, state crr.MemberState) crrfiles.Site {
		return crrfiles.Site{Member: crr.Member{Site: n, State: state, Final: crr.HLC(10 * n)}, Node: node}
	}
	all := []crrfiles.Site{site(1, "a", crr.Active), site(2, "b", crr.Retired), site(3, "c", crr.Active), site(4, "d", crr.Leaving), site(5, "e", crr.Active)}
	stands := map[string]standing{"a": holds, "b": removed, "c": removed, "d": quits, "e": renewed}
	is := func(_ []crrfiles.Site, m crrfiles.Site) standing { return stands[m.Node] }
	var asked []crr.SiteID
	got := fmt.Sprint(due(all, is, func(m crrfiles.Site) bool { asked = append(asked, m.Site); return m.Site == 4 }))
	want := fmt.Sprint([]retiree{{Site: all[2]}, {Site: all[3], ask: true}, {Site: all[4]}})
	if got != want || fmt.Sprint(asked) != "[4]" {
		t.Errorf("got %s, asked for %v; want %s", got, asked, want)
	}
	known := []exchange.SiteStatus{{Vector: crr.Vector{1: 99, 2: 20, 3: 99}}, {Vector: crr.Vector{2: 25}}, {Vector: crr.Vector{2: 22}}}
	if up := more(all, known); fmt.Sprint(map[crr.SiteID]crr.HLC(up)) != fmt.Sprint(map[crr.SiteID]crr.HLC{2: 25}) {
		t.Errorf("got %v", up)
	}
	for _, c := range []struct {
		o    httpapi.RetireOptions
		want string
	}{
		{httpapi.RetireOptions{Sites: []int64{1}}, "CONFLICT"}, {httpapi.RetireOptions{Nodes: []string{"a"}}, "CONFLICT"}, {httpapi.RetireOptions{Nodes: []string{"b"}}, "NOT_FOUND"},
		{httpapi.RetireOptions{Sites: []int64{9}}, "NOT_FOUND"}, {httpapi.RetireOptions{Nodes: []string{"c", "x"}}, "NOT_FOUND"},
		{httpapi.RetireOptions{Sites: []int64{1}, Force: true}, "1 false"}, {httpapi.RetireOptions{Sites: []int64{2}}, "2 false"}, {httpapi.RetireOptions{Nodes: []string{"d"}}, "4 true"},
		{httpapi.RetireOptions{Nodes: []string{"d"}, Force: true}, "4 false"}, {httpapi.RetireOptions{Nodes: []string{"c"}, Sites: []int64{5}}, "3 false 5 false"},
	} {
		list, err := chosen(all, c.o, is)
		got := ""
		if err != nil {
			got = string(wire.AsError(err).Code)
		} else {
			var b []string
			for _, x := range list {
				b = append(b, fmt.Sprint(x.Site.Site, x.ask))
			}
			got = strings.Join(b, " ")
		}
		if got != c.want {
			t.Errorf("%+v: got %s, want %s", c.o, got, c.want)
		}
	}
}
