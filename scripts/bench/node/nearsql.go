package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// engineContender is a tenant of this process's engine, as in a node, on a log in memory.
type engineContender struct {
	log    *memLog
	group  *pagestore.Group
	engine *engine.Engine
	tenant *pagestore.Tenant
	stop   context.CancelFunc
	parts  sync.WaitGroup
}

const benchGroup wire.GroupID = 2

// openEngine opens an engine on a memLog.
func openEngine(dir string, apart bool) (*engineContender, error) {
	// As a node does before it opens anything.
	_, err := sqlite.InstallPageCache(sqlite.PageCacheConfig{BudgetBytes: 1 << 30})
	if err != nil && !errors.Is(err, sqlite.ErrPageCacheTooLate) && !errors.Is(err, sqlite.ErrPageCacheInstalled) {
		return nil, err
	}
	g, err := pagestore.NewGroup(pagestore.Config{ID: benchGroup, Dir: dir, Budget: pagestore.NewBudget(512 << 20)})
	if err != nil {
		return nil, err
	}
	x := &engineContender{group: g, log: newMemLog(g, apart), engine: engine.New(engine.Config{TempDir: dir})}
	ctx, cancel := context.WithCancel(context.Background())
	x.stop = cancel
	x.parts.Go(func() { _ = g.Run(ctx) })
	x.parts.Go(func() { _ = x.engine.Run(ctx) })
	if err := x.prepare(); err != nil {
		x.close()
		return nil, err
	}
	return x, nil
}

func (x *engineContender) prepare() error {
	id, err := tenant.NewID(rand.Reader)
	if err != nil {
		return err
	}
	rec, err := tenant.New(id, "bench", tenant.CreateOptions{}, benchGroup, time.Now())
	if err != nil {
		return err
	}
	created := tenant.Created{Tenant: rec}
	payload, err := tenant.EncodeEvent(created)
	if err != nil {
		return err
	}
	entry, err := txn.AppendEntry(nil, &txn.Header{Kind: txn.Control, Tenant: id, Epoch: 1, Group: benchGroup,
		Code: uint16(created.Code()), TimeUnixMilli: uint64(time.Now().UnixMilli())}, payload)
	if err != nil {
		return err
	}
	said := make(chan any, 1)
	x.log.Propose(entry, func(response any, _ error) { said <- response })
	if err, ok := (<-said).(error); ok {
		return fmt.Errorf("create tenant: %w", err)
	}
	if x.tenant, err = x.group.Tenant(id); err != nil {
		return err
	}
	c := &engineClient{x: x}
	for _, s := range []wire.Statement{{SQL: createTable}, {SQL: createIndex}, {SQL: createRead},
		{SQL: fillRead, Args: []wire.Value{wire.Integer(readRows)}}} {
		if err := c.run(s); err != nil {
			return fmt.Errorf("%s: %w", s.SQL, err)
		}
	}
	return nil
}

func (x *engineContender) close() error {
	x.engine.Close()
	x.stop()
	x.parts.Wait()
	x.group.Close()
	x.log.stop()
	return nil
}

func (x *engineContender) client() (client, error) { return &engineClient{x: x}, nil }

// alone is engine.Quorum of a node that no other can depose.
type alone struct{}

// Confirm implements engine.Quorum.
func (alone) Confirm(context.Context) error { return nil }

// engineClient is one client. It is its own sink.
type engineClient struct {
	x    *engineContender
	rows int
	a, b wire.Value
}

func (c *engineClient) run(s wire.Statement) error {
	c.rows = 0
	_, err := c.x.engine.Execute(context.Background(), c.x.tenant, alone{}, &wire.Request{Statements: []wire.Statement{s}}, c)
	return err
}

func (c *engineClient) insert(i int) error {
	return c.run(wire.Statement{SQL: insertRow, Args: []wire.Value{wire.Text(rowText), wire.Text(indexed(i))}})
}

func (c *engineClient) update(id, i int) error {
	return c.run(wire.Statement{SQL: updateRow, Args: []wire.Value{wire.Text(indexed(i)), wire.Integer(int64(id))}})
}

func (c *engineClient) read(i int) error {
	id := readID(i)
	if err := c.run(wire.Statement{SQL: selectRead, Args: []wire.Value{wire.Integer(id)}}); err != nil {
		return err
	}
	if c.rows != 1 || c.a.Str() != rowText {
		return fmt.Errorf("key %d: %d rows, %v", id, c.rows, c.a)
	}
	return nil
}

// Begin implements wire.Sink.
func (c *engineClient) Begin(int, []wire.Column) error { return nil }

// Row implements wire.Sink.
func (c *engineClient) Row(row []wire.Value) error {
	c.rows++
	if len(row) > 1 {
		c.a, c.b = row[0], row[1]
	}
	return nil
}

// End implements wire.Sink.
func (c *engineClient) End(wire.Summary) error { return nil }
