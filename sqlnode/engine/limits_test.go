package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func TestTimeLimits(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{StatementTime: tenant.Duration(30 * time.Millisecond), Readers: 1})
	r.exec(tn, "CREATE TABLE t(a)")
	endless := fmt.Sprintf(slow, 1_000_000_000)
	read, write := one(endless+"SELECT max(i) FROM c"), one(endless+"INSERT INTO t SELECT max(i) FROM c")
	for _, req := range []*wire.Request{read, write, batch("INSERT INTO t VALUES(1)", read.Statements[0].SQL), batch("SELECT 1", read.Statements[0].SQL)} {
		e := r.refused(tn, req, wire.CodeTimeout)
		if e.Statement != len(req.Statements) || e.Retryable {
			t.Errorf("%v", e)
		}
	}
	r.want(tn, "SELECT count(*) FROM t", "[[0]]")

	tn = r.create(2, tenant.Limits{Readers: 1})
	r.exec(tn, "CREATE TABLE t(a)")
	for _, req := range []*wire.Request{read, write, batch("INSERT INTO t VALUES(1)", write.Statements[0].SQL)} {
		short := *req
		short.Timeout = 20 * time.Millisecond
		r.refused(tn, &short, wire.CodeTimeout)
		ctx, cancel := context.WithCancel(context.Background())
		p := r.start(ctx, tn, req)
		p.pending(t, "endless")
		cancel()
		p.wait(t)
		if codeOf(p.err) != wire.CodeCancelled {
			t.Errorf("cancelled: %v", p.err)
		}
	}
	r.want(tn, "SELECT count(*) FROM t", "[[0]]")

	// Waiting for the only reader, and in line for the writer.
	ctx, cancel := context.WithCancel(context.Background())
	p := r.start(ctx, tn, read)
	until(t, "the reader to be in use", func() bool { return len(r.e.mu.open[tn].readers) == 1 })
	waits := one("SELECT 1")
	waits.Timeout = 10 * time.Millisecond
	r.refused(tn, waits, wire.CodeTimeout)
	cancel()
	p.wait(t)
	ctx, cancel = context.WithCancel(context.Background())
	p = r.start(ctx, tn, write)
	p.pending(t, "endless write")
	waits = one("INSERT INTO t VALUES(1)")
	waits.Timeout = 10 * time.Millisecond
	r.refused(tn, waits, wire.CodeTimeout)
	cancel()
	p.wait(t)
	r.want(tn, "SELECT count(*) FROM t", "[[0]]")
}

// TestUnknownOutcome: when the client's time is over and the log has not spoken, nobody knows.
func TestUnknownOutcome(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(a)")
	r.log.setHold(true)
	req := one("INSERT INTO t VALUES(1)")
	req.Timeout = 10 * time.Millisecond
	p := r.start(context.Background(), tn, req)
	r.waitEntry()
	p.wait(t)
	if codeOf(p.err) != wire.CodeUnknownOutcome {
		t.Fatal(p.err)
	}
	r.log.setHold(false)
	r.log.letGo(-1)
	r.want(tn, "SELECT count(*) FROM t", "[[1]]")
}

func TestAnswerLimits(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{AnswerRows: 10, AnswerBytes: 4096})
	r.exec(tn, "CREATE TABLE t(a)")
	rows := func(n int) string { return fmt.Sprintf(slow, n) }
	r.exec(tn, rows(10)+"INSERT INTO t SELECT i FROM c RETURNING a")
	r.refused(tn, one(rows(11)+"INSERT INTO t SELECT i FROM c RETURNING a"), wire.CodeRowsTooLarge)
	r.refused(tn, batch("UPDATE t SET a=a RETURNING a", "DELETE FROM t RETURNING a"), wire.CodeRowsTooLarge)
	r.refused(tn, one("DELETE FROM t RETURNING zeroblob(1000)"), wire.CodeAnswerTooLarge)
	r.want(tn, "SELECT count(*) FROM t", "[[10]]") // what was refused has no effect
	r.exec(tn, rows(100)+"INSERT INTO t SELECT i FROM c")
	r.refused(tn, one("SELECT a FROM t"), wire.CodeRowsTooLarge)
	r.refused(tn, one("SELECT zeroblob(5000)"), wire.CodeAnswerTooLarge)
	stream := one("SELECT a FROM t")
	stream.Stream = true // goes to its sink, row by row
	if n := len(r.ok(tn, stream)[0].Rows); n != 110 {
		t.Errorf("%d rows", n)
	}
	// A sink that refuses ends a read, and the connection goes on.
	s := &sink{onRow: func() error { return wire.NewError(wire.CodeCancelled, "enough") }}
	if _, err := r.e.Execute(t.Context(), tn, r.q, stream, s); !errors.Is(err, &wire.Error{Code: wire.CodeCancelled}) {
		t.Error(err)
	}
	r.want(tn, "SELECT count(*) FROM t", "[[110]]")
}

func TestSizeLimits(t *testing.T) {
	r := newRig(t, Config{TempMax: 2 << 20, TempDir: t.TempDir()})
	tn := r.create(1, tenant.Limits{Size: 4 * tenant.MaxPageSize})
	r.exec(tn, "CREATE TABLE t(a, b)")
	r.exec(tn, "INSERT INTO t VALUES(1, zeroblob(200000))")
	r.refused(tn, one("INSERT INTO t VALUES(2, zeroblob(100000))"), wire.CodeTenantFull)
	r.refused(tn, batch("INSERT INTO t VALUES(2, zeroblob(100000))", "INSERT INTO t VALUES(3, 3)"), wire.CodeTenantFull)
	r.want(tn, "SELECT a, length(b) FROM t", "[[1 200000]]")
	r.exec(tn, "DELETE FROM t") // room can be made
	r.exec(tn, "INSERT INTO t VALUES(2, zeroblob(100000))")

	sorts := fmt.Sprintf(slow, 100_000) + "SELECT i, hex(i)||'................................................' AS x FROM c ORDER BY x"
	e := r.refused(tn, one(sorts), wire.CodeSQLiteFull)
	if !strings.Contains(e.Message, "index") {
		t.Error(e)
	}
	r.want(tn, "SELECT count(*) FROM t", "[[1]]")
	if n := r.e.Stats.TempBytes.Load(); n != 0 {
		t.Errorf("%d bytes of temporary files are left", n)
	}
	r.refused(tn, one("INSERT INTO t VALUES(1, zeroblob(17000000))"), wire.CodeSQLiteTooBig)
}

func TestInFlight(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{InFlight: 2})
	r.exec(tn, "CREATE TABLE t(a)")
	r.log.setHold(true)
	var replies []*reply
	for i := range 2 {
		replies = append(replies, r.start(context.Background(), tn, one("INSERT INTO t VALUES(?)", i)))
		r.waitEntry()
	}
	e := r.refused(tn, one("SELECT 1"), wire.CodeTooManyRequests)
	if !e.Retryable {
		t.Error("not to be sent again")
	}
	r.log.setHold(false)
	r.log.letGo(-1)
	for _, p := range replies {
		p.wait(t)
	}
	r.want(tn, "SELECT count(*) FROM t", "[[2]]")
}

func TestFrozenAndDeleted(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(a)")
	at := time.UnixMilli(5).UTC()
	r.control(tn.ID(), tenant.Frozen{Time: at})
	r.refused(tn, one("INSERT INTO t VALUES(1)"), wire.CodeTenantFrozen)
	r.refused(tn, batch("SELECT 1", "PRAGMA user_version=1"), wire.CodeTenantFrozen)
	r.want(tn, "SELECT count(*) FROM t", "[[0]]")
	r.control(tn.ID(), tenant.Thawed{Time: at})
	r.exec(tn, "INSERT INTO t VALUES(1)")

	// Other limits are in force at once.
	r.control(tn.ID(), tenant.LimitsChanged{Time: at, Limits: tenant.Limits{Statement: 1024}})
	r.refused(tn, one("SELECT '"+strings.Repeat("x", 1024)+"'"), wire.CodeStatementTooLong)
	r.want(tn, "SELECT count(*) FROM t", "[[1]]")

	r.control(tn.ID(), tenant.Deleted{Time: at})
	r.refused(tn, one("INSERT INTO t VALUES(1)"), wire.CodeTenantDeleted)
	r.refused(tn, one("SELECT * FROM t"), wire.CodeTenantDeleted)
	r.control(tn.ID(), tenant.Undeleted{Time: at, Name: "t1"})
	r.want(tn, "SELECT count(*) FROM t", "[[1]]")
}
