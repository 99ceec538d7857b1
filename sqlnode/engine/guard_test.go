package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// crashEnv makes the test program a child that crashes; its value is "where,guard file".
const crashEnv = "NEARSQL_TEST_CRASH"

const (
	crashRead  = "SELECT boom(?)"
	crashWrite = "INSERT INTO t VALUES(boom(?))"
)

// crashChild runs a request that panics inside SQLite, below an HTTP server, which recovers
// from panics of its handlers. It returns only when the process survived.
func crashChild(arg string) {
	where, path, _ := strings.Cut(arg, ",")
	t := &childTB{}
	guard, err := OpenGuard(disk.OS(), path, slog.Default(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := newRigAt(t, filepath.Dir(path)+"/group", Config{Guard: guard, StatementCache: 8})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(a)")
	boom(t, r, tn)
	sql := crashRead
	if where == "write" {
		sql = crashWrite
	}
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		r.do(tn, one(sql, 1))
	}))
	http.Get(srv.URL)
}

// childTB is a testing.TB for a process that is no test.
type childTB struct{ testing.TB }

func (*childTB) Helper()        {}
func (*childTB) Cleanup(func()) {}
func (*childTB) Fatal(args ...any) {
	slog.Error("child", "args", args)
	os.Exit(3)
}
func (c *childTB) Fatalf(_ string, args ...any) { c.Fatal(args...) }
func (c *childTB) Errorf(_ string, args ...any) { c.Fatal(args...) }
func (c *childTB) Error(args ...any)            { c.Fatal(args...) }

func TestCrashIsRefusedAfterRestart(t *testing.T) {
	for _, where := range []string{"read", "write"} {
		t.Run(where, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "crashed.json")
			cmd := exec.Command(os.Args[0], "-test.run=NONE")
			cmd.Env = append(os.Environ(), crashEnv+"="+where+","+path)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2 || !bytes.Contains(out, []byte("panic inside SQLite: boom")) {
				t.Fatalf("the child did not end by the panic: %v\n%s", err, out)
			}

			now := time.Now()
			clock := func() time.Time { return now }
			guard, err := OpenGuard(disk.OS(), path, slog.New(slog.DiscardHandler), clock)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, Config{Guard: guard, Now: clock})
			tn, other := r.create(1, tenant.Limits{}), r.create(2, tenant.Limits{})
			r.exec(tn, "CREATE TABLE t(a)")
			bad, good := crashRead, crashWrite
			if where == "write" {
				bad, good = good, bad
			}
			e := r.refused(tn, one(bad, 2), wire.CodeStatementRefused) // whatever its arguments
			if !strings.Contains(e.Message, "until") {
				t.Errorf("the message does not say until when: %s", e.Message)
			}
			r.refused(other, one(bad, 2), wire.CodeSQLiteError) // no such function
			r.refused(tn, one(good, 2), wire.CodeSQLiteError)
			r.want(tn, "SELECT 1", "[[1]]")

			now = now.Add(time.Hour + time.Second)
			r.refused(tn, one(bad, 2), wire.CodeSQLiteError)
			if guard, err = OpenGuard(disk.OS(), path, slog.New(slog.DiscardHandler), clock); err != nil || len(guard.mu.refused) != 0 {
				t.Fatalf("after an hour: %v, %v", guard, err)
			}
		})
	}
}

func TestGuardForgetsTheOldest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crashed.json")
	g, err := OpenGuard(disk.OS(), path, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	full := make([]guardRecord, maxRefused)
	b, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		g.crashed(wire.TenantID{byte(i)}, one("SELECT 1"), "x")
	}
	records, err := g.load()
	if err != nil || len(records) != maxRefused || records[maxRefused-3].Digest == "" || records[maxRefused-4].Digest != "" {
		t.Fatalf("%d records, %v", len(records), err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenGuard(disk.OS(), path, slog.New(slog.DiscardHandler), time.Now); err == nil {
		t.Fatal("a damaged file was taken")
	}
}

// boom gives all connections that t's tenant has now a function that panics.
func boom(t testing.TB, r *rig, tn *pagestore.Tenant) {
	t.Helper()
	r.e.mu.Lock()
	db := r.e.mu.open[tn]
	r.e.mu.Unlock()
	c, epoch, err := db.reader(context.Background(), false)
	if err != nil {
		t.Fatal(err)
	}
	panics := func(*sqlite.Context, []sqlite.Arg) { panic("boom") }
	for _, c := range []*conn{c, db.mu.w.conn} {
		if err := c.RegisterFunc("boom", 1, 0, panics); err != nil {
			t.Fatal(err)
		}
	}
	db.giveBack(c, epoch, false)
}
