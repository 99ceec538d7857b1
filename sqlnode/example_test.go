package sqlnode_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/sqlnode"
	"github.com/nearsql/nearsql/sqlnode/sqldriver"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// A node on its own, inside a program: a durable SQLite database for each tenant, and no server.
func Example() {
	dir, err := os.MkdirTemp("", "nearsql-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cfg := sqlnode.DefaultConfig()
	cfg.DataDir, cfg.Listen = dir, "" // nobody else is to reach it
	node, err := sqlnode.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- node.Run(ctx, func(net.Addr) { close(ready) }) }()
	<-ready

	api, err := node.Client()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := api.CreateTenant(ctx, "acme", tenant.CreateOptions{}); err != nil {
		log.Fatal(err)
	}
	db := sqldriver.Open(node, "acme")
	_, err = sqldriver.Batch(ctx, db,
		sqldriver.Statement{SQL: "create table users(id integer primary key, name text)"},
		sqldriver.Statement{SQL: "insert into users(name) values(?), (?)", Args: []any{"Ada", "Grace"}})
	if err != nil {
		log.Fatal(err)
	}
	var name string
	if err := db.QueryRowContext(ctx, "select name from users where id = ?", 2).Scan(&name); err != nil {
		log.Fatal(err)
	}
	fmt.Println(name)
	db.Close()
	stop()
	<-ended
	// Output: Grace
}

// A worker in a far PoP embeds a node that follows: it writes through the primary, and reads from its own copy.
// Here all nodes are in one process, over a network in memory; elsewhere they have a ClusterListen and certificates.
func Example_replica() {
	dir, err := os.MkdirTemp("", "nearsql-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	network := clustertest.New(clustertest.Options{})
	ctx, stop := context.WithCancel(context.Background())
	start := func(id, pop string, join ...string) (*sqlnode.Node, <-chan error) {
		at := network.Node(id)
		l, err := at.Listen()
		if err != nil {
			log.Fatal(err)
		}
		cfg := sqlnode.DefaultConfig()
		cfg.DataDir, cfg.Listen = filepath.Join(dir, id), ""
		cfg.NodeID, cfg.PoP = id, pop
		cfg.ClusterListener, cfg.ClusterAdvertise = l, id+":1"
		cfg.ClusterDialer = func(ctx context.Context, addr string) (net.Conn, error) {
			return at.Dial(ctx, strings.TrimSuffix(addr, ":1"))
		}
		if len(join) > 0 {
			if err := sqlnode.Join(ctx, cfg, join); err != nil {
				log.Fatal(err)
			}
		}
		node, err := sqlnode.New(cfg)
		if err != nil {
			log.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- node.Run(ctx, nil) }()
		api, err := node.Client()
		if err != nil {
			log.Fatal(err)
		}
		for api.Ready(ctx) != nil {
			time.Sleep(10 * time.Millisecond)
		}
		return node, ended
	}
	home, homeEnded := start("home", "fra")
	api, err := home.Client()
	if err != nil {
		log.Fatal(err)
	}
	edge, edgeEnded := start("edge", "syd", "home:1")
	if _, err := api.CreateTenant(ctx, "acme", tenant.CreateOptions{Replicas: "pop:syd"}); err != nil {
		log.Fatal(err)
	}

	db := sqldriver.Open(edge, "acme", sqldriver.MaxStaleness(2*time.Second))
	if _, err := db.ExecContext(ctx, "create table greetings(text)"); err != nil {
		log.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, "insert into greetings values('hello from the primary')"); err != nil {
		log.Fatal(err)
	}
	var text string
	var served wire.Meta
	seen := sqldriver.WithMeta(ctx, func(m wire.Meta) { served = m })
	for served.Node != "edge" { // until the copy is here; before, the primary answers
		if err := db.QueryRowContext(seen, "select text from greetings").Scan(&text); err != nil {
			log.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Printf("%s, read in %s from a %s\n", text, served.PoP, served.Role)
	db.Close()
	stop()
	<-edgeEnded
	<-homeEnded
	// Output: hello from the primary, read in syd from a replica
}
