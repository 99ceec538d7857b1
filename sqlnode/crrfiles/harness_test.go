package crrfiles

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// testLog is a log in memory that commits at once.
type testLog struct {
	g     *pagestore.Group
	index uint64
}

func (l *testLog) Primary() error  { return nil }
func (l *testLog) Snapshot() error { return errors.New("this log takes no snapshots") }
func (l *testLog) Propose(entry []byte, done func(any, error)) {
	l.index++
	done(l.g.Apply(l.index, 1, entry), nil)
}

// rig is a group of tenants with a writer for each.
type rig struct {
	t   *testing.T
	dir string
	log *testLog
	g   *pagestore.Group
	w   map[wire.TenantID]*pagestore.Conn
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), log: &testLog{}, w: map[wire.TenantID]*pagestore.Conn{}}
	g, err := pagestore.NewGroup(pagestore.Config{ID: 2, Dir: filepath.Join(r.dir, "group"), FS: disk.OS(), CheckpointAge: time.Hour, LTXAge: time.Hour, Budget: pagestore.NewBudget(1 << 30)})
	must(t, err)
	r.g, r.log.g = g, g
	g.SetLog(r.log)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); g.Run(ctx) }()
	t.Cleanup(func() {
		for _, c := range r.w {
			c.Close()
		}
		cancel()
		<-over
		g.Close()
	})
	return r
}

func (r *rig) manager(cfg Config) *Manager {
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(r.dir, "crr")
	}
	m := New(cfg)
	r.t.Cleanup(m.Close)
	return m
}

func (r *rig) tenant(n int) *pagestore.Tenant {
	r.t.Helper()
	id := wire.TenantID{0: 7, 15: byte(n)}
	rec, err := tenant.New(id, tenant.Name(fmt.Sprintf("t%d", n)), tenant.CreateOptions{PageSize: 4096}, 2, time.UnixMilli(1))
	must(r.t, err)
	payload, err := tenant.EncodeEvent(tenant.Created{Tenant: rec})
	must(r.t, err)
	entry, err := txn.AppendEntry(nil, &txn.Header{Kind: txn.Control, Tenant: id, Epoch: 1, Group: 2, Code: uint16(tenant.CodeCreated)}, payload)
	must(r.t, err)
	r.log.Propose(entry, func(any, error) {})
	t, err := r.g.Tenant(id)
	must(r.t, err)
	return t
}

// strong runs f in a transaction of the tenant's strong schema.
func (r *rig) strong(t *pagestore.Tenant, f func(c *sqlite.Conn) error) {
	r.t.Helper()
	w := r.w[t.ID()]
	if w == nil {
		s, err := t.Acquire()
		must(r.t, err)
		w, err = t.OpenWriter(s, nil)
		must(r.t, err)
		r.w[t.ID()] = w
	}
	must(r.t, w.Exec("BEGIN IMMEDIATE"))
	must(r.t, f(w.Conn))
	must(r.t, w.Exec("COMMIT"))
}

func (r *rig) declare(t *pagestore.Tenant, sql string) {
	r.t.Helper()
	r.strong(t, func(c *sqlite.Conn) error { _, _, err := Declare(c, sql); return err })
}

// site opens the tenant's file and gives it a number.
func (r *rig) site(m *Manager, t *pagestore.Tenant) *File {
	r.t.Helper()
	f, err := m.Open(r.t.Context(), t)
	must(r.t, err)
	head, err := f.Head(r.t.Context())
	must(r.t, err)
	if head.Site == 0 {
		r.strong(t, func(c *sqlite.Conn) error { _, err := Register(c, t.ID(), "n1", head.File); return err })
	}
	must(r.t, f.Sync(r.t.Context()))
	return f
}

// write runs one statement as a local transaction.
func write(f *File, sql string) (done crr.Committed, err error) {
	err = f.Write(context.Background(), func(w *Writer) error {
		if err := w.Site.Begin(); err != nil {
			return err
		}
		if err := w.Site.Use(crr.Classify(sql)); err != nil {
			return err
		}
		if err := w.Conn.Exec(sql); err != nil {
			return err
		}
		done, err = w.Site.Commit()
		return err
	})
	return done, err
}

// one returns the first value of a query on the writer's connection.
func one(t *testing.T, f *File, sql string) (v string) {
	t.Helper()
	must(t, f.Write(t.Context(), func(w *Writer) error {
		return each(w.Conn.Conn, sql, func(s *sqlite.Stmt) error { v = s.Column(0).String(); return nil })
	}))
	return v
}

func chance(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
