package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/sqlnode"
	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/sqldriver"
	"github.com/nearsql/nearsql/wire"
)

// embedded compares reads by key on a follower in this process with the same reads over HTTP on the loopback, in turns, one at a time.
func (b *bench) embedded(ctx context.Context) (err error) {
	n := b.followers()[0]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: n.Handler(), ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		err = errors.Join(err, srv.Close())
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}()
	key, err := os.ReadFile(filepath.Join(b.dir, n.id, sqlnode.RootKeyFile))
	if err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 2}
	defer transport.CloseIdleConnections()
	c, err := client.New("http://"+l.Addr().String(), client.Options{Token: strings.TrimSpace(string(key)), HTTP: &http.Client{Transport: transport}})
	if err != nil {
		return err
	}
	db := sqldriver.Open(n.Node, name(0))
	defer db.Close()
	var ratios, inside, outside []float64
	for range 5 {
		in, err := readRate(ctx, db, b.reads)
		if err != nil {
			return err
		}
		out, err := httpRate(ctx, c, n.id, b.reads)
		if err != nil {
			return err
		}
		ratios, inside, outside = append(ratios, in/out), append(inside, in), append(outside, out)
	}
	b.Say("the same on one follower through database/sql in its process, and over HTTP from its process: %.0f and %.0f a second", figures.Quantile(inside, 0.5), figures.Quantile(outside, 0.5))
	b.Figure("embedded_read", figures.Quantile(inside, 0.5), "per_s")
	b.Figure("embedded_vs_http", figures.Quantile(ratios, 0.5), "x")
	return nil
}

// httpRate is how many reads by key a node answers a second from its own copy, over HTTP.
func httpRate(ctx context.Context, c *client.Client, node string, d time.Duration) (float64, error) {
	from := time.Now()
	n := 0
	for time.Since(from) < d {
		a, err := c.Do(ctx, name(0), &wire.Request{Statements: []wire.Statement{{SQL: "select who from t where id = ?", Args: []wire.Value{wire.Integer(int64(1 + n%200))}}}})
		if err != nil {
			return 0, err
		}
		rows := 0
		for a.NextStatement() {
			for a.NextRow() {
				rows++
			}
		}
		if err := errors.Join(a.Err(), a.Close()); err != nil {
			return 0, err
		}
		if rows != 1 || a.Meta().Node != node {
			return 0, fmt.Errorf("%d rows, of node %s", rows, a.Meta().Node)
		}
		n++
	}
	return float64(n) / time.Since(from).Seconds(), nil
}
