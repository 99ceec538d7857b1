package sqlnode

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A node without a vote fetches what is read on it, answers from its copy within the bound, and passes on what it can't.
func TestCopiesOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		s.start("n2", "n1")
		s.start("n3", "n1")
		s.awaitVoters("n1", "default", 3)
		far := s.start("n4", "n1")
		s.await(time.Minute, func() string { return ready(far) })
		for _, o := range []string{"n1", "n2", "n3"} {
			s.net.SetDelayBoth("n4", o, 40*time.Millisecond)
		}
		far.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 201)
		far.sql(t, "acme", "", "create table t(x integer primary key)")
		s.await(time.Minute, func() string {
			_, text := far.do("POST", "/v1/tenants/acme/sql", `{"sql":"select count(*) from t"}`)
			if !strings.Contains(text, `"role":"replica"`) {
				return text
			}
			return ""
		})
		for i := range 20 {
			before := time.Now()
			a.sql(t, "acme", "", fmt.Sprintf("insert into t values(%d)", i))
			// Any bound is kept: a read that begins a second after the write, with a bound of half of it, sees it.
			time.Sleep(time.Second)
			text := far.want(t, "POST", "/v1/tenants/acme/sql?max_staleness=500ms", `{"sql":"select count(*) from t"}`, 200)
			if !strings.Contains(text, fmt.Sprintf(`"rows":[[%d]]`, i+1)) || !strings.Contains(text, `"role":"replica"`) {
				t.Fatalf("%v after the write: %s", time.Since(before), text)
			}
			// A bookmark is waited for.
			written := a.want(t, "POST", "/v1/tenants/acme/sql", fmt.Sprintf(`{"sql":"insert into t values(%d)"}`, 1000+i), 200)
			mark := written[strings.Index(written, `"bookmark":"`)+len(`"bookmark":"`):]
			mark = mark[:strings.Index(mark, `"`)]
			a.sql(t, "acme", "", fmt.Sprintf("delete from t where x = %d", 1000+i))
			text = far.want(t, "POST", "/v1/tenants/acme/sql?max_staleness=any&bookmark="+mark, fmt.Sprintf(`{"sql":"select count(*) >= %d from t"}`, i+1), 200)
			if !strings.Contains(text, `"rows":[[1]]`) {
				t.Fatal(text)
			}
		}
		if got := far.sql(t, "acme", "?consistency=strong", "select count(*) from t"); got != "[[20]]" {
			t.Fatal(got)
		}
		// Cut off, it answers only those who ask for no bound, or a wide one.
		s.net.Isolate("n4")
		time.Sleep(10 * time.Second)
		text := far.want(t, "POST", "/v1/tenants/acme/sql?max_staleness=any", `{"sql":"select count(*) from t"}`, 200)
		if !strings.Contains(text, `"rows":[[20]]`) {
			t.Fatal(text)
		}
		far.want(t, "POST", "/v1/tenants/acme/sql?max_staleness=1h", `{"sql":"select count(*) from t"}`, 200)
		if got := code(far.want(t, "POST", "/v1/tenants/acme/sql?max_staleness=2s&on_stale=fail", `{"sql":"select count(*) from t"}`, 503)); got != "STALE" {
			t.Fatal(got)
		}
		a.sql(t, "acme", "", "insert into t values(99)")
		s.net.HealAll()
		s.net.Rejoin("n4")
		s.await(time.Minute, func() string {
			_, text := far.do("POST", "/v1/tenants/acme/sql?max_staleness=1s&on_stale=fail", `{"sql":"select count(*) from t"}`)
			if !strings.Contains(text, `"rows":[[21]]`) || !strings.Contains(text, `"role":"replica"`) {
				return text
			}
			return ""
		})
		a.want(t, "DELETE", "/v1/tenants/acme", "", 204)
		s.await(time.Minute, func() string {
			if n := len(far.repl.set.Tenants()); n > 0 {
				return fmt.Sprintf("%d copies", n)
			}
			return ""
		})
	})
}
