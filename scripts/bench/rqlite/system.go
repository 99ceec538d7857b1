package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/load"
	"github.com/nearsql/nearsql/scripts/localcluster"
)

// level is what a read asks for. The systems' words for it are beside their requests.
type level int

// The levels.
const (
	strong   level = iota // linearizable
	weak                  // at the leader, by what it knows
	follower              // at a follower, not older than 5 s
	whatever              // of any age
)

// statement is one statement and its arguments, each a JSON value.
type statement struct {
	sql  string
	args []string
}

// system is one of the clusters. Nodes count from 0.
type system interface {
	name() string
	nodes() int
	addr(node int) string // HOST:PORT of its HTTP listener
	process(node int) *localcluster.Process
	// start starts a node that was ended, and waits until it serves.
	start(ctx context.Context, node int) error
	leader(ctx context.Context) (int, error)

	// write and read append a request to dst. Several statements are one transaction.
	write(dst []byte, node int, s ...statement) []byte
	read(dst []byte, node int, l level, s statement) []byte
	// check says whether an answer is one of success.
	check(status int, body []byte) error
	// row is what an answer has in it if it has a row that begins with the JSON value v.
	row(v string) []byte

	stop() error
}

func insertOf(i int64) statement {
	return statement{insertRow, []string{`"` + rowText + `"`, `"` + indexed(i) + `"`}}
}

func number(i int64) []string { return []string{fmt.Sprint(i)} }

// prepare makes the tables. Then rqlite and nearsql are as alike as can be.
func prepare(ctx context.Context, s system) error {
	at, err := s.leader(ctx)
	if err != nil {
		return err
	}
	for _, sql := range []statement{{sql: createTable}, {sql: createIndex}, {sql: createRead}, {sql: createSeen}, {fillRead, number(readRows)}} {
		if _, err := once(ctx, s, at, s.write(nil, at, sql)); err != nil {
			return fmt.Errorf("%s: %s: %w", s.name(), sql.sql, err)
		}
	}
	return nil
}

// once sends one request over a connection of its own, and returns the body of the answer of success.
func once(ctx context.Context, s system, node int, request []byte) (body []byte, err error) {
	pool, err := load.Dial(s.addr(node), 1)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	_, err = pool.Run(ctx, load.Run{Requests: 1,
		Request: func(dst []byte, _ int64) []byte { return append(dst, request...) },
		Check: func(_ int64, status int, b []byte) error {
			body = bytes.Clone(b)
			return s.check(status, b)
		}})
	return body, err
}

// get asks a server for a page.
func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &load.StatusError{Status: resp.StatusCode, Body: string(b)}
	}
	return b, err
}

// await asks again and again until ok has no objection; after max the last objection is the error.
func await(ctx context.Context, max time.Duration, ok func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", max, err)
		}
	}
}
