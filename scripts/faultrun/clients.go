package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// Bounds of clients.
const (
	opMax     = 4 * time.Second       // of one request
	restMax   = 12 * time.Millisecond // between two
	downRest  = 100 * time.Millisecond
	pokeEvery = 25 * time.Millisecond
	keysEach  = 2 // keys of each kind, tenant and round
)

// schema is that of each tenant.
var schema = []string{
	`CREATE TABLE list(k TEXT PRIMARY KEY NOT NULL, v TEXT NOT NULL) STRICT`,
	`CREATE TABLE register(k TEXT PRIMARY KEY NOT NULL, v TEXT NOT NULL) STRICT`,
}

// statementOf is the SQL of an op.
func statementOf(o *op) wire.Statement {
	k, v := wire.Text(o.key.name()), wire.Text(o.value)
	switch o.verb {
	case appends:
		return wire.Statement{SQL: `INSERT INTO list VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = v || ',' || excluded.v RETURNING v`, Args: []wire.Value{k, v}}
	case set:
		return wire.Statement{SQL: `INSERT INTO register VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = excluded.v`, Args: []wire.Value{k, v}}
	case swap:
		return wire.Statement{SQL: `UPDATE register SET v = ?2 WHERE k = ?1 AND v = ?3`, Args: []wire.Value{k, v, wire.Text(o.old)}}
	case create:
		return wire.Statement{SQL: `INSERT INTO register VALUES(?1, ?2)`, Args: []wire.Value{k, v}}
	}
	return wire.Statement{SQL: `SELECT v FROM ` + o.key.kind.String() + ` WHERE k = ?`, Args: []wire.Value{k}}
}

// learn fills in what an answer says.
func learn(o *op, r client.Result, err error) {
	var we *wire.Error
	var unreachable *client.UnreachableError
	var op *net.OpError
	switch {
	case err == nil:
		if len(r.Rows) == 1 && len(r.Rows[0]) == 1 {
			o.seen = state{true, r.Rows[0][0].Str()}
		}
		o.happened = o.verb == create || r.RowsAffected == 1
	case errors.As(err, &we) && o.verb == create && strings.HasPrefix(string(we.Code), "SQLITE_CONSTRAINT"):
		o.happened = false // an answer as any other
	case errors.As(err, &we):
		o.code = string(we.Code)
		o.refused, o.unknown = we.Retryable, !we.Retryable
	case errors.As(err, &unreachable) && errors.As(err, &op) && op.Op == "dial":
		o.code, o.refused = "no connection", true // nothing was sent
	case errors.Is(err, context.DeadlineExceeded):
		o.code, o.unknown = "no answer in time", true
	default:
		o.code, o.unknown = "connection lost", true
	}
}

// mayFail says whether an error is one of a cluster that can't do what is asked for the moment. Any other is an answer about
// the tenant or the request, and there is nothing wrong with these.
func mayFail(e *wire.Error) bool {
	return e.Retryable || e.Code == wire.CodeUnknownOutcome || e.Code == wire.CodeTimeout
}

// user is one client: it asks one node, mostly.
type user struct {
	id      int
	rng     *rand.Rand
	h       *history
	roster  *roster
	home    int // its place
	tenants []string
	values  *atomic.Int64
	stale   bool // the planted fault
	seen    map[key]string
}

// run sends until ctx ends. An op that was begun is ended.
func (u *user) run(ctx context.Context) {
	u.seen = make(map[key]string)
	for ctx.Err() == nil {
		o := u.choose()
		node := u.roster.at(u.home)
		o.node = node.ID
		u.h.begin(o)
		meta, err := u.send(node, o)
		u.h.end(o)
		var we *wire.Error
		if errors.As(err, &we) && !mayFail(we) && !(o.verb == create && !o.refused && !o.unknown) {
			u.h.complain("answer "+string(we.Code), "that can't be true:\n    %s\n    %v", o, err)
		}
		switch {
		case err != nil:
			u.rest(ctx, downRest)
		case o.verb == appends && u.rng.IntN(4) == 0:
			u.follow(o, meta.Bookmark)
		}
		u.rest(ctx, restMax)
	}
}

// poke sends strong reads to a node, one every pokeEvery whatever becomes of those before, until it is time; it returns when all have ended. A
// node that is paused finds them when it goes on, before it hears that it is the primary no more.
func (u *user) poke(ctx context.Context, until time.Time) {
	var all sync.WaitGroup
	defer all.Wait()
	for time.Now().Before(until) && sleep(ctx, pokeEvery) {
		o := u.choose()
		o.verb, o.value, o.old, o.node = read, "", "", u.roster.at(u.home).ID
		all.Go(func() {
			// A user of its own, since this one goes on.
			one := &user{h: u.h, stale: u.stale, seen: make(map[key]string)}
			u.h.begin(o)
			_, _ = one.send(u.roster.at(u.home), o) // what became of it is in the history
			u.h.end(o)
		})
	}
}

// rest waits a while at random.
func (u *user) rest(ctx context.Context, most time.Duration) {
	t := time.NewTimer(rand.N(most))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// choose makes up the next op.
func (u *user) choose() *op {
	k := key{tenant: u.tenants[u.rng.IntN(len(u.tenants))], kind: kind(u.rng.IntN(2)), round: u.h.round(), n: u.rng.IntN(keysEach)}
	o := &op{key: k, client: u.id, value: fmt.Sprint(u.values.Add(1))}
	if u.rng.IntN(2) == 0 {
		o.value = ""
		return o
	}
	o.verb = appends
	if k.kind == register {
		o.verb = []verb{set, swap, swap, create}[u.rng.IntN(4)]
		o.old = u.seen[k]
	}
	return o
}

// send sends an op, and fills in what became of it.
func (u *user) send(node *member, o *op) (wire.Meta, error) {
	ctx, cancel := context.WithTimeout(context.Background(), opMax)
	defer cancel()
	r := &wire.Request{Statements: []wire.Statement{statementOf(o)}, Consistency: wire.Strong}
	if u.stale && o.verb == read {
		r.Consistency, r.MaxStaleness = wire.Weak, wire.AnyStaleness
	}
	results, meta, err := node.client.Exec(ctx, o.key.tenant, r)
	if err == nil && len(results) != 1 {
		err = fmt.Errorf("%d results for one statement", len(results))
	}
	if err != nil {
		learn(o, client.Result{}, err)
		return meta, err
	}
	learn(o, results[0], nil)
	if o.key.kind == register && (o.verb == read && o.seen.there || o.verb == set) {
		clear(u.seen) // of rounds that have ended too
		u.seen[o.key] = cmp.Or(o.seen.text, o.value)
	}
	return meta, nil
}

// follow reads weakly on any node with the bookmark of an append, which it must see.
func (u *user) follow(o *op, bookmark string) {
	ctx, cancel := context.WithTimeout(context.Background(), opMax)
	defer cancel()
	node := u.roster.at(u.rng.IntN(u.roster.size))
	q := &op{key: o.key, verb: read}
	results, _, err := node.client.Exec(ctx, o.key.tenant, &wire.Request{Statements: []wire.Statement{statementOf(q)}, Consistency: wire.Weak, MaxStaleness: wire.AnyStaleness, Bookmark: bookmark})
	if err != nil || len(results) != 1 {
		var we *wire.Error
		if errors.As(err, &we) && (we.Code == wire.CodeBookmarkLost || we.Code == wire.CodeBadBookmark) {
			u.h.complain("bookmark", "%s: node %s does not take the bookmark of\n    %s\n    %v", o.key, node.ID, o, err)
		}
		return
	}
	learn(q, results[0], nil)
	if !strings.HasPrefix(q.seen.text, o.seen.text) {
		u.h.complain("bookmark", "%s: node %s answers a weak read with the bookmark of\n    %s\n    with %q", o.key, node.ID, o, q.seen.text)
	}
}
