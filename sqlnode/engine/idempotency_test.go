package engine

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func keyed(key, subject string, req *wire.Request) *wire.Request {
	c := *req
	c.IdempotencyKey, c.Subject = key, subject
	return &c
}

func TestIdempotencyKey(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	r := newRig(t, Config{Now: func() time.Time { return now }})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b)")

	// Each class of value, exactly.
	all := []any{math.MaxInt64, math.MinInt64, 0.1, math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.SmallestNonzeroFloat64, math.MaxFloat64,
		"text \x00 ü \"", "", []byte{0, 255, 10}, []byte{}, nil, 1 << 53, 1e300}
	sql := "INSERT INTO t(a) VALUES('k1') RETURNING id" + strings.Repeat(", ?", len(all))
	req := keyed("k1", "ann", one(sql, all...))
	want := r.ok(tn, req)
	equal(t, "values", want[0].Rows[0][1:], values(all))
	for range 3 {
		got, x, err := r.doCtx(t.Context(), tn, req)
		if err != nil || !x.Replayed || !x.Write {
			t.Fatalf("repeat: %v, %v", x, err)
		}
		equal(t, "repeat", got, want)
		if math.Signbit(got[0].Rows[0][6].Float64()) != true {
			t.Error("-0 became 0")
		}
	}
	r.want(tn, "SELECT count(*) FROM t", "[[1]]")

	// Another request under the key; another's key.
	r.refused(tn, keyed("k1", "ann", one("INSERT INTO t(a) VALUES('other')")), wire.CodeIdempotencyMismatch)
	args := append([]any{}, all...)
	args[0] = 5
	r.refused(tn, keyed("k1", "ann", one(sql, args...)), wire.CodeIdempotencyMismatch)
	r.refused(tn, keyed("k1", "bob", req), wire.CodeSQLiteConstraintUnique) // bob's own, and the row is there
	r.refused(tn, keyed("k2", "ann", req), wire.CodeSQLiteConstraintUnique)

	// An error is an outcome: also when its reason is gone.
	r.exec(tn, "DELETE FROM t")
	e := r.refused(tn, keyed("k2", "ann", req), wire.CodeSQLiteConstraintUnique)
	if e.Statement != 1 || !strings.Contains(e.Message, "t.a") {
		t.Errorf("repeated error: %v", e)
	}
	r.want(tn, "SELECT count(*) FROM t", "[[0]]")
	// The same in a batch, with what it did before undone.
	bad := keyed("k3", "ann", batch("INSERT INTO t(a) VALUES('in')", "INSERT INTO t(a) VALUES('in')"))
	for range 2 {
		if e := r.refused(tn, bad, wire.CodeSQLiteConstraintUnique); e.Statement != 2 {
			t.Error(e)
		}
	}
	r.want(tn, "SELECT count(*) FROM t", "[[0]]")

	// With switches of the connection before it.
	sw := keyed("k4", "ann", batch("PRAGMA foreign_keys=off", "INSERT INTO t(a) VALUES('sw') RETURNING a", "PRAGMA foreign_keys=on"))
	want = r.ok(tn, sw)
	if len(want) != 3 {
		t.Errorf("%d results", len(want))
	}
	equal(t, "repeat with switches", r.ok(tn, sw), want)

	// Too large to be kept: refused, and nothing done; that is kept.
	large := keyed("k5", "ann", one("INSERT INTO t(a) VALUES('large') RETURNING zeroblob(100000)"))
	for range 2 {
		r.refused(tn, large, wire.CodeAnswerTooLarge)
	}
	r.want(tn, "SELECT count(*) FROM t WHERE a='large'", "[[0]]")

	// What may go better next time is not kept.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	again := keyed("k6", "ann", one("INSERT INTO t(a) VALUES('again')"))
	if _, _, err := r.doCtx(ctx, tn, again); codeOf(err) != wire.CodeCancelled {
		t.Fatal(err)
	}
	r.log.setDown(errors.New("not primary"))
	r.refused(tn, again, wire.CodeNotPrimary)
	r.log.setDown(nil)
	r.ok(tn, again)

	// A read with a key is a read; VACUUM may be repeated.
	equal(t, "read", r.ok(tn, keyed("k7", "ann", one("SELECT 5")))[0].Rows[0], values([]any{5}))
	r.ok(tn, keyed("k8", "ann", one("VACUUM")))
	r.ok(tn, keyed("k9", "ann", one("CREATE TABLE made(a)")))
	r.ok(tn, keyed("k9", "ann", one("CREATE TABLE made(a)")))

	// After a day it is forgotten, and its place is used again.
	now = now.Add(KeepOutcomes - time.Millisecond)
	r.ok(tn, again)
	now = now.Add(2 * time.Millisecond)
	r.refused(tn, again, wire.CodeSQLiteConstraintUnique)
	r.exec(tn, "DELETE FROM t")
	for i := range 10 {
		r.ok(tn, keyed(string(rune('A'+i)), "", one("INSERT INTO t(a) VALUES(?)", i)))
	}
	r.want(tn, "SELECT count(*) FROM t", "[[10]]")
	if n := r.outcomes(tn.ID()); n != 11 { // the error of `again` above, and these
		t.Errorf("%d outcomes are kept", n)
	}
}

// outcomes counts what is kept, with the engine's own rights.
func (r *rig) outcomes(id wire.TenantID) (n int64) {
	r.t.Helper()
	tn, err := r.g.Tenant(id)
	if err != nil {
		r.t.Fatal(err)
	}
	r.e.mu.Lock()
	db := r.e.mu.open[tn]
	r.e.mu.Unlock()
	c, epoch, err := db.reader(context.Background(), false)
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.giveBack(c, epoch, false)
	if err := c.own("SELECT count(*) FROM _nearsql_outcome", func(v []wire.Value) { n = v[0].Int() }); err != nil {
		r.t.Fatal(err)
	}
	return n
}

func TestIdempotencyInGroups(t *testing.T) {
	r := newRig(t, Config{InFlight: 1})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
	r.exec(tn, "INSERT INTO t VALUES(1, 'one')")
	var reqs []*wire.Request
	for i := range 60 {
		switch i % 3 {
		case 0:
			reqs = append(reqs, keyed("same", "s", one("INSERT INTO t(a) VALUES('same') RETURNING id")))
		case 1:
			reqs = append(reqs, keyed("error", "s", batch("INSERT INTO t(a) VALUES('bad')", "INSERT INTO t VALUES(1, 'x')")))
		default:
			reqs = append(reqs, one("INSERT INTO t(a) VALUES('free')"))
		}
	}
	first := 0
	for i, p := range r.group(tn, reqs...) {
		if i%3 == 1 {
			if codeOf(p.err) != wire.CodeSQLiteConstraintPrimaryKey {
				t.Errorf("request %d: %v", i, p.err)
			}
			continue
		}
		if p.err != nil {
			t.Errorf("request %d: %v", i, p.err)
			continue
		}
		if i%3 == 0 {
			equal(t, "id", p.res[0].Rows[0][0], wire.Integer(2))
			if !p.x.Replayed {
				first++
			}
		}
	}
	if first != 1 {
		t.Errorf("%d requests ran under one key", first)
	}
	r.want(tn, "SELECT a, count(*) FROM t GROUP BY a ORDER BY a", `[["free" 20] ["one" 1] ["same" 1]]`)
}

// TestOutcomeIsInTheTransaction: when the log loses the one, it has lost the other.
func TestOutcomeIsInTheTransaction(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(a PRIMARY KEY)")
	req := keyed("k", "s", one("INSERT INTO t VALUES(1)"))
	r.log.setHold(true)
	p := r.start(context.Background(), tn, req)
	r.waitEntry()
	// A repeat while the first is on its way waits for the same entry.
	q := r.start(context.Background(), tn, req)
	q.pending(t, "repeat")
	r.log.setHold(false)
	r.log.lose(errors.New("lost"))
	p.wait(t)
	q.wait(t)
	if codeOf(p.err) != wire.CodeUnknownOutcome || codeOf(q.err) != wire.CodeNotPrimary {
		t.Fatalf("got %v and %v", p.err, q.err)
	}
	if _, x, err := r.doCtx(t.Context(), tn, req); err != nil || x.Replayed {
		t.Fatalf("after the loss: %v, %v", x, err)
	}
	if _, x, err := r.doCtx(t.Context(), tn, req); err != nil || !x.Replayed {
		t.Fatalf("repeat: %v, %v", x, err)
	}
	// An error's outcome has an entry, and is lost with it.
	bad := keyed("bad", "s", one("INSERT INTO t VALUES(1)"))
	r.log.setHold(true)
	p = r.start(context.Background(), tn, bad)
	r.waitEntry()
	p.pending(t, "error")
	r.log.setHold(false)
	r.log.lose(errors.New("lost"))
	p.wait(t)
	if codeOf(p.err) != wire.CodeUnknownOutcome {
		t.Fatal(p.err)
	}
	r.exec(tn, "DELETE FROM t")
	r.ok(tn, bad)
}
