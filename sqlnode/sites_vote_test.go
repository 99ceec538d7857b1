package sqlnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// A node that holds a replica, and gets a vote, puts another copy of the tenant in that one's place. Who writes and reads there meanwhile is answered as if nothing
// had happened, or told to try again: never that there is no such tenant, and each answered increment counts once.
func TestReplicaGetsVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		all := sitesOf(t, s)
		a, d := all[0], s.start("n4", "n1")
		s.await(time.Minute, func() string { return ready(d) })
		a.want(t, "PUT", "/v1/tenants/acme/placement", `{"replicas":"pop:pop-n4"}`, 200)
		const increment = `{"sql":"update likes set n = n + 1"}`
		s.await(time.Minute, func() string {
			status, text := d.do("POST", "/v1/tenants/acme/sql", increment)
			if status != 200 || !strings.Contains(text, `"node":"n4"`) {
				return text
			}
			return ""
		})
		count := func() (n int64) { // as soon as sites know each other
			s.await(5*time.Minute, func() string {
				status, text := d.do("POST", "/v1/tenants/acme/sql?consistency=strong", `{"sql":"select n from likes"}`)
				if _, rows, ok := strings.Cut(text, `"rows":`); status == 200 && ok {
					if _, err := fmt.Sscanf(rows, "[[%d]]", &n); err == nil {
						return ""
					}
				}
				return text
			})
			return n
		}
		before := count()
		old, err := d.locate(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		var done atomic.Bool
		var answered, unknown atomic.Int64
		var work sync.WaitGroup
		end := func() { done.Store(true); work.Wait() }
		defer end()
		for i := range 6 {
			work.Go(func() {
				for !done.Load() {
					body := increment
					if i%2 == 0 {
						body = `{"sql":"select n from likes"}`
					}
					status, text := d.do("POST", "/v1/tenants/acme/sql", body)
					var e struct {
						Code      string
						Retryable bool
					}
					_ = json.Unmarshal([]byte(text), &e)
					switch {
					case status == 200 && i%2 == 1:
						answered.Add(1)
					case status == 200:
					case status == 503 && e.Code != "UNKNOWN_OUTCOME" && e.Code != "UNREACHABLE":
					case status == 503 || status == 504:
						unknown.Add(1)
					default:
						t.Errorf("%d %s", status, text)
						return
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		time.Sleep(time.Second)
		a.want(t, "POST", "/v1/nodes/n3/drain", "", 202)
		s.await(time.Minute, func() string {
			status, text := a.do("GET", "/v1/groups/default", "")
			var g struct{ Voters []string }
			if _ = json.Unmarshal([]byte(text), &g); status == 200 && strings.Contains(fmt.Sprint(g.Voters), "n4") && !strings.Contains(fmt.Sprint(g.Voters), "n3") {
				return ""
			}
			return text
		})
		time.Sleep(2 * time.Second)
		end()
		// Who has found the copy before and comes late is told what Execute takes for that.
		_, err = d.writeTables(t.Context(), old, &wire.Request{Statements: []wire.Statement{{SQL: "update likes set n = n + 1"}}}, noAnswer{})
		if old.h != nil || old.Bears("acme") || !errors.Is(err, pagestore.ErrNoTenant) {
			t.Errorf("a copy that is out of service bears the name: %v, and answers %v", old.Bears("acme"), err)
		}
		if got, least := count()-before, answered.Load(); got < least || got > least+unknown.Load() {
			t.Errorf("%d increments count, of %d that were answered and %d of unknown outcome", got, least, unknown.Load())
		}
		t.Logf("%d increments answered, %d of unknown outcome", answered.Load(), unknown.Load())
	})
}
