package sqlnode

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/leader"
)

// simLead has a node lead a group.
func (w *simWorld) simLead(id, group string) {
	w.t.Helper()
	w.s.await(time.Minute, func() string {
		w.s.up()[0].do("POST", "/v1/groups/"+group+"/move-leader", `{"to":"`+id+`"}`)
		if p := w.s.primary(group); p != id {
			return p + " leads group " + group
		}
		return ""
	})
}

// scenario runs f on a quiet cluster, and compares all copies at the end.
func scenario(t *testing.T, nodes int, f func(t *testing.T, w *simWorld)) {
	simScenario(t, simOptions{seed: 1, nodes: nodes}, f)
}

func simScenario(t *testing.T, o simOptions, f func(t *testing.T, w *simWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, o)
		defer w.s.close()
		w.begin()
		w.h = newSimHistory()
		f(t, w)
		for _, wrong := range w.judge() {
			t.Error(wrong)
		}
	})
}

// voters is the voters of a group, by id.
func (w *simWorld) voters(group string) []string {
	text := w.s.up()[0].want(w.t, "GET", "/v1/groups/"+group, "", 200)
	var g struct{ Voters []string }
	if err := json.Unmarshal([]byte(text), &g); err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(g.Voters)
	return g.Voters
}

// without is the first node that is no voter of a group.
func (w *simWorld) without(group string) string {
	voters := w.voters(group)
	for _, id := range w.ids() {
		if !slices.Contains(voters, id) {
			return id
		}
	}
	w.t.Fatalf("all nodes vote in group %s", group)
	return ""
}

// sqlFor sends one statement and returns the answer's rows or code; "" if there is none.
func (n *simNode) sqlFor(max time.Duration, query, sql string) string {
	ctx, cancel := context.WithTimeout(context.Background(), max)
	defer cancel()
	status, text := n.ask(ctx, "POST", "/v1/tenants/t0/sql"+query, fmt.Sprintf(`{"sql":%q}`, sql), nil)
	if status == 200 {
		_, rows, _ := strings.Cut(text, `"rows":`)
		rows, _, _ = strings.Cut(rows, `,"rows_affected"`)
		return rows
	}
	if c := code(text); c != "INTERNAL" {
		return c
	}
	return text // which nobody expects
}

// TestHeldBackAnswers: a primary hands leadership on and does not hear of it; what the voters said before comes late. Neither
// a strong read there nor one with a bound may miss what the next primary has answered.
func TestHeldBackAnswers(t *testing.T) {
	stale := func(t *testing.T, skip bool) (found bool) {
		scenario(t, 3, func(t *testing.T, w *simWorld) {
			w.simLead("n1", "default")
			old, next := w.s.node("n1"), w.s.node("n2")
			old.sql(t, "t0", "", "INSERT INTO list VALUES('a', 'first')")
			old.groups.get(defaultGroup).skipConfirm.Store(skip)
			w.s.net.Hold("n3", "n1")
			time.Sleep(150 * time.Millisecond)
			w.s.net.SetDelay("n2", "n1", 30*time.Millisecond)
			log := next.groups.get(defaultGroup).log()
			term := log.Stats().Term
			go func() {
				_ = old.groups.get(defaultGroup).log().TransferLeadership(context.Background(), leader.NodeID("n2"))
			}()
			for end := time.Now().Add(time.Second); log.Stats().Term == term; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("no election")
				}
			}
			w.s.net.Hold("n2", "n1")
			w.s.await(2*time.Second, func() string {
				if err := log.Primary(); err != nil {
					return "n2 is not elected: " + err.Error()
				}
				return ""
			})
			written := next.sqlFor(5*time.Second, "", "UPDATE list SET v = 'second' RETURNING v")
			at := time.Now()
			if written != `[["second"]]` {
				t.Fatalf("the next primary answers %q", written)
			}
			var asked sync.WaitGroup
			for i := range 10 {
				asked.Go(func() {
					time.Sleep(time.Duration(i) * 30 * time.Millisecond)
					if got := old.sqlFor(8*time.Second, "?consistency=strong", "SELECT v FROM list"); strings.Contains(got, "first") {
						found = true
					}
					time.Sleep(time.Until(at.Add(600 * time.Millisecond)))
					if got := old.sqlFor(8*time.Second, "?max_staleness=500ms", "SELECT v FROM list"); strings.Contains(got, "first") {
						t.Errorf("a read within 500ms of something that was answered %v before: %s", time.Since(at), got)
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
			w.s.net.Release("n3", "n1")
			time.Sleep(3 * time.Second)
			w.s.net.Release("n2", "n1")
			asked.Wait()
			old.groups.get(defaultGroup).skipConfirm.Store(false)
		})
		return found
	}
	if stale(t, false) {
		t.Error("the deposed primary answered a strong read with what was before")
	}
	if !stale(t, true) {
		t.Error("the scenario shows nothing: a primary that asks nobody is not stale in it")
	}
}

// TestLearnerBesideCutOffPrimary: the primary of the system group is cut off from the voters, with a learner on its side. What the
// others have done since must not be denied there.
func TestLearnerBesideCutOffPrimary(t *testing.T) {
	scenario(t, 4, func(t *testing.T, w *simWorld) {
		// The learner of the system group, and a voter beside whom the others are a majority of both groups.
		learner, spare := w.without("system"), w.without("default")
		lead := spare
		if lead == learner {
			lead = w.other(learner)
		}
		var rest []string
		for _, id := range w.ids() {
			if id != lead && id != learner {
				rest = append(rest, id)
			}
		}
		w.simLead(lead, "system")
		w.simLead(rest[0], "default")
		for _, id := range rest {
			w.s.net.CutBoth(lead, id)
			w.s.net.CutBoth(learner, id)
		}
		created := make(chan time.Duration, 1)
		began := time.Now()
		var made sync.WaitGroup
		made.Go(func() {
			for w.s.node(rest[0]) != nil {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				status, _ := w.s.node(rest[0]).ask(ctx, "POST", "/v1/tenants", `{"name":"new"}`, nil)
				cancel()
				if status == 201 || status == 409 {
					created <- time.Since(began)
					return
				}
			}
		})
		there := time.Duration(0)
		denied := 0
		for time.Since(began) < 5*time.Second {
			select {
			case there = <-created:
			default:
			}
			before := there
			for _, id := range []string{lead, learner} {
				ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
				status, text := w.s.node(id).ask(ctx, "GET", "/v1/tenants/new", "", nil)
				cancel()
				if status == 404 && before > 0 {
					t.Fatalf("%v after the tenant was created, %s says: %s", time.Since(began)-before, id, text)
				} else if status == 404 {
					denied++
				}
			}
		}
		if there == 0 {
			t.Fatal("no tenant was created on the majority's side")
		}
		t.Logf("created %v after the cut; until then denied %d times", there, denied)
		w.s.net.HealAll()
		made.Wait()
	})
}

// TestNoAnswerBeforeCommit: while nothing can be committed nobody is told what follows from what was not, errors, counts and rows alike.
func TestNoAnswerBeforeCommit(t *testing.T) {
	if early := answersBeforeCommit(t, false); early > 0 {
		t.Errorf("%d answers while nothing could be committed", early)
	}
	if answersBeforeCommit(t, true) == 0 {
		t.Error("the scenario shows nothing: a primary that asks nobody gives no answer in it")
	}
}

func answersBeforeCommit(t *testing.T, skip bool) (found int) {
	scenario(t, 3, func(t *testing.T, w *simWorld) {
		w.simLead("n1", "default")
		old := w.s.node("n1")
		old.sql(t, "t0", "", "INSERT INTO row VALUES('there', 'x')")
		old.groups.get(defaultGroup).skipConfirm.Store(skip)
		for _, id := range []string{"n2", "n3"} {
			w.s.net.CutBoth("n1", id)
		}
		statements := []string{
			"UPDATE row SET v = 'y' WHERE k = 'nobody at all'", // both have no entry, and see nothing that is not committed
			"INSERT INTO row VALUES('there', 'y')",
			"INSERT INTO row VALUES('ada', 'mine')",
			"INSERT INTO row VALUES('ada', 'late')",
			"INSERT INTO row VALUES('ada', 'other') ON CONFLICT DO NOTHING",
			"INSERT INTO row VALUES('bob', 'x') RETURNING v",
			"UPDATE row SET v = 'y' WHERE k = 'nobody'",
			"UPDATE row SET v = 'y' WHERE v = 'mine' RETURNING k",
			"DELETE FROM row WHERE k = 'there' RETURNING v",
			"INSERT INTO row VALUES('there', 'again')",
			"INSERT INTO row SELECT 'c', v FROM row WHERE k = 'ada'",
		}
		var answers, all sync.WaitGroup
		early, late := make([]string, len(statements)), make([]string, len(statements))
		for i, sql := range statements {
			answers.Go(func() { early[i] = old.sqlFor(2*time.Second, "", sql) })
			time.Sleep(time.Millisecond)
		}
		answers.Wait()
		for i, got := range early {
			if got != "" && got != "UNKNOWN_OUTCOME" && got != "NOT_PRIMARY" {
				t.Logf("skipped %v, %s: answered with %s", skip, statements[i], got)
				found++
			}
		}
		old.groups.get(defaultGroup).skipConfirm.Store(false)
		// Others have taken over. What is asked here now must not be answered out of what was dropped.
		if got := w.s.node("n2").sqlFor(10*time.Second, "", "INSERT INTO row VALUES('ada', 'theirs') RETURNING v"); got != `[["theirs"]]` {
			t.Fatal(got)
		}
		for i, sql := range []string{"INSERT INTO row VALUES('bob', 'z') RETURNING v", "UPDATE row SET v = v WHERE k = 'ada' RETURNING v"} {
			all.Go(func() { late[i] = old.sqlFor(9*time.Second, "", sql) })
		}
		time.Sleep(3 * time.Second)
		w.s.net.HealAll()
		all.Wait()
		if late[0] != `[["z"]]` || late[1] != `[["theirs"]]` {
			t.Errorf("answers after the other primary was there: %q", late[:2])
		}
	})
	return found
}
