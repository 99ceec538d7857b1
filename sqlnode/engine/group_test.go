package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// group runs requests that wait together, in this order, behind one that the log holds. The engine
// must have room for one transaction in flight. It returns when all are answered.
func (r *rig) group(tn *pagestore.Tenant, reqs ...*wire.Request) []*reply {
	r.t.Helper()
	ctxs := make([]context.Context, len(reqs))
	for i := range ctxs {
		ctxs[i] = context.Background()
	}
	return r.groupCtx(tn, ctxs, reqs...)
}

func (r *rig) groupCtx(tn *pagestore.Tenant, ctxs []context.Context, reqs ...*wire.Request) []*reply {
	r.t.Helper()
	resume := r.holdWriter(tn)
	var replies []*reply
	for i, req := range reqs {
		replies = append(replies, r.start(ctxs[i], tn, req))
		r.inLine(tn, i+1)
	}
	resume()
	for _, p := range replies {
		p.wait(r.t)
	}
	return replies
}

// holdWriter has the log hold an entry, so that the line grows until resume is called.
func (r *rig) holdWriter(tn *pagestore.Tenant) (resume func()) {
	r.t.Helper()
	if r.e.cfg.InFlight != 1 {
		r.t.Fatal("the engine has room for more than one transaction in flight")
	}
	r.opener++
	r.log.setHold(true)
	p := r.start(context.Background(), tn, one(fmt.Sprintf("PRAGMA user_version=%d", r.opener)))
	r.waitEntry()
	return func() {
		r.t.Helper()
		r.log.setHold(false)
		r.log.letGo(-1)
		p.wait(r.t)
		if p.err != nil {
			r.t.Fatal(p.err)
		}
	}
}

const (
	slow     = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<%d) "
	slowRows = 200_000 / slowdown // longer than a group waits, on any machine
)

// TestGroupIsolation: each request of a group gets exactly its own outcome, and the effects of
// all others are there.
func TestGroupIsolation(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	defer cancel()
	type member struct {
		name string
		req  *wire.Request
		ctx  context.Context
		code wire.Code
	}
	culprits := []member{
		{name: "OR ROLLBACK", req: batch("INSERT INTO t VALUES(1000, 'bad')", "INSERT OR ROLLBACK INTO t VALUES(1, 'x')"), code: wire.CodeSQLiteConstraintPrimaryKey},
		{name: "RAISE(ROLLBACK)", req: batch("INSERT INTO t VALUES(1001, 'bad')", "INSERT INTO raises VALUES('rollback')"), code: wire.CodeSQLiteConstraintTrigger},
		{name: "RAISE(ABORT)", req: batch("INSERT INTO t VALUES(1002, 'bad')", "INSERT INTO raises VALUES('abort')"), code: wire.CodeSQLiteConstraintTrigger},
		{name: "RAISE(FAIL)", req: batch("INSERT INTO t VALUES(1003, 'bad')", "INSERT INTO raises VALUES('fail')"), code: wire.CodeSQLiteConstraintTrigger},
		{name: "constraint", req: batch("INSERT INTO t VALUES(1004, 'bad')", "INSERT INTO t VALUES(1, 'x')"), code: wire.CodeSQLiteConstraintPrimaryKey},
		{name: "OR FAIL", req: one("INSERT OR FAIL INTO t VALUES(1005, 'bad'), (1, 'x')"), code: wire.CodeSQLiteConstraintPrimaryKey},
		{name: "syntax", req: batch("INSERT INTO t VALUES(1006, 'bad')", "INSERT INTO"), code: wire.CodeSQLiteError},
		{name: "deferred key", req: batch("INSERT INTO t VALUES(1007, 'bad')", "INSERT INTO child VALUES(1, 99)"), code: wire.CodeSQLiteConstraintForeignKey},
		{name: "immediate key", req: batch("INSERT INTO t VALUES(1008, 'bad')", "INSERT INTO now VALUES(1, 99)"), code: wire.CodeSQLiteConstraintForeignKey},
		{name: "slow SELECT", req: batch("INSERT INTO t VALUES(2000, 'good')", fmt.Sprintf(slow, slowRows)+"SELECT count(*) FROM c", "DELETE FROM t WHERE id=2000")},
		{name: "slow INSERT", req: batch(fmt.Sprintf(slow, slowRows)+"INSERT INTO t SELECT 2001, max(i) FROM c", "DELETE FROM t WHERE id=2001")},
		{name: "client gone in the middle", req: batch("INSERT INTO t VALUES(1009, 'bad')", fmt.Sprintf(slow, 1_000_000_000)+"INSERT INTO t SELECT 1010, max(i) FROM c"), ctx: cancelled, code: wire.CodeCancelled},
		{name: "client gone, SELECT", req: batch("INSERT INTO t VALUES(1011, 'bad')", fmt.Sprintf(slow, 1_000_000_000)+"SELECT max(i) FROM c"), ctx: cancelled, code: wire.CodeCancelled},
		{name: "too large", req: batch("INSERT INTO t VALUES(1012, 'bad')", "INSERT INTO t VALUES(1013, zeroblob(400000))"), code: wire.CodeTxTooLarge},
		{name: "VACUUM", req: one("VACUUM")},
		{name: "session PRAGMA", req: batch("PRAGMA foreign_keys=off", "INSERT INTO now VALUES(5, 99)", "DELETE FROM now WHERE id=5")},
		{name: "PRAGMA", req: one("PRAGMA application_id=5")},
		{name: "DDL", req: batch("CREATE TABLE fresh(a)", "DROP TABLE fresh")},
		{name: "refused", req: batch("INSERT INTO t VALUES(1014, 'bad')", "SELECT * FROM sqlite_dbpage"), code: wire.CodeSQLNotAllowed},
		{name: "too many rows", req: batch("INSERT INTO t VALUES(1015, 'bad')", fmt.Sprintf(slow, 300)+"SELECT i FROM c"), code: wire.CodeRowsTooLarge},
	}
	for i := range culprits {
		if culprits[i].ctx == nil {
			culprits[i].ctx = context.Background()
		}
	}
	setup := func(t *testing.T) (*rig, *pagestore.Tenant) {
		r := newRig(t, Config{InFlight: 1})
		tn := r.create(1, tenant.Limits{Transaction: 4 * tenant.MaxPageSize, AnswerRows: 100})
		for _, sql := range []string{
			"CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
			"CREATE TABLE child(id, p REFERENCES t(id) DEFERRABLE INITIALLY DEFERRED)",
			"CREATE TABLE now(id, p REFERENCES t(id))",
			"CREATE TABLE raises(how)",
			"CREATE TRIGGER r1 AFTER INSERT ON raises WHEN new.how='rollback' BEGIN SELECT RAISE(ROLLBACK, 'r'); END",
			"CREATE TRIGGER r2 AFTER INSERT ON raises WHEN new.how='abort' BEGIN SELECT RAISE(ABORT, 'a'); END",
			"CREATE TRIGGER r3 AFTER INSERT ON raises WHEN new.how='fail' BEGIN SELECT RAISE(FAIL, 'f'); END",
			"INSERT INTO t VALUES(1, 'one')",
		} {
			r.exec(tn, sql)
		}
		return r, tn
	}
	// run puts the members between requests that go well, and checks all.
	run := func(t *testing.T, members []member) {
		r, tn := setup(t)
		var reqs []*wire.Request
		var ctxs []context.Context
		for i, m := range members {
			reqs = append(reqs, one("INSERT INTO t VALUES(?, 'good') RETURNING id", 10+i), m.req)
			ctxs = append(ctxs, context.Background(), m.ctx)
		}
		reqs = append(reqs, one("INSERT INTO t VALUES(?, 'good') RETURNING id", 10+len(members)))
		ctxs = append(ctxs, context.Background())
		gone := context.AfterFunc(cancelled, func() {})
		defer gone()
		replies := r.groupCtx(tn, ctxs, reqs...)
		good := 0
		for i, p := range replies {
			if i%2 == 0 {
				if p.err != nil || fmt.Sprint(p.res[0].Rows) != fmt.Sprintf("[[%d]]", 10+i/2) {
					t.Errorf("request %d beside: got %v, %v", i, p.res, p.err)
				}
				good++
				continue
			}
			m := members[i/2]
			switch {
			case m.code == "" && p.err != nil:
				t.Errorf("%s: %v", m.name, p.err)
			case m.code != "" && (p.err == nil || p.err.Code != m.code):
				t.Errorf("%s: got %v, %v, want %s", m.name, p.res, p.err, m.code)
			}
		}
		r.want(tn, "SELECT count(*) FROM t WHERE a='good'", fmt.Sprintf("[[%d]]", good))
		r.want(tn, "SELECT count(*), sum(id) FROM t WHERE a<>'good'", "[[1 1]]")
		r.want(tn, "SELECT count(*) FROM child", "[[0]]")
		r.want(tn, "SELECT count(*) FROM now", "[[0]]")
		r.want(tn, "SELECT count(*) FROM raises", "[[0]]")
		r.want(tn, "PRAGMA integrity_check", `[["ok"]]`)
		r.want(tn, "PRAGMA foreign_key_check", "[]")
	}
	for _, m := range culprits {
		t.Run(m.name, func(t *testing.T) {
			if m.ctx != context.Background() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second) // all are in line long before
				defer cancel()
				m.ctx, m.code = ctx, wire.CodeTimeout
			}
			run(t, []member{m})
		})
	}
	t.Run("all", func(t *testing.T) {
		timer := time.AfterFunc(1500*time.Millisecond, cancel)
		defer timer.Stop()
		run(t, culprits)
	})
}

// TestGroupShares: requests that wait together share an entry, and only they.
func TestGroupShares(t *testing.T) {
	r := newRig(t, Config{InFlight: 1})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)")
	var reqs []*wire.Request
	for i := range 50 {
		reqs = append(reqs, one("INSERT INTO t(a) VALUES(?)", i/2)) // each twice: every second fails
	}
	before := tn.Position().TXID
	replies := r.group(tn, reqs...)
	failed := 0
	for _, p := range replies {
		if p.err != nil {
			failed++
			if p.err.Code != wire.CodeSQLiteConstraintUnique {
				t.Error(p.err)
			}
		}
		if p.x.Pos.TXID < before+2 {
			t.Errorf("position %v of an answer is before its entry", p.x.Pos)
		}
	}
	if failed != 25 {
		t.Errorf("%d failed", failed)
	}
	if n := tn.Position().TXID - before; n > 4 { // a slow machine may take one or the other out of the group
		t.Errorf("%d transactions for one group", n)
	}
	r.want(tn, "SELECT count(*) FROM t", "[[25]]")
	if n := r.q.n.Load(); n != 0 {
		t.Errorf("%d rounds for answers that have an entry", n)
	}
}

// TestGroupOfCulprits: a group is not run over and over again for each of its culprits.
func TestGroupOfCulprits(t *testing.T) {
	r := newRig(t, Config{InFlight: 1})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
	r.exec(tn, "INSERT INTO t VALUES(0, 0)")
	var reqs []*wire.Request
	for i := range 40 {
		reqs = append(reqs, one("INSERT INTO t VALUES(?, 1)", i+1), one("INSERT OR ROLLBACK INTO t VALUES(0, 0)"))
	}
	before := r.e.Stats.RowsWritten.Load()
	for i, p := range r.group(tn, reqs...) {
		if bad := i%2 == 1; bad != (p.err != nil) {
			t.Errorf("request %d: %v", i, p.err)
		}
	}
	if n := r.e.Stats.RowsWritten.Load() - before; n != 40 {
		t.Errorf("%d rows written", n)
	}
	r.want(tn, "SELECT count(*) FROM t", "[[41]]")
}

// TestRefusedCommitOfAGroup: what is too large together goes well one by one.
func TestRefusedCommitOfAGroup(t *testing.T) {
	r := newRig(t, Config{InFlight: 1})
	tn := r.create(1, tenant.Limits{Transaction: 4 * tenant.MaxPageSize})
	r.exec(tn, "CREATE TABLE t(a)")
	var reqs []*wire.Request
	for range 8 {
		reqs = append(reqs, one("INSERT INTO t VALUES(zeroblob(100000))"))
	}
	for _, p := range r.group(tn, reqs...) {
		if p.err != nil {
			t.Error(p.err)
		}
	}
	r.want(tn, "SELECT count(*) FROM t", "[[8]]")
	r.exec(tn, "CREATE TABLE u(a PRIMARY KEY)") // and what fails alone leaves nothing either
	r.refused(tn, one("INSERT OR FAIL INTO u VALUES(1), (1)"), wire.CodeSQLiteConstraintPrimaryKey)
	r.want(tn, "SELECT count(*) FROM u", "[[0]]")
	e := r.refused(tn, one("INSERT INTO t VALUES(zeroblob(300000))"), wire.CodeTxTooLarge)
	var large *pagestore.TooLargeError
	if !errors.As(e, &large) || !strings.Contains(e.Message, "262144") {
		t.Errorf("got %v", e)
	}
	r.want(tn, "SELECT count(*) FROM t", "[[8]]")
}

// TestDeferredKeyMendedByAnother: a request that breaks a deferred key fails also when another of its group
// would mend it before the commit.
func TestDeferredKeyMendedByAnother(t *testing.T) {
	r := newRig(t, Config{InFlight: 1})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE p(id INTEGER PRIMARY KEY)")
	r.exec(tn, "CREATE TABLE c(p REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)")
	replies := r.group(tn, one("INSERT INTO p VALUES(1)"), one("INSERT INTO c VALUES(99)"), one("DELETE FROM c WHERE p=99 RETURNING p"))
	if codeOf(replies[1].err) != wire.CodeSQLiteConstraintForeignKey {
		t.Errorf("got %v, want a broken key", replies[1].err)
	}
	if replies[2].err != nil || len(replies[2].res[0].Rows) != 0 {
		t.Errorf("the other saw what never was: %v, %v", replies[2].res, replies[2].err)
	}
	r.want(tn, "SELECT count(*) FROM p", "[[1]]")
}

// TestSingleStatementAllOrNothing: a single statement that fails keeps nothing of what it did, whatever the
// statement or the schema say of failures, also when the schema comes to say it later.
func TestSingleStatementAllOrNothing(t *testing.T) {
	for name, c := range map[string]struct {
		insert string
		schema []string
	}{
		"OR FAIL":          {"INSERT Or Fail INTO t VALUES(1),(2),(2),(3)", []string{"CREATE TABLE t(a PRIMARY KEY)"}},
		"ON CONFLICT FAIL": {"INSERT INTO t VALUES(1),(2),(2),(3)", []string{"CREATE TABLE t(a PRIMARY KEY ON CONFLICT Fail)"}},
		"RAISE(FAIL)": {"INSERT INTO t VALUES(1),(2),(3)", []string{"CREATE TABLE t(a)",
			"CREATE TRIGGER g BEFORE INSERT ON t WHEN new.a=2 BEGIN SELECT RAISE(FAIL, 'no'); END"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{})
			tn := r.create(1, tenant.Limits{})
			r.exec(tn, "CREATE TABLE x(a)")
			r.exec(tn, "INSERT INTO x VALUES(1)") // the writer has looked at the schema now
			for _, sql := range c.schema {
				r.exec(tn, sql)
			}
			if _, err := r.do(tn, one(c.insert)); err == nil {
				t.Fatal("it succeeded")
			}
			r.want(tn, "SELECT count(*) FROM t", "[[0]]")
		})
	}
}
