package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// TestNoAnswerBeforeItsCommit: whatever a request is answered, the state it was computed on is
// committed by then; without an entry of its own, a quorum has spoken too. Readers never see what
// is not committed.
func TestNoAnswerBeforeItsCommit(t *testing.T) {
	for _, c := range []struct {
		name string
		req  *wire.Request
		code wire.Code
		own  bool // it makes an entry of its own
	}{
		{"success", one("INSERT INTO t(a) VALUES('x')"), "", true},
		{"returning", one("UPDATE t SET id=id RETURNING a"), "", true},
		{"returning a change", one("UPDATE t SET a=a||'y' WHERE id=1 RETURNING a"), "", true},
		{"constraint", one("INSERT INTO t(a) VALUES('two')"), wire.CodeSQLiteConstraintUnique, false},
		{"update of nothing", one("UPDATE t SET a=1 WHERE id=99"), "", false},
		{"do nothing", one("INSERT INTO t(a) VALUES('two') ON CONFLICT DO NOTHING"), "", false},
		{"batch that only reads", batch("DELETE FROM t WHERE id=99", "SELECT a FROM t ORDER BY id"), "", false},
		{"syntax", one("INSERT INTO"), wire.CodeSQLiteError, false},
		{"argument count", one("INSERT INTO t(a) VALUES(?)"), wire.CodeArgumentCount, false},
		{"no such table", one("INSERT INTO nowhere VALUES(1)"), wire.CodeSQLiteError, false},
		{"foreign key of a batch", batch("INSERT INTO t(a) VALUES('z')", "INSERT INTO t(a) VALUES('two')"), wire.CodeSQLiteConstraintUnique, false},
		{"PRAGMA", one("PRAGMA user_version=9"), "", true},
	} {
		for _, lose := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/lose=%t", c.name, lose), func(t *testing.T) {
				r := newRig(t, Config{})
				tn := r.create(1, tenant.Limits{})
				r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)")
				r.exec(tn, "INSERT INTO t VALUES(1, 'one')")
				rounds := r.q.n.Load()
				committed := tn.Position().TXID
				r.log.setHold(true)
				first := r.start(context.Background(), tn, one("INSERT INTO t VALUES(2, 'two')"))
				r.waitEntry()
				second := r.start(context.Background(), tn, c.req)
				if c.own {
					r.waitEntry()
				}
				second.pending(t, c.name)
				first.pending(t, "first")
				r.want(tn, "SELECT id, a FROM t", `[[1 "one"]]`)
				if n := r.q.n.Load(); n != rounds {
					t.Errorf("%d rounds before the commit", n-rounds)
				}
				if c.own && !lose {
					r.log.letGo(1)
					first.wait(t)
					second.pending(t, c.name+" with the first committed")
				}
				r.log.setHold(false)
				if !lose {
					r.log.letGo(-1)
					first.wait(t)
					second.wait(t)
					if code := codeOf(second.err); code != c.code {
						t.Errorf("got %v, want %q", second.err, c.code)
					}
					wantTX := committed + 1
					if c.own {
						wantTX++
					}
					if c.code == "" && second.x.Pos.TXID != wantTX {
						t.Errorf("position %v, want TXID %d", second.x.Pos, wantTX)
					}
					if n := r.q.n.Load() - rounds; n == 0 == !c.own {
						t.Errorf("%d rounds; own entry: %t", n, c.own)
					}
					return
				}
				r.log.lose(errors.New("leadership lost"))
				first.wait(t)
				second.wait(t)
				if codeOf(first.err) != wire.CodeUnknownOutcome {
					t.Errorf("first: %v", first.err)
				}
				want := wire.CodeNotPrimary
				if c.own {
					want = wire.CodeUnknownOutcome
				}
				if codeOf(second.err) != want {
					t.Errorf("second: got %v, want %s", second.err, want)
				}
				// Life goes on, from the committed state; also for a request that changes nothing.
				if code := codeOf(errOf(r.do(tn, one("INSERT INTO t(a) VALUES(?)")))); code != wire.CodeArgumentCount {
					t.Errorf("after the loss: %s", code)
				}
				r.exec(tn, "UPDATE t SET a=a WHERE 0")
				r.want(tn, "SELECT id, a FROM t", `[[1 "one"]]`)
				r.exec(tn, "INSERT INTO t VALUES(2, 'two')")
			})
		}
	}
}

func codeOf(e *wire.Error) wire.Code {
	if e == nil {
		return ""
	}
	return e.Code
}

func errOf(_ []wire.Result, e *wire.Error) *wire.Error { return e }

// TestRefusedByTheLog: an entry that every copy refuses was surely not applied, and so
// were those behind it.
func TestRefusedByTheLog(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(a)")
	r.log.setHold(true)
	var replies []*reply
	for i := range 5 {
		replies = append(replies, r.start(context.Background(), tn, one("INSERT INTO t VALUES(?)", i)))
		r.waitEntry()
	}
	lost := r.log.takeHeld(1)
	r.log.setHold(false)
	r.log.letGo(-1) // without the first they follow nothing
	lost[0].done(nil, errors.New("lost"))
	for i, p := range replies {
		p.wait(t)
		want := wire.CodeNotPrimary
		if i == 0 {
			want = wire.CodeUnknownOutcome
		}
		if codeOf(p.err) != want || p.err.Retryable != want.Retryable() {
			t.Errorf("request %d: got %v, want %s", i, p.err, want)
		}
	}
	r.want(tn, "SELECT count(*) FROM t", "[[0]]")
	r.exec(tn, "INSERT INTO t VALUES(1)")
	r.want(tn, "SELECT count(*) FROM t", "[[1]]")
}

// TestQuorumIsAsked: an answer without an entry fails with the quorum's error, as do strong reads.
func TestQuorumIsAsked(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(a PRIMARY KEY)")
	r.exec(tn, "INSERT INTO t VALUES(1)")
	strong := one("SELECT * FROM t")
	strong.Consistency = wire.Strong
	reqs := []*wire.Request{strong, one("UPDATE t SET a=2 WHERE a=9"), one("INSERT INTO t VALUES(1)"), batch("SELECT 1", "DELETE FROM t WHERE a=9")}
	for _, req := range reqs {
		before := r.q.n.Load()
		r.do(tn, req)
		if n := r.q.n.Load() - before; n != 1 {
			t.Errorf("%s: %d rounds", describe(req), n)
		}
	}
	r.q.fail(wire.NewError(wire.CodeNotPrimary, "another is primary"))
	for _, req := range reqs {
		r.refused(tn, req, wire.CodeNotPrimary)
	}
	before := r.q.n.Load()
	r.exec(tn, "INSERT INTO t VALUES(2)") // its entry is its proof
	r.want(tn, "SELECT count(*) FROM t", "[[2]]")
	if n := r.q.n.Load() - before; n != 0 {
		t.Errorf("%d rounds for a write and a weak read", n)
	}
	r.q.fail(nil)

	// A node that is not the primary says so, at once or at the commit.
	r.log.setDown(errors.New("n2 is primary"))
	r.refused(tn, one("INSERT INTO t VALUES(3)"), wire.CodeNotPrimary)
	r.refused(tn, batch("INSERT INTO t VALUES(3)", "INSERT INTO t VALUES(4)"), wire.CodeNotPrimary)
	r.want(tn, "SELECT count(*) FROM t", "[[2]]")
	r.log.setDown(nil)
	r.exec(tn, "INSERT INTO t VALUES(3)")
}

// TestSpeculationDropped: the store drops what is not committed while a request runs; the request
// runs again, on what is.
func TestSpeculationDropped(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
	r.exec(tn, "INSERT INTO t VALUES(1, 0)")
	for round := range 20 {
		r.log.setHold(true)
		first := r.start(context.Background(), tn, one("UPDATE t SET a=-1"))
		r.waitEntry()
		r.log.setHold(false)
		var adders []*reply
		for range 3 {
			adders = append(adders, r.start(context.Background(), tn, one("UPDATE t SET a=a+1 RETURNING a")))
		}
		if round%2 == 0 {
			r.g.LostPrimary()
		}
		r.log.lose(errors.New("lost"))
		first.wait(t)
		good := 0
		for _, p := range adders {
			p.wait(t)
			switch codeOf(p.err) {
			case "":
				good++
			case wire.CodeNotPrimary, wire.CodeSQLiteBusy, wire.CodeOverloaded, wire.CodeUnknownOutcome:
			default:
				t.Errorf("round %d: %v", round, p.err)
			}
		}
		// Those that were answered with success are there, and nothing else.
		res := r.ok(tn, one("SELECT a FROM t"))
		if got := res[0].Rows[0][0].Int(); got != int64(good) {
			t.Fatalf("round %d: %d were answered, the row says %d", round, good, got)
		}
		r.exec(tn, "UPDATE t SET a=0")
	}
}

// TestReadersOutliveALostSpeculation: connections of readers are closed with it and opened anew.
func TestReadersOutliveALostSpeculation(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{Readers: 2})
	r.exec(tn, "CREATE TABLE t(a)")
	r.exec(tn, "INSERT INTO t VALUES(1), (2), (3)")
	s := &sink{}
	s.onRow = func() error { // in the middle of a read
		if len(s.results[0].Rows) == 1 {
			r.log.setHold(true)
			p := r.start(context.Background(), tn, one("DELETE FROM t"))
			r.waitEntry()
			r.log.setHold(false)
			r.log.lose(errors.New("lost"))
			p.wait(t)
		}
		return nil
	}
	if _, err := r.e.Execute(context.Background(), tn, r.q, one("SELECT a FROM t"), s); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", fmt.Sprint(s.results[0].Rows), "[[1] [2] [3]]")
	for range 3 {
		r.want(tn, "SELECT count(*) FROM t", "[[3]]")
	}
}

// TestBookmarkNeverGoesBack: also a statement that looks at no table has a position.
func TestBookmarkNeverGoesBack(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{Readers: 1})
	r.exec(tn, "CREATE TABLE t(a)")
	r.want(tn, "SELECT count(*) FROM t", "[[0]]")
	for range 3 {
		_, w, _ := r.doCtx(t.Context(), tn, one("INSERT INTO t VALUES(1)"))
		_, x, _ := r.doCtx(t.Context(), tn, one("SELECT 1"))
		if x.Pos.TXID < w.Pos.TXID || x.Pos.Tenant != tn.ID() || x.Pos.Epoch != 1 || w.Pos != tn.Position() {
			t.Fatalf("a write has %v, a read after it %v", w.Pos, x.Pos)
		}
	}
}
