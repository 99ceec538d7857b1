package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	_ "modernc.org/sqlite" // looks at copies without anything of ours

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// settleMax bounds how long the cluster may take to serve and agree once there are no more faults.
const settleMax = time.Minute

// copyMax bounds one reading of all that a node has.
const copyMax = 30 * time.Second

// bound is a bound of what has to come, on this machine.
func (r *run) bound(d time.Duration) time.Duration { return time.Duration(r.patience) * d }

// settle waits until every node answers strong reads of every tenant, and what it answers is what all answer. It returns the keys that there are.
func (r *run) settle(ctx context.Context) (map[key]state, error) {
	ctx, cancel := context.WithTimeout(ctx, r.bound(settleMax))
	defer cancel()
	final := make(map[key]state)
	for _, t := range r.tenants {
		var first map[string]string
		for i, n := range r.roster.all() {
			var got map[string]string
			err := r.c.Await(ctx, func() (err error) {
				got, err = contents(ctx, n.client, t)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("strong read of tenant %s on node %s: %w", t, n.ID, err)
			}
			if i == 0 {
				first = got
			}
			if len(got) != len(first) {
				r.h.complain("strong reads differ", "tenant %s: node %s has %d keys in a strong read, node %s %d", t, r.roster.at(0).ID, len(first), n.ID, len(got))
			}
			for k, v := range first {
				if got[k] != v {
					r.h.complain("strong reads differ", "tenant %s, %s: node %s has %q, node %s %q", t, k, r.roster.at(0).ID, v, n.ID, got[k])
				}
			}
		}
		for k, ops := range r.h.all() {
			if k.tenant == t && len(ops) > 0 {
				v, there := first[k.kind.String()+" "+k.name()]
				final[k] = state{there, v}
			}
		}
	}
	return final, nil
}

// contents is all that a tenant has, by a strong read: of "list KEY" and "register KEY".
func contents(ctx context.Context, c *client.Client, tenant string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, copyMax)
	defer cancel()
	results, _, err := c.Exec(ctx, tenant, &wire.Request{Consistency: wire.Strong, Stream: true,
		Statements: []wire.Statement{{SQL: `SELECT 'list ' || k, v FROM list UNION ALL SELECT 'register ' || k, v FROM register`}}})
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for _, row := range results[0].Rows {
		out[row[0].Str()] = row[1].Str()
	}
	return out, nil
}

// whole waits until every node answers for every tenant by its own copy, conflict-free tables too.
func (r *run) whole(ctx context.Context) error {
	return r.c.Await(ctx, func() error {
		for _, t := range r.tenants {
			for _, m := range r.roster.all() {
				_, meta, err := m.client.Exec(ctx, t, &wire.Request{Consistency: wire.Weak, MaxStaleness: time.Second, Statements: []wire.Statement{{SQL: `SELECT count(*) FROM clockwork`}}})
				if err == nil && meta.Node != m.ID {
					err = fmt.Errorf("node %s answers for it", meta.Node)
				}
				if err == nil {
					_, _, err = tablesOf(ctx, m, t)
				}
				if err != nil {
					return fmt.Errorf("tenant %s at node %s: %w", t, m.ID, err)
				}
			}
		}
		return nil
	})
}

// copies compares the copies of each tenant on all voters, byte by byte, and lets SQLite look at each.
func (r *run) copies(ctx context.Context) error {
	nodes := r.roster.all()
	if len(nodes) > 1 {
		g, err := r.c.DefaultGroup(ctx)
		if err != nil {
			return err
		}
		nodes = slices.DeleteFunc(nodes, func(n *member) bool { return !slices.Contains(g.Voters, n.ID) })
	}
	ctx, cancel := context.WithTimeout(ctx, r.bound(settleMax))
	defer cancel()
	for _, t := range r.tenants {
		if err := r.copiesOf(ctx, t, nodes); err != nil {
			return err
		}
	}
	r.say("%d tenants: the copies of %d nodes were compared", len(r.tenants), len(nodes))
	return nil
}

// copiesOf compares the copies of a tenant, as often as a transaction came in between: with no client left, nodes still write
// of themselves, as that a site of a removed node is retired.
func (r *run) copiesOf(ctx context.Context, tenant string, nodes []*member) error {
	err := r.c.Await(ctx, func() error {
		list := make([]copied, 0, len(nodes))
		for _, n := range nodes {
			path := filepath.Join(r.dir, fmt.Sprintf("%s-%s.db", tenant, n.ID))
			c, err := export(ctx, n.client, tenant, path)
			if err != nil {
				return fmt.Errorf("export from node %s: %w", n.ID, err)
			}
			if err := integrity(path); err != nil {
				r.h.complain("copies", "tenant %s on node %s: %v", tenant, n.ID, err)
				return nil
			}
			c.node = n.ID
			list = append(list, c)
		}
		fault, err := compareCopies(list)
		if fault != "" {
			r.h.complain("copies", "tenant %s: %s; they are in %s", tenant, fault, r.dir)
		}
		return err
	})
	if errors.Is(err, errOtherStates) {
		r.h.complain("copies", "tenant %s: %v after %s without a client; they are in %s", tenant, err, r.bound(settleMax), r.dir)
		return nil
	}
	if err != nil {
		return fmt.Errorf("tenant %s: %w", tenant, err)
	}
	return nil
}

// copied is one copy of a tenant.
type copied struct {
	node    string
	sum     [sha256.Size]byte
	changes uint32 // SQLite's count of transactions that changed the file
}

// errOtherStates is that copies are of different states of the tenant, and so can't be compared.
var errOtherStates = errors.New("the copies are of different states")

// compareCopies says what is wrong with copies: those after the same number of transactions must be the same in each byte.
func compareCopies(list []copied) (fault string, err error) {
	for i, c := range list {
		for _, other := range list[:i] {
			switch {
			case c.changes != other.changes:
				err = fmt.Errorf("%w: %d transactions on node %s, %d on node %s", errOtherStates, other.changes, other.node, c.changes, c.node)
			case c.sum != other.sum:
				return fmt.Sprintf("the copies of nodes %s and %s differ", other.node, c.node), nil
			}
		}
	}
	return "", err
}

// export writes a node's copy to a file.
func export(ctx context.Context, c *client.Client, tenant, path string) (copied, error) {
	body, err := c.Export(ctx, tenant, client.SQLite)
	if err != nil {
		return copied{}, err
	}
	defer body.Close()
	f, err := os.Create(path)
	if err != nil {
		return copied{}, err
	}
	h, head := sha256.New(), make([]byte, changesAt+4)
	n, err := io.ReadFull(body, head)
	if err == nil {
		_, err = io.Copy(io.MultiWriter(f, h), io.MultiReader(bytes.NewReader(head[:n]), body))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return copied{}, err
	}
	return copied{sum: [sha256.Size]byte(h.Sum(nil)), changes: binary.BigEndian.Uint32(head[changesAt:])}, nil
}

// changesAt is where a database file has its change counter (SQLite's file format, section 1.3.7).
const changesAt = 24

// integrity has plain SQLite look at a database.
func integrity(path string) (err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var said string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&said); err != nil {
		return err
	}
	if said != "ok" {
		return fmt.Errorf("integrity_check: %s", said)
	}
	return nil
}
