package pagestore

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// filesOf lists what is left of a tenant on disk.
func filesOf(t testing.TB, fs *disktest.MemFS, id wire.TenantID) (names []string) {
	t.Helper()
	for _, dir := range []string{"bases", "ltx", "failed", "staging"} {
		l, err := fs.ReadDir("test.list", filepath.Join("/data/g2", dir))
		must(t, err)
		for _, n := range l {
			if strings.HasPrefix(n.Name(), id.String()) {
				names = append(names, dir+"/"+n.Name())
			}
		}
	}
	return names
}

func clock(ms int64) time.Time { return time.UnixMilli(ms) }

// TestPurge deletes a tenant, undeletes it, deletes it again and purges it. Its files stay until no restart
// can need them.
func TestPurge(t *testing.T) {
	fs := disktest.NewMemFS()
	cfg := memDisk(fs)
	cfg.BigTransaction = 1
	r := newRig(t, cfg)
	tn, other := r.create(1, 4096), r.create(2, 4096)
	id := tn.ID()
	w, w2 := r.writer(tn), r.writer(other)
	mustExec(t, w, "create table t(a)")
	mustExec(t, w2, "create table t(a)")
	r.tidy()
	must(t, r.g.CompactLTX(context.Background()))
	must(t, r.control(id, tenant.Deleted{Time: clock(5)}))
	if err := exec(w, "insert into t values(1)"); err == nil {
		t.Fatal("a deleted tenant was written")
	}
	r.tidy()
	if got := len(filesOf(t, fs, id)); got != 3 {
		t.Fatalf("%d files of a deleted tenant", got)
	}
	must(t, r.control(id, tenant.Undeleted{Time: clock(6), Name: "again"}))
	mustExec(t, w, "insert into t values(1)")
	rd := r.reader(tn)
	must(t, r.control(id, tenant.Deleted{Time: clock(7)}))
	must(t, r.control(id, tenant.Purged{Time: clock(8)}))
	// It is gone at once, for those who have it open too.
	if _, err := r.g.Tenant(id); !errors.Is(err, ErrNoTenant) {
		t.Fatalf("got %v", err)
	}
	if _, err := tn.Acquire(); !errors.Is(err, ErrNoTenant) {
		t.Fatalf("got %v", err)
	}
	if err := exec(rd, "select * from t"); err == nil || !errors.Is(rd.TakeErr(), ErrNoTenant) {
		t.Fatalf("it is still read: %v", err)
	}
	if err := r.control(id, tenant.Undeleted{Time: clock(9), Name: "again"}); !errors.Is(err, ErrNoTenant) {
		t.Fatalf("a purged tenant is undeleted: %v", err)
	}
	if got := len(filesOf(t, fs, id)); got != 3 {
		t.Fatalf("%d files right after the purge", got)
	}
	// A restart reads its life again.
	w.Close()
	rd.Close()
	w2.Close()
	r.restart()
	if _, err := r.g.Tenant(id); !errors.Is(err, ErrNoTenant) {
		t.Fatalf("after a restart: %v", err)
	}
	if n := r.g.Stats.Failures.Load(); n > 0 {
		t.Fatalf("%d failures", n)
	}
	// The snapshot that does not list it lets the files go.
	r.log.refuse = true
	if err := r.g.Checkpoint(); err == nil {
		t.Fatal("no error")
	}
	if got := len(filesOf(t, fs, id)); got != 3 {
		t.Fatalf("%d files after a snapshot that failed", got)
	}
	r.log.refuse = false
	must(t, r.g.Checkpoint())
	if got := filesOf(t, fs, id); len(got) != 0 {
		t.Fatalf("left are %v", got)
	}
	if len(r.g.mu.purged) != 0 {
		t.Fatal("it still waits")
	}
	must(t, r.g.absorbAll(context.Background()))
	must(t, r.g.CompactLTX(context.Background()))
	r.restart()
	if all := r.g.Tenants(); len(all) != 1 || all[0].ID() != other.ID() {
		t.Fatalf("%d tenants after a restart", len(all))
	}
	want(t, r.reader(r.tenant(2)), "select count(*) from t", "[[0]]")
	if got := filesOf(t, fs, id); len(got) != 0 {
		t.Fatalf("left are %v", got)
	}
	if len(filesOf(t, fs, other.ID())) == 0 {
		t.Fatal("the files of the other tenant are gone")
	}
	if n := r.g.cfg.Budget.Used(); n != 0 {
		r.g.closeIdle()
		t.Logf("%d bytes in the budget", n)
	}
}

// TestPurgeCrash crashes at each operation around a purge: the tenant never comes back, its files go in
// the end, and the other tenant stays whole.
func TestPurgeCrash(t *testing.T) {
	run := func(r *rig) {
		tn, err := r.g.Tenant(wire.TenantID{0: 7, 15: 1})
		if err == nil {
			if tn.Record().State == tenant.StateActive {
				_ = r.control(tn.ID(), tenant.Deleted{Time: clock(5)})
			}
			_ = r.control(tn.ID(), tenant.Purged{Time: clock(6)})
		}
		for range 2 {
			_ = r.g.Checkpoint()
			_ = r.g.absorbAll(context.Background())
			_ = r.g.CompactLTX(context.Background())
		}
	}
	// A tenant in a base, in LTX files, in a private segment, and with changes in memory alone.
	mem := disktest.NewMemFS()
	cfg := memDisk(mem)
	prepared := &rig{t: t, log: newTestLog(), cfg: cfg}
	prepared.start()
	w, w2 := prepared.writer(prepared.create(1, 4096)), prepared.writer(prepared.create(2, 4096))
	for _, c := range []*Conn{w, w2} {
		mustExec(t, c, "create table t(a)")
	}
	prepared.tidy()
	must(t, prepared.g.CompactLTX(context.Background()))
	for _, c := range []*Conn{w, w2} {
		mustExec(t, c, "insert into t values(zeroblob(20000))")
		mustExec(t, c, "insert into t values('last')")
		c.Close()
	}
	prepared.stop()
	ops := 0
	for n := 0; n <= ops; n++ {
		disk := mem.Clone()
		faults := disktest.NewFaults(disk)
		if n > 0 {
			faults.CrashNth(n)
		}
		r := &rig{t: t, log: prepared.log.clone(), cfg: memDisk(faults)}
		r.cfg.BigTransaction = 16 << 10
		if r.tryStart() == nil {
			run(r)
			r.stop()
		}
		if n == 0 {
			ops = faults.Count()
		}
		for _, after := range []*disktest.MemFS{disk.Kill(), disk.Crash(nil)} {
			r := &rig{t: t, log: r.log.clone(), cfg: memDisk(after)}
			r.start()
			run(r)
			if _, err := r.g.Tenant(wire.TenantID{0: 7, 15: 1}); err == nil {
				t.Fatalf("crash at %d: the tenant is back", n)
			}
			if left := filesOf(t, after, wire.TenantID{0: 7, 15: 1}); len(left) > 0 {
				t.Fatalf("crash at %d: left are %v", n, left)
			}
			if segs, _ := after.ReadDir("x", "/data/g2/segments"); len(segs) > 0 {
				t.Fatalf("crash at %d: %d segments are left", n, len(segs))
			}
			checkSum(t, r.visible(2))
			rd := r.reader(r.tenant(2))
			want(t, rd, "select count(*) from t", "[[2]]")
			rd.Close()
			if f := r.g.Stats.Failures.Load(); f > 0 {
				t.Fatalf("crash at %d: %d failures", n, f)
			}
			r.stop()
		}
	}
	if ops < 20 {
		t.Fatalf("%d operations are too few", ops)
	}
}
