package sqlnode

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Conflict-free tables are written where the request arrives, without any other node, and all sites come to the same.
func TestConflictFreeTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		b, c := s.start("n2", "n1"), s.start("n3", "n1")
		s.awaitVoters("n1", "default", 3)
		s.await(time.Minute, func() string { return ready(b) + ready(c) })
		all := []*simNode{a, b, c}
		a.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 201)
		b.sql(t, "acme", "", "create table crr.likes(post text primary key not null, n counter not null default 0, title text)")
		for _, n := range all {
			s.await(time.Minute, func() string {
				status, text := n.do("POST", "/v1/tenants/acme/sql", `{"sql":"insert into crr.likes(post, n) values('hello', 1) on conflict(post) do update set n = n + 1"}`)
				if status != 200 {
					return text
				}
				return ""
			})
		}
		same := func(want string) {
			t.Helper()
			for _, n := range all {
				s.await(time.Minute, func() string {
					if got := n.sql(t, "acme", "?max_staleness=any", "select post, n, title from crr.likes order by post"); got != want {
						return fmt.Sprintf("%s has %s, want %s", n.id.Node, got, want)
					}
					return ""
				})
			}
		}
		same(`[["hello",3,null]]`)
		// Cut off from everything, each goes on; healed, all have all.
		s.net.CutBoth("n1", "n2")
		s.net.CutBoth("n1", "n3")
		s.net.CutBoth("n2", "n3")
		time.Sleep(10 * time.Second)
		// A strong read would have to ask all sites, and says which it can't.
		if status, text := a.do("POST", "/v1/tenants/acme/sql?consistency=strong&timeout=8s", `{"sql":"select n from crr.likes"}`); status == 200 {
			t.Fatalf("a strong read without the others: %s", text)
		}
		for i, n := range all {
			for range 10 * (i + 1) {
				n.sql(t, "acme", "?max_staleness=any", "update crr.likes set n = n + 1 where post = 'hello'")
			}
		}
		time.Sleep(time.Minute)
		a.sql(t, "acme", "?max_staleness=any", "update crr.likes set title = 'last' where post = 'hello'")
		s.net.HealAll()
		same(`[["hello",63,"last"]]`)
		c.sql(t, "acme", "?max_staleness=any", "update crr.likes set n = n + 1 where post = 'hello'")
		if got := b.sql(t, "acme", "?consistency=strong", "select n from crr.likes"); got != "[[64]]" {
			t.Fatalf("a strong read of conflict-free tables sees %s", got)
		}
		// An export has the declarations, not the rows; what is made of it is a tenant whose sites are its own.
		file := a.want(t, "GET", "/v1/tenants/acme/export", "", 200)
		b.want(t, "POST", "/v1/tenants/again/import", file, 201)
		for i, n := range all {
			s.await(time.Minute, func() string {
				status, text := n.do("POST", "/v1/tenants/again/sql", `{"sql":"insert into crr.likes(post, n) values('new', 1) on conflict(post) do update set n = n + 1"}`)
				if status != 200 {
					return fmt.Sprintf("%s at %d: %s", n.id.Node, i, text)
				}
				return ""
			})
		}
		for _, n := range all {
			s.await(time.Minute, func() string {
				if got := n.sql(t, "again", "?max_staleness=any", "select post, n from crr.likes"); got != `[["new",3]]` {
					return n.id.Node + " has " + got
				}
				return ""
			})
		}
	})
}
